"""A request's method, path and query as what it means: verb, kind, namespace, name, subresource, options.

The path grammar is that of Kubernetes (apiserver `RequestInfo`): /api/v1 or /apis/GROUP/VERSION, then optionally
namespaces/NAME, then the plural, a name, a subresource. `server` parses every request here and hands the result to
`rest`, `watch` and `streaming`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from portway.apiserver.errors import ApiError, bad_request, method_not_allowed, no_such_resource, not_implemented
from portway.objects.kinds import Kind, by_resource


@dataclass(frozen=True, slots=True)
class Target:
    """What a resource path names."""

    kind: Kind
    namespace: str = ""
    name: str = ""
    subresource: str = ""


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """The query of a request that writes. `manager` owns the written fields; `named`: the request said who that is."""

    manager: str
    validation: str = "Warn"
    dry_run: bool = False
    force: bool | None = None
    named: bool = True


def group_version(segments: list[str]) -> tuple[str, str, list[str]] | None:
    """(group, version, rest of the path), or None when this is not an API path with a version."""
    if segments[0] == "api" and len(segments) >= 2:
        return "", segments[1], segments[2:]
    if segments[0] == "apis" and len(segments) >= 3:
        return segments[1], segments[2], segments[3:]
    return None


def target(group: str, version: str, rest: list[str]) -> Target:
    """404 when the path names nothing that is served."""
    namespace = ""
    if rest[0] == "namespaces" and len(rest) >= 3 and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    kind = by_resource(group, version, rest[0])
    if kind is None or len(rest) > 3 or (namespace and not kind.namespaced):
        raise no_such_resource()
    name = rest[1] if len(rest) > 1 else ""
    subresource = rest[2] if len(rest) > 2 else ""
    if subresource and subresource not in kind.subresources:
        raise _not_served(kind, subresource)
    if kind.namespaced and name and not namespace:
        raise no_such_resource()
    return Target(kind, namespace, name, subresource)


_UNSERVED = {
    ("pods", "portforward"): "port-forward is not implemented; use a NodePort Service, or `portway exec` on a host",
    ("pods", "proxy"): "the proxy subresource is not implemented; use a Service",
    ("services", "proxy"): "the proxy subresource is not implemented; ask the Service's own address",
    ("nodes", "proxy"): "the proxy subresource is not implemented",
    ("pods", "ephemeralcontainers"): "ephemeral containers are not implemented; use exec",
    ("pods", "resize"): "resizing a pod in place is not implemented; change the Deployment",
}


def _not_served(kind: Kind, subresource: str) -> ApiError:
    """501 with a sentence for what Kubernetes has and we do not, 404 for what nobody has."""
    sentence = _UNSERVED.get((kind.resource, subresource))
    return not_implemented(sentence) if sentence else no_such_resource()


_ON_COLLECTION = {"GET": "list", "POST": "create", "DELETE": "deletecollection"}
_ON_OBJECT = {"GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_ON_SUBRESOURCE = {
    "status": {"GET": "get", "PUT": "update", "PATCH": "patch"},
    "scale": {"GET": "get", "PUT": "update", "PATCH": "patch"},
    "finalize": {"PUT": "update"},
    "binding": {"POST": "create"},
    "eviction": {"POST": "create"},
    "log": {"GET": "get"},
    "exec": {"GET": "get", "POST": "create"},
    "attach": {"GET": "get", "POST": "create"},
}


def verb(method: str, target: Target, query: Mapping[str, str]) -> str:
    """`get`, `list`, `watch`, `create`, `update`, `patch`, `delete` or `deletecollection`. 405 for another method."""
    table = _ON_SUBRESOURCE[target.subresource] if target.subresource else _ON_OBJECT if target.name else _ON_COLLECTION
    found = table.get(method)
    if found == "create" and not target.name and target.kind.namespaced and not target.namespace:
        raise method_not_allowed()
    if found is None:
        raise method_not_allowed()
    return "watch" if found == "list" and flag(query, "watch") else found


def flag(query: Mapping[str, str], name: str) -> bool:
    """A boolean of the query: present and not `false` or `0`, as client-go sends and the API server reads it."""
    return query.get(name, "false").lower() not in ("false", "0")


def number(query: Mapping[str, str], name: str, default: int | None = None) -> int | None:
    """A whole number of the query, `default` when absent. 400 when it is none."""
    text = query.get(name, "")
    if not text:
        return default
    try:
        return int(text)
    except ValueError as error:
        raise bad_request(f'invalid value for {name}: "{text}" is not a whole number') from error


def write_options(query: Mapping[str, str], user_agent: str) -> WriteOptions:
    """400 for a dryRun, fieldValidation or force that is not in the API."""
    dry = query.get("dryRun", "")
    if dry not in ("", "All"):
        raise _unsupported("dryRun", dry, ("All",))
    validation = query.get("fieldValidation", "") or "Warn"
    if validation not in ("Ignore", "Warn", "Strict"):
        raise _unsupported("fieldValidation", validation, ("", "Ignore", "Strict", "Warn"))
    manager = query.get("fieldManager", "") or user_agent.partition("/")[0] or "unknown"
    if len(manager) > 128:
        raise bad_request("fieldManager: Too long: may not be more than 128 bytes")
    force = flag(query, "force") if "force" in query else None
    return WriteOptions(manager, validation, bool(dry), force, bool(query.get("fieldManager")))


def _unsupported(name: str, value: str, supported: tuple[str, ...]) -> ApiError:
    words = ", ".join(f'"{s}"' for s in supported)
    return bad_request(f'{name}: Unsupported value: "{value}": supported values: {words}')
