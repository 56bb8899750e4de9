"""Which pod CIDR a node gets, and what its silence means: conditions, taints, and which pods must go. Pure.

`nodes_run` and `evictions_run` carry it out. A node speaks through its Lease and its status; how long ago is measured
by our own monotonic clock since we saw it change, so clocks of nodes that run wrong do no harm.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

import msgspec

from portway.controllers.pods import condition_of
from portway.loop import stamp
from portway.objects.core import Node, Taint, Toleration
from portway.objects.meta import Condition

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
_OURS = (NOT_READY, UNREACHABLE, UNSCHEDULABLE)
_SILENT = "NodeStatusUnknown"
_NEVER = "NodeStatusNeverUpdated"


def assign(nodes: Iterable[Node], cluster: IPv4Network, prefix: int) -> dict[str, str | None]:
    """The pod CIDR of every node that has none; None when there is no more. The oldest node first, then node-2 before node-10.

    The first block of the cluster stays for last: node-1 gets 10.0.1.0/24.
    """
    everyone = sorted(nodes, key=lambda n: (n.metadata.creation_timestamp or "", natural(n.name)))
    taken = [block for n in everyone if (block := _network(n.spec.pod_cidr))]
    blocks = list(cluster.subnets(new_prefix=prefix))
    free = iter([b for b in (*blocks[1:], blocks[0]) if not any(_overlap(b, t) for t in taken)])
    waiting = (n for n in everyone if not n.spec.pod_cidr and not n.metadata.deletion_timestamp)
    return {n.name: str(block) if (block := next(free, None)) else None for n in waiting}


def _network(text: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(text, strict=False) if text else None
    except ValueError:
        return None


def _overlap(block: IPv4Network, other: IPv4Network | IPv6Network) -> bool:
    return isinstance(other, IPv4Network) and block.overlaps(other)


def natural(name: str) -> tuple[tuple[int, str], ...]:
    """Sort key: numbers in names count as numbers."""
    return tuple((int(p), "") if p.isdigit() else (-1, p) for p in re.split(r"(\d+)", name))


def is_ready(node: Node) -> bool:
    found = condition_of(node.status.conditions, "Ready")
    return found is not None and found.status == "True"


def silent_conditions(node: Node, now: datetime) -> list[dict[str, Any]] | None:
    """All conditions of a node that has not spoken for the grace period; None when they already say so."""
    had = node.status.conditions or ()
    reported = condition_of(had, "Ready")
    if reported is not None and all(c.status == "Unknown" for c in had):
        return None
    if reported is None:
        message = "Kubelet never posted node status."
        silent = Condition(
            type="Ready", status="Unknown", reason=_NEVER, message=message, last_transition_time=stamp(now)
        )
        return [plain(c) for c in (*had, silent)]
    return [plain(_unknown(c, now)) for c in had]


def _unknown(condition: Condition, now: datetime) -> Condition:
    if condition.status == "Unknown":
        return condition
    return msgspec.structs.replace(
        condition,
        status="Unknown",
        reason=_SILENT,
        message="Kubelet stopped posting node status.",
        last_transition_time=stamp(now),
    )


def plain(condition: Condition) -> dict[str, Any]:
    made: dict[str, Any] = msgspec.to_builtins(condition)
    return made


def taints(node: Node, now: datetime) -> list[dict[str, Any]] | None:
    """The node's taints as its Ready condition and `unschedulable` ask for them; None when they are so already."""
    ready = condition_of(node.status.conditions, "Ready")
    wanted: set[tuple[str, str]] = set()
    if ready is not None and ready.status == "False":
        wanted |= {(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")}
    if ready is not None and ready.status == "Unknown":
        wanted |= {(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")}
    if node.spec.unschedulable:
        wanted.add((UNSCHEDULABLE, "NoSchedule"))
    had = node.spec.taints or ()
    ours = {(t.key, t.effect) for t in had if t.key in _OURS}
    if ours == wanted:
        return None
    kept = [t for t in had if t.key not in _OURS or (t.key, t.effect) in wanted]
    added = [Taint(key=k, effect=e, time_added=stamp(now)) for k, e in sorted(wanted - ours)]
    made: list[dict[str, Any]] = [msgspec.to_builtins(t) for t in (*kept, *added)]
    return made


def tolerates(toleration: Toleration, taint: Taint) -> bool:
    """An empty key with Exists tolerates everything, an empty effect every effect."""
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    if toleration.operator == "Exists":
        return True
    return bool(toleration.key) and toleration.operator in ("", "Equal") and toleration.value == taint.value


def patience(taint_list: Sequence[Taint], tolerations: Sequence[Toleration], default: int) -> float | None:
    """Seconds that a pod may stay on a node with these NoExecute taints: None for ever, 0 not at all.

    `default` is for pods that say nothing of a silent node, as the API server's admission would have added it.
    """
    shortest: float | None = None
    for taint in taint_list:
        fitting = [t for t in tolerations if tolerates(t, taint)]
        if not fitting:
            seconds: float | None = default if taint.key in (NOT_READY, UNREACHABLE) else 0
        else:
            limits = [t.toleration_seconds for t in fitting if t.toleration_seconds is not None]
            seconds = max(0, min(limits)) if limits else None
        if seconds is not None:
            shortest = seconds if shortest is None else min(shortest, seconds)
    return shortest
