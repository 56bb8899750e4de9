"""Who stands behind a port of a Service, and which of them may get new connections.

A Service's port and a slice's port belong together by name and protocol; the slice's number is the pod's, so a named
target port may be a different number in every slice. Conditions are those of KEP-1672, the choice is that of KEP-1669:
the ready ones, and only when there is none, those that still serve while they terminate. `proxy.intent` calls this for
every port.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from portway.objects.core import ServicePort
from portway.objects.discovery import Endpoint, EndpointConditions, EndpointSlice

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True, order=True)
class Backend:
    """One address and port behind a Service's port. `node` is empty when the slice does not say."""

    address: Address
    port: int
    node: str = ""
    ready: bool = True
    serving: bool = True
    terminating: bool = False

    @property
    def rank(self) -> int:
        """2: gets connections; 1: only when there is no 2; 0: never."""
        if self.ready:
            return 2
        return 1 if self.serving and self.terminating else 0


def backends(slices: Iterable[EndpointSlice], port: ServicePort, address_type: str) -> tuple[Backend, ...]:
    """All backends of `port` in slices of `address_type` ("IPv4" or "IPv6"), sorted, usable or not.

    While a controller moves an endpoint between slices it is in both (KEP-752): the more usable of the two counts."""
    found: dict[tuple[Address, int], Backend] = {}
    for item in slices:
        if item.address_type != address_type:
            continue
        for number in port_numbers(item, port):
            for backend in _backends(item.endpoints or (), number):
                key = (backend.address, number)
                known = found.get(key, backend)
                found[key] = max(known, backend, key=lambda b: (b.rank, b))
    return tuple(sorted(found.values()))


def usable(found: Iterable[Backend]) -> tuple[Backend, ...]:
    """The backends that get new connections: the ready ones, or else those that serve while they terminate."""
    ranked = tuple(found)
    best = max((b.rank for b in ranked), default=0)
    return tuple(b for b in ranked if b.rank == best) if best else ()


def port_numbers(item: EndpointSlice, port: ServicePort) -> Iterator[int]:
    """The numbers that `item` has for `port`; none for another name, and none where a slice leaves the number open."""
    for candidate in item.ports or ():
        if (candidate.name or "") == port.name and (candidate.protocol or "TCP") == port.protocol and candidate.port:
            yield candidate.port


def _backends(endpoints: Iterable[Endpoint], number: int) -> Iterator[Backend]:
    for endpoint in endpoints:
        # All addresses of an endpoint are the same pod; clients may use the first only (the API's own words).
        address = parse_address(endpoint.addresses[0]) if endpoint.addresses else None
        if address is not None:
            ready, serving, terminating = conditions(endpoint.conditions)
            yield Backend(address, number, endpoint.node_name or "", ready, serving, terminating)


def conditions(given: EndpointConditions) -> tuple[bool, bool, bool]:
    """(ready, serving, terminating) with what is unset filled in."""
    ready = given.ready is not False
    return ready, ready if given.serving is None else given.serving, given.terminating is True


def parse_address(text: str) -> Address | None:
    """The address, or None for what is none: objects of a foreign API server may hold anything."""
    try:
        return ip_address(text)
    except ValueError:
        return None
