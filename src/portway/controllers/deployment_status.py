"""What a Deployment's status says of its rollout; `kubectl rollout status` and `kubectl wait` read it. Pure.

`Available`: enough pods are. `Progressing`: why the rollout moves, has ended (NewReplicaSetAvailable) or hangs
(ProgressDeadlineExceeded).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from portway.controllers.deployment import Bounds, bounds
from portway.controllers.pods import condition_of, moment
from portway.loop import stamp
from portway.objects.apps import Deployment, ReplicaSet
from portway.objects.meta import Condition


class Reason(StrEnum):
    ENOUGH = "MinimumReplicasAvailable"
    TOO_FEW = "MinimumReplicasUnavailable"
    CREATED = "NewReplicaSetCreated"
    FOUND = "FoundNewReplicaSet"
    MOVING = "ReplicaSetUpdated"
    DONE = "NewReplicaSetAvailable"
    LATE = "ProgressDeadlineExceeded"
    PAUSED = "DeploymentPaused"
    RESUMED = "DeploymentResumed"


@dataclass(frozen=True, slots=True)
class Report:
    """`status` holds the fields that changed. `deadline`: when a rollout that does not move counts as hanging."""

    status: dict[str, Any]
    deadline: datetime | None


def report(deployment: Deployment, sets: Sequence[ReplicaSet], new: ReplicaSet | None, now: datetime) -> Report:
    numbers = _numbers(deployment, sets, new)
    status = deployment.status
    had = {
        "observedGeneration": status.observed_generation,
        "replicas": status.replicas,
        "updatedReplicas": status.updated_replicas,
        "readyReplicas": status.ready_replicas,
        "availableReplicas": status.available_replicas,
        "unavailableReplicas": status.unavailable_replicas,
    }
    changed: dict[str, Any] = {k: v for k, v in numbers.items() if had[k] != v}
    moved = any(numbers[k] != had[k] for k in ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"))
    progress = _progress(deployment, numbers, new, moved, now)
    available = _available(numbers["availableReplicas"], bounds(deployment))
    others = [c for c in status.conditions or () if c.type not in ("Available", "Progressing")]
    mine = [_dated(deployment, c, now, touch=moved) for c in (available, progress) if c is not None]
    conditions = others + mine
    if tuple(conditions) != tuple(status.conditions or ()):
        changed["conditions"] = [_plain(c) for c in conditions]
    return Report(changed, _deadline(deployment, next((c for c in mine if c.type == "Progressing"), None)))


def _numbers(deployment: Deployment, sets: Sequence[ReplicaSet], new: ReplicaSet | None) -> dict[str, int]:
    available = sum(rs.status.available_replicas for rs in sets)
    wanted = sum(1 if rs.spec.replicas is None else rs.spec.replicas for rs in sets)
    return {
        "observedGeneration": deployment.metadata.generation,
        "replicas": sum(rs.status.replicas for rs in sets),
        "updatedReplicas": new.status.replicas if new else 0,
        "readyReplicas": sum(rs.status.ready_replicas for rs in sets),
        "availableReplicas": available,
        "unavailableReplicas": max(0, wanted - available),
    }


def _available(available: int, size: Bounds) -> Condition:
    if available >= size.least_available:
        message = "Deployment has minimum availability."
        return Condition(type="Available", status="True", reason=Reason.ENOUGH, message=message)
    message = "Deployment does not have minimum availability."
    return Condition(type="Available", status="False", reason=Reason.TOO_FEW, message=message)


def _progress(
    d: Deployment, numbers: dict[str, int], new: ReplicaSet | None, moved: bool, now: datetime
) -> Condition | None:
    """None when nobody asked for a deadline."""
    seconds = d.spec.progress_deadline_seconds
    if seconds is None:
        return None
    had = condition_of(d.status.conditions, "Progressing")
    if d.spec.paused:
        return Condition(type="Progressing", status="Unknown", reason=Reason.PAUSED, message="Deployment is paused")
    if had and had.reason == Reason.PAUSED:
        return Condition(type="Progressing", status="Unknown", reason=Reason.RESUMED, message="Deployment is resumed")
    subject = f'ReplicaSet "{new.name}"' if new else f'Deployment "{d.name}"'
    wanted = 1 if d.spec.replicas is None else d.spec.replicas
    if numbers["updatedReplicas"] == numbers["replicas"] == numbers["availableReplicas"] == wanted and new:
        return Condition(
            type="Progressing", status="True", reason=Reason.DONE, message=f"{subject} has successfully progressed."
        )
    started = had is not None and had.reason not in (Reason.DONE, "")
    since = moment(had.last_update_time) if had and started and not moved else None
    if had and had.reason == Reason.DONE and not moved and d.status.observed_generation == d.metadata.generation:
        return had
    if had and had.reason == Reason.LATE and not moved:
        return had
    if since and now >= since + timedelta(seconds=seconds):
        return Condition(
            type="Progressing", status="False", reason=Reason.LATE, message=f"{subject} has timed out progressing."
        )
    if had and started and not moved:
        return had
    reason = Reason.CREATED if had is None else Reason.MOVING
    words = (
        f'Created new replica set "{new.name}"' if reason is Reason.CREATED and new else f"{subject} is progressing."
    )
    return Condition(type="Progressing", status="True", reason=reason, message=words)


def _dated(deployment: Deployment, wanted: Condition, now: datetime, *, touch: bool) -> Condition:
    """With times: a transition is a new status, an update a new reason or (for Progressing) any step forward."""
    had = condition_of(deployment.status.conditions, wanted.type)
    same = had is not None and (had.status, had.reason, had.message) == (wanted.status, wanted.reason, wanted.message)
    if had is not None and same and not (touch and wanted.type == "Progressing"):
        return had
    kept = had.last_transition_time if had and had.status == wanted.status else None
    return Condition(
        type=wanted.type,
        status=wanted.status,
        reason=str(wanted.reason),
        message=wanted.message,
        last_update_time=stamp(now),
        last_transition_time=kept or stamp(now),
    )


def _plain(condition: Condition) -> dict[str, Any]:
    return {
        "type": condition.type,
        "status": condition.status,
        "reason": condition.reason,
        "message": condition.message,
        "lastUpdateTime": condition.last_update_time,
        "lastTransitionTime": condition.last_transition_time,
    }


def _deadline(deployment: Deployment, progress: Condition | None) -> datetime | None:
    if progress is None or progress.status != "True" or progress.reason == Reason.DONE or deployment.spec.paused:
        return None
    since = moment(progress.last_update_time)
    return since + timedelta(seconds=deployment.spec.progress_deadline_seconds or 0) if since else None
