"""What differs between clusters and between nodes, given once when the agent starts. Defaults are the one-machine
cluster's."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network

from portway.nft.tables import Family, Network

CLUSTER_CIDR = IPv4Network("10.0.0.0/16")
SERVICE_CIDR = IPv4Network("10.3.240.0/20")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyConfig:
    """`cluster_cidr` holds the pods: sources outside of it are masqueraded on their way to a ClusterIP."""

    table: str = "portway"
    family: Family = Family.IP
    cluster_cidr: Network = CLUSTER_CIDR
    service_cidr: Network = SERVICE_CIDR
    # kube-proxy's bit, so that a host's other rules which leave it alone leave ours alone.
    masquerade_mark: int = 0x4000


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """What the proxy must know of the node that it runs on."""

    name: str
