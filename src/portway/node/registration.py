"""The Node object and its Lease: what a node says about itself, and that it is alive. Values are pure; `Registration`
writes them.

Called by `agent`: once at the start, when readiness changes, and every `lease_renew` seconds for the Lease, which the
node lifecycle controller watches.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from typing import Any

from portway import __version__
from portway.client import ApiError
from portway.loop import micro_stamp, stamp
from portway.node.context import NodeContext
from portway.objects.core import Lease, Node
from portway.objects.meta import Condition

LEASE_NAMESPACE = "kube-node-lease"
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}
_HEALTHY = {
    "MemoryPressure": "KubeletHasSufficientMemory",
    "DiskPressure": "KubeletHasNoDiskPressure",
    "PIDPressure": "KubeletHasSufficientPID",
}


def labels(name: str, extra: dict[str, str]) -> dict[str, str]:
    machine = _MACHINES.get(platform.machine(), platform.machine())
    return {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": machine, **extra}


def conditions(ready: bool, message: str, now: str, old: Sequence[Condition]) -> list[dict[str, Any]]:
    """Ready and its three companions. An unchanged status keeps the time of its last change."""
    rows = [(type_, "False", reason, "") for type_, reason in _HEALTHY.items()]
    rows.append(("Ready", "True" if ready else "False", "KubeletReady" if ready else "KubeletNotReady", message))
    known = {c.type: c for c in old}
    made = []
    for type_, status, reason, words in rows:
        before = known.get(type_)
        since = (
            before.last_transition_time if before and before.status == status and before.last_transition_time else now
        )
        row = {"type": type_, "status": status, "reason": reason, "message": words}
        made.append(row | {"lastHeartbeatTime": now, "lastTransitionTime": since})
    return made


def machine_facts(max_pods: int) -> dict[str, Any]:
    """Capacity and node info. The machine's own figures: every node of a one-machine cluster shows all of it."""
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    capacity = {"cpu": str(os.cpu_count() or 1), "memory": f"{pages * size // 1024}Ki", "pods": str(max_pods)}
    system = platform.uname()
    info = {
        "kernelVersion": system.release,
        "osImage": _os_name(),
        "operatingSystem": "linux",
        "architecture": _MACHINES.get(system.machine, system.machine),
        "kubeletVersion": f"v{__version__}-portway",
        "kubeProxyVersion": "",
        "containerRuntimeVersion": f"portway://{__version__}",
        "machineID": "",
        "systemUUID": "",
        "bootID": "",
    }
    return {"capacity": capacity, "allocatable": capacity, "nodeInfo": info}


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"


class Registration:
    def __init__(self, node: NodeContext) -> None:
        self._node = node

    async def register(self) -> Node:
        """Create the Node, or take over the one that is there; it is not ready yet."""
        node = self._node
        body = {"metadata": {"name": node.name, "labels": labels(node.name, node.config.labels)}}
        try:
            found = await node.client.create(Node, body)
        except ApiError as e:
            if not e.already_exists:
                raise
            found = await node.client.patch(Node, node.name, body)
        addresses = [{"type": "InternalIP", "address": node.address}, {"type": "Hostname", "address": node.name}]
        facts = machine_facts(node.config.max_pods) | {"addresses": addresses}
        return await self._patch(found, False, "waiting for a pod CIDR and for routes", facts)

    async def set_ready(self, found: Node, ready: bool, message: str) -> Node:
        return await self._patch(found, ready, message, {})

    async def renew(self) -> None:
        """Renew the Lease, making it where it is not there."""
        node = self._node
        now = micro_stamp(node.clock.now())
        spec = {
            "holderIdentity": node.name,
            "leaseDurationSeconds": node.config.lease_duration,
            "renewTime": now,
        }
        try:
            await node.client.patch(Lease, node.name, {"spec": spec}, LEASE_NAMESPACE)
        except ApiError as e:
            if not e.not_found:
                raise
            body = {"metadata": {"name": node.name, "namespace": LEASE_NAMESPACE}, "spec": spec}
            await node.client.create(Lease, body, LEASE_NAMESPACE)

    async def _patch(self, found: Node, ready: bool, message: str, more: dict[str, Any]) -> Node:
        now = stamp(self._node.clock.now())
        status = {"conditions": conditions(ready, message, now, found.status.conditions or ()), **more}
        return await self._node.client.patch_status(Node, self._node.name, {"status": status})
