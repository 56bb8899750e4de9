"""How many pods a ReplicaSet is short of or has too many of, which of them go first, and what its status says. Pure.

`replicaset_run` reads the views, asks here, and carries the answer out. A terminating pod counts as gone at once, so
its replacement does not wait for it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from portway.controllers.pods import available_at, is_ready, moment
from portway.objects.apps import ReplicaSet
from portway.objects.core import Pod

BURST = 500
"""At most this many pods are made or deleted in one pass; the next pass goes on."""


@dataclass(frozen=True, slots=True)
class Decision:
    """`status` holds the fields that changed. `look_again`: when the next pod becomes available by itself."""

    create: int
    delete: tuple[Pod, ...]
    status: dict[str, Any]
    look_again: datetime | None


def decide(rs: ReplicaSet, active: Sequence[Pod], crowded: dict[str, int], now: datetime) -> Decision:
    """`active` are the ReplicaSet's own pods that run or will; `crowded` is how many of its owner's pods each node has."""
    wanted = 1 if rs.spec.replicas is None else rs.spec.replicas
    surplus = len(active) - wanted
    gone = tuple(sorted(active, key=lambda p: _worth(p, crowded))[: min(surplus, BURST)]) if surplus > 0 else ()
    if rs.metadata.deletion_timestamp:
        return Decision(0, (), {}, None)
    times = [available_at(p, rs.spec.min_ready_seconds) for p in active]
    pending = [t for t in times if t is not None and t > now]
    return Decision(min(max(-surplus, 0), BURST), gone, _status(rs, active, now), min(pending, default=None))


def _worth(pod: Pod, crowded: dict[str, int]) -> tuple[Any, ...]:
    """Deleted first: without a node, not running, not ready, on a crowded node, ready for a shorter time, restarting, newer."""
    ready = available_at(pod, 0)
    made = moment(pod.metadata.creation_timestamp)
    restarts = max((c.restart_count for c in pod.status.container_statuses or ()), default=0)
    return (
        bool(pod.spec.node_name),
        {"Pending": 0, "": 0, "Unknown": 1}.get(pod.status.phase, 2),
        is_ready(pod),
        -crowded.get(pod.spec.node_name, 0),
        -(ready.timestamp() if ready else 0.0),
        -restarts,
        -(made.timestamp() if made else 0.0),
        pod.name,
    )


def _status(rs: ReplicaSet, active: Collection[Pod], now: datetime) -> dict[str, Any]:
    labels = ((rs.spec.template.get("metadata") or {}).get("labels") or {}).items()
    times = [available_at(p, rs.spec.min_ready_seconds) for p in active]
    wanted = {
        "replicas": len(active),
        "fullyLabeledReplicas": sum(all(p.labels.get(k) == v for k, v in labels) for p in active),
        "readyReplicas": sum(t is not None for t in times),
        "availableReplicas": sum(t is not None and t <= now for t in times),
        "observedGeneration": rs.metadata.generation,
    }
    had = {
        "replicas": rs.status.replicas,
        "fullyLabeledReplicas": rs.status.fully_labeled_replicas,
        "readyReplicas": rs.status.ready_replicas,
        "availableReplicas": rs.status.available_replicas,
        "observedGeneration": rs.status.observed_generation,
    }
    return {k: v for k, v in wanted.items() if had[k] != v}
