"""Which ports of its node a pod takes, and who is in the way. Pure.

One rule for two who must not disagree: the scheduler, which sends no pod to a node where a port is held, and the node
agent, which refuses a pod that got there nevertheless (two schedulers raced, or a manifest named the node). The source
of the rule is the API reference for `ContainerPort`: a hostPort is a port number together with a protocol and an
address of the host, and no address means all of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from portway.objects.core import Container, Pod

FINISHED = ("Succeeded", "Failed")
_ANY = ("", "0.0.0.0")


@dataclass(frozen=True, slots=True, order=True)
class HostPort:
    """One port of the node. `address` is empty for all of the node's; `protocol` is "tcp", "udp" or "sctp"."""

    port: int
    protocol: str
    address: str = ""
    container: str = ""
    target: int = 0

    def __str__(self) -> str:
        at = f" of address {self.address}" if self.address else ""
        return f"{self.port}/{self.protocol.upper()}{at}"

    def clashes(self, other: HostPort) -> bool:
        """The same port and protocol of one address, or of all addresses against any."""
        same = (self.port, self.protocol) == (other.port, other.protocol)
        return same and (self.address == other.address or not (self.address and other.address))


@dataclass(frozen=True, slots=True)
class Clash:
    """A pod wants `wanted` and `holder` has `held`."""

    wanted: HostPort
    held: HostPort
    holder: Pod

    def __str__(self) -> str:
        return f"host port {self.wanted} is held by pod {self.holder.ref} (container {self.held.container})"


def host_ports(pod: Pod) -> tuple[HostPort, ...]:
    """All ports of the node that the pod takes, in the order of the manifest.

    With hostNetwork these are its containers' ports. An init container counts only when it stays (restartPolicy Always)."""
    return tuple(
        HostPort(number, p.protocol.lower(), "" if p.host_ip in _ANY else p.host_ip, container.name, p.container_port)
        for container in _lasting(pod)
        for p in container.ports or ()
        if (number := p.host_port or (p.container_port if pod.spec.host_network else 0))
    )


def _lasting(pod: Pod) -> Iterable[Container]:
    yield from pod.spec.containers
    yield from (c for c in pod.spec.init_containers or () if c.restart_policy == "Always")


def clash(pod: Pod, others: Iterable[Pod]) -> Clash | None:
    """The first port of `pod` that one of `others` has, or None. A finished pod holds nothing; one that is ending does."""
    wanted = host_ports(pod)
    if not wanted:
        return None
    for other in others:
        if other.status.phase in FINISHED:
            continue
        for held in host_ports(other):
            for want in wanted:
                if want.clashes(held):
                    return Clash(want, held, other)
    return None
