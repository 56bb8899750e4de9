"""What differs between clusters, given once when the agent starts. Defaults are the one-machine cluster's. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

SERVICE_NAMESPACE = "kube-system"
SERVICE_NAME = "kube-dns"
PORT = 53
LISTEN_PORT = 10053
"""Where the agent listens on its node's address. Not 53: that port stays free for the pods of the node's own network."""
UDP_PORT_NAME = "dns"
TCP_PORT_NAME = "dns-tcp"


class PodNames(StrEnum):
    """What `10-0-1-5.shop.pod.cluster.local` resolves to."""

    DISABLED = "disabled"
    """Nothing."""
    INSECURE = "insecure"
    """The address that it spells, whether there is such a pod or not: costs nothing, and proves nothing."""
    VERIFIED = "verified"
    """The address, while a pod of that namespace has it. The agent then follows all Pods."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsConfig:
    """`ttl` in seconds is that of every record and of "there is none". `udp_size` is the largest datagram that is sent."""

    domain: str = "cluster.local"
    ttl: int = 5
    pods: PodNames = PodNames.INSECURE
    upstream: tuple[tuple[str, int], ...] = ()
    # What passes every path unfragmented (DNS flag day 2020): larger answers go over TCP.
    udp_size: int = 1232
