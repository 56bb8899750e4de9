"""What controllers ask about a pod: is it active, ready, available; which labels does a selector want; how is one
made from a template. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from portway.loop import parse_stamp
from portway.objects.core import Pod
from portway.objects.meta import Condition, LabelSelector, LabelSelectorRequirement, Object, RawObject

FINISHED = ("Succeeded", "Failed")


def condition_of(conditions: tuple[Condition, ...] | None, type: str) -> Condition | None:
    return next((c for c in conditions or () if c.type == type), None)


def is_finished(pod: Pod) -> bool:
    return pod.status.phase in FINISHED


def is_terminating(item: Object) -> bool:
    return item.metadata.deletion_timestamp is not None


def is_ready(pod: Pod) -> bool:
    found = condition_of(pod.status.conditions, "Ready")
    return found is not None and found.status == "True"


def available_at(pod: Pod, min_ready_seconds: int) -> datetime | None:
    """The moment from which the ready pod counts as available, or None while it is not ready."""
    found = condition_of(pod.status.conditions, "Ready")
    if found is None or found.status != "True":
        return None
    since = moment(found.last_transition_time) or datetime.min.replace(
        tzinfo=parse_stamp("2000-01-01T00:00:00Z").tzinfo
    )
    return since + timedelta(seconds=min_ready_seconds) if min_ready_seconds else since


def moment(text: str | None) -> datetime | None:
    """A stamp of an object, or None when it is absent or no time."""
    try:
        return parse_stamp(text) if text else None
    except ValueError:
        return None


def matches(selector: LabelSelector, labels: dict[str, str]) -> bool:
    """`metav1.LabelSelector`: all terms must hold; an empty selector matches everything."""
    if any(labels.get(k) != v for k, v in (selector.match_labels or {}).items()):
        return False
    return all(requirement_holds(r, labels) for r in selector.match_expressions or ())


def requirement_holds(requirement: LabelSelectorRequirement, labels: dict[str, str]) -> bool:
    """In, NotIn, Exists, DoesNotExist, and the Gt and Lt of node selectors. An unknown operator matches nothing."""
    value, values = labels.get(requirement.key), requirement.values or ()
    match requirement.operator:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt":
            return _compares(requirement.operator, value, values)
    return False


def _compares(operator: str, value: str | None, values: tuple[str, ...]) -> bool:
    try:
        left, right = int(value or ""), int(values[0])
    except (ValueError, IndexError):
        return False
    return left > right if operator == "Gt" else left < right


def covers(selector: dict[str, str] | None, labels: dict[str, str]) -> bool:
    """A plain map of labels, as Services select: an empty one selects nothing."""
    return bool(selector) and all(labels.get(k) == v for k, v in (selector or {}).items())


def owner_reference(owner: Object, api_version: str) -> dict[str, Any]:
    """The controller reference to put on a dependent."""
    return {
        "apiVersion": api_version,
        "kind": owner.KIND,
        "name": owner.name,
        "uid": owner.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def pod_from(template: RawObject, owner: Object, api_version: str) -> RawObject:
    """A pod of the template, named by the server after its owner."""
    given = template.get("metadata") or {}
    metadata = {k: given[k] for k in ("labels", "annotations", "finalizers") if given.get(k)}
    metadata["generateName"] = f"{owner.name}-"
    metadata["namespace"] = owner.namespace
    metadata["ownerReferences"] = [owner_reference(owner, api_version)]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template.get("spec") or {}}
