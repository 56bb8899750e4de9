"""What every part of one node's agent shares: who the node is, its settings, and its tools. `agent` makes it, `pod`
and its parts use it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from portway.client import Client
from portway.cluster.hostports import host_ports
from portway.loop import Clock
from portway.netns.kernel import Namespace
from portway.node.events import Recorder
from portway.node.hostports import Reason, ports_of, uses_loopback, warnings
from portway.node.images import Images
from portway.node.lifecycle import RestartDelay
from portway.node.portopener import PortOpener
from portway.node.runtime import PodHost
from portway.node.wiring import AddressPool, Wiring
from portway.objects.core import Pod, Service


def _no_services(_: str) -> Iterable[Service]:
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """Settings of a node agent; the defaults are those of the one-machine cluster. Times in seconds.

    `state`: a folder of the agent's own. `needed`: folders that every container must see, beside the interpreter's.
    `leave`: seconds that a deleted pod keeps running, untold, while the nodes' proxies take it out of their tables (decision 5).
    `node_ports`: the numbers that Services may get, to warn of host ports among them.
    `services(namespace)`: the Services whose `{SVC}_SERVICE_HOST` variables a new container gets, beside `kubernetes_host`."""

    state: Path
    images: Images = field(default_factory=Images)
    restart: RestartDelay = field(default_factory=lambda: RestartDelay(1.0, 30.0))
    lease_renew: float = 1.0
    lease_duration: int = 4
    cluster_dns: str = "10.3.240.10"
    cluster_domain: str = "cluster.local"
    kubernetes_host: str = "10.3.240.1"
    labels: dict[str, str] = field(default_factory=dict)
    max_pods: int = 250
    stop_grace: float = 2.0
    leave: float = 0.5
    needed: tuple[str, ...] = ()
    node_ports: range = range(30000, 32768)
    services: Callable[[str], Iterable[Service]] = _no_services


@dataclass(slots=True, kw_only=True)
class NodeContext:
    """One node. `pool` is there once the node has its pod CIDR; `pods` are those bound to it, by uid."""

    name: str
    address: str
    client: Client
    clock: Clock
    config: AgentConfig
    host: PodHost
    wiring: Wiring
    opener: PortOpener
    recorder: Recorder
    pool: AddressPool | None = None
    pods: dict[str, Pod] = field(default_factory=dict)

    @property
    def network(self) -> Namespace:
        return self.wiring.node

    def open_ports(self, pod: Pod, address: str) -> list[tuple[Reason, str]]:
        """Open the pod's host ports; what of them will not do what its author hopes. Raises NftError, NetworkError."""
        if not host_ports(pod):
            return []
        if ports := ports_of(pod, address):
            if uses_loopback(ports):
                self.wiring.let_loopback_in(pod.metadata.uid)
            self.opener.open(pod.metadata.uid, ports)
        return list(warnings(pod, node_ports=self.config.node_ports, addresses=self.wiring.own_addresses()))

    def pod_folder(self, pod: Pod) -> Path:
        return self.config.state / "pods" / pod.metadata.uid
