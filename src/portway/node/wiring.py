"""How a pod's packets reach the node and the other nodes: addresses, a veth pair, host routes. Plans are pure;
`Wiring` applies them.

Pods are routed, not bridged (docs/architecture.md): eth0 has the pod's address with /32, everything goes to the first
address of the node's pod CIDR, which the node has on each veth. So also a packet between two pods of one node passes
the node's netfilter hooks. Called by `pod` and `agent`; `netns.kernel` talks to the kernel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from portway.netns.kernel import Namespace
from portway.netns.plan import Address, Kind, Link, Owner, Peer, Plan, Route, Sysctl
from portway.objects.core import Node

_NODE_SYSCTLS = (Sysctl("net.ipv4.ip_forward", "1"), Sysctl("net.ipv4.conf.all.rp_filter", "0"))


class PoolExhausted(Exception):
    """No address is left in the node's pod CIDR."""


class AddressPool:
    """Addresses of one node's pods, from the second host address upward, round and round: an address that was just given back is
    the last to be given out again, because connections to it may still be known somewhere."""

    def __init__(self, cidr: str) -> None:
        self.network = IPv4Network(cidr)
        self._first = int(self.network.network_address) + 2
        self._size = max(0, self.network.num_addresses - 3)
        self._next = 0
        self._used: dict[str, int] = {}

    @property
    def gateway(self) -> str:
        return str(self.network.network_address + 1)

    def take(self, owner: str) -> str:
        """The address of `owner`, the same one when asked again. Raises PoolExhausted."""
        if owner in self._used:
            return str(IPv4Address(self._first + self._used[owner]))
        taken = set(self._used.values())
        for step in range(self._size):
            offset = (self._next + step) % self._size
            if offset not in taken:
                self._used[owner] = offset
                self._next = (offset + 1) % self._size
                return str(IPv4Address(self._first + offset))
        raise PoolExhausted(f"all {self._size} addresses of {self.network} are in use: delete pods, or add a node")

    def give_back(self, owner: str) -> None:
        self._used.pop(owner, None)


def link_name(uid: str) -> str:
    """The node's end of a pod's veth pair: 14 of the 15 characters that Linux allows, from the uid, so it never repeats."""
    return "pod" + hashlib.sha256(uid.encode()).hexdigest()[:11]


@dataclass(frozen=True, slots=True, kw_only=True)
class PodWires:
    """What one pod's network is made of. `node_address` is what the node's own packets to the pod carry as their source."""

    uid: str
    address: str
    gateway: str
    node_address: str

    def on_node(self) -> Plan:
        name = link_name(self.uid)
        return Plan(
            links=(Link(name, Kind.VETH, Peer("eth0", "pod")),),
            # Link scope: what the node masquerades to the pod must carry the node's own address, not the gateway's.
            addresses=(Address(name, f"{self.gateway}/32", link_scope=True),),
            routes=(Route(f"{self.address}/32", link=name, source=self.node_address),),
            owner=Owner.PODS,
        )

    def in_pod(self) -> Plan:
        return Plan(
            links=(Link("lo"), Link("eth0")),
            addresses=(Address("eth0", f"{self.address}/32"),),
            routes=(Route(f"{self.gateway}/32", link="eth0"), Route("default", via=self.gateway, link="eth0")),
            owner=Owner.PODS,
        )


def node_routes(name: str, nodes: Iterable[Node]) -> Plan:
    """The way to the pods of every other node: its pod CIDR through its address."""
    routes = []
    for node in sorted(nodes, key=lambda n: n.name):
        address = internal_address(node)
        if node.name != name and node.spec.pod_cidr and address:
            routes.append(Route(node.spec.pod_cidr, via=address))
    return Plan(routes=tuple(routes), sysctls=_NODE_SYSCTLS, owner=Owner.NODE_ROUTES)


def internal_address(node: Node) -> str:
    return next((a.address for a in node.status.addresses or () if a.type == "InternalIP"), "")


class Wiring:
    """Plans, applied to the node's namespace. Errors are `netns.kernel.NetworkError`."""

    def __init__(self, node: Namespace) -> None:
        self.node = node

    def clear(self) -> None:
        """Remove what an earlier agent left of its pods."""
        self.node.apply(Plan(owner=Owner.PODS))

    def connect(self, wires: PodWires, pod: Namespace) -> None:
        self.node.add(wires.on_node(), {"pod": pod})
        pod.add(wires.in_pod())

    def disconnect(self, uid: str, address: str) -> None:
        """Take the pod's route away. The veth pair goes when the caller closes the pod's namespace: the kernel does that in the
        background, while deleting a link waits some 30 ms for every CPU, and the whole supervisor with it."""
        self.node.route_delete(Route(f"{address}/32", link=link_name(uid)), owner=Owner.PODS)

    def let_loopback_in(self, uid: str) -> None:
        """Let the pod's answers to the node's loopback address pass; the kernel calls them martian otherwise."""
        self.node.sysctl(f"net.ipv4.conf.{link_name(uid)}.route_localnet", "1")

    def own_addresses(self) -> frozenset[str]:
        """The node's addresses, without their prefix lengths."""
        return frozenset(a.address.partition("/")[0] for a in self.node.addresses())

    def route(self, plan: Plan) -> None:
        self.node.apply(plan)
