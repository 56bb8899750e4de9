"""Odd, large and broken messages: what is refused and how, what is cut, what is not answered at all."""

from __future__ import annotations

import struct
from pathlib import Path

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import msgspec
import pytest

from build_dns import DB, SHOP, WEB, ask, endpoint, flags, lines, named, query, slice_of, zone
from portway.dns import records, wire
from portway.dns.answer import decide, look_up, reply
from portway.dns.config import DnsConfig
from portway.dns.intent import ignored
from portway.dns.reasons import Reason
from portway.objects.core import Service

NAME = "web.shop.svc.cluster.local"
MANY = zone(
    DB,
    slice_of(
        "shop/db", *(named(endpoint(f"10.0.{n // 250}.{n % 250}"), f"db-{n}") for n in range(600)), ports={"pg": 5432}
    ),
)


def raw(
    name: str = NAME, type_: str = "A", *, flags: int | None = None, counts: tuple[int, ...] | None = None
) -> bytes:
    made = bytearray(query(name, type_).to_wire())
    if flags is not None:
        struct.pack_into("!H", made, 2, flags)
    if counts is not None:
        struct.pack_into("!HHHH", made, 4, *counts)
    return bytes(made)


REFUSED = [
    ("all types at once", raw(type_="ANY"), dns.rcode.REFUSED, Reason.ANY_REFUSED),
    ("a zone transfer", raw("cluster.local", "AXFR"), dns.rcode.REFUSED, Reason.TRANSFER_REFUSED),
    ("an incremental one", raw("cluster.local")[:-4] + b"\0\xfb\0\1", dns.rcode.REFUSED, Reason.TRANSFER_REFUSED),
    ("another class", raw()[:-2] + b"\0\3", dns.rcode.REFUSED, Reason.CLASS_REFUSED),
    ("a type that is none", raw()[:-4] + b"\0\xfa\0\1", dns.rcode.FORMERR, Reason.MALFORMED),
    ("the type of EDNS as a question", raw()[:-4] + b"\0\x29\0\1", dns.rcode.FORMERR, Reason.MALFORMED),
]


@pytest.mark.parametrize(("sentence", "packet", "rcode", "reason"), REFUSED, ids=[r[0] for r in REFUSED])
def test_well_formed_and_refused(sentence: str, packet: bytes, rcode: int, reason: Reason) -> None:
    made = reply(SHOP, packet)
    assert isinstance(made, bytes)
    answer = dns.message.from_wire(made)
    assert (answer.rcode(), answer.answer, answer.id) == (rcode, [], int.from_bytes(packet[:2], "big"))
    assert decide(SHOP, wire.parse(packet)).reason is reason


BROKEN = [
    ("the question is missing", raw()[:12]),
    ("the question ends too soon", raw()[:-1]),
    ("the name ends too soon", raw()[:20]),
    ("no question", raw(counts=(0, 0, 0, 0))),
    ("two questions", raw(counts=(2, 0, 0, 0)) + raw()[12:]),
    ("an answer in a query", raw(counts=(1, 1, 0, 0))),
    ("an authority in a query", raw(counts=(1, 0, 1, 0))),
    ("a record that is not there", raw(counts=(1, 0, 0, 1))),
    ("bytes that nobody announced", raw() + b"\0"),
    ("a compressed question", raw()[:12] + b"\xc0\x0c\0\1\0\1"),
    ("a label of a reserved kind", raw()[:12] + b"\x40ab\0\0\1\0\1"),
    ("a name of 256 bytes", raw()[:12] + (b"\x3f" + b"a" * 63) * 4 + b"\0\0\1\0\1"),
    ("two OPT records", raw(counts=(1, 0, 0, 2)) + b"\0\0\x29\x04\xd0\0\0\0\0\0\0" * 2),
    ("an OPT record with a name", raw(counts=(1, 0, 0, 1)) + b"\1a\0\0\x29\x04\xd0\0\0\0\0\0\0"),
    ("an EDNS option that is too long", raw(counts=(1, 0, 0, 1)) + b"\0\0\x29\x04\xd0\0\0\0\0\0\4\0\3\0\1"),
    ("half an EDNS option", raw(counts=(1, 0, 0, 1)) + b"\0\0\x29\x04\xd0\0\0\0\0\0\2\0\3"),
    ("EDNS data that is not there", raw(counts=(1, 0, 0, 1)) + b"\0\0\x29\x04\xd0\0\0\0\0\0\x09\0\3"),
    ("a pointer to itself", raw(counts=(1, 0, 0, 1)) + struct.pack("!H", 0xC000 | len(raw())) + b"\0" * 10),
    ("half a pointer", raw(counts=(1, 0, 0, 1)) + b"\xc0"),
]


