"""Pods and pod templates: everything but the containers (`containers`) and volumes (`volumes`), and what may change later."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from portway.apiserver.errors import FieldError, forbidden_field, invalid_value, not_supported, required
from portway.apiserver.validation import containers, formats, volumes

Json = dict[str, Any]

RESTART_POLICIES = ("Always", "Never", "OnFailure")
DNS_POLICIES = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
OPERATORS = ("Equal", "Exists")
_INT32_MAX = (1 << 31) - 1
_MAY_CHANGE = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def check(new: Json, old: Json | None, subresource: str) -> Iterator[FieldError]:
    """A stored pod's own spec was checked when it came: an update is only compared, which keeps status writes cheap."""
    if subresource == "status":
        return
    if old is None:
        yield from check_spec("spec", new.get("spec") or {})
    else:
        yield from _update(new.get("spec") or {}, old.get("spec") or {}, subresource)


def check_spec(path: str, spec: Json) -> Iterator[FieldError]:
    """The pod spec at `path`: `spec` of a pod, `spec.template.spec` of what makes pods."""
    names = yield from volumes.check(f"{path}.volumes", spec.get("volumes") or [])
    yield from containers.check(path, spec, names)
    yield from formats.one_of(f"{path}.restartPolicy", spec.get("restartPolicy"), RESTART_POLICIES)
    yield from _dns(path, spec)
    yield from _seconds(path, spec)
    yield from formats.labels(f"{path}.nodeSelector", spec.get("nodeSelector"))
    for i, toleration in enumerate(spec.get("tolerations") or ()):
        yield from _toleration(f"{path}.tolerations[{i}]", toleration)
    for field in ("hostname", "subdomain"):
        if name := spec.get(field):
            yield from formats.text(f"{path}.{field}", name, formats.label(name))
    for field in ("serviceAccountName", "nodeName", "priorityClassName"):
        if name := spec.get(field):
            yield from formats.text(f"{path}.{field}", name, formats.subdomain(name))
    for i, alias in enumerate(spec.get("hostAliases") or ()):
        address = alias.get("ip", "")
        yield from formats.text(f"{path}.hostAliases[{i}].ip", address, formats.ip(address))
        for j, name in enumerate(alias.get("hostnames") or ()):
            yield from formats.text(f"{path}.hostAliases[{i}].hostnames[{j}]", name, formats.subdomain(name))


def _dns(path: str, spec: Json) -> Iterator[FieldError]:
    policy = spec.get("dnsPolicy", "ClusterFirst")
    yield from formats.one_of(f"{path}.dnsPolicy", policy, DNS_POLICIES)
    servers = (spec.get("dnsConfig") or {}).get("nameservers") or []
    if policy == "None" and not servers:
        why = "must provide at least one DNS nameserver when `dnsPolicy` is None"
        yield required(f"{path}.dnsConfig.nameservers", why)
    for i, server in enumerate(servers):
        yield from formats.text(f"{path}.dnsConfig.nameservers[{i}]", server, formats.ip(server))


def _seconds(path: str, spec: Json) -> Iterator[FieldError]:
    yield from formats.not_negative(f"{path}.terminationGracePeriodSeconds", spec.get("terminationGracePeriodSeconds"))
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= _INT32_MAX:
        yield invalid_value(f"{path}.activeDeadlineSeconds", deadline, formats.between(1, _INT32_MAX))


def _toleration(path: str, toleration: Json) -> Iterator[FieldError]:
    key, operator = toleration.get("key", ""), toleration.get("operator") or "Equal"
    value, effect = toleration.get("value", ""), toleration.get("effect", "")
    if key:
        yield from formats.text(f"{path}.key", key, formats.qualified(key))
    elif operator != "Exists":
        why = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        yield invalid_value(f"{path}.operator", operator, why)
    if "tolerationSeconds" in toleration and effect != "NoExecute":
        yield invalid_value(f"{path}.effect", effect, "effect must be 'NoExecute' when `tolerationSeconds` is set")
    if operator == "Equal":
        yield from formats.text(f"{path}.operator", value, formats.label_value(value))
    elif operator == "Exists":
        if value:
            yield invalid_value(f"{path}.operator", value, "value must be empty when `operator` is 'Exists'")
    else:
        yield not_supported(f"{path}.operator", operator, OPERATORS)
    if effect and effect not in EFFECTS:
        yield not_supported(f"{path}.effect", effect, EFFECTS)


_CONTAINER_FIELDS = ("containers", "initContainers")


def _update(new: Json, old: Json, subresource: str) -> Iterator[FieldError]:
    if new == old:
        return
    for field in _CONTAINER_FIELDS:
        if len(new.get(field) or ()) != len(old.get(field) or ()):
            yield forbidden_field(f"spec.{field}", "pod updates may not add or remove containers")
            return
    for field in _CONTAINER_FIELDS:
        for i, container in enumerate(new.get(field) or ()):
            yield from containers.image(f"spec.{field}[{i}].image", container.get("image", ""))
    yield from _deadline(new.get("activeDeadlineSeconds"), old.get("activeDeadlineSeconds"))
    kept, given = old.get("tolerations") or [], new.get("tolerations") or []
    if any(t not in given for t in kept):
        why = "existing toleration can not be modified except its tolerationSeconds"
        if not all(any(_same_toleration(t, g) for g in given) for t in kept):
            yield forbidden_field("spec.tolerations", why)
    if _comparable(new, subresource) != _comparable(old, subresource):
        yield forbidden_field("spec", _MAY_CHANGE)


def _same_toleration(one: Json, other: Json) -> bool:
    return {**one, "tolerationSeconds": 0} == {**other, "tolerationSeconds": 0}


def _deadline(new: int | None, old: int | None) -> Iterator[FieldError]:
    path = "spec.activeDeadlineSeconds"
    if new is not None and not 1 <= new <= _INT32_MAX:
        yield invalid_value(path, new, formats.between(1, _INT32_MAX))
    elif new is None and old is not None:
        yield invalid_value(path, None, "must not update from a positive integer to nil value")
    elif new is not None and old is not None and new > old:
        yield invalid_value(path, new, f"must be less than or equal to previous value {old}")


def _comparable(spec: Json, subresource: str) -> Json:
    """The spec without what an update may change."""
    free = {"activeDeadlineSeconds", "tolerations"}
    if subresource == "binding":
        free.add("nodeName")
    if subresource == "ephemeralcontainers":
        free.add("ephemeralContainers")
    rest = copy.copy({k: v for k, v in spec.items() if k not in free and v not in ([], {})})
    if rest.get("terminationGracePeriodSeconds", 0) < 0:
        rest["terminationGracePeriodSeconds"] = 1
    for field in _CONTAINER_FIELDS:
        if field in rest:
            rest[field] = [{k: v for k, v in c.items() if k != "image"} for c in rest[field]]
    return rest
