"""Gives every pod without a node one: reads the shared views, asks `scheduler.choose`, posts the Binding.

Nothing is tried again by time: a pod that fits nowhere waits until a node changes or a pod goes. What was bound a
moment ago counts before the watch says so. Started by `run`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from portway.client import ApiError, Change
from portway.controllers import scheduler as pure
from portway.controllers.nodes import plain
from portway.controllers.pods import condition_of, is_finished
from portway.controllers.world import NODE, World, each
from portway.loop import Generation, Settings, Wake, reconcile, stamp
from portway.objects.core import Node, Pod
from portway.objects.meta import Condition


class Scheduler:
    def __init__(self, world: World) -> None:
        self.world = world
        self.wake = Wake()
        self.generation = Generation()
        self._assumed: dict[str, tuple[Pod, str]] = {}
        self._parked: set[str] = set()

    async def run(self) -> None:
        world = self.world
        world.pods.subscribe(self._pods_changed)
        world.nodes.subscribe(self._nodes_changed)
        try:
            await reconcile(
                pure.SCHEDULER,
                self._pass,
                self.wake,
                world.clock,
                inputs=(world.pods.reflector.synced, world.nodes.reflector.synced),
                generation=self.generation,
                settings=Settings(settle=0.001),
            )
        finally:
            world.pods.unsubscribe(self._pods_changed)
            world.nodes.unsubscribe(self._nodes_changed)

    def _pods_changed(self, changes: Sequence[Change[Pod]]) -> None:
        for change in changes:
            pod = change.object
            if change.new is None or pod.spec.node_name:
                self._assumed.pop(pod.metadata.uid, None)
                self._parked.discard(pod.ref)
            if pod.spec.node_name and (change.new is None or is_finished(pod)):
                self.wake.mark(*self._parked)
            elif change.new is not None and _pending(pod) and (change.old is None or pod.ref not in self._parked):
                self.wake.mark(pod.ref)

    def _nodes_changed(self, changes: Sequence[Change[Node]]) -> None:
        if self._parked and any(_placing(c.old) != _placing(c.new) for c in changes):
            self.wake.mark(*self._parked)

    async def _pass(self, keys: frozenset[str]) -> frozenset[str]:
        """Choose one after the other, so that each sees where the one before went; bind them all at once."""
        pods = [p for p in map(self.world.pods.items.get, keys - {"*"}) if p is not None and _pending(p)]
        nodes = sorted(self.world.nodes.items.values(), key=lambda n: n.name)
        nodes = [n for n in nodes if not n.metadata.deletion_timestamp]
        pods_of = self._pods_of_nodes(nodes)
        chosen: dict[str, tuple[Pod, pure.Choice]] = {}
        for pod in sorted(pods, key=lambda p: (p.metadata.creation_timestamp or "", p.ref)):
            if pod.metadata.uid in self._assumed or self.world.pods.is_leaving(pod):
                continue
            choice = pure.choose(pod, nodes, pods_of)
            chosen[pod.ref] = (pod, choice)
            if choice.node:
                pods_of[choice.node].append(pod)

        async def carry_out(ref: str) -> None:
            pod, choice = chosen[ref]
            await (self._bind(pod, choice.node) if choice.node else self._park(pod, choice.message))

        return await each(chosen, carry_out, at_once=self.world.settings.writes_at_once)

    def _pods_of_nodes(self, nodes: Sequence[Node]) -> dict[str, list[Pod]]:
        found: defaultdict[str, list[Pod]] = defaultdict(list)
        for node in nodes:
            found[node.name] = list(self.world.pods.by(NODE, node.name))
        for pod, name in self._assumed.values():
            found[name].append(pod)
        return found

    async def _bind(self, pod: Pod, node: str) -> None:
        self._assumed[pod.metadata.uid] = (pod, node)
        try:
            await self.world.client.bind(pod.name, pod.namespace, node, uid=pod.metadata.uid)
        except ApiError as e:
            self._assumed.pop(pod.metadata.uid, None)
            if e.not_found or e.code == 409:
                return
            raise
        current = self.world.pods.items.get(pod.ref)
        if current is None or current.spec.node_name or current.metadata.uid != pod.metadata.uid:
            self._assumed.pop(pod.metadata.uid, None)
        self._parked.discard(pod.ref)
        message = f"Successfully assigned {pod.ref} to {node}"
        self.world.recorder.event(pod, "Scheduled", message, component=pure.SCHEDULER)

    async def _park(self, pod: Pod, message: str) -> None:
        """Say why, in an event and in the condition PodScheduled, and wait for a change."""
        self._parked.add(pod.ref)
        said = condition_of(pod.status.conditions, "PodScheduled")
        if said and said.status == "False" and said.message == message:
            return
        self.world.recorder.event(pod, "FailedScheduling", message, component=pure.SCHEDULER, warning=True)
        conditions = [c for c in pod.status.conditions or () if c.type != "PodScheduled"]
        body = [plain(c) for c in (*conditions, self._failed(message))]
        await self.world.pods.patch_status(pod, {"conditions": body}, guarded=True)

    def _failed(self, message: str) -> Condition:
        now = stamp(self.world.clock.now())
        return Condition(
            type="PodScheduled", status="False", reason="Unschedulable", message=message, last_transition_time=now
        )


def _pending(pod: Pod) -> bool:
    mine = pod.spec.scheduler_name in ("", pure.SCHEDULER)
    return mine and not pod.spec.node_name and not is_finished(pod) and not pod.metadata.deletion_timestamp


def _placing(node: Node | None) -> object:
    """What the scheduler reads of a node."""
    if node is None:
        return None
    ready = condition_of(node.status.conditions, "Ready")
    return node.labels, node.spec.taints, node.spec.unschedulable, ready.status if ready else ""
