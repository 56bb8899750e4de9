"""EndpointSlices and the older Endpoints: addresses of one family, ports with names of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from portway.apiserver.errors import FieldError, duplicate, invalid_value, required, too_many
from portway.apiserver.validation import formats

Json = dict[str, Any]

FAMILIES = ("FQDN", "IPv4", "IPv6")
ENDPOINT_LIMIT = 1000
ADDRESS_LIMIT = 100
PORT_LIMIT = 20_000


def check_slice(new: Json, old: Json | None, subresource: str) -> Iterator[FieldError]:
    family = new.get("addressType", "")
    yield from formats.one_of("addressType", family, FAMILIES)
    if old is not None and old.get("addressType") != family:
        yield invalid_value("addressType", family, formats.IMMUTABLE)
    endpoints = new.get("endpoints") or []
    if len(endpoints) > ENDPOINT_LIMIT:
        yield too_many("endpoints", len(endpoints), ENDPOINT_LIMIT)
        return
    for i, endpoint in enumerate(endpoints):
        yield from _endpoint(f"endpoints[{i}]", endpoint, family)
    yield from _ports("ports", new.get("ports") or [], labelled=True)


def _endpoint(path: str, endpoint: Json, family: str) -> Iterator[FieldError]:
    addresses = endpoint.get("addresses") or []
    if not addresses:
        yield required(f"{path}.addresses", "must contain at least 1 address")
    elif len(addresses) > ADDRESS_LIMIT:
        yield too_many(f"{path}.addresses", len(addresses), ADDRESS_LIMIT)
    for i, address in enumerate(addresses):
        yield from formats.text(f"{path}.addresses[{i}]", address, _address(address, family))
    if name := endpoint.get("hostname"):
        yield from formats.text(f"{path}.hostname", name, formats.label(name))
    if name := endpoint.get("nodeName"):
        yield from formats.text(f"{path}.nodeName", name, formats.subdomain(name))


def _address(address: str, family: str) -> str:
    if family == "FQDN":
        return formats.subdomain(address)
    parsed = formats.parse_ip(address)
    version = {"IPv4": 4, "IPv6": 6}.get(family)
    if parsed is not None and version is not None and parsed.version != version:
        return f"must be an {family} address"
    return formats.endpoint_ip(address)


def _ports(path: str, ports: list[Json], *, labelled: bool) -> Iterator[FieldError]:
    if len(ports) > PORT_LIMIT:
        yield too_many(path, len(ports), PORT_LIMIT)
        return
    names: set[str] = set()
    for i, port in enumerate(ports):
        at, name = f"{path}[{i}]", port.get("name") or ""
        if name in names and labelled:
            yield duplicate(f"{at}.name", name)
        names.add(name)
        if name:
            yield from formats.text(f"{at}.name", name, formats.label(name))
        elif len(ports) > 1 and not labelled:
            yield required(f"{at}.name")
        number = port.get("port")
        if number is not None or not labelled:
            yield from formats.text(f"{at}.port", number or 0, formats.port_number(number))
        yield from formats.one_of(f"{at}.protocol", port.get("protocol"), formats.PROTOCOLS)


def check_endpoints(new: Json, old: Json | None, subresource: str) -> Iterator[FieldError]:
    for i, subset in enumerate(new.get("subsets") or ()):
        path = f"subsets[{i}]"
        if not subset.get("addresses") and not subset.get("notReadyAddresses"):
            yield required(path, "must specify `addresses` or `notReadyAddresses`")
        for field in ("addresses", "notReadyAddresses"):
            for j, address in enumerate(subset.get(field) or ()):
                value = address.get("ip", "")
                yield from formats.text(f"{path}.{field}[{j}].ip", value, formats.endpoint_ip(value))
        yield from _ports(f"{path}.ports", subset.get("ports") or [], labelled=False)
