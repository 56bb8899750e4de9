"""Services and their slices as what the network should do: one `ServicePortIntent` for each port of a Service.

The first of the two steps from objects to rules: after this module nobody reads a Kubernetes field. `proxy.compile`
turns the intents into a table; explanations read them to say which object and field asked for a rule. Session affinity
and the internal traffic policy will be further fields of the intent, decided here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import collapse_addresses, ip_network
from itertools import chain

from portway.cluster.endpoints import Address, backends, parse_address, usable
from portway.cluster.origin import Origin
from portway.cluster.picture import Picture
from portway.nft.tables import Family, Network
from portway.objects.core import Service, ServicePort
from portway.objects.discovery import EndpointSlice
from portway.proxy.config import NodeFacts
from portway.proxy.reasons import Reason

PROXY_NAME_LABEL = "service.kubernetes.io/service-proxy-name"
HEADLESS_LABEL = "service.kubernetes.io/headless"
_PROTOCOLS = ("TCP", "UDP", "SCTP")
_ADDRESS_TYPE = {Family.IP: "IPv4", Family.IP6: "IPv6"}
_VERSION = {Family.IP: 4, Family.IP6: 6}
RANGES_ANNOTATION = "service.beta.kubernetes.io/load-balancer-source-ranges"
_NOBODY: dict[Family, Network] = {Family.IP: ip_network("0.0.0.0/32"), Family.IP6: ip_network("::/128")}


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """Where a new connection may end. `local`: on this node, or on a node that the slice does not tell."""

    address: Address
    port: int
    local: bool = False


@dataclass(frozen=True, slots=True)
class ServicePortIntent:
    """Connections to `cluster_addresses`:`port`, and to `node_port` of any node unless it is 0, go to one of `targets`.

    Without targets they are refused. `protocol` is "tcp", "udp" or "sctp". `external_addresses` are those of load balancers
    that hand packets on as they are. With `external_local`, clients from outside go to `local_targets` only; `sources`, where
    there are any, are the clients that may use the external addresses."""

    service: str
    port_name: str
    protocol: str
    port: int
    cluster_addresses: tuple[Address, ...]
    node_port: int
    targets: tuple[Target, ...]
    origin: Origin
    external_addresses: tuple[Address, ...] = ()
    external_local: bool = False
    local_targets: tuple[Target, ...] = ()
    sources: tuple[Network, ...] = ()


def intents_of(picture: Picture, service: str, node: NodeFacts, family: Family) -> tuple[ServicePortIntent, ...]:
    """The intents of the Service "namespace/name"; none when it is gone or not ours."""
    found = picture.services.get(service)
    if found is None:
        return ()
    return service_intents(found, picture.slices_of(service).values(), node, family)


def service_intents(
    service: Service, slices: Iterable[EndpointSlice], node: NodeFacts, family: Family
) -> tuple[ServicePortIntent, ...]:
    """One intent for each port, in the order of the manifest."""
    if ignored(service, family) is not None:
        return ()
    known = tuple(slices)
    addresses = cluster_addresses(service, family)
    local = service.spec.external_traffic_policy == "Local" and service.spec.type in ("NodePort", "LoadBalancer")
    # Where the Service has one kind of traffic only. A Local node without an endpoint refuses; kube-proxy drops (KEP-2086).
    internal = service.spec.internal_traffic_policy == "Local" and service.spec.type == "ClusterIP"
    external, sources = external_addresses(service, family), source_ranges(service, family)
    return tuple(
        ServicePortIntent(
            service=service.ref,
            port_name=port.name,
            protocol=port.protocol.lower(),
            port=port.port,
            cluster_addresses=addresses,
            node_port=port.node_port if service.spec.type != "ClusterIP" else 0,
            targets=_targets(known, port, node, family, local=internal),
            origin=Origin("Service", service.ref, f"spec.ports[{index}]"),
            external_addresses=external,
            external_local=local,
            local_targets=_targets(known, port, node, family, local=True) if local else (),
            sources=sources if external else (),
        )
        for index, port in enumerate(service.spec.ports or ())
        if port.protocol in _PROTOCOLS
    )


def ignored(service: Service, family: Family) -> Reason | None:
    """Why no rule is made for `service`, or None when it gets some."""
    spec = service.spec
    if PROXY_NAME_LABEL in service.labels:
        return Reason.OTHER_PROXY
    if HEADLESS_LABEL in service.labels:
        return Reason.HEADLESS_LABEL
    if spec.type == "ExternalName":
        return Reason.EXTERNAL_NAME
    if spec.cluster_ip == "None":
        return Reason.HEADLESS
    if not cluster_addresses(service, family):
        return Reason.NO_ADDRESS
    if not spec.ports:
        return Reason.NO_PORTS
    return None if any(p.protocol in _PROTOCOLS for p in spec.ports) else Reason.UNKNOWN_PROTOCOL


def cluster_addresses(service: Service, family: Family) -> tuple[Address, ...]:
    """The Service's own addresses of `family`. clusterIPs repeats clusterIP; an old client may have set the latter only."""
    texts = chain(service.spec.cluster_ips or (), (service.spec.cluster_ip,))
    return tuple(sorted(set(_addresses(texts, family)), key=int))


def external_addresses(service: Service, family: Family) -> tuple[Address, ...]:
    """The addresses of load balancers that keep a packet's destination (ipMode VIP, KEP-1860)."""
    if service.spec.type != "LoadBalancer":
        return ()
    ingress = service.status.load_balancer.ingress or ()
    return tuple(sorted(set(_addresses((i.ip for i in ingress if i.ip_mode in (None, "", "VIP")), family)), key=int))


def source_ranges(service: Service, family: Family) -> tuple[Network, ...]:
    """Who may use the external addresses, by the field or else the annotation; () for everybody. Nonsense is left out.

    Ranges of the other family only leave nobody of this one: a network that holds no client stands for that."""
    if service.spec.type != "LoadBalancer":
        return ()
    texts = service.spec.load_balancer_source_ranges or service.annotations.get(RANGES_ANNOTATION, "").split(",")
    found = [network for text in texts if (network := _network(text.strip())) is not None]
    of_family = [n for n in found if n.version == _VERSION[family]]
    if found and not of_family:
        return (_NOBODY[family],)
    collapsed: Iterable[Network] = collapse_addresses(of_family)  # type: ignore[type-var]  # one family only
    return tuple(collapsed)


def _network(text: str) -> Network | None:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None


def _addresses(texts: Iterable[str], family: Family) -> Iterator[Address]:
    for text in texts:
        address = parse_address(text)
        if address is not None and address.version == _VERSION[family]:
            yield address


def _targets(
    slices: Iterable[EndpointSlice], port: ServicePort, node: NodeFacts, family: Family, *, local: bool = False
) -> tuple[Target, ...]:
    """The usable backends; with `local` the usable ones among those of this node."""
    known = backends(slices, port, _ADDRESS_TYPE[family])
    found = usable(b for b in known if b.node == node.name) if local else usable(known)
    return tuple(
        Target(b.address, b.port, local=b.node in ("", node.name))
        for b in found
        if b.address.version == _VERSION[family]
    )
