"""Addresses and node ports: bands, requests, refusals, and that nothing is given twice."""

from __future__ import annotations

import random
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.apiserver.allocation import AddressRange, PortRange, Refusal, Refused, band


def first(_: int) -> int:
    return 0


def last(below: int) -> int:
    return below - 1


@pytest.mark.parametrize(
    ("size", "addresses", "ports"),
    [(8, 16, 16), (256, 16, 16), (1024, 64, 32), (2768, 173, 86), (4096, 256, 128), (65536, 256, 128)],
)
def test_the_bands_of_the_proposals(size: int, addresses: int, ports: int) -> None:
    assert (band(size, 16, 16, 256), band(size, 16, 32, 128)) == (addresses, ports)


def test_dynamic_numbers_come_from_above_the_band() -> None:
    addresses, ports = AddressRange(IPv4Network("10.3.240.0/20")), PortRange()
    assert (addresses.pick((), first), addresses.pick((), last)) == ("10.3.241.1", "10.3.255.254")
    assert (ports.pick((), first), ports.pick((), last)) == (30086, 32767)


def test_the_band_is_used_when_the_rest_is_full() -> None:
    addresses, ports = AddressRange(IPv4Network("10.3.240.0/24")), PortRange(30000, 30031)
    upper = {f"10.3.240.{n}" for n in range(17, 255)}
    assert addresses.pick(upper, first) == "10.3.240.1"
    assert ports.pick(set(range(30016, 30032)), last) == 30015


@pytest.mark.parametrize("network", ["10.0.0.0/28", "10.0.0.0/29", "10.0.0.0/30"])
def test_a_small_network_is_all_band(network: str) -> None:
    chosen = AddressRange(IPv4Network(network))
    assert chosen.pick((), first) == "10.0.0.1"


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("10.3.240.0", Refusal.IP_OUTSIDE),
        ("10.3.255.255", Refusal.IP_OUTSIDE),
        ("10.4.0.1", Refusal.IP_OUTSIDE),
        ("fd00::1", Refusal.IP_OUTSIDE),
        ("10.3.240.5", Refusal.IP_TAKEN),
    ],
)
def test_a_requested_address_that_cannot_be_had(address: str, reason: Refusal) -> None:
    with pytest.raises(Refused) as refused:
        AddressRange(IPv4Network("10.3.240.0/20")).request(address, {"10.3.240.5"})
    assert refused.value.reason is reason


def test_the_words_are_those_of_kubernetes() -> None:
    with pytest.raises(
        Refused, match=r"^provided port is not in the valid range. The range of valid ports is 30000-32767$"
    ):
        PortRange().request(99, ())
    with pytest.raises(Refused, match=r"^provided port is already allocated$"):
        PortRange().request(30000, {30000})
    with pytest.raises(Refused, match=r"^range is full$"):
        PortRange(1, 2).pick({1, 2}, first)


@given(st.integers(22, 30), st.integers(0, 10_000))
def test_a_range_is_given_out_to_the_last_number_and_never_twice(prefix: int, seed: int) -> None:
    chosen = AddressRange(IPv4Network(f"10.0.0.0/{prefix}"))
    choose, taken = random.Random(seed).randrange, set[str]()
    for _ in range(min(chosen.network.num_addresses - 2, 70)):
        address = chosen.pick(taken, choose)
        assert address not in taken and IPv4Address(address) in chosen.network
        taken.add(address)
    everything = {str(h) for h in chosen.network.hosts()}
    with pytest.raises(Refused):
        chosen.pick(everything, choose)


def test_the_same_chance_gives_the_same_numbers() -> None:
    def run() -> list[int]:
        choose, taken = random.Random(1).randrange, set[int]()
        for _ in range(50):
            taken.add(PortRange().pick(taken, choose))
        return sorted(taken)

    assert run() == run()
