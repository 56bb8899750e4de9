"""ConfigMaps, Secrets, Nodes, Namespaces, Leases and Events."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from portway.apiserver.errors import (
    FieldError,
    duplicate,
    forbidden_field,
    invalid_value,
    not_supported,
    required,
    too_long,
)
from portway.apiserver.validation import formats

Json = dict[str, Any]

DATA_LIMIT = 1024 * 1024
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_WHOLE = "[]"
_SEALED = "field is immutable when `immutable` is set"
# What a Secret of a known type must hold.
_SECRET_KEYS = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}


def check_config_map(new: Json, old: Json | None, subresource: str) -> Iterator[FieldError]:
    data, binary = new.get("data") or {}, new.get("binaryData") or {}
    size = 0
    for key, value in data.items():
        yield from _key(f"data[{key}]", key)
        if key in binary:
            yield invalid_value(f"data[{key}]", key, "duplicate of key present in binaryData")
        size += len(value.encode())
    for key, value in binary.items():
        yield from _key(f"binaryData[{key}]", key)
        size += _decoded_size(value)
    if size > DATA_LIMIT:
        yield too_long(_WHOLE, DATA_LIMIT)
    yield from _sealed(new, old, ("data", "binaryData"))


def check_secret(new: Json, old: Json | None, subresource: str) -> Iterator[FieldError]:
    data, kind = new.get("data") or {}, new.get("type", "")
    for key in data:
        yield from _key(f"data[{key}]", key)
    if sum(map(_decoded_size, data.values())) > DATA_LIMIT:
        yield too_long("data", DATA_LIMIT)
    for key in _SECRET_KEYS.get(kind, ()):
        if key not in data:
            yield required(f"data[{key}]")
    if kind == "kubernetes.io/basic-auth" and not {"username", "password"} & data.keys():
        yield required("data[username]")
        yield required("data[password]")
    if old is not None and kind != old.get("type"):
        yield invalid_value("type", kind, formats.IMMUTABLE)
    yield from _sealed(new, old, ("data",))


def _key(path: str, key: str) -> Iterator[FieldError]:
    yield from formats.text(path, key, formats.config_key(key))


def _decoded_size(value: str) -> int:
    return len(base64.b64decode(value))


def _sealed(new: Json, old: Json | None, fields: tuple[str, ...]) -> Iterator[FieldError]:
    if old is None or not old.get("immutable"):
        return
    if not new.get("immutable"):
        yield forbidden_field("immutable", _SEALED)
    for field in fields:
        if (new.get(field) or {}) != (old.get(field) or {}):
            yield forbidden_field(field, _SEALED)


def check_node(new: Json, old: Json | None, subresource: str) -> Iterator[FieldError]:
    spec = new.get("spec") or {}
    seen: set[tuple[str, str]] = set()
    for i, taint in enumerate(spec.get("taints") or ()):
        path, key, effect = f"spec.taints[{i}]", taint.get("key", ""), taint.get("effect", "")
        yield from formats.needed(f"{path}.key", key, formats.qualified(key))
        yield from formats.text(f"{path}.value", taint.get("value", ""), formats.label_value(taint.get("value", "")))
        yield from formats.one_of(f"{path}.effect", effect, EFFECTS)
        if (key, effect) in seen:
            yield duplicate(path, taint)
        seen.add((key, effect))
    for i, block in enumerate(spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else ())):
        yield from formats.text(f"spec.podCIDRs[{i}]", block, formats.cidr(block))
    before = (old or {}).get("spec") or {}
    if before.get("podCIDR") and before["podCIDR"] != spec.get("podCIDR"):
        yield forbidden_field("spec.podCIDRs", 'node updates may not change podCIDR except from "" to valid')


def check_namespace(new: Json, old: Json | None, subresource: str) -> Iterator[FieldError]:
    for i, name in enumerate((new.get("spec") or {}).get("finalizers") or ()):
        path = f"spec.finalizers[{i}]"
        if why := formats.qualified(name):
            yield invalid_value(path, name, why)
        elif "/" not in name and name != "kubernetes":
            yield invalid_value(path, name, "name is neither a standard finalizer name nor is it fully qualified")
    phase = (new.get("status") or {}).get("phase")
    deleted = bool((new.get("metadata") or {}).get("deletionTimestamp"))
    if subresource == "status" and deleted and phase != "Terminating":
        why = "may only be 'Terminating' if `deletionTimestamp` is not empty"
        yield invalid_value("status.Phase", phase, why)
    elif subresource == "status" and not deleted and phase not in (None, "Active"):
        why = "may only be 'Active' if `deletionTimestamp` is empty"
        yield invalid_value("status.Phase", phase, why)


def check_lease(new: Json, old: Json | None, subresource: str) -> Iterator[FieldError]:
    spec = new.get("spec") or {}
    if spec.get("leaseDurationSeconds", 1) <= 0:
        yield invalid_value("spec.leaseDurationSeconds", spec["leaseDurationSeconds"], formats.POSITIVE)
    yield from formats.not_negative("spec.leaseTransitions", spec.get("leaseTransitions"))
    if spec.get("holderIdentity") == "":
        yield invalid_value("spec.holderIdentity", "", "must not be empty")


def check_event(new: Json, old: Json | None, subresource: str) -> Iterator[FieldError]:
    involved = (new.get("involvedObject") or {}).get("namespace", "")
    own = (new.get("metadata") or {}).get("namespace", "")
    # An event about something cluster-wide stands in a namespace of the system.
    if involved != own and (involved or own not in ("default", "kube-system")):
        yield invalid_value("involvedObject.namespace", involved, "does not match event.namespace")
    kind = new.get("type")
    if old is None and "eventTime" in new and kind not in (None, "", "Normal", "Warning"):
        yield not_supported("type", kind, ("Normal", "Warning"))
