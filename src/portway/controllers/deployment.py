"""What a Deployment wants of its ReplicaSets: which revision is current, how far each may grow or shrink now. Pure.

The rules are those of apps/v1: at no time more than replicas + maxSurge pods, at no time fewer than replicas −
maxUnavailable available ones. `deployment_run` carries a `Plan` out, writes it all through the views and asks again;
`deployment_status` says how far the rollout is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from portway.controllers.pods import owner_reference
from portway.objects.apps import Deployment, ReplicaSet
from portway.objects.core import IntOrString
from portway.objects.meta import RawObject

HASH_LABEL = "pod-template-hash"
_PREFIX = "deployment.kubernetes.io/"
REVISION, HISTORY = _PREFIX + "revision", _PREFIX + "revision-history"
DESIRED, MAXIMUM = _PREFIX + "desired-replicas", _PREFIX + "max-replicas"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_OWN_ANNOTATIONS = frozenset({REVISION, HISTORY, DESIRED, MAXIMUM, LAST_APPLIED, "deprecated.deployment.rollback.to"})
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
"""No vowels and no digits that look like one: a hash never spells a word."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Resolved numbers of a rolling update."""

    replicas: int
    surge: int
    unavailable: int

    @property
    def most(self) -> int:
        return self.replicas + self.surge

    @property
    def least_available(self) -> int:
        return self.replicas - self.unavailable


@dataclass(frozen=True, slots=True)
class Plan:
    """`scale` maps ReplicaSet names to their next size. `create_size` is the size of a new ReplicaSet, None: make none now."""

    create_size: int | None = None
    scale: tuple[tuple[str, int], ...] = ()
    delete: tuple[str, ...] = ()


def bounds(deployment: Deployment) -> Bounds:
    """Percentages: surge rounds up, unavailable rounds down; both zero would stand still, so one may be unavailable."""
    replicas = 1 if deployment.spec.replicas is None else deployment.spec.replicas
    if deployment.spec.strategy.type != "RollingUpdate":
        return Bounds(replicas, 0, 0)
    rolling = deployment.spec.strategy.rolling_update
    surge = _resolve(rolling.max_surge if rolling else None, replicas, up=True)
    unavailable = _resolve(rolling.max_unavailable if rolling else None, replicas, up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return Bounds(replicas, surge, min(unavailable, replicas))


def _resolve(value: IntOrString | None, of: int, *, up: bool) -> int:
    if value is None:
        value = "25%"
    if isinstance(value, int):
        return value
    hundredths = int(value.removesuffix("%")) * of
    return -(-hundredths // 100) if up else hundredths // 100


def plain_template(rs: ReplicaSet) -> RawObject:
    """The template without the label that tells revisions apart."""
    template = rs.spec.template
    metadata = template.get("metadata") or {}
    labels = {k: v for k, v in (metadata.get("labels") or {}).items() if k != HASH_LABEL}
    return {**template, "metadata": {**metadata, "labels": labels}}


def _canonical(template: RawObject) -> RawObject:
    metadata = {k: v for k, v in (template.get("metadata") or {}).items() if v}
    return {**template, "metadata": metadata}


def current(deployment: Deployment, sets: Sequence[ReplicaSet]) -> ReplicaSet | None:
    """The ReplicaSet of today's template; of several the oldest, as in Kubernetes."""
    wanted = _canonical(deployment.spec.template)
    same = [rs for rs in sets if _canonical(plain_template(rs)) == wanted]
    return min(same, key=lambda rs: (rs.metadata.creation_timestamp or "", rs.name), default=None)


def template_hash(template: RawObject, collisions: int) -> str:
    text = json.dumps([_canonical(template), collisions], sort_keys=True, separators=(",", ":"))
    return "".join(_ALPHABET[b % len(_ALPHABET)] for b in hashlib.sha256(text.encode()).digest()[:10])


def revision(rs: ReplicaSet) -> int:
    text = rs.annotations.get(REVISION, "0")
    return int(text) if text.isdigit() else 0


def next_revision(new: ReplicaSet | None, sets: Sequence[ReplicaSet]) -> int:
    """One more than every other; a current one that is already the highest keeps its number."""
    others = max((revision(rs) for rs in sets if new is None or rs.name != new.name), default=0)
    own = revision(new) if new else 0
    return own if own > others else others + 1


def set_annotations(deployment: Deployment, number: int, size: Bounds) -> dict[str, str]:
    """What a ReplicaSet carries: the Deployment's annotations, its revision, and the sizes that scaling compares with."""
    copied = {k: v for k, v in deployment.annotations.items() if k not in _OWN_ANNOTATIONS}
    return copied | {REVISION: str(number)} | size_annotations(size)


def size_annotations(size: Bounds) -> dict[str, str]:
    return {DESIRED: str(size.replicas), MAXIMUM: str(size.most)}


def new_set(deployment: Deployment, size: int, number: int) -> RawObject:
    """The body of a ReplicaSet for today's template."""
    digest = template_hash(deployment.spec.template, deployment.status.collision_count or 0)
    template = deployment.spec.template
    metadata = template.get("metadata") or {}
    labels = {**(metadata.get("labels") or {}), HASH_LABEL: digest}
    selector: dict[str, Any] = {"matchLabels": {**(deployment.spec.selector.match_labels or {}), HASH_LABEL: digest}}
    if deployment.spec.selector.match_expressions:
        selector["matchExpressions"] = [
            {"key": e.key, "operator": e.operator, **({"values": list(e.values)} if e.values else {})}
            for e in deployment.spec.selector.match_expressions
        ]
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{deployment.name}-{digest}",
            "namespace": deployment.namespace,
            "labels": labels,
            "annotations": set_annotations(deployment, number, bounds(deployment)),
            "ownerReferences": [owner_reference(deployment, "apps/v1")],
        },
        "spec": {
            "replicas": size,
            "minReadySeconds": deployment.spec.min_ready_seconds,
            "selector": selector,
            "template": {**template, "metadata": {**metadata, "labels": labels}},
        },
    }


