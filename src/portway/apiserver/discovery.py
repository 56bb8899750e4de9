"""What this server serves, in the words that clients ask in: aggregated discovery (one document) and the older lists.

Everything follows from `objects.kinds.KINDS`. kubectl reads the aggregated form; `auth can-i`, `drain` and older
clients read `/api/v1` and `/apis/GROUP/VERSION`. The answers never change while the server runs, so each is made once,
when first asked for.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec

from portway.objects.kinds import KINDS, Kind

Value = dict[str, Any]

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
_CHANGES = ("get", "patch", "update")
_SUBRESOURCES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "status": ("", "", _CHANGES),
    "scale": ("autoscaling/v1", "Scale", _CHANGES),
    "finalize": ("", "", ("update",)),
    "binding": ("v1", "Binding", ("create",)),
    "eviction": ("policy/v1", "Eviction", ("create",)),
    "log": ("v1", "Pod", ("get",)),
    "exec": ("v1", "PodExecOptions", ("create", "get")),
    "attach": ("v1", "PodAttachOptions", ("create", "get")),
}
"""name → apiVersion and kind of its body (empty: the object's own), verbs."""

REVIEWS = (
    ("authentication.k8s.io", "v1", "SelfSubjectReview", "selfsubjectreviews"),
    ("authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews"),
)
"""Kinds that are answered and never stored."""


def _groups() -> dict[str, list[str]]:
    """Group → its versions, in the order of declaration; the core group is the empty name."""
    groups: dict[str, list[str]] = {}
    for group, version in [(k.group, k.version) for k in KINDS] + [(r[0], r[1]) for r in REVIEWS]:
        versions = groups.setdefault(group, [])
        if version not in versions:
            versions.append(version)
    return groups


def _kinds(group: str, version: str) -> list[Kind]:
    return [k for k in KINDS if (k.group, k.version) == (group, version)]


def _split(api_version: str) -> tuple[str, str]:
    group, _, version = api_version.rpartition("/")
    return group, version


# aggregated


@cache
def aggregated(core: bool) -> bytes:
    """The body of `/api` (core) or `/apis` as APIGroupDiscoveryList."""
    groups = {g: v for g, v in _groups().items() if (not g) is core}
    items = [_aggregated_group(name, versions) for name, versions in groups.items()]
    return msgspec.json.encode(
        {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}
    )


def _aggregated_group(name: str, versions: list[str]) -> Value:
    metadata: Value = {"name": name, "creationTimestamp": None} if name else {"creationTimestamp": None}
    return {"metadata": metadata, "versions": [_aggregated_version(name, v) for v in versions]}


def _aggregated_version(group: str, version: str) -> Value:
    resources = [_aggregated_kind(k) for k in _kinds(group, version)]
    resources += [_aggregated_review(r) for r in REVIEWS if r[:2] == (group, version)]
    return {"version": version, "resources": resources, "freshness": "Current"}


def _aggregated_kind(kind: Kind) -> Value:
    value: Value = {
        "resource": kind.plural,
        "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.singular,
        "verbs": list(VERBS),
    }
    if kind.short_names:
        value["shortNames"] = list(kind.short_names)
    if kind.categories:
        value["categories"] = list(kind.categories)
    if kind.subresources:
        value["subresources"] = [_aggregated_subresource(kind, s) for s in kind.subresources]
    return value


def _aggregated_subresource(kind: Kind, name: str) -> Value:
    api_version, body_kind, verbs = _SUBRESOURCES[name]
    group, version = _split(api_version or kind.api_version)
    response = {"group": group, "version": version, "kind": body_kind or kind.kind}
    return {"subresource": name, "responseKind": response, "verbs": list(verbs)}


def _aggregated_review(review: tuple[str, str, str, str]) -> Value:
    group, version, kind, plural = review
    return {
        "resource": plural,
        "responseKind": {"group": group, "version": version, "kind": kind},
        "scope": "Cluster",
        "singularResource": kind.lower(),
        "verbs": ["create"],
    }


# the older lists


@cache
def versions() -> bytes:
    """`/api`: the core group's versions."""
    return msgspec.json.encode(
        {
            "kind": "APIVersions",
            "versions": _groups()[""],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": ""}],
        }
    )


@cache
def groups() -> bytes:
    """`/apis`: every named group."""
    items = [_group(name, versions) for name, versions in _groups().items() if name]
    return msgspec.json.encode({"kind": "APIGroupList", "apiVersion": "v1", "groups": items})


@cache
def group(name: str) -> bytes | None:
    """`/apis/GROUP`, or None."""
    found = _groups().get(name)
    if not name or not found:
        return None
    return msgspec.json.encode({"kind": "APIGroup", "apiVersion": "v1", **_group(name, found)})


def _group(name: str, versions: list[str]) -> Value:
    entries = [{"groupVersion": f"{name}/{v}", "version": v} for v in versions]
    return {"name": name, "versions": entries, "preferredVersion": entries[0]}


@cache
def resources(group: str, version: str) -> bytes | None:
    """`/api/v1` or `/apis/GROUP/VERSION`: APIResourceList, or None."""
    if version not in _groups().get(group, ()):
        return None
    entries = [e for k in _kinds(group, version) for e in _resource(k)]
    for _, _, kind, plural in (r for r in REVIEWS if r[:2] == (group, version)):
        entries.append(
            {"name": plural, "singularName": kind.lower(), "namespaced": False, "kind": kind, "verbs": ["create"]}
        )
    name = f"{group}/{version}" if group else version
    return msgspec.json.encode(
        {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": entries}
    )


def _resource(kind: Kind) -> list[Value]:
    own: Value = {
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": list(VERBS),
    }
    if kind.short_names:
        own["shortNames"] = list(kind.short_names)
    if kind.categories:
        own["categories"] = list(kind.categories)
    return [own, *(_subresource(kind, s) for s in kind.subresources)]


def _subresource(kind: Kind, name: str) -> Value:
    api_version, body_kind, verbs = _SUBRESOURCES[name]
    entry: Value = {
        "name": f"{kind.plural}/{name}",
        "singularName": "",
        "namespaced": kind.namespaced,
        "kind": body_kind or kind.kind,
        "verbs": list(verbs),
    }
    if api_version and api_version != kind.api_version:
        entry["group"], entry["version"] = _split(api_version)
    return entry
