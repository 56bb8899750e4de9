"""Gives every node its pod CIDR and notices when one falls silent: writes podCIDR, conditions and taints. Started by
`run`.

The pods of a node that is not ready lose their Ready condition here, so that its endpoints leave at once;
`evictions_run` removes the pods later. A node is heard through its Lease in kube-node-lease or its status, whichever
changes.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from portway.controllers import nodes as pure
from portway.controllers.pods import condition_of, is_ready
from portway.controllers.world import NODE, World, each, mark_changes
from portway.loop import Generation, Wake, reconcile, stamp
from portway.objects.core import Lease, Node, Pod

COMPONENT = "node-controller"
LEASES = "kube-node-lease"


class Nodes:
    def __init__(self, world: World) -> None:
        self.world = world
        self.wake = Wake()
        self.generation = Generation()
        self._heard: dict[str, tuple[tuple[str, ...], float]] = {}
        self._exhausted: set[str] = set()

    async def run(self) -> None:
        world = self.world
        followed = (
            (world.nodes, mark_changes(self.wake, lambda n: (n.name,))),
            (world.leases, mark_changes(self.wake, _lease_names)),
            (world.pods, mark_changes(self.wake, self._ready_on_silent)),
        )
        for view, callback in followed:
            view.subscribe(callback)
        try:
            await reconcile(
                COMPONENT,
                self._pass,
                self.wake,
                world.clock,
                inputs=[view.reflector.synced for view, _ in followed],
                generation=self.generation,
            )
        finally:
            for view, callback in followed:
                view.unsubscribe(callback)

    def _ready_on_silent(self, pod: Pod) -> Iterable[str]:
        node = self.world.nodes.items.get(pod.spec.node_name)
        return (node.name,) if node is not None and not pure.is_ready(node) and is_ready(pod) else ()

    async def _pass(self, keys: frozenset[str]) -> frozenset[str]:
        failed: set[str] = set()
        if any(not n.spec.pod_cidr for n in self.world.nodes.items.values()):
            failed |= await each(("*",), self._assign)
        return frozenset(failed) | await each(keys - {"*"}, self._sync)

    async def _assign(self, _: str) -> None:
        settings, view = self.world.settings, self.world.nodes
        for name, cidr in pure.assign(view.items.values(), settings.cluster_cidr, settings.node_prefix).items():
            node = view.items[name]
            if cidr is not None:
                await view.patch(node, {"spec": {"podCIDR": cidr, "podCIDRs": [cidr]}})
                self._exhausted.discard(name)
            elif name not in self._exhausted:
                self._exhausted.add(name)
                message = f"Node {name} status is now: CIDRNotAvailable"
                self.world.recorder.event(node, "CIDRNotAvailable", message, component=COMPONENT)

    async def _sync(self, name: str) -> None:
        node = self.world.nodes.items.get(name)
        if node is None:
            if self._heard.pop(name, None):
                self.wake.mark("*")
            return
        node = await self._judge(node)
        taints = pure.taints(node, self.world.clock.now())
        if taints is not None:
            guard = {"resourceVersion": node.metadata.resource_version}
            node = await self.world.nodes.patch(node, {"metadata": guard, "spec": {"taints": taints}})
        if node.status.conditions and not pure.is_ready(node):
            for pod in self.world.pods.by(NODE, name):
                if is_ready(pod):
                    await self._unready(pod)

    async def _judge(self, node: Node) -> Node:
        """Look at the node again when its grace period would end; past it, say that nobody knows how it is."""
        now, said = self.world.clock.monotonic(), self._words(node)
        if self._heard.get(node.name, ((), 0.0))[0] != said:
            self._heard[node.name] = (said, now)
        ends = self._heard[node.name][1] + self.world.settings.node_grace
        if now < ends:
            self.wake.mark_later(ends, node.name)
            return node
        conditions = pure.silent_conditions(node, self.world.clock.now())
        if conditions is None:
            return node
        self.world.recorder.event(
            node, "NodeNotReady", f"Node {node.name} status is now: NodeNotReady", component=COMPONENT
        )
        return await self.world.nodes.patch_status(node, {"conditions": conditions}, guarded=True)

    def _words(self, node: Node) -> tuple[str, ...]:
        """What changes when the node speaks: its lease, and the heartbeat of a Ready condition that it wrote itself."""
        lease = self.world.leases.items.get(f"{LEASES}/{node.name}")
        ready = condition_of(node.status.conditions, "Ready")
        renewed = (lease.spec.renew_time or "") if lease else ""
        beat = (ready.last_heartbeat_time or "") if ready else ""
        return (node.metadata.uid, renewed, beat)

    async def _unready(self, pod: Pod) -> None:
        now = stamp(self.world.clock.now())
        conditions = [
            msgspec.structs.replace(c, status="False", last_transition_time=now) if c.type == "Ready" else c
            for c in pod.status.conditions or ()
        ]
        await self.world.pods.patch_status(pod, {"conditions": [pure.plain(c) for c in conditions]}, guarded=True)
        self.world.recorder.event(pod, "NodeNotReady", "Node is not ready", component=COMPONENT, warning=True)


def _lease_names(lease: Lease) -> Iterable[str]:
    return (lease.name,) if lease.namespace == LEASES else ()
