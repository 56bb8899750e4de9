"""Anything may arrive: random bytes, broken queries, random clusters. Nothing crashes, dnspython reads every answer, and a zone
that was changed step by step is the zone that is made at once."""

from __future__ import annotations

import dns.exception
import dns.message
import dns.name
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from build_dns import CONFIG, SHOP, endpoint, lines, named, port, query, service, slice_of, wanted
from portway.dns import compile as zones
from portway.dns import records, wire
from portway.dns.answer import Forward, finish, reply
from portway.dns.config import DnsConfig
from portway.dns.records import Record, Type, Writer
from portway.objects.core import Service
from portway.objects.discovery import EndpointSlice

LABEL = st.text("abcXYZ019-_", min_size=1, max_size=63)
NAMES = st.lists(LABEL, max_size=6).map(".".join).filter(lambda n: len(n) < 250)
KNOWN = st.sampled_from([records.text(n) for n in SHOP.names])
TYPES = st.sampled_from(
    ["A", "AAAA", "SRV", "PTR", "TXT", "CNAME", "SOA", "NS", "MX", "ANY", "AXFR", "HTTPS", "TYPE65", "CAA"]
)
OUTSIDE = zones.empty(DnsConfig(upstream=(("192.0.2.53", 53),)))


def settled(where: zones.Zone, packet: bytes, *, stream: bool = False, turn: int = 0) -> bytes | None:
    made = reply(where, packet, stream=stream, turn=turn)
    return finish(where, made, None) if isinstance(made, Forward) else made


@given(st.binary(max_size=100), st.booleans())
def test_random_bytes(packet: bytes, stream: bool) -> None:
    for where in (SHOP, OUTSIDE):
        answer = settled(where, packet, stream=stream)
        if answer is not None:
            assert dns.message.from_wire(answer).id == int.from_bytes(packet[:2], "big")


@given(st.data(), KNOWN | NAMES, TYPES, st.sampled_from([-1, 0]))
def test_queries_with_random_damage(data: st.DataObject, name: str, type_: str, edns: int) -> None:
    packet = bytearray(query(name, type_, use_edns=edns).to_wire())
    for _ in range(data.draw(st.integers(0, 3))):
        packet[data.draw(st.integers(0, len(packet) - 1))] = data.draw(st.integers(0, 255))
    del packet[data.draw(st.integers(0, len(packet))) :]
    answer = settled(SHOP, bytes(packet))
    if answer is not None:
        dns.message.from_wire(answer)
        assert answer[2] & 0x80, "an answer is no query: two servers must not talk for ever"


@given(KNOWN | NAMES, TYPES, st.sampled_from([-1, 0]), st.integers(0, 99))
def test_every_answer_belongs_to_its_query(name: str, type_: str, edns: int, turn: int) -> None:
    asked = query(name, type_, use_edns=edns)
    packet = asked.to_wire()
    quick, slow = settled(SHOP, packet, turn=turn), settled(SHOP, packet, stream=True)
    assert quick is not None
    assert slow is not None
    first, second = dns.message.from_wire(quick), dns.message.from_wire(slow)
    assert asked.is_response(first)
    assert (first.rcode(), lines(first.answer), lines(first.authority), lines(first.additional), first.flags) == (
        second.rcode(), lines(second.answer), lines(second.authority), lines(second.additional), second.flags
    ), "the encoded answer is the one that is written anew"  # fmt: skip


@given(st.binary(max_size=200))
def test_random_bytes_from_upstream(packet: bytes) -> None:
    try:
        wire.read_answer(packet)
    except wire.Malformed:
        return
    assert len(packet) >= wire.HEADER


@given(NAMES)
def test_names_are_those_of_dnspython(name: str) -> None:
    theirs = dns.name.from_text(name.lower() or ".").to_wire()
    assert records.name(name) == theirs
    assert records.name(records.text(records.name(name))) == theirs
    assert wire.read_name(theirs, 0) == (theirs, len(theirs))


@given(st.text(max_size=300))
def test_any_text_is_a_name_or_is_refused(text: str) -> None:
    try:
        made = records.name(text)
    except records.BadName:
        return
    assert len(made) <= 255
    assert dns.name.from_wire(made, 0)[0].is_absolute()


