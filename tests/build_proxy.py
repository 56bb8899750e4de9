"""Builders for tests of `cluster` and `proxy`: Services and EndpointSlices in a line each, with the lab's addresses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import Any, Generic, TypeVar

import msgspec

from portway.client import Change
from portway.cluster.picture import Changes, Picture
from portway.nft.tables import Ruleset
from portway.objects.core import Service, ServicePort, ServiceSpec
from portway.objects.discovery import (
    SERVICE_NAME_LABEL,
    Endpoint,
    EndpointConditions,
    EndpointPort,
    EndpointSlice,
)
from portway.objects.meta import Object, ObjectMeta
from portway.proxy.compile import compile_all
from portway.proxy.config import NodeFacts, ProxyConfig
from portway.proxy.intent import ServicePortIntent, intents_of

T = TypeVar("T", bound=Object)

CONFIG = ProxyConfig()
NODE_1, NODE_2 = NodeFacts(name="node-1"), NodeFacts(name="node-2")

READY = EndpointConditions(ready=True, serving=True, terminating=False)
NOT_READY = EndpointConditions(ready=False, serving=False, terminating=False)
DRAINING = EndpointConditions(ready=False, serving=True, terminating=True)
DYING = EndpointConditions(ready=False, serving=False, terminating=True)


def port(number: int = 80, name: str = "", protocol: str = "TCP", node_port: int = 0) -> ServicePort:
    return ServicePort(name=name, protocol=protocol, port=number, node_port=node_port)


def service(name: str = "shop/web", ip: str = "10.3.240.9", *ports: ServicePort, **spec: Any) -> Service:
    """A ClusterIP Service, or a NodePort one when a port has a node port. `labels=` are its metadata's."""
    namespace, _, short = name.partition("/")
    labels = spec.pop("labels", None)
    wanted = ports or (port(),)
    spec.setdefault("type", "NodePort" if any(p.node_port for p in wanted) else "ClusterIP")
    return Service(
        metadata=ObjectMeta(name=short, namespace=namespace, labels=labels),
        spec=ServiceSpec(cluster_ip=ip, cluster_ips=(ip,) if ip else None, ports=wanted, **spec),
    )


def endpoint(address: str, conditions: EndpointConditions = READY, node: str | None = "node-1") -> Endpoint:
    return Endpoint(addresses=(address,), conditions=conditions, node_name=node)


def slice_of(
    service: str = "shop/web",
    *endpoints: Endpoint,
    ports: Mapping[str, int] | None = None,
    protocol: str = "TCP",
    suffix: str = "abc",
    address_type: str = "IPv4",
) -> EndpointSlice:
    """A slice of a Service; `ports` are names and numbers, by default the nameless port 8080."""
    namespace, _, name = service.partition("/")
    numbers = {"": 8080} if ports is None else ports
    return EndpointSlice(
        metadata=ObjectMeta(name=f"{name}-{suffix}", namespace=namespace, labels={SERVICE_NAME_LABEL: name}),
        address_type=address_type,
        endpoints=endpoints,
        ports=tuple(EndpointPort(name=n, protocol=protocol, port=p) for n, p in numbers.items()),
    )


def picture(*objects: Service | EndpointSlice) -> Picture:
    return Picture().changed(changes(*objects)).picture


def changes(*objects: Service | EndpointSlice) -> Changes:
    return Changes(
        services={o.ref: o for o in objects if isinstance(o, Service)},
        slices={o.ref: o for o in objects if isinstance(o, EndpointSlice)},
    )


def intents(*objects: Service | EndpointSlice, node: NodeFacts = NODE_1) -> tuple[ServicePortIntent, ...]:
    seen = picture(*objects)
    return tuple(i for name in seen.services for i in intents_of(seen, name, node, CONFIG.family))


def ruleset(*objects: Service | EndpointSlice, node: NodeFacts = NODE_1, config: ProxyConfig = CONFIG) -> Ruleset:
    return compile_all(intents(*objects, node=node), config)


def plain(table: Ruleset) -> Ruleset:
    """The table with plain dicts and without empty sets: what is compared after a detour through a kernel or a fake."""
    elements = {name: dict(entries.items()) for name, entries in sorted(table.elements.items()) if entries}
    return replace(table, elements=elements)


def addresses(texts: Iterable[str]) -> set[object]:
    return {ip_address(text) for text in texts}


def from_yaml(documents: Iterable[Any]) -> tuple[Service | EndpointSlice, ...]:
    """Services and EndpointSlices of a manifest's documents; any other kind is an error."""
    kinds: dict[str, type[Service] | type[EndpointSlice]] = {"Service": Service, "EndpointSlice": EndpointSlice}
    return tuple(msgspec.convert(d, kinds[d["kind"]]) for d in documents if d)


class Store(Generic[T]):
    """A reflector whose server is the test."""

    def __init__(self, *items: T) -> None:
        self.items: dict[str, T] = {item.ref: item for item in items}
        self.synced = asyncio.Event()
        self._callbacks: list[Callable[[Sequence[Change[T]]], None]] = []

    def subscribe(self, callback: Callable[[Sequence[Change[T]]], None]) -> None:
        self._callbacks.append(callback)

    def put(self, *items: T) -> None:
        self._tell([Change(self.items.get(item.ref), item) for item in items])

    def remove(self, ref: str) -> None:
        self._tell([Change(self.items[ref], None)])

    def _tell(self, changes: list[Change[T]]) -> None:
        for change in changes:
            self.items.pop(change.ref, None)
            if change.new:
                self.items[change.ref] = change.new
        for callback in self._callbacks:
            callback(changes)