@pytest.mark.parametrize(("sentence", "packet"), BROKEN, ids=[r[0] for r in BROKEN])
@pytest.mark.parametrize("stream", [False, True])
def test_broken_queries_are_told_so(sentence: str, packet: bytes, stream: bool) -> None:
    made = reply(SHOP, packet, stream=stream)
    assert isinstance(made, bytes)
    assert made[:2] == packet[:2]
    assert dns.message.from_wire(made).rcode() == dns.rcode.FORMERR, sentence


@pytest.mark.parametrize(
    "packet", [b"", b"\0", raw()[:11], raw(flags=0x8180)], ids=["empty", "a byte", "short", "answer"]
)
def test_what_is_no_query_is_not_answered(packet: bytes) -> None:
    assert reply(SHOP, packet) is None


@pytest.mark.parametrize("opcode", [1, 2, 4, 5, 15])
def test_other_operations_are_not_implemented(opcode: int) -> None:
    made = reply(SHOP, raw(flags=opcode << 11 | 0x100))
    assert isinstance(made, bytes)
    answer = dns.message.from_wire(made)
    assert (answer.rcode(), answer.opcode()) == (dns.rcode.NOTIMP, opcode)


def test_another_version_of_edns() -> None:
    answer = ask(SHOP, NAME, use_edns=1)
    assert (answer.rcode(), answer.edns, answer.answer) == (dns.rcode.BADVERS, 0, [])


def test_edns_options_are_allowed_and_ignored() -> None:
    cookie = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"12345678")
    answer = ask(SHOP, NAME, use_edns=0, options=[cookie])
    assert lines(answer.answer) == [f"{NAME} A 10.3.240.9"]
    assert answer.payload == 1232


def test_other_additional_records_do_not_matter() -> None:
    asked = query(NAME)
    asked.additional = [dns.rrset.from_text("x.example.", 1, "IN", "A", "192.0.2.1")]
    made = reply(SHOP, asked.to_wire())
    assert isinstance(made, bytes)
    assert lines(dns.message.from_wire(made).answer) == [f"{NAME} A 10.3.240.9"]


def test_the_clients_bits_come_back() -> None:
    asked = query(NAME)
    asked.flags = dns.flags.CD
    made = reply(SHOP, asked.to_wire())
    assert isinstance(made, bytes)
    assert flags(dns.message.from_wire(made)) == {"QR", "AA", "RA", "CD"}


SIZES = [
    ("a plain resolver", {}, False, 512),
    ("EDNS with more room", {"use_edns": 0, "payload": 1000}, False, 1000),
    ("EDNS asks for more than passes every path", {"use_edns": 0, "payload": 4096}, False, 1232),
    ("EDNS below what everybody takes", {"use_edns": 0, "payload": 100}, False, 512),
]


