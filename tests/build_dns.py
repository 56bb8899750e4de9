"""Builders for the tests of `dns`: objects, a zone of them, and queries and answers by dnspython (no code of ours)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import dns.flags
import dns.message
import dns.rdatatype
import msgspec

from build_proxy import Store, endpoint, picture, port, service, slice_of
from portway.dns import compile as zones
from portway.dns.answer import Forward, reply
from portway.dns.config import DnsConfig
from portway.dns.intent import records_of
from portway.dns.records import Record
from portway.objects.core import Pod, PodSpec, PodStatus, Service
from portway.objects.discovery import Endpoint, EndpointSlice
from portway.objects.meta import ObjectMeta

__all__ = ["Store", "endpoint", "picture", "port", "service", "slice_of"]

CONFIG = DnsConfig()
WEB = service("shop/web", "10.3.240.9", port(80, "http"), port(53, "dns", "UDP"), port(81))
DB = service("shop/db", "None", port(5432, "pg"))
ALIAS = service("shop/alias", "", port(), type="ExternalName", external_name="web.shop.svc.cluster.local")
OUTSIDE = service("shop/outside", "", port(), type="ExternalName", external_name="Shop.Example.COM.")


def named(item: Endpoint, hostname: str) -> Endpoint:
    return msgspec.structs.replace(item, hostname=hostname)


DB_SLICE = slice_of(
    "shop/db", named(endpoint("10.0.1.5"), "db-0"), named(endpoint("10.0.2.5"), "db-1"), endpoint("10.0.2.6"),
    ports={"pg": 5433},
)  # fmt: skip


def pod(ref: str, *ips: str, phase: str = "Running") -> Pod:
    namespace, _, name = ref.partition("/")
    status = PodStatus(phase=phase, pod_ip=ips[0] if ips else "")
    return Pod(metadata=ObjectMeta(name=name, namespace=namespace), spec=PodSpec(), status=status)


def wanted(*objects: Service | EndpointSlice, config: DnsConfig = CONFIG) -> dict[str, tuple[Record, ...]]:
    seen = picture(*objects)
    return {name: records_of(seen, name, config) for name in seen.services}


def zone(*objects: Service | EndpointSlice, config: DnsConfig = CONFIG) -> zones.Zone:
    return zones.compile_all(wanted(*objects, config=config), config)


SHOP = zone(WEB, DB, DB_SLICE, ALIAS, OUTSIDE)


def query(name: str, type_: str = "A", **options: Any) -> dns.message.Message:
    """A query as a stub resolver sends it; `options` are those of dnspython (use_edns, payload, …)."""
    return dns.message.make_query(name, type_, **options)


def ask(
    where: zones.Zone, name: str, type_: str = "A", *, turn: int = 0, stream: bool = False, **options: Any
) -> dns.message.Message:
    """The answer, decoded; it must belong to the query."""
    asked = query(name, type_, **options)
    made = reply(where, asked.to_wire(), turn=turn, stream=stream)
    assert isinstance(made, bytes), made
    answer = dns.message.from_wire(made)
    assert asked.is_response(answer)
    return answer


def forwarded(where: zones.Zone, name: str, type_: str = "A") -> Forward:
    made = reply(where, query(name, type_).to_wire())
    assert isinstance(made, Forward), made
    return made


def lines(section: Iterable[Any]) -> list[str]:
    """The records of a section as a zone file has them, without the final dots of names, sorted."""
    return sorted(
        f"{str(rrset.name).rstrip('.')} {dns.rdatatype.to_text(rrset.rdtype)} {str(rdata).rstrip('.')}"
        for rrset in section
        for rdata in rrset
    )


def flags(message: dns.message.Message) -> set[str]:
    return set(dns.flags.to_text(message.flags).split())
