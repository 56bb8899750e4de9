"""Services, their slices and pods as the DNS records that they ask for, as the Kubernetes DNS specification 1.1.0 says.

The first of two steps: after this module nobody reads a Kubernetes field. `compile` keeps the records as encoded answers;
explanations read `ignored` to say why a name is not there. Records are sorted, so equal objects ask for equal records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from portway.cluster.endpoints import Address, conditions, parse_address
from portway.cluster.picture import Picture
from portway.dns import records
from portway.dns.config import SERVICE_NAME, SERVICE_NAMESPACE, DnsConfig
from portway.dns.reasons import Reason
from portway.dns.records import BadName, Record
from portway.objects.core import Pod, Service
from portway.objects.discovery import Endpoint, EndpointSlice

SCHEMA_VERSION = "1.1.0"
REVERSE_ZONES = ("in-addr.arpa", "ip6.arpa")
_FINISHED = ("Succeeded", "Failed")


def records_of(picture: Picture, service: str, config: DnsConfig) -> tuple[Record, ...]:
    """The records of the Service "namespace/name"; none when it is gone."""
    found = picture.services.get(service)
    return service_records(found, picture.slices_of(service).values(), config) if found is not None else ()


def service_records(service: Service, slices: Iterable[EndpointSlice], config: DnsConfig) -> tuple[Record, ...]:
    known = tuple(slices)
    if ignored(service, known, config) is not None:
        return ()
    owner = service_name(service, config)
    if service.spec.type == "ExternalName":
        return (records.alias(owner, records.name(service.spec.external_name)),)
    made = _headless(service, known, owner) if service.spec.cluster_ip == "None" else _clustered(service, owner)
    return tuple(sorted(set(made)))


def ignored(service: Service, slices: Iterable[EndpointSlice], config: DnsConfig) -> Reason | None:
    """Why `service` has no record at all, or None when it has some."""
    spec = service.spec
    if not _can_be(lambda: service_name(service, config)):
        return Reason.BAD_NAME
    if spec.type == "ExternalName":
        fine = spec.external_name and _can_be(lambda: records.name(spec.external_name))
        return None if fine else Reason.BAD_EXTERNAL_NAME
    if spec.cluster_ip == "None":
        return None if any(True for _ in _ready(service, slices)) else Reason.NO_ENDPOINTS
    return None if any(True for _ in cluster_addresses(service)) else Reason.NO_ADDRESS


def service_name(service: Service, config: DnsConfig) -> bytes:
    return records.name(f"{service.name}.{service.namespace}.svc.{config.domain}")


def cluster_addresses(service: Service) -> Iterator[Address]:
    for text in dict.fromkeys((*(service.spec.cluster_ips or ()), service.spec.cluster_ip)):
        address = parse_address(text)
        if address is not None:
            yield address


def _clustered(service: Service, owner: bytes) -> Iterator[Record]:
    for address in cluster_addresses(service):
        yield records.address(owner, address)
        yield records.pointer(records.reverse(address), owner)
    for port in service.spec.ports or ():
        if port.name and (name := _port_name(port.name, port.protocol, owner)):
            yield records.service(name, port.port, owner)


@dataclass(frozen=True, slots=True)
class _Published:
    """One address of a headless Service: the first label of its own name, and its numbers by port name and protocol."""

    label: str
    address: Address
    numbers: tuple[tuple[str, str, int], ...]


def _headless(service: Service, slices: Iterable[EndpointSlice], owner: bytes) -> Iterator[Record]:
    for published in _ready(service, slices):
        own = _below(published.label, owner)
        yield records.address(owner, published.address)
        if own is None:
            continue
        yield records.address(own, published.address)
        yield records.pointer(records.reverse(published.address), own)
        for name, protocol, number in published.numbers:
            if port := _port_name(name, protocol, owner):
                yield records.service(port, number, own)


def _ready(service: Service, slices: Iterable[EndpointSlice]) -> Iterator[_Published]:
    names = {(p.name, p.protocol) for p in service.spec.ports or () if p.name}
    for item in slices:
        numbers = tuple(
            (p.name, p.protocol or "TCP", p.port)
            for p in item.ports or ()
            if p.name and p.port and (p.name, p.protocol or "TCP") in names
        )
        for endpoint in item.endpoints or ():
            address = parse_address(endpoint.addresses[0]) if endpoint.addresses else None
            if address is not None and _is_published(service, endpoint):
                yield _Published(endpoint.hostname or dashed(address), address, numbers)


def _is_published(service: Service, endpoint: Endpoint) -> bool:
    ready, _, _ = conditions(endpoint.conditions)
    return ready or service.spec.publish_not_ready_addresses


def dashed(address: Address) -> str:
    """The label that stands for an address: 10-0-1-5; of IPv6 all eight groups, for a label may not begin with a dash."""
    return address.exploded.replace(".", "-").replace(":", "-")


def _port_name(name: str, protocol: str, owner: bytes) -> bytes | None:
    return _below(f"_{name}._{protocol}", owner)


def _below(labels: str, owner: bytes) -> bytes | None:
    """The name of `labels` under `owner`; None when that is too long, or when a foreign server's label is none."""
    try:
        return records.name(f"{labels}.{records.text(owner)}")
    except BadName:
        return None


def _can_be(make: Callable[[], bytes]) -> bool:
    try:
        make()
    except BadName:
        return False
    return True


def pod_records(pod: Pod, config: DnsConfig) -> tuple[Record, ...]:
    """The name by address of a pod that runs, for `PodNames.VERIFIED`."""
    if pod.status.phase in _FINISHED:
        return ()
    texts = {pod.status.pod_ip, *(i.ip for i in pod.status.pod_ips or ())}
    found = (parse_address(text) for text in texts)
    return tuple(sorted(r for address in found if address is not None for r in _pod(pod, address, config)))


def _pod(pod: Pod, address: Address, config: DnsConfig) -> Iterator[Record]:
    owner = _below(dashed(address), records.name(f"{pod.namespace}.pod.{config.domain}"))
    if owner is not None:
        yield records.address(owner, address)


def zone_records(config: DnsConfig) -> tuple[Record, ...]:
    """What is there without any object: who answers for the zones, and the version of the names' schema."""
    apex = records.name(config.domain)
    server = records.name(f"{SERVICE_NAME}.{SERVICE_NAMESPACE}.svc.{config.domain}")
    mailbox = records.name(f"hostmaster.{config.domain}")
    zones = (apex, *map(records.name, REVERSE_ZONES))
    made = [records.authority(zone, server, mailbox, config.ttl) for zone in zones]
    version = records.texts(records.name(f"dns-version.{config.domain}"), SCHEMA_VERSION)
    return (*made, records.nameserver(apex, server), version)
