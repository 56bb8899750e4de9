"""Keeps every ReplicaSet at its number of pods: reads the shared views, asks `replicaset.decide`, creates and
deletes.

Also adopts pods that its selector matches and nobody owns, and lets go of pods whose labels no longer match. Started
by `run`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from portway.client import ApiError
from portway.controllers import replicaset
from portway.controllers.pods import is_finished, matches, owner_reference, pod_from
from portway.controllers.world import NAMESPACE, ORPHAN, OWNER, World, all_of, controller_uid, each, mark_changes
from portway.loop import Generation, Wake, reconcile
from portway.objects.apps import ReplicaSet
from portway.objects.core import Pod
from portway.objects.meta import LabelSelector

COMPONENT = "replicaset-controller"
API_VERSION = "apps/v1"


class ReplicaSets:
    def __init__(self, world: World) -> None:
        self.world = world
        self.wake = Wake()
        self.generation = Generation()

    async def run(self) -> None:
        world = self.world
        on_set = mark_changes(self.wake, lambda rs: (rs.ref,))
        on_pod = mark_changes(self.wake, self._sets_of)
        world.replica_sets.subscribe(on_set)
        world.pods.subscribe(on_pod)
        try:
            await reconcile(
                COMPONENT,
                lambda keys: each(keys, self._sync, at_once=world.settings.writes_at_once),
                self.wake,
                world.clock,
                inputs=(world.replica_sets.reflector.synced, world.pods.reflector.synced),
                generation=self.generation,
            )
        finally:
            world.replica_sets.unsubscribe(on_set)
            world.pods.unsubscribe(on_pod)

    def _sets_of(self, pod: Pod) -> Iterable[str]:
        """The owner; for a pod without one, whoever may adopt it."""
        for owner in pod.metadata.owner_references or ():
            if owner.controller:
                return (f"{pod.namespace}/{owner.name}",) if owner.kind == "ReplicaSet" else ()
        sets = self.world.replica_sets.by(NAMESPACE, pod.namespace)
        return tuple(rs.ref for rs in sets if _selects(rs.spec.selector, pod))

    async def _sync(self, ref: str) -> None:
        rs = self.world.replica_sets.items.get(ref)
        if rs is None or rs.metadata.deletion_timestamp:
            return
        active = await self._claim(rs)
        decision = replicaset.decide(rs, active, self._crowded(rs), self.world.clock.now())
        if decision.look_again:
            wait = (decision.look_again - self.world.clock.now()).total_seconds()
            self.wake.mark_later(self.world.clock.monotonic() + wait, ref)
        work = [self._create(rs) for _ in range(decision.create)] + [self._delete(rs, p) for p in decision.delete]
        try:
            await all_of(work, at_once=self.world.settings.writes_at_once)
        except ApiError:
            await self._report(rs, decision)
            raise
        if not work:
            await self._report(rs, decision)

    async def _report(self, rs: ReplicaSet, decision: replicaset.Decision) -> None:
        """After making or deleting pods the status is the next pass's business: their events wake the loop."""
        if decision.status:
            await self.world.replica_sets.patch_status(rs, decision.status)

    async def _claim(self, rs: ReplicaSet) -> list[Pod]:
        """The active pods that are this set's: owned and matching. Orphans that match are adopted, strangers let go."""
        pods = self.world.pods
        mine = [p for p in pods.by(OWNER, rs.metadata.uid) if controller_uid(p) == rs.metadata.uid]
        for pod in mine:
            if not pods.is_leaving(pod) and not matches(rs.spec.selector, pod.labels):
                await self._own(pod, [o for o in _owners(pod) if o["uid"] != rs.metadata.uid])
        for pod in pods.by(ORPHAN, rs.namespace):
            if _selects(rs.spec.selector, pod) and not pods.is_leaving(pod) and not is_finished(pod):
                await self._own(pod, [*_owners(pod), owner_reference(rs, API_VERSION)])
        mine = [p for p in pods.by(OWNER, rs.metadata.uid) if controller_uid(p) == rs.metadata.uid]
        return [
            p for p in mine if not pods.is_leaving(p) and not is_finished(p) and matches(rs.spec.selector, p.labels)
        ]

    async def _own(self, pod: Pod, owners: list[dict[str, object]]) -> None:
        version = pod.metadata.resource_version
        await self.world.pods.patch(pod, {"metadata": {"ownerReferences": owners, "resourceVersion": version}})

    def _crowded(self, rs: ReplicaSet) -> dict[str, int]:
        """How many pods of the same Deployment (of this set, when there is none) each node runs."""
        owner = controller_uid(rs)
        sets = self.world.replica_sets.by(OWNER, owner) if owner else (rs,)
        pods = (p for s in sets for p in self.world.pods.by(OWNER, s.metadata.uid))
        return Counter(p.spec.node_name for p in pods if not self.world.pods.is_leaving(p) and not is_finished(p))

    async def _create(self, rs: ReplicaSet) -> None:
        try:
            pod = await self.world.pods.create(pod_from(rs.spec.template, rs, API_VERSION), rs.namespace)
        except ApiError as e:
            if not (e.code == 403 and "being terminated" in e.message):
                self._say(rs, "FailedCreate", f"Error creating: {e.message}", warning=True)
            raise
        self._say(rs, "SuccessfulCreate", f"Created pod: {pod.name}")

    async def _delete(self, rs: ReplicaSet, pod: Pod) -> None:
        await self.world.pods.delete(pod)
        self._say(rs, "SuccessfulDelete", f"Deleted pod: {pod.name}")

    def _say(self, rs: ReplicaSet, reason: str, message: str, *, warning: bool = False) -> None:
        self.world.recorder.event(rs, reason, message, component=COMPONENT, warning=warning)


def _selects(selector: LabelSelector, pod: Pod) -> bool:
    return bool(selector.match_labels or selector.match_expressions) and matches(selector, pod.labels)


def _owners(pod: Pod) -> list[dict[str, object]]:
    return [
        {
            "apiVersion": o.api_version,
            "kind": o.kind,
            "name": o.name,
            "uid": o.uid,
            **({"controller": o.controller} if o.controller is not None else {}),
            **({"blockOwnerDeletion": o.block_owner_deletion} if o.block_owner_deletion is not None else {}),
        }
        for o in pod.metadata.owner_references or ()
    ]
