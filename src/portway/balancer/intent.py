"""Services and Nodes as a provider's pieces: forwarding rules, backend services and one group of instances. Pure.

The first of the two steps from objects to the edge's table; after this module nobody reads a Kubernetes field.
`compile` makes the table from a `Plan` and what the health checks say; `portway status` shows the same pieces.
Which address a Service has is read from its status: `run` wrote it there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, ip_address, ip_network
from typing import TypeAlias

from portway.balancer import assign
from portway.balancer.pools import Address
from portway.balancer.reasons import Reason, Refused
from portway.cluster.origin import Origin
from portway.nft.tables import Network
from portway.objects.core import Node, Service

EXCLUDE_LABEL = "node.kubernetes.io/exclude-from-external-load-balancers"
LEAVING_TAINT = "ToBeDeletedByClusterAutoscaler"
RANGES_ANNOTATION = "service.beta.kubernetes.io/load-balancer-source-ranges"
PROXY_HEALTH_PORT = 10256


class InstanceState(StrEnum):
    SERVING = "serving"
    DRAINING = "draining"  # keeps its connections and gets no new ones while another node can have them
    EXCLUDED = "excluded"


@dataclass(frozen=True, slots=True, order=True)
class Instance:
    """A node in the group of instances, and why it is in this state."""

    name: str
    address: Address
    state: InstanceState = InstanceState.SERVING
    why: str = ""


@dataclass(frozen=True, slots=True, order=True)
class Check:
    """How a node shows that it can take connections: HTTP 200 from `path` at `port` of the node."""

    port: int = PROXY_HEALTH_PORT
    path: str = "/healthz"


@dataclass(frozen=True, slots=True)
class BackendService:
    """The group of instances as one Service sees it. With `local`, only nodes that run a pod of it pass its check."""

    name: str
    check: Check
    local: bool


@dataclass(frozen=True, slots=True)
class ForwardingRule:
    """Connections to `address`:`port` go to `node_port` of an instance that passes the check of `backend`.

    `sticky`: all connections of a client go to the same instance. No `sources` means everybody."""

    service: str
    port_name: str
    address: Address
    protocol: str
    port: int
    node_port: int
    backend: str
    sources: tuple[Network, ...]
    sticky: bool
    origin: Origin


@dataclass(frozen=True, slots=True)
class Plan:
    """All pieces, sorted."""

    rules: tuple[ForwardingRule, ...] = ()
    backends: Mapping[str, BackendService] = field(default_factory=dict)
    instances: tuple[Instance, ...] = ()

    @property
    def checks(self) -> frozenset[Check]:
        return frozenset(b.check for b in self.backends.values())


Health: TypeAlias = Mapping[tuple[str, Check], bool]
"""By node and check, whether the node passes; what is not in it does not."""


def plan(services: Iterable[Service], nodes: Iterable[Node]) -> Plan:
    ours = sorted((s for s in services if assign.is_balanced(s) and assign.is_ours(s)), key=lambda s: s.ref)
    rules = tuple(rule for s in ours for rule in forwarding_rules(s))
    backends = {s.ref: backend_service(s) for s in ours}
    wanted = {r.backend for r in rules}
    instances = tuple(sorted(i for n in nodes if (i := instance(n)) is not None))
    return Plan(rules, {name: b for name, b in backends.items() if name in wanted}, instances)


def forwarding_rules(service: Service) -> Iterator[ForwardingRule]:
    """One for each address and each port that has a node port."""
    sources = source_ranges(service)
    for address in assign.addresses_of(service):
        for index, port in enumerate(service.spec.ports or ()):
            if port.node_port and isinstance(address, IPv4Address):
                yield ForwardingRule(
                    service=service.ref,
                    port_name=port.name,
                    address=address,
                    protocol=port.protocol.lower(),
                    port=port.port,
                    node_port=port.node_port,
                    backend=service.ref,
                    sources=sources,
                    sticky=service.spec.session_affinity == "ClientIP",
                    origin=Origin("Service", service.ref, f"spec.ports[{index}]"),
                )


def backend_service(service: Service) -> BackendService:
    spec = service.spec
    local = spec.external_traffic_policy == "Local" and spec.health_check_node_port > 0
    return BackendService(service.ref, Check(spec.health_check_node_port) if local else Check(), local)


def source_ranges(service: Service) -> tuple[Network, ...]:
    """The clients that may come, as the field says or else the annotation; () for everybody. Nonsense is left out."""
    texts: Iterable[str] = service.spec.load_balancer_source_ranges or ()
    texts = texts or service.annotations.get(RANGES_ANNOTATION, "").split(",")
    found: list[Network] = []
    for text in texts:
        try:
            found.append(ip_network(text.strip(), strict=False))
        except ValueError:
            continue
    return tuple(found)


def instance(node: Node) -> Instance | None:
    """The node as the provider sees it; None while its address is unknown."""
    text = next((a.address for a in node.status.addresses or () if a.type == "InternalIP"), "")
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return Instance(node.name, address, *_state(node))


def _state(node: Node) -> tuple[InstanceState, str]:
    if EXCLUDE_LABEL in node.labels:
        return InstanceState.EXCLUDED, f"the label {EXCLUDE_LABEL}"
    if node.metadata.deletion_timestamp is not None:
        return InstanceState.DRAINING, "it is being deleted"
    if any(t.key == LEAVING_TAINT for t in node.spec.taints or ()):
        return InstanceState.DRAINING, f"the taint {LEAVING_TAINT}"
    if node.spec.unschedulable:
        return InstanceState.DRAINING, "it is cordoned"
    return InstanceState.SERVING, ""


def eligible(found: Plan, health: Health, backend: BackendService) -> tuple[Instance, ...]:
    """The instances that get new connections: healthy ones that serve, or else healthy ones that drain."""
    healthy = [
        i for i in found.instances if i.state is not InstanceState.EXCLUDED and health.get((i.name, backend.check))
    ]
    serving = tuple(i for i in healthy if i.state is InstanceState.SERVING)
    return serving or tuple(healthy)


Door: TypeAlias = tuple[Address, str, int]


def keepers(found: Plan, health: Health) -> dict[Door, frozenset[Address]]:
    """Behind each address, protocol and port, the nodes that may keep the connections they have: healthy, draining or not."""
    passing = {
        name: frozenset(
            i.address
            for i in found.instances
            if i.state is not InstanceState.EXCLUDED and health.get((i.name, backend.check))
        )
        for name, backend in found.backends.items()
    }
    return {(r.address, r.protocol, r.port): passing[r.backend] for r in found.rules}


def obstacle(service: Service, found: Plan, health: Health) -> Refused | None:
    """Why nobody answers at the Service's address, or None when somebody does."""
    if not any(p.node_port for p in service.spec.ports or ()):
        cure = "this provider forwards to node ports: set spec.allocateLoadBalancerNodePorts to true"
        return Refused(Reason.NO_NODE_PORTS, f"Service {service.ref} has no node port; {cure}")
    if not any(i.state is not InstanceState.EXCLUDED for i in found.instances):
        return Refused(Reason.NO_NODES)
    backend = backend_service(service)
    if eligible(found, health, backend):
        return None
    names = ", ".join(i.name for i in found.instances)
    what = f"HTTP {backend.check.path} at port {backend.check.port}"
    why = (
        "; with the Local policy a node passes only while a ready pod of the Service runs on it"
        if backend.local
        else ""
    )
    return Refused(Reason.ALL_UNHEALTHY, f"none of {names} passes its health check ({what}){why}")
