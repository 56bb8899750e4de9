"""OpenAPI v3: the index and one document for each group version, made from the schemas and the declared kinds.

kubectl reads them for `explain`, and before `create -f`, `apply` and `edit` to see that PATCH takes `fieldValidation`: then it
leaves validation to us. `server` answers GET /openapi/v3[/…] with `root` and `document`. A document is built on first use;
its hash is known without it, from the schema table and the declarations.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from typing import Any

import msgspec

from portway.objects.kinds import KINDS, Kind
from portway.objects.schema import INT_OR_STRING, QUANTITY, schemas

Json = dict[str, Any]

# Part of the hash: raise it when this module makes other documents from the same schemas.
_EDITION = "1"
_REF = "#/components/schemas/"
_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_BODY_TYPES = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")
_PATCH_TYPES = (
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
)


def group_versions() -> list[str]:
    """`api/v1`, `apis/apps/v1`, …, as the index names them."""
    return list(dict.fromkeys(k.root.removeprefix("/") for k in KINDS))


@cache
def etag(group_version: str) -> str:
    """The hash of a document, upper-case hexadecimal, as in `?hash=`."""
    digest = hashlib.sha256(f"{_EDITION} {group_version} {schemas().fingerprint} {KINDS!r}".encode())
    return digest.hexdigest().upper()


@cache
def root() -> bytes:
    """The body of GET /openapi/v3."""
    paths = {gv: {"serverRelativeURL": f"/openapi/v3/{gv}?hash={etag(gv)}"} for gv in group_versions()}
    return msgspec.json.encode({"paths": paths})


PROTOBUF_V2 = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"


def empty_v2() -> bytes:
    """The body of GET /openapi/v2, as protobuf (the only form that kubectl asks for): a document that describes nothing.

    kubectl reads it for kinds that v3 does not describe, such as the `List` of `apply -f`: to a document without them it says
    nothing, and the server judges each item; a missing document it takes for a broken server. Field numbers: gnostic's
    openapiv2 `Document` (swagger 1, info 2, paths 8) and `Info` (title 1, version 2).
    """

    def text(number: int, value: bytes) -> bytes:
        return bytes((number << 3 | 2, len(value))) + value

    return text(1, b"2.0") + text(2, text(1, b"Kubernetes") + text(2, b"v1.37.0")) + text(8, b"")


@cache
def document(group_version: str) -> tuple[bytes, str] | None:
    """The body and ETag of GET /openapi/v3/{group_version}; None when nothing is served there."""
    kinds = [k for k in KINDS if k.root == "/" + group_version and k.schema in schemas()]
    if not kinds:
        return None
    paths: Json = {}
    for kind in kinds:
        paths.update(_paths(kind))
    content = {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.37.0"},
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": _components(kinds)},
    }
    return msgspec.json.encode(content), etag(group_version)


def _components(kinds: Iterable[Kind]) -> Json:
    names = [_META + "Status", _META + "DeleteOptions", _META + "Patch"]
    for kind in kinds:
        names += [kind.schema, kind.schema + "List", *(b for s in kind.subresources if (b := _BODIES.get(s)))]
    texts = schemas().descriptions
    return {name: _described(name, texts[name]) for name in _reachable(names)}


def _reachable(names: list[str]) -> list[str]:
    raw, seen, waiting = schemas().raw, set[str](), [n for n in names if n in schemas()]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += _references(raw[name])
    return sorted(seen)


def _references(part: Any) -> Iterable[str]:
    if isinstance(part, dict):
        for key, value in part.items():
            if key == "$ref":
                yield value.removeprefix(_REF)
            else:
                yield from _references(value)
    elif isinstance(part, list):
        for value in part:
            yield from _references(value)


def _described(name: str, texts: tuple[str, dict[str, str]]) -> Json:
    own, fields = texts
    result = {**({"description": own} if own else {}), **schemas().raw[name]}
    kind = result.get("format")
    if kind in (INT_OR_STRING, QUANTITY):
        del result["type"], result["format"]
        result["oneOf"] = [{"type": "integer" if kind == INT_OR_STRING else "number"}, {"type": "string"}]
        return result | ({"format": kind} if kind == INT_OR_STRING else {})
    if properties := result.get("properties"):
        result["properties"] = {
            n: {"description": fields[n], **part} if fields.get(n) else part for n, part in properties.items()
        }
    return result


def _query(name: str, description: str, type: str = "string") -> Json:
    return {
        "name": name,
        "in": "query",
        "description": description,
        "schema": {"type": type, "uniqueItems": True},
    }


_DRY_RUN = _query(
    "dryRun", "When present, indicates that modifications should not be persisted. The only value is All."
)
_MANAGER = _query(
    "fieldManager", "The name of the actor that is making these changes; it owns the fields that it sets."
)
_VALIDATION = _query("fieldValidation", "What to do about unknown or duplicate fields: Ignore, Warn or Strict.")
_FORCE = _query("force", "Apply only: take fields that others own.", "boolean")
_WRITE = [_DRY_RUN, _MANAGER, _VALIDATION]
_LIST = [
    _query("labelSelector", "A selector to restrict the list by labels."),
    _query("fieldSelector", "A selector to restrict the list by fields."),
    _query("limit", "The greatest number of objects to return.", "integer"),
    _query("continue", "Where to go on, from the metadata of the list before."),
    _query("resourceVersion", "How new the answer must be."),
    _query("resourceVersionMatch", "How resourceVersion is meant: Exact or NotOlderThan."),
    _query("timeoutSeconds", "How long a watch lasts.", "integer"),
    _query("watch", "Stream changes instead of answering with a list.", "boolean"),
    _query("allowWatchBookmarks", "Send the resource version now and then.", "boolean"),
    _query("sendInitialEvents", "Begin a watch with what is there.", "boolean"),
]
_DELETE = [
    _DRY_RUN,
    _query("gracePeriodSeconds", "How long the object may take to end.", "integer"),
    _query("propagationPolicy", "What happens to dependents: Orphan, Background or Foreground."),
]
# The definition that a subresource reads and writes; "" is the kind's own.
_BODIES = {
    "scale": "io.k8s.api.autoscaling.v1.Scale",
    "binding": "io.k8s.api.core.v1.Binding",
    "eviction": "io.k8s.api.policy.v1.Eviction",
}
_CONNECT = frozenset({"exec", "attach", "portforward", "log", "proxy"})


def _operation(kind: Kind, action: str, name: str, parameters: list[Json], body: str = "") -> Json:
    definition = kind.schema + "List" if action == "list" else name
    content = {"schema": {"$ref": _REF + definition}}
    result: Json = {
        "operationId": f"{action}{kind.group.title().replace('.', '')}{kind.version.title()}{kind.kind}",
        "parameters": parameters,
        "responses": {"200": {"description": "OK", "content": {"application/json": content}}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
    }
    if body:
        types = _PATCH_TYPES if action == "patch" else _BODY_TYPES
        result["requestBody"] = {"content": {t: {"schema": {"$ref": _REF + body}} for t in types}, "required": True}
    return result


def _of_one(kind: Kind, name: str) -> Json:
    return {
        "get": _operation(kind, "get", name, []),
        "put": _operation(kind, "put", name, _WRITE, name),
        "patch": _operation(kind, "patch", name, [*_WRITE, _FORCE], _META + "Patch"),
    }


def _paths(kind: Kind) -> Json:
    everywhere = f"{kind.root}/{kind.plural}"
    collection = f"{kind.root}/namespaces/{{namespace}}/{kind.plural}" if kind.namespaced else everywhere
    above = [_in_path("namespace", "object name and auth scope, such as for teams and projects")] * kind.namespaced
    named = [*above, _in_path("name", f"name of the {kind.kind}")]
    many = {
        "get": _operation(kind, "list", kind.schema, _LIST),
        "post": _operation(kind, "post", kind.schema, _WRITE, kind.schema),
        "delete": _operation(kind, "deletecollection", _META + "Status", [*_LIST, *_DELETE], _META + "DeleteOptions"),
    }
    one = _of_one(kind, kind.schema)
    one["delete"] = _operation(kind, "delete", _META + "Status", _DELETE, _META + "DeleteOptions")
    paths: Json = {
        collection: {**many, "parameters": above},
        collection + "/{name}": {**one, "parameters": named},
    }
    if kind.namespaced:
        paths[everywhere] = {"get": _operation(kind, "list", kind.schema, _LIST)}
    for sub in kind.subresources:
        paths[f"{collection}/{{name}}/{sub}"] = {**_subresource(kind, sub), "parameters": named}
    return paths


def _in_path(name: str, description: str) -> Json:
    return {"name": name, "in": "path", "required": True, "description": description, "schema": {"type": "string"}}


def _subresource(kind: Kind, name: str) -> Json:
    if name in _CONNECT:
        return {"get": _operation(kind, "connect", kind.schema, [])}
    body = _BODIES.get(name, kind.schema)
    if name in ("binding", "eviction"):
        return {"post": _operation(kind, "post", body, _WRITE, body)}
    if name == "finalize":
        return {"put": _operation(kind, "put", body, _WRITE, body)}
    return _of_one(kind, body)
