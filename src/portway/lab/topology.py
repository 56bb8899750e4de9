"""Which hosts the one-machine cluster has, their addresses, and the wiring plan of each. Pure.

The internet segment (client, edge) is a cable, the node network a bridge in the outer namespace with a port for the edge and
one for each node. Nothing leads out of it: the edge has no default route, so what nobody answers is refused at once. The
plans go to `netns` through `lab.hosts`; the edge's routes to pods are the business of `lab.cloud`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address, ip_network
from string import ascii_lowercase

from portway.netns.plan import Address, Kind, Link, Peer, Plan, Route, Sysctl

CLUSTER_CIDR = "10.0.0.0/16"
SERVICE_CIDR = "10.3.240.0/20"
KUBERNETES_SERVICE = "10.3.240.1"
KUBERNETES_NAME = "kubernetes.default.svc.cluster.local"
DNS_SERVICE = "10.3.240.10"
NODE_NETWORK = "10.100.0.0/24"
EDGE_ADDRESS = "10.100.0.1"
EDGE_API_PORT = 6443
CLIENT_ADDRESS = "198.51.100.10"
CLIENT_GATEWAY = "198.51.100.1"
MAX_ZONES = len(ascii_lowercase)
ZONE_LABEL = "topology.kubernetes.io/zone"
MAX_NODES = 253
"""One /24 of node addresses, without the network, the gateway and the broadcast address."""

OUTER = "outer"
CLIENT = "client"
EDGE = "edge"
_BRIDGE = "nodes"
_UPLINK = "eth0"
_EDGE_INTERNET = "eth1"
_NODE_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class Role(StrEnum):
    CLIENT = "client"
    EDGE = "edge"
    NODE = "node"


class NoSuchPlan(ValueError):
    """A user's wish that this topology cannot have; the message says why and what can be had."""


@dataclass(frozen=True, slots=True)
class Host:
    """One host. `number` of a node is k: its address is 10.100.0.(k+1)."""

    name: str
    role: Role
    addresses: tuple[str, ...]
    number: int = 0


CLIENT_HOST = Host(CLIENT, Role.CLIENT, (CLIENT_ADDRESS,))
EDGE_HOST = Host(EDGE, Role.EDGE, (EDGE_ADDRESS, CLIENT_GATEWAY))


def node(name: str, number: int) -> Host:
    """The node `name` with the k-th address. NoSuchPlan when the name or the number cannot be."""
    if not _NODE_NAME.fullmatch(name) or name in (CLIENT, EDGE, OUTER):
        raise NoSuchPlan(
            f"{name!r} cannot be a node's name: use lower-case letters, digits and '-' (at most 63), "
            f"and not {CLIENT}, {EDGE} or {OUTER}; for example node-3"
        )
    if not 1 <= number <= MAX_NODES:
        raise NoSuchPlan(
            f"at most {MAX_NODES} nodes fit into {NODE_NETWORK}: remove one first (portway node remove NAME)"
        )
    return Host(name, Role.NODE, (str(ip_network(NODE_NETWORK)[number + 1]),), number)


def zone(number: int, zones: int) -> str:
    """The zone of the k-th node when there are `zones`, round robin: zone-a, zone-b … Without zones "".

    It hangs on the number alone, so a node that comes back is where it was, and a gap is filled in its own zone."""
    return f"zone-{ascii_lowercase[(number - 1) % zones]}" if zones else ""


def first_nodes(count: int) -> tuple[Host, ...]:
    """node-1 … node-`count`."""
    if count < 1:
        raise NoSuchPlan(f"a cluster of {count} nodes runs no pods: use --nodes 1 or more")
    return tuple(node(f"node-{k}", k) for k in range(1, count + 1))


def next_node(name: str, taken: Iterable[Host]) -> Host:
    """`name` with the lowest address that no host of `taken` has."""
    taken = tuple(taken)
    if any(host.name == name for host in taken):
        raise NoSuchPlan(f"there is a {name} already: choose another name (portway node list)")
    used = {host.number for host in taken}
    return node(name, next(k for k in range(1, MAX_NODES + 2) if k not in used))


