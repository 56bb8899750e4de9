"""Who stands behind a port, and who of them gets new connections (KEP-1669, KEP-1672)."""

from __future__ import annotations

import pytest

from build_proxy import DRAINING, DYING, NOT_READY, READY, endpoint, port, slice_of
from portway.cluster.endpoints import backends, conditions, parse_address, usable
from portway.objects.core import ServicePort
from portway.objects.discovery import Endpoint, EndpointConditions, EndpointPort, EndpointSlice

UNSET = EndpointConditions()
PUBLISHED = EndpointConditions(ready=True, serving=False, terminating=False)


def found(*slices: EndpointSlice, port: ServicePort = port()) -> set[str]:  # noqa: B008 - frozen
    return {f"{b.address}:{b.port}" for b in usable(backends(slices, port, "IPv4"))}


@pytest.mark.parametrize(
    ("sentence", "behind", "chosen"),
    [
        ("all are ready", {"10.0.1.2": READY, "10.0.1.3": READY}, {"10.0.1.2", "10.0.1.3"}),
        ("nothing is said, which means ready", {"10.0.1.2": UNSET}, {"10.0.1.2"}),
        ("one is not ready", {"10.0.1.2": READY, "10.0.1.3": NOT_READY}, {"10.0.1.2"}),
        ("none is ready", {"10.0.1.2": NOT_READY}, set()),
        ("one drains while another is ready", {"10.0.1.2": READY, "10.0.1.3": DRAINING}, {"10.0.1.2"}),
        ("all drain", {"10.0.1.2": DRAINING, "10.0.1.3": DRAINING}, {"10.0.1.2", "10.0.1.3"}),
        ("one drains, one is not ready", {"10.0.1.2": DRAINING, "10.0.1.3": NOT_READY}, {"10.0.1.2"}),
        ("terminating and no longer serving", {"10.0.1.2": DYING}, set()),
        ("published though not ready: the controller says ready", {"10.0.1.2": PUBLISHED}, {"10.0.1.2"}),
        ("nobody is there", {}, set()),
    ],
)
def test_who_gets_connections(sentence: str, behind: dict[str, EndpointConditions], chosen: set[str]) -> None:
    item = slice_of("shop/web", *(endpoint(a, c) for a, c in behind.items()))
    assert found(item) == {f"{a}:8080" for a in chosen}, sentence


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        (EndpointConditions(), (True, True, False)),
        (EndpointConditions(ready=False), (False, False, False)),
        (EndpointConditions(ready=False, serving=True), (False, True, False)),
        (EndpointConditions(ready=False, serving=True, terminating=True), (False, True, True)),
    ],
)
def test_unset_conditions(given_: EndpointConditions, expected: tuple[bool, bool, bool]) -> None:
    assert conditions(given_) == expected


def test_a_port_is_found_by_name_and_its_number_is_each_slice_s_own() -> None:
    old = slice_of("shop/web", endpoint("10.0.1.2"), ports={"http": 8080, "metrics": 9090}, suffix="old")
    new = slice_of("shop/web", endpoint("10.0.1.3"), ports={"http": 8081}, suffix="new")
    assert found(old, new, port=port(80, "http")) == {"10.0.1.2:8080", "10.0.1.3:8081"}
    assert found(old, new, port=port(80, "metrics")) == {"10.0.1.2:9090"}
    assert found(old, new, port=port(80, "nobody")) == set()


def test_tcp_and_udp_of_the_same_name_are_two_ports() -> None:
    tcp = slice_of("shop/dns", endpoint("10.0.1.2"), ports={"dns": 53})
    udp = slice_of("shop/dns", endpoint("10.0.1.2"), ports={"dns": 5353}, protocol="UDP", suffix="udp")
    assert found(tcp, udp, port=port(53, "dns", "UDP")) == {"10.0.1.2:5353"}


def test_an_endpoint_in_two_slices_counts_once_by_its_better_state() -> None:
    stale = slice_of("shop/web", endpoint("10.0.1.2", NOT_READY, node=None), suffix="a")
    fresh = slice_of("shop/web", endpoint("10.0.1.2"), suffix="b")
    one_way = backends((stale, fresh), port(), "IPv4")
    assert one_way == backends((fresh, stale), port(), "IPv4")
    assert [(str(b.address), b.ready, b.node) for b in one_way] == [("10.0.1.2", True, "node-1")]


def test_only_slices_of_the_address_type_count() -> None:
    six = slice_of("shop/web", endpoint("fd00::2"), address_type="IPv6")
    names = slice_of("shop/web", endpoint("web.example.com"), address_type="FQDN")
    assert backends((six, names), port(), "IPv4") == ()
    assert [str(b.address) for b in backends((six, names), port(), "IPv6")] == ["fd00::2"]


def test_what_is_no_address_or_has_no_number_is_left_out() -> None:
    odd = EndpointSlice(
        endpoints=(Endpoint(addresses=("localhost",)), Endpoint(), endpoint("10.0.1.2")),
        ports=(EndpointPort(name=None, protocol=None, port=8080), EndpointPort(name="", port=None)),
    )
    assert found(odd) == {"10.0.1.2:8080"}
    assert parse_address("10.0.1.256") is None


def test_sorted_by_address_as_a_number() -> None:
    item = slice_of("shop/web", *(endpoint(f"10.0.1.{n}") for n in (10, 9, 100)))
    assert [str(b.address) for b in backends((item,), port(), "IPv4")] == ["10.0.1.9", "10.0.1.10", "10.0.1.100"]
