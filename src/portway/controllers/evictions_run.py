"""Removes pods that must not stay where they are: from nodes with NoExecute taints, from nodes that are gone, and
those never placed.

A pod on a silent node is only marked for deletion: its node may still run it. When the node object itself is gone,
nobody can run or end the pod, so it is deleted by force and its ReplicaSet makes another. Started by `run`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from portway.client import ApiError, Change
from portway.controllers.nodes import patience
from portway.controllers.pods import is_terminating, moment
from portway.controllers.world import NODE, World, each, mark_changes
from portway.loop import Generation, Wake, reconcile
from portway.objects.core import Node, Pod, Taint

COMPONENT = "taint-eviction-controller"


class Evictions:
    def __init__(self, world: World) -> None:
        self.world = world
        self.wake = Wake()
        self.generation = Generation()

    async def run(self) -> None:
        world = self.world
        on_pod = mark_changes(self.wake, self._worth_a_look)
        world.pods.subscribe(on_pod)
        world.nodes.subscribe(self._nodes_changed)
        try:
            await reconcile(
                COMPONENT,
                lambda keys: each(keys, self._sync, at_once=world.settings.writes_at_once),
                self.wake,
                world.clock,
                inputs=(world.pods.reflector.synced, world.nodes.reflector.synced),
                generation=self.generation,
            )
        finally:
            world.pods.unsubscribe(on_pod)
            world.nodes.unsubscribe(self._nodes_changed)

    def _worth_a_look(self, pod: Pod) -> Iterable[str]:
        node = self.world.nodes.items.get(pod.spec.node_name)
        if not pod.spec.node_name:
            return (pod.ref,) if is_terminating(pod) else ()
        return (pod.ref,) if node is None or _evicting(node) else ()

    def _nodes_changed(self, changes: Sequence[Change[Node]]) -> None:
        for change in changes:
            pods = self.world.pods.by(NODE, change.object.name)
            if pods and (change.new is None or _evicting(change.new)):
                self.wake.mark(*(p.ref for p in pods))

    async def _sync(self, ref: str) -> None:
        pod = self.world.pods.items.get(ref)
        if pod is None:
            return
        node = self.world.nodes.items.get(pod.spec.node_name)
        if node is None:
            if (pod.spec.node_name and await self._is_gone(pod.spec.node_name)) or (
                not pod.spec.node_name and is_terminating(pod)
            ):
                await self.world.pods.delete(pod, grace_seconds=0)
            return
        await self._evict(pod, node)

    async def _is_gone(self, name: str) -> bool:
        """The view may be older than the pod: ask."""
        try:
            await self.world.client.get(Node, name)
        except ApiError as e:
            if e.not_found:
                return True
            raise
        return False

    async def _evict(self, pod: Pod, node: Node) -> None:
        taints = _evicting(node)
        if not taints or self.world.pods.is_leaving(pod):
            return
        seconds = patience(taints, pod.spec.tolerations or (), self.world.settings.default_toleration)
        if seconds is None:
            return
        since = [t for t in (moment(taint.time_added) for taint in taints) if t]
        waited = (self.world.clock.now() - min(since)).total_seconds() if since else 0.0
        if seconds > waited:
            self.wake.mark_later(self.world.clock.monotonic() + seconds - waited, pod.ref)
            return
        message = f"Marking for deletion Pod {pod.ref}"
        self.world.recorder.event(pod, "TaintManagerEviction", message, component=COMPONENT)
        await self.world.pods.delete(pod)


def _evicting(node: Node) -> tuple[Taint, ...]:
    return tuple(t for t in node.spec.taints or () if t.effect == "NoExecute")