def client_plan() -> Plan:
    """The client: one cable to the edge, everything goes through it."""
    return Plan(
        links=(Link("lo"), Link(_UPLINK)),
        addresses=(Address(_UPLINK, f"{CLIENT_ADDRESS}/24"),),
        routes=(Route("default", via=CLIENT_GATEWAY, link=_UPLINK),),
        sysctls=_settings(_UPLINK),
    )


def edge_plan() -> Plan:
    """The edge: the gateway of the internet segment and of the node network. It makes the cable to the client."""
    return Plan(
        links=(Link("lo"), Link(_UPLINK), Link(_EDGE_INTERNET, Kind.VETH, Peer(_UPLINK, CLIENT))),
        addresses=(Address(_UPLINK, f"{EDGE_ADDRESS}/24"), Address(_EDGE_INTERNET, f"{CLIENT_GATEWAY}/24")),
        sysctls=(*_settings(_UPLINK, _EDGE_INTERNET), Sysctl("net.ipv4.ip_forward", "1")),
    )


def node_plan(host: Host) -> Plan:
    """A node: one port of the bridge, the edge as its gateway, and it forwards for its pods."""
    return Plan(
        links=(Link("lo"), Link(_UPLINK)),
        addresses=(Address(_UPLINK, f"{host.addresses[0]}/24"),),
        routes=(Route("default", via=EDGE_ADDRESS, link=_UPLINK),),
        sysctls=(*_settings(_UPLINK), Sysctl("net.ipv4.ip_forward", "1")),
    )


def outer_plan(nodes: Iterable[Host]) -> Plan:
    """The outer namespace: the bridge, with the far ends of its ports in the edge and in each node that is switched on."""
    ports = (Link(_BRIDGE, Kind.BRIDGE), _port("port-edge", EDGE), *(_port(f"port-{n.number}", n.name) for n in nodes))
    return Plan(links=(Link("lo"), *ports))


def _port(name: str, host: str) -> Link:
    return Link(name, Kind.VETH, Peer(_UPLINK, host), master=_BRIDGE)


def _settings(*links: str) -> tuple[Sysctl, ...]:
    """Packets may come back another way than they went, and a node that forwards out of the link on which a packet came
    must not tell the sender a shorter way: the road of a Service is not the shortest one. The kernel takes the strictest
    (rp_filter) or the most talkative (send_redirects) of "all" and the link, so both are set."""
    values = {"rp_filter": "0", "send_redirects": "0", "accept_redirects": "0"}
    return tuple(
        Sysctl(f"net.ipv4.conf.{scope}.{name}", value)
        for scope in ("all", "default", *links)
        for name, value in values.items()
    )


def route(destination: str, via: str, nodes: Iterable[Host]) -> Route:
    """A user's route for a host of the lab: `via` is a node's name or an address of the node network."""
    gateway = next((n.addresses[0] for n in nodes if n.name == via), via)
    if gateway == EDGE:
        gateway = EDGE_ADDRESS
    try:
        address = ip_address(gateway)
    except ValueError as e:
        raise NoSuchPlan(f"{via!r} is neither a node nor an address: name one (portway node list)") from e
    if address not in ip_network(NODE_NETWORK) and address not in ip_network(f"{CLIENT_GATEWAY}/24", strict=False):
        raise NoSuchPlan(f"{gateway} is on no network of the lab: use a node's name or an address of {NODE_NETWORK}")
    found = destination_of(destination)
    if found in (NODE_NETWORK, str(ip_network(f"{CLIENT_GATEWAY}/24", strict=False))):
        raise NoSuchPlan(
            f"{found} is a segment of the lab, no gateway leads to it: a route to a part of it is possible"
        )
    return Route(found, via=gateway)


def destination_of(text: str) -> str:
    """A network or a single address as the kernel writes it. NoSuchPlan for anything else."""
    if text == "default":
        return "0.0.0.0/0"
    try:
        return str(ip_network(text))
    except ValueError as e:
        raise NoSuchPlan(f"{text!r} is no network: write it as {SERVICE_CIDR} ({e})") from e
