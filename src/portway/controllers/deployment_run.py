"""Moves every Deployment towards its template: reads the shared views, asks `deployment.plan`, writes ReplicaSets and
status.

One step a pass: each write wakes the loop again through the view, so a rollout goes on as fast as its pods become
available. Started by `run`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from portway.client import ApiError
from portway.controllers import deployment as pure
from portway.controllers.deployment_status import report
from portway.controllers.pods import is_finished, matches, owner_reference
from portway.controllers.world import NAMESPACE, OWNER, World, controller_uid, each, mark_changes
from portway.loop import Generation, Wake, reconcile
from portway.objects.apps import Deployment, ReplicaSet
from portway.objects.core import Pod
from portway.objects.meta import LabelSelector

COMPONENT = "deployment-controller"


class Deployments:
    def __init__(self, world: World) -> None:
        self.world = world
        self.wake = Wake()
        self.generation = Generation()

    async def run(self) -> None:
        world = self.world
        followed = (
            (world.deployments, mark_changes(self.wake, lambda d: (d.ref,))),
            (world.replica_sets, mark_changes(self.wake, self._deployments_of)),
            (world.pods, mark_changes(self.wake, self._waiting_for)),
        )
        for view, callback in followed:
            view.subscribe(callback)
        try:
            await reconcile(
                COMPONENT,
                lambda keys: each(keys, self._sync, at_once=world.settings.writes_at_once),
                self.wake,
                world.clock,
                inputs=[view.reflector.synced for view, _ in followed],
                generation=self.generation,
            )
        finally:
            for view, callback in followed:
                view.unsubscribe(callback)

    def _deployments_of(self, rs: ReplicaSet) -> Iterable[str]:
        for owner in rs.metadata.owner_references or ():
            if owner.controller:
                return (f"{rs.namespace}/{owner.name}",) if owner.kind == "Deployment" else ()
        found = self.world.deployments.by(NAMESPACE, rs.namespace)
        return tuple(d.ref for d in found if _selects(d.spec.selector, rs))

    def _waiting_for(self, pod: Pod) -> Iterable[str]:
        """Only Recreate waits for pods themselves; everybody else hears of them through the ReplicaSets' status."""
        owner = next((o for o in pod.metadata.owner_references or () if o.controller), None)
        rs = self.world.replica_sets.items.get(f"{pod.namespace}/{owner.name}") if owner else None
        refs = self._deployments_of(rs) if rs else ()
        found = ((ref, self.world.deployments.items.get(ref)) for ref in refs)
        return tuple(ref for ref, d in found if d and d.spec.strategy.type == "Recreate")

    async def _sync(self, ref: str) -> None:
        d = self.world.deployments.items.get(ref)
        if d is None or d.metadata.deletion_timestamp:
            return
        sets = await self._claim(d)
        plan = pure.plan(d, sets, self._old_pods(d, sets))
        if plan.create_size is not None:
            sets = await self._create(d, sets, plan.create_size)
        elif not d.spec.paused:
            await self._number(d, sets)
        by_name = {rs.name: rs for rs in sets}
        for name, size in plan.scale:
            await self._scale(d, by_name[name], size)
        for name in plan.delete:
            await self.world.replica_sets.delete(by_name[name], propagation="Background")
        await self._report(ref)

    async def _claim(self, d: Deployment) -> tuple[ReplicaSet, ...]:
        """Its own ReplicaSets; those that match and that nobody owns are adopted first."""
        views = self.world.replica_sets
        for rs in views.by(NAMESPACE, d.namespace):
            if not controller_uid(rs) and not views.is_leaving(rs) and _selects(d.spec.selector, rs):
                body = {
                    "ownerReferences": [owner_reference(d, "apps/v1")],
                    "resourceVersion": rs.metadata.resource_version,
                }
                await views.patch(rs, {"metadata": body})
        return self._sets(d)

    def _sets(self, d: Deployment) -> tuple[ReplicaSet, ...]:
        views = self.world.replica_sets
        mine = (rs for rs in views.by(OWNER, d.metadata.uid) if controller_uid(rs) == d.metadata.uid)
        return tuple(sorted((rs for rs in mine if not views.is_leaving(rs)), key=lambda rs: rs.name))

    def _old_pods(self, d: Deployment, sets: Sequence[ReplicaSet]) -> int:
        new = pure.current(d, sets)
        old = (rs for rs in sets if new is None or rs.name != new.name)
        return sum(not is_finished(p) for rs in old for p in self.world.pods.by(OWNER, rs.metadata.uid))

    async def _create(self, d: Deployment, sets: Sequence[ReplicaSet], size: int) -> tuple[ReplicaSet, ...]:
        body = pure.new_set(d, size, pure.next_revision(None, sets))
        try:
            made = await self.world.replica_sets.create(body, d.namespace)
        except ApiError as e:
            if e.already_exists:
                await self._collided(d, body)
            raise
        if size:
            self._say(d, f"Scaled up replica set {made.name} from 0 to {size}")
        await self._annotate(d, pure.revision(made))
        return (*sets, made)

    async def _collided(self, d: Deployment, body: dict[str, Any]) -> None:
        """Another template has this hash: the next try counts it in. One that is ours already is only late in the view."""
        there = await self.world.client.get(ReplicaSet, body["metadata"]["name"], d.namespace)
        if controller_uid(there) == d.metadata.uid and pure.current(d, (there,)):
            return
        await self.world.deployments.patch_status(d, {"collisionCount": (d.status.collision_count or 0) + 1})

    async def _number(self, d: Deployment, sets: Sequence[ReplicaSet]) -> None:
        """The current ReplicaSet has the highest revision; an older one that is current again (undo) gets a new number."""
        new = pure.current(d, sets)
        if new is None:
            return
        number = pure.next_revision(new, sets)
        wanted = pure.set_annotations(d, number, pure.bounds(d))
        size_moves = pure.bounds(d).replicas != new.spec.replicas
        if size_moves:
            wanted = {k: v for k, v in wanted.items() if k not in (pure.DESIRED, pure.MAXIMUM)}
        if new.annotations.get(pure.REVISION, str(number)) != str(number):
            past = [*filter(None, new.annotations.get(pure.HISTORY, "").split(",")), new.annotations[pure.REVISION]]
            wanted[pure.HISTORY] = ",".join(past)
        body: dict[str, Any] = {}
        if any(new.annotations.get(k) != v for k, v in wanted.items()):
            body["metadata"] = {"annotations": wanted}
        if new.spec.min_ready_seconds != d.spec.min_ready_seconds:
            body["spec"] = {"minReadySeconds": d.spec.min_ready_seconds}
        if body:
            await self.world.replica_sets.patch(new, body)
        await self._annotate(d, number)

    async def _annotate(self, d: Deployment, number: int) -> None:
        if d.annotations.get(pure.REVISION) != str(number):
            await self.world.deployments.patch(d, {"metadata": {"annotations": {pure.REVISION: str(number)}}})

    async def _scale(self, d: Deployment, rs: ReplicaSet, size: int) -> None:
        before = rs.spec.replicas or 0
        annotations = pure.size_annotations(pure.bounds(d))
        await self.world.replica_sets.patch(rs, {"metadata": {"annotations": annotations}, "spec": {"replicas": size}})
        word = "up" if size > before else "down"
        self._say(d, f"Scaled {word} replica set {rs.name} from {before} to {size}")

    async def _report(self, ref: str) -> None:
        d = self.world.deployments.items.get(ref)
        if d is None:
            return
        sets = self._sets(d)
        said = report(d, sets, pure.current(d, sets), self.world.clock.now())
        if said.deadline:
            wait = (said.deadline - self.world.clock.now()).total_seconds()
            self.wake.mark_later(self.world.clock.monotonic() + max(wait, 0.0) + 0.001, ref)
        if said.status:
            await self.world.deployments.patch_status(d, said.status)

    def _say(self, d: Deployment, message: str) -> None:
        self.world.recorder.event(d, "ScalingReplicaSet", message, component=COMPONENT)


def _selects(selector: LabelSelector, rs: ReplicaSet) -> bool:
    return bool(selector.match_labels or selector.match_expressions) and matches(selector, rs.labels)