def plan(deployment: Deployment, sets: Sequence[ReplicaSet], old_pods: int) -> Plan:
    """The next step. `old_pods`: how many pods of older revisions still run, ending ones included (Recreate waits for them)."""
    new = current(deployment, sets)
    old = tuple(sorted((rs for rs in sets if new is None or rs.name != new.name), key=_age))
    size = bounds(deployment)
    if deployment.spec.paused:
        return Plan(scale=_rescale(size, new, old))
    if any(_size(rs) and rs.annotations.get(DESIRED, str(size.replicas)) != str(size.replicas) for rs in sets):
        changed = _rescale(size, new, old)
        if changed:
            return Plan(scale=changed)
    if deployment.spec.strategy.type == "Recreate":
        return _recreate(deployment, size, new, old, old_pods)
    return _roll(deployment, size, new, old)


def _recreate(d: Deployment, size: Bounds, new: ReplicaSet | None, old: tuple[ReplicaSet, ...], old_pods: int) -> Plan:
    down = tuple((rs.name, 0) for rs in old if _size(rs))
    if down or old_pods:
        return Plan(scale=down)
    if new is None:
        return Plan(create_size=size.replicas)
    scale = ((new.name, size.replicas),) if _size(new) != size.replicas else ()
    return Plan(scale=scale, delete=_history(d, old) if not scale else ())


def _roll(d: Deployment, size: Bounds, new: ReplicaSet | None, old: tuple[ReplicaSet, ...]) -> Plan:
    total = sum(map(_size, old)) + (_size(new) if new else 0)
    if new is None:
        return Plan(create_size=max(0, min(size.replicas, size.most - total)))
    if _size(new) > size.replicas:
        return Plan(scale=((new.name, size.replicas),))
    if _size(new) < size.replicas and total < size.most:
        return Plan(scale=((new.name, min(size.replicas, _size(new) + size.most - total)),))
    shrunk = _shrink(size, new, old)
    done = not shrunk and not any(map(_size, old)) and new.status.available_replicas >= size.replicas
    return Plan(scale=shrunk, delete=_history(d, old) if done else ())


def _shrink(size: Bounds, new: ReplicaSet, old: tuple[ReplicaSet, ...]) -> tuple[tuple[str, int], ...]:
    """Old pods that are not available go first, as many as the bounds allow; then available ones above the minimum."""
    total = sum(map(_size, old)) + _size(new)
    spare = total - size.least_available - max(0, _size(new) - new.status.available_replicas)
    sizes = {rs.name: _size(rs) for rs in old}
    for rs in old:
        sick = min(max(0, sizes[rs.name] - rs.status.available_replicas), max(0, spare))
        sizes[rs.name] -= sick
        spare -= sick
    available = sum(min(rs.status.available_replicas, sizes[rs.name]) for rs in old) + new.status.available_replicas
    spare = max(0, available - size.least_available)
    for rs in old:
        step = min(sizes[rs.name], spare)
        sizes[rs.name] -= step
        spare -= step
    return tuple((rs.name, sizes[rs.name]) for rs in old if sizes[rs.name] != _size(rs))


def _rescale(size: Bounds, new: ReplicaSet | None, old: tuple[ReplicaSet, ...]) -> tuple[tuple[str, int], ...]:
    """Somebody changed `replicas` in the middle of a rollout, or while paused: every revision grows or shrinks in proportion."""
    everyone = [*old, new] if new else [*old]
    active = [rs for rs in everyone if _size(rs)] or ([new] if new else everyone[-1:])
    if len(active) == 1:
        only = active[0]
        return ((only.name, size.replicas),) if _size(only) != size.replicas else ()
    left = (size.most if size.replicas else 0) - sum(map(_size, active))
    sizes: dict[str, int] = {}
    for rs in sorted(active, key=lambda r: (-_size(r), r.name)):
        before = int(rs.annotations.get(MAXIMUM, "0") or 0) or size.most
        share = round(_size(rs) * (size.most if size.replicas else 0) / before) - _size(rs)
        share = min(share, left) if left > 0 else max(share, left)
        share = share if (share > 0) == (left > 0) else 0
        sizes[rs.name] = max(0, _size(rs) + share)
        left -= share
    largest = max(sizes, key=lambda name: sizes[name], default="")
    if left and largest:
        sizes[largest] = max(0, sizes[largest] + left)
    return tuple((rs.name, sizes[rs.name]) for rs in active if sizes[rs.name] != _size(rs))


def _history(deployment: Deployment, old: tuple[ReplicaSet, ...]) -> tuple[str, ...]:
    """Empty old ReplicaSets beyond revisionHistoryLimit, oldest revision first."""
    keep = 10 if deployment.spec.revision_history_limit is None else deployment.spec.revision_history_limit
    idle = [rs for rs in old if not _size(rs) and not rs.status.replicas and not rs.metadata.deletion_timestamp]
    surplus = len(old) - keep
    return tuple(rs.name for rs in sorted(idle, key=revision)[: max(0, surplus)])


def _size(rs: ReplicaSet) -> int:
    return 1 if rs.spec.replicas is None else rs.spec.replicas


def _age(rs: ReplicaSet) -> tuple[str, int, str]:
    return (rs.metadata.creation_timestamp or "", revision(rs), rs.name)
