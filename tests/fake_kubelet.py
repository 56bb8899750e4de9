"""Stands in for the node agents: pods that have a node become Running and Ready, pods that must go are gone.

`hold` keeps pods (by predicate) from becoming ready; `keep` keeps deleted pods around until it is lifted. Nodes and
leases are made by `join`.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from portway.client import ApiError, Client, Reflector
from portway.loop import Generation, SystemClock, Wake, micro_stamp, reconcile, stamp
from portway.objects.core import Lease, Namespace, Node, Pod


class FakeKubelet:
    def __init__(self, client: Client) -> None:
        self.client = client
        self.pods = Reflector(client, Pod)
        self.wake = Wake()
        self.generation = Generation()
        self.hold: Callable[[Pod], bool] = lambda pod: False
        self.keep: Callable[[Pod], bool] = lambda pod: False
        self._addresses = itertools.count()
        self.pods.subscribe(lambda changes: self.wake.mark(*(c.ref for c in changes)))

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.pods.run())
            tasks.create_task(
                reconcile(
                    "kubelet",
                    self._pass,
                    self.wake,
                    SystemClock(),
                    inputs=(self.pods.synced,),
                    generation=self.generation,
                )
            )

    async def _pass(self, keys: frozenset[str]) -> frozenset[str]:
        again = set()
        for key in keys:
            pod = self.pods.items.get(key)
            try:
                if pod is not None and pod.spec.node_name:
                    await self._sync(pod)
            except ApiError as e:
                if not e.not_found:
                    again.add(key)
        return frozenset(again)

    async def _sync(self, pod: Pod) -> None:
        if pod.metadata.deletion_timestamp:
            if not self.keep(pod):
                await self.client.delete(Pod, pod.name, pod.namespace, grace_seconds=0)
            return
        if pod.status.phase == "Pending" or not pod.status.pod_ip:
            ready = not self.hold(pod)
            number = next(self._addresses)
            ip = f"10.0.{1 + number // 250}.{2 + number % 250}"
            status: dict[str, Any] = {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}
            await self.client.patch_status(Pod, pod.name, {"status": status | conditions(ready)}, pod.namespace)

    async def set_ready(self, pod: Pod, ready: bool) -> None:
        await self.client.patch_status(Pod, pod.name, {"status": conditions(ready)}, pod.namespace)


def conditions(ready: bool) -> dict[str, Any]:
    now, value = stamp(datetime.now(UTC)), "True" if ready else "False"
    types = ("Initialized", "PodScheduled", "ContainersReady", "Ready")
    return {
        "conditions": [
            {"type": t, "status": value if "eady" in t else "True", "lastTransitionTime": now} for t in types
        ]
    }


async def join(client: Client, name: str, **labels: str) -> None:
    """A node that is Ready, with a lease."""
    try:
        await client.create(Namespace, {"metadata": {"name": "kube-node-lease"}})
    except ApiError as e:
        if not e.already_exists:
            raise
    await client.create(Node, {"metadata": {"name": name, "labels": labels}, "spec": {}})
    now = stamp(datetime.now(UTC))
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "", "lastHeartbeatTime": now}
    await client.patch_status(Node, name, {"status": {"conditions": [ready | {"lastTransitionTime": now}]}})
    lease = {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": micro_stamp(datetime.now(UTC))}
    await client.create(Lease, {"metadata": {"name": name}, "spec": lease}, "kube-node-lease")