@st.composite
def written(draw: st.DrawFn) -> tuple[bytes, list[Record]]:
    """A question and records whose names share endings with it and with each other."""
    pool = [records.name(n) for n in draw(st.lists(NAMES.filter(bool), min_size=1, max_size=5))]
    pool += [records.name(f"a.{records.text(n)}") for n in pool]
    name = st.sampled_from(pool)
    record = st.one_of(
        st.builds(lambda n, i: Record(n, Type.A, i.to_bytes(4, "big")), name, st.integers(0, 2**32 - 1)),
        st.builds(records.alias, name, name),
        st.builds(records.pointer, name, name),
        st.builds(records.service, name, st.integers(0, 65535), name),
    )
    return draw(name), draw(st.lists(record, max_size=8))


@given(written())
def test_what_is_written_is_read_by_dnspython_and_by_us(given_: tuple[bytes, list[Record]]) -> None:
    question, rows = given_
    writer = Writer(question, 5)
    for row in rows:
        writer.record(row)
    head = b"\0\1\x84\0\0\1" + len(rows).to_bytes(2, "big") + b"\0\0\0\0"
    message = head + question + b"\0\1\0\1" + bytes(writer.out)
    assert len(message) == writer.size
    theirs = dns.message.from_wire(message, one_rr_per_rrset=True)
    assert [(s.name.to_wire(), int(s.rdtype), s[0].to_wire()) for s in theirs.answer] == [
        (r.name, int(r.type), r.data + r.target) for r in rows
    ]
    assert wire.read_answer(message).records == tuple(rows)


@pytest.mark.parametrize("text", ["a..b", ".a", "a" * 64, ".".join(["a" * 63] * 4), "ü"])
def test_names_that_cannot_be(text: str) -> None:
    with pytest.raises(records.BadName):
        records.name(text)


# A cluster that changes

_NAMES = ("shop/a", "shop/b", "blog/a")
_HOSTS = st.sampled_from([None, "h-0", "h-1"])
_CLUSTERED = st.builds(
    lambda n, ip, p: service(n, f"10.3.240.{ip}", port(p, "http")),
    st.sampled_from(_NAMES), st.integers(1, 3), st.integers(1, 2),
)  # fmt: skip
_HEADLESS = st.builds(lambda n: service(n, "None", port(1, "http")), st.sampled_from(_NAMES))
_ALIASES = st.builds(
    lambda n, to: service(n, "", port(), type="ExternalName", external_name=to),
    st.sampled_from(_NAMES), st.sampled_from(["a.shop.svc.cluster.local", "x.example"]),
)  # fmt: skip
_SLICES = st.builds(
    lambda n, ips: slice_of(
        n, *(named(endpoint(f"10.0.1.{i}"), h) if h else endpoint(f"10.0.1.{i}") for i, h in ips), ports={"http": 80}
    ),
    st.sampled_from(_NAMES),
    st.lists(st.tuples(st.integers(1, 3), _HOSTS), max_size=3),
)
_WORLDS = st.lists(_CLUSTERED | _HEADLESS | _ALIASES | _SLICES, max_size=6)


def _latest(objects: list[Service | EndpointSlice]) -> list[Service | EndpointSlice]:
    return list({(type(o), o.ref): o for o in objects}.values())


@given(st.lists(_WORLDS, min_size=1, max_size=4))
def test_step_by_step_is_the_same_as_at_once(worlds: list[list[Service | EndpointSlice]]) -> None:
    zone = zones.empty(CONFIG)
    for world in worlds:
        now = wanted(*_latest(world))
        gone = {owner: () for owner in zone.fragments if owner not in now and owner != zones.STATIC}
        zone = zones.advance(zone, now | gone)
        assert zone == zones.compile_all(now, CONFIG)


@given(_WORLDS)
def test_removing_everything_leaves_nothing(world: list[Service | EndpointSlice]) -> None:
    now = wanted(*_latest(world))
    zone = zones.compile_all(now, CONFIG)
    assert zones.advance(zone, dict.fromkeys(now, ())) == zones.empty(CONFIG)


def test_nothing_new_is_the_same_zone() -> None:
    assert zones.advance(SHOP, {"shop/nobody": ()}) is SHOP


def test_a_pod_that_comes_back_with_another_address_is_seen_beside_the_srv_record() -> None:
    db = service("shop/db", "None", port(1, "pg"))
    slices = [slice_of("shop/db", named(endpoint(ip), "db-0"), ports={"pg": 1}) for ip in ("10.0.1.5", "10.0.1.9")]
    zone = zones.advance(zones.compile_all(wanted(db, slices[0]), CONFIG), wanted(db, slices[1]))
    made = settled(zone, query("_pg._tcp.db.shop.svc.cluster.local", "SRV").to_wire())
    assert made is not None
    assert lines(dns.message.from_wire(made).additional) == ["db-0.db.shop.svc.cluster.local A 10.0.1.9"]
