"""Builders for tests of `balancer`: wishes, LoadBalancer Services and Nodes in a line each, and the edge as a host."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address
from typing import Any

from portway.balancer.assign import Answer, Assigned, Wish
from portway.balancer.compile import compile_edge
from portway.balancer.intent import Check, Health, Plan, plan
from portway.balancer.layout import EdgeConfig
from portway.balancer.reasons import Refused
from portway.nft.packet import Host
from portway.nft.tables import Address, Ruleset
from portway.objects.core import (
    LoadBalancerIngress,
    LoadBalancerStatus,
    Node,
    NodeAddress,
    NodeSpec,
    NodeStatus,
    Service,
    ServicePort,
    ServiceSpec,
    ServiceStatus,
)
from portway.objects.meta import ObjectMeta

CONFIG = EdgeConfig()
VIP, OTHER = "203.0.113.10", "203.0.113.11"


def wish(name: str, **more: Any) -> Wish:
    """A Service with port 80; `held` and `doors` as text and numbers."""
    if "held" in more:
        more["held"] = IPv4Address(more["held"])
    doors = frozenset(("TCP", p) for p in more.pop("ports", (80,)))
    return Wish(service=f"shop/{name}", doors=doors, asked_by="spec.loadBalancerIP", **more)


def short(answers: Iterable[tuple[str, Answer]]) -> dict[str, str]:
    """By name, the address or the reason."""
    return {ref.split("/")[1]: _word(answer) for ref, answer in answers}


def _word(answer: Answer) -> str:
    return str(answer.address) if isinstance(answer, Assigned) else answer.reason.value


def service(
    name: str = "shop/web",
    address: str = VIP,
    *ports: ServicePort,
    annotations: dict[str, str] | None = None,
    **spec: Any,
) -> Service:
    """A LoadBalancer Service with an address, by default port 80 → node port 30080."""
    namespace, _, short_name = name.partition("/")
    ingress = (LoadBalancerIngress(ip=address, ip_mode="VIP"),) if address else None
    spec.setdefault("type", "LoadBalancer")
    return Service(
        metadata=ObjectMeta(name=short_name, namespace=namespace, uid=f"uid-{short_name}", annotations=annotations),
        spec=ServiceSpec(ports=ports or (port(),), **spec),
        status=ServiceStatus(load_balancer=LoadBalancerStatus(ingress=ingress)),
    )


def local(name: str = "shop/local", address: str = OTHER, *ports: ServicePort, health: int = 31000) -> Service:
    return service(name, address, *ports, external_traffic_policy="Local", health_check_node_port=health)


def port(number: int = 80, node_port: int = 30080, protocol: str = "TCP", name: str = "") -> ServicePort:
    return ServicePort(name=name, protocol=protocol, port=number, node_port=node_port)


def node(number: int, *, cordoned: bool = False, labels: dict[str, str] | None = None, **spec: Any) -> Node:
    """node-N at 10.100.0.(N+1)."""
    address = NodeAddress(type="InternalIP", address=f"10.100.0.{number + 1}")
    return Node(
        metadata=ObjectMeta(name=f"node-{number}", labels=labels),
        spec=NodeSpec(unschedulable=cordoned, **spec),
        status=NodeStatus(addresses=(address,)),
    )


def nodes(count: int) -> tuple[Node, ...]:
    return tuple(node(n + 1) for n in range(count))


def healthy(*names: str, check: Check | None = None) -> Health:
    """These nodes pass the proxy's check (or `check`)."""
    return {(name, check or Check()): True for name in names}


def all_healthy(found: Plan) -> Health:
    return {(i.name, check): True for i in found.instances for check in found.checks}


def table(services: Iterable[Service], nodes_: Iterable[Node], health: Health | None = None) -> Ruleset:
    """The edge's table; all nodes are healthy when nothing else is said."""
    made = plan(services, nodes_)
    return compile_edge(made, all_healthy(made) if health is None else health, CONFIG)


def edge() -> Host:
    """The edge: the internet on eth1, the node network on eth0. Public addresses are on neither."""

    def route(address: Address) -> str:
        return "eth1" if str(address).startswith("198.51.100.") else "eth0"

    return Host(frozenset({IPv4Address("10.100.0.1"), IPv4Address("198.51.100.1")}), route)


class Announces:
    """A provider whose answers the test sets."""

    def __init__(self) -> None:
        self.no: Refused | None = None
        self.in_the_way: Refused | None = None

    def refuses(self, service: Service) -> Refused | None:
        return self.no

    def obstacle(self, service: Service) -> Refused | None:
        return self.in_the_way

    def subscribe(self, listener: object) -> None:
        """The test marks by itself."""
