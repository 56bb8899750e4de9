"""What of an update may be stored: identity is checked, the server's own fields stay, a subresource writes its part alone.

Pure: two objects in, one out. `rest` calls these between reading a request's object and completing it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from portway.apiserver.errors import ApiError, bad_request, conflict, invalid, invalid_value
from portway.apiserver.requests import Target
from portway.apiserver.strategy import strategy
from portway.objects.kinds import Kind

Value = dict[str, Any]


def check_namespace_matches(target: Target, metadata: Value) -> None:
    given = metadata.get("namespace") or ""
    if target.kind.namespaced and given and given != target.namespace:
        raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
    if not target.kind.namespaced:
        metadata.pop("namespace", None)


def other_name(name: str, expected: str) -> ApiError:
    return bad_request(f"the name of the object ({name}) does not match the name on the URL ({expected})")


def check_same_object(target: Target, old: Value, value: Value) -> None:
    """Name, namespace, uid and resourceVersion of the request against the stored object."""
    metadata, known = value.setdefault("metadata", {}), old["metadata"]
    if metadata.setdefault("name", target.name) != target.name:
        raise other_name(metadata["name"], target.name)
    check_namespace_matches(target, metadata)
    uid, version = metadata.get("uid"), metadata.get("resourceVersion")
    if uid and uid != known["uid"]:
        words = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {known['uid']}"
        raise conflict(target.kind, target.name, words)
    if version and version != known["resourceVersion"]:
        raise conflict(target.kind, target.name)
    if not version and strategy(target.kind).conditional_only:
        field = invalid_value("metadata.resourceVersion", "", "must be specified for an update")
        raise invalid(target.kind, target.name, [field])


def restricted(kind: Kind, subresource: str, old: Value, value: Value) -> Value:
    """The status subresource writes the status alone; the object itself everything but the status."""
    if subresource == "status":
        return {**_copy(old), "status": value.get("status", {}), "metadata": _status_metadata(old, value)}
    if subresource == "finalize":
        restricted = _copy(old)
        restricted["spec"] = value.get("spec") or {}
        return restricted
    if "status" in kind.subresources:
        value.pop("status", None)
        if "status" in old:
            value["status"] = old["status"]
    return value


def _status_metadata(old: Value, value: Value) -> Value:
    """Of the metadata only managedFields come from a status request (they are bookkeeping, not content)."""
    metadata: Value = _copy(old["metadata"])
    if "managedFields" in value["metadata"]:
        metadata["managedFields"] = value["metadata"]["managedFields"]
    return metadata


def _copy(value: Value) -> Value:
    copied: Value = msgspec.json.decode(msgspec.json.encode(value))
    return copied


_SERVER_OWNED = (
    "uid",
    "creationTimestamp",
    "generation",
    "resourceVersion",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
)


def keep_metadata(known: Value, metadata: Value) -> None:
    for name in (*_SERVER_OWNED, "namespace", "generateName"):
        if name in known:
            metadata[name] = known[name]
        else:
            metadata.pop(name, None)
    metadata.pop("selfLink", None)


def unchanged(old: Value, value: Value, *, with_managers: bool) -> bool:
    """Nothing to store: equal but for when who last wrote it."""
    if any(old.get(k) != value.get(k) for k in old.keys() | value.keys() if k != "metadata"):
        return False
    before, after = old["metadata"], value["metadata"]
    if any(before.get(k) != after.get(k) for k in before.keys() | after.keys() if k != "managedFields"):
        return False
    return not with_managers or _managers(before) == _managers(after)


def _managers(metadata: Value) -> list[Value]:
    return [{k: v for k, v in entry.items() if k != "time"} for entry in metadata.get("managedFields") or ()]
