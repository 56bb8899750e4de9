"""Jenkins' hash: the kernel's own values, and that nothing falls outside of its slots. Real packets: lab_unit/test_edge."""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from build_nft import NAT_IN, SERVICE, TO_SERVICE
from portway.nft.jhash import jhash, slot
from portway.nft.packet import End, Packet
from portway.nft.tables import (
    Chain,
    DnatMaps,
    Element,
    Family,
    Field,
    JHash,
    Key,
    MarkMap,
    Match,
    Rule,
    Ruleset,
    Set,
    Type,
)
from portway.nft.walk import walk

VIP = IPv4Address("203.0.113.10")


@pytest.mark.parametrize(
    ("data", "seed", "value"),
    [  # of Bob Jenkins' lookup3, whose hashlittle differs from the kernel's jhash in nothing but the start value
        (b"", 0, 0xDEADBEEF),
        (b"", 0xDEADBEEF, 0xBD5B7DDE),
        (b"Four score and seven years ago", 0, 0x17770551),
        (b"Four score and seven years ago", 1, 0xCD628161),
    ],
)
def test_known_values(data: bytes, seed: int, value: int) -> None:
    assert jhash(data, seed) == value


@given(st.binary(max_size=40), st.integers(1, 5000), st.integers(0, 2**32 - 1))
def test_a_slot_is_within_its_table(data: bytes, mod: int, seed: int) -> None:
    assert 0 <= slot(data, mod, seed) < mod


def test_ports_spread_evenly() -> None:
    found = Counter(
        slot(IPv4Address("198.51.100.10").packed + n.to_bytes(2, "big") + b"\0\0", 10, 7) for n in range(10_000)
    )
    assert 850 < min(found.values()) <= max(found.values()) < 1150


def table(groups: dict[Key, Element], doors: dict[Key, Element]) -> Ruleset:
    to = DnatMaps((Field.MARK, JHash((Field.SADDR, Field.SPORT), 2, 7)), "slots", TO_SERVICE, "doors")
    rules = (Rule((MarkMap(TO_SERVICE, "groups"),)), Rule((Match(Field.L4PROTO, "tcp"), to)))
    slots: dict[Key, Element] = {(1, i): Element((IPv4Address(f"10.0.0.{i + 1}"),)) for i in range(2)}
    return Ruleset(
        Family.IP,
        "t",
        (
            Set("doors", SERVICE, (Type.PORT,)),
            Set("groups", SERVICE, (Type.MARK,)),
            Set("slots", (Type.MARK, Type.SLOT), (Type.ADDR,)),
        ),
        (Chain("incoming", rules, NAT_IN),),
        {"groups": groups, "doors": doors, "slots": slots},
    )


KEY: Key = (VIP, "tcp", 80)


def reached(made: Ruleset, sport: int = 40000, dport: int = 80, proto: str = "tcp") -> str:
    outcome = walk(made, Packet(IPv4Address("198.51.100.10"), VIP, dport, proto, sport))
    assert outcome.end is End.FORWARDED
    return f"{outcome.dnat[0]}:{outcome.dnat[1]}" if outcome.dnat else "nowhere"


def test_the_walk_takes_the_mark_the_slot_and_the_port_from_their_maps() -> None:
    whole = table({KEY: Element((1,))}, {KEY: Element((30080,))})
    found = {reached(whole, sport) for sport in range(40000, 40040)}
    assert found == {"10.0.0.1:30080", "10.0.0.2:30080"}
    assert reached(whole) == reached(whole), "the same connection, the same slot"


@pytest.mark.parametrize(
    ("sentence", "made", "proto"),
    [
        ("no group", table({}, {KEY: Element((30080,))}), "tcp"),
        ("a group without slots", table({KEY: Element((9,))}, {KEY: Element((30080,))}), "tcp"),
        ("no port", table({KEY: Element((1,))}, {}), "tcp"),
        ("a packet without ports has no slot", table({KEY: Element((1,))}, {KEY: Element((30080,))}), "icmp"),
    ],
)
def test_what_is_not_found_ends_the_rule(sentence: str, made: Ruleset, proto: str) -> None:
    assert reached(made, proto=proto) == "nowhere", sentence