@pytest.mark.parametrize(("sentence", "options", "stream", "size"), SIZES, ids=[r[0] for r in SIZES])
@pytest.mark.parametrize("name", ["db.shop.svc.cluster.local", "_pg._tcp.db.shop.svc.cluster.local"])
def test_large_answers_are_cut_and_say_so(
    sentence: str, options: dict[str, int], stream: bool, size: int, name: str
) -> None:
    type_ = "SRV" if name.startswith("_") else "A"
    asked = query(name, type_, **options)
    made = reply(MANY, asked.to_wire(), stream=stream)
    assert isinstance(made, bytes)
    answer = dns.message.from_wire(made)
    assert size - 80 < len(made) <= size, sentence
    assert "TC" in flags(answer)
    assert 0 < len(answer.answer[0]) < 600
    assert (answer.edns == 0) is ("use_edns" in options)


def test_over_tcp_the_answer_is_whole() -> None:
    answer = ask(MANY, "db.shop.svc.cluster.local", stream=True)
    assert len(answer.answer[0]) == 600
    assert "TC" not in flags(answer)
    srv = ask(MANY, "_pg._tcp.db.shop.svc.cluster.local", "SRV", stream=True)
    assert (len(srv.answer[0]), len(srv.additional)) == (600, 600)


def test_addresses_beside_srv_records_are_left_out_first() -> None:
    known = zone(
        DB, slice_of("shop/db", *(named(endpoint(f"10.0.1.{n}"), f"db-{n}") for n in range(8)), ports={"pg": 1})
    )
    answer = ask(known, "_pg._tcp.db.shop.svc.cluster.local", "SRV")
    assert len(answer.answer[0]) == 8
    assert "TC" not in flags(answer), "nothing that was asked for is missing"
    assert 0 < len(answer.additional) < 8


def test_more_than_tcp_can_carry_is_cut() -> None:
    many = [
        slice_of("shop/db", *(endpoint(f"10.{n}.{i // 250}.{i % 250}") for i in range(1000)), suffix=str(n))
        for n in range(5)
    ]
    answer = ask(zone(DB, *many), "db.shop.svc.cluster.local", stream=True)
    assert 4000 < len(answer.answer[0]) < 5000
    assert "TC" in flags(answer)


# Why there is nothing


def service(name: str = "web", **spec: object) -> Service:
    text = {"metadata": {"name": name, "namespace": "shop"}, "spec": spec}
    return msgspec.convert(text, Service)


IGNORED = [
    (Reason.NO_ADDRESS, service()),
    (Reason.NO_ADDRESS, service(clusterIP="nonsense")),
    (Reason.NO_ENDPOINTS, service(clusterIP="None")),
    (Reason.BAD_EXTERNAL_NAME, service(type="ExternalName", externalName="a..b")),
    (Reason.BAD_EXTERNAL_NAME, service(type="ExternalName", externalName="ä.example")),
    (Reason.BAD_EXTERNAL_NAME, service(type="ExternalName")),
    (Reason.BAD_NAME, service("x" * 64, clusterIP="10.3.240.9")),
]


@pytest.mark.parametrize(("reason", "item"), IGNORED)
def test_a_service_without_names_says_why(reason: Reason, item: Service) -> None:
    assert ignored(item, (), DnsConfig()) is reason
    assert not {n for n in zone(item).names if b"shop" in n}


def test_a_headless_service_without_endpoints_does_not_hide_the_others() -> None:
    known = zone(WEB, DB)
    assert lines(ask(known, NAME).answer) == [f"{NAME} A 10.3.240.9"]


@pytest.mark.parametrize(
    ("name", "type_", "reason"),
    [
        ("nobody.shop.svc.cluster.local", 1, Reason.NO_NAME),
        (NAME, 28, Reason.NO_DATA),
        ("www.example.com", 1, Reason.NO_UPSTREAM),
    ],
)
def test_a_missing_name_says_why(name: str, type_: int, reason: Reason) -> None:
    assert look_up(SHOP, records.name(name), type_).reason is reason


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_in_the_docs(reason: Reason) -> None:
    assert reason.value in (Path(__file__).parents[2] / "docs" / "dns.md").read_text()
