"""Deployments and ReplicaSets: selector, template, strategy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from portway.apiserver.errors import FieldError, forbidden_field, invalid_value, not_supported, required
from portway.apiserver.validation import formats, pod

Json = dict[str, Any]

OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")


def check_deployment(new: Json, old: Json | None, subresource: str) -> Iterator[FieldError]:
    if subresource == "status":
        yield from _counts("status", new.get("status") or {}, old)
        return
    spec = new.get("spec") or {}
    yield from _numbers(spec, ("replicas", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"))
    yield from _workload(spec, old)
    yield from _strategy(spec.get("strategy") or {})
    deadline, ready = spec.get("progressDeadlineSeconds"), spec.get("minReadySeconds", 0)
    if deadline is not None and deadline <= ready:
        yield invalid_value("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds")


def check_replica_set(new: Json, old: Json | None, subresource: str) -> Iterator[FieldError]:
    if subresource == "status":
        yield from _counts("status", new.get("status") or {}, old)
        return
    spec = new.get("spec") or {}
    yield from _numbers(spec, ("replicas", "minReadySeconds"))
    yield from _workload(spec, old)


def _numbers(spec: Json, fields: tuple[str, ...]) -> Iterator[FieldError]:
    for field in fields:
        yield from formats.not_negative(f"spec.{field}", spec.get(field))


_STATUS_COUNTS = (
    "observedGeneration",
    "replicas",
    "fullyLabeledReplicas",
    "updatedReplicas",
    "readyReplicas",
    "availableReplicas",
)


def _counts(path: str, status: Json, old: Json | None) -> Iterator[FieldError]:
    for field in _STATUS_COUNTS:
        yield from formats.not_negative(f"{path}.{field}", status.get(field))
    replicas = status.get("replicas", 0)
    for field in ("updatedReplicas", "readyReplicas", "availableReplicas", "fullyLabeledReplicas"):
        count = status.get(field, 0)
        if count > max(replicas, 0):  # a negative number of replicas is an error of its own
            yield invalid_value(f"{path}.{field}", count, "cannot be greater than status.replicas")


def _workload(spec: Json, old: Json | None) -> Iterator[FieldError]:
    selector, template = spec.get("selector"), spec.get("template") or {}
    labels = (template.get("metadata") or {}).get("labels") or {}
    if selector is None:
        yield required("spec.selector")
    else:
        problems = list(check_selector("spec.selector", selector))
        yield from problems
        if not problems:
            if not (selector.get("matchLabels") or selector.get("matchExpressions")):
                yield invalid_value("spec.selector", selector, "empty selector is invalid for deployment")
            elif not selects(selector, labels):
                why = "`selector` does not match template `labels`"
                yield invalid_value("spec.template.metadata.labels", labels, why)
    if old is not None and (old.get("spec") or {}).get("selector") != selector:
        yield invalid_value("spec.selector", selector, formats.IMMUTABLE)
    if old is None or (old.get("spec") or {}).get("template") != template:
        yield from _template(template, labels)


def _template(template: Json, labels: Json) -> Iterator[FieldError]:
    spec = template.get("spec") or {}
    yield from formats.labels("spec.template.metadata.labels", labels)
    yield from pod.check_spec("spec.template.spec", spec)
    policy = spec.get("restartPolicy")
    if policy in pod.RESTART_POLICIES and policy != "Always":
        yield not_supported("spec.template.spec.restartPolicy", policy, ("Always",))
    if spec.get("activeDeadlineSeconds") is not None:
        why = "activeDeadlineSeconds in ReplicaSet is not Supported"
        yield forbidden_field("spec.template.spec.activeDeadlineSeconds", why)


def _strategy(strategy: Json) -> Iterator[FieldError]:
    kind, rolling = strategy.get("type"), strategy.get("rollingUpdate")
    if kind == "Recreate":
        if rolling is not None:
            why = "may not be specified when strategy `type` is 'Recreate'"
            yield forbidden_field("spec.strategy.rollingUpdate", why)
    elif kind != "RollingUpdate":
        yield not_supported("spec.strategy.type", kind or "", ("Recreate", "RollingUpdate"))
    elif rolling is None:
        yield required("spec.strategy.rollingUpdate", "this should be defaulted and never be nil")
    else:
        path = "spec.strategy.rollingUpdate"
        unavailable, surge = rolling.get("maxUnavailable"), rolling.get("maxSurge")
        yield from formats.percent_or_count(f"{path}.maxUnavailable", unavailable)
        yield from formats.percent_or_count(f"{path}.maxSurge", surge, share_limit=0)
        if _zero(unavailable) and _zero(surge):
            yield invalid_value(f"{path}.maxUnavailable", unavailable, "may not be 0 when `maxSurge` is 0")


def _zero(value: Any) -> bool:
    return value in (0, "0%", None)


def check_selector(path: str, selector: Json) -> Iterator[FieldError]:
    yield from formats.labels(f"{path}.matchLabels", selector.get("matchLabels"))
    for i, rule in enumerate(selector.get("matchExpressions") or ()):
        at, operator, values = f"{path}.matchExpressions[{i}]", rule.get("operator"), rule.get("values") or []
        yield from formats.needed(f"{at}.key", rule.get("key", ""), formats.qualified(rule.get("key", "")))
        if operator not in OPERATORS:
            yield invalid_value(f"{at}.operator", operator or "", "not a valid selector operator")
        elif operator in ("In", "NotIn") and not values:
            yield required(f"{at}.values", "must be specified when `operator` is 'In' or 'NotIn'")
        elif operator in ("Exists", "DoesNotExist") and values:
            yield forbidden_field(f"{at}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")


def selects(selector: Json, labels: Json) -> bool:
    """Does a label selector with correct operators choose these labels?"""
    if any(labels.get(k) != v for k, v in (selector.get("matchLabels") or {}).items()):
        return False
    for rule in selector.get("matchExpressions") or ():
        value, values = labels.get(rule["key"]), rule.get("values") or []
        chosen = {
            "In": value in values,
            "NotIn": value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }[rule["operator"]]
        if not chosen:
            return False
    return True
