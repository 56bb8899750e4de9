"""DNS messages from bytes: queries as clients send them, and the answers of an upstream server. Pure.

What is no DNS at all, or is itself an answer, is `Ignored`; what is broken but can be told so is `Malformed`, and the
sender gets FORMERR. No input makes anything else happen. RFC 1035 section 4, RFC 6891 for EDNS.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from struct import pack, unpack_from

from portway.dns.records import MAX_LABEL, MAX_NAME, Record, Type

HEADER = 12
QUERY_OPCODE = 0
_POINTER_BITS = 0xC0


class Rcode(IntEnum):
    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5
    BADVERS = 16


class Ignored(Exception):
    """Nothing that may be answered: answering it could make two servers talk for ever."""


class Malformed(Exception):
    """A query that breaks the format."""


@dataclass(frozen=True, slots=True)
class Edns:
    """The client's OPT record. `size` is the largest datagram that it takes."""

    version: int
    size: int


@dataclass(frozen=True, slots=True)
class Query:
    """A query with one question. `question` is the section as it was sent; `name` is in lower case."""

    id: bytes
    flags: int
    question: bytes
    name: bytes
    type: int
    klass: int
    edns: Edns | None = None

    @property
    def opcode(self) -> int:
        return self.flags >> 11 & 0xF


def parse(packet: bytes) -> Query:
    """The query in `packet`. Raises Ignored or Malformed."""
    check_header(packet)
    flags, questions, answers, authorities, extras = unpack_from("!HHHHH", packet, 2)
    if flags >> 11 & 0xF != QUERY_OPCODE:
        return Query(packet[:2], flags, b"", b"\0", 0, 0)
    if (questions, answers, authorities) != (1, 0, 0):
        raise Malformed
    wire, end = read_name(packet, HEADER, pointers=False)
    if end + 4 > len(packet):
        raise Malformed
    type_, klass = unpack_from("!HH", packet, end)
    edns = _edns(packet, end + 4, extras)
    return Query(packet[:2], flags, packet[HEADER : end + 4], wire.lower(), type_, klass, edns)


def check_header(packet: bytes) -> None:
    if len(packet) < HEADER or packet[2] & 0x80:
        raise Ignored


def _edns(packet: bytes, at: int, count: int) -> Edns | None:
    found: Edns | None = None
    for _ in range(count):
        owner, at = read_name(packet, at)
        type_, size, ttl, data, at = _fields(packet, at)
        if type_ != Type.OPT:
            continue
        if found is not None or owner != b"\0":
            raise Malformed
        _check_options(packet, data, at)
        found = Edns(ttl >> 16 & 0xFF, max(512, size))
    if at != len(packet):
        raise Malformed
    return found


def _check_options(packet: bytes, at: int, end: int) -> None:
    while at < end:
        if at + 4 > end:
            raise Malformed
        at += 4 + int(unpack_from("!H", packet, at + 2)[0])
    if at != end:
        raise Malformed


def read_name(packet: bytes, at: int, *, pointers: bool = True) -> tuple[bytes, int]:
    """The name at `at`, uncompressed and in the case that it was sent, and where it ends. Raises Malformed."""
    made = bytearray()
    end = -1
    lowest = at
    while True:
        if at >= len(packet):
            raise Malformed
        length = packet[at]
        if length & _POINTER_BITS == _POINTER_BITS and pointers:
            if at + 2 > len(packet):
                raise Malformed
            end = at + 2 if end < 0 else end
            at = unpack_from("!H", packet, at)[0] & 0x3FFF
            if at >= lowest:  # only backwards, so that it ends
                raise Malformed
            lowest = at
            continue
        if length > MAX_LABEL or at + 1 + length > len(packet):
            raise Malformed
        made += packet[at : at + 1 + length]
        if len(made) > MAX_NAME:
            raise Malformed
        at += 1 + length
        if not length:
            return bytes(made), at if end < 0 else end


def _fields(packet: bytes, at: int) -> tuple[int, int, int, int, int]:
    """Type, class, TTL, and where the data begins and ends, of the record whose name ends at `at`."""
    if at + 10 > len(packet):
        raise Malformed
    type_, klass, ttl, length = unpack_from("!HHIH", packet, at)
    if at + 10 + length > len(packet):
        raise Malformed
    return type_, klass, ttl, at + 10, at + 10 + length


@dataclass(frozen=True, slots=True)
class Answered:
    """What an upstream server said: the records of the types that we pass on."""

    rcode: int
    records: tuple[Record, ...]


_WITH_TARGET: dict[int, int] = {Type.CNAME: 0, Type.PTR: 0, Type.NS: 0, Type.SRV: 6}
_PLAIN = frozenset({Type.A, Type.AAAA, Type.TXT})


def read_answer(packet: bytes) -> Answered:
    """The answer section of `packet`. Raises Malformed."""
    if len(packet) < HEADER:
        raise Malformed
    flags, questions, answers = unpack_from("!HHH", packet, 2)
    at = HEADER
    for _ in range(questions):
        _, at = read_name(packet, at)
        at += 4
    records = []
    for _ in range(answers):
        owner, at = read_name(packet, at)
        type_, _, _, data, at = _fields(packet, at)
        if type_ in _PLAIN:
            records.append(Record(owner.lower(), type_, packet[data:at]))
        elif type_ in _WITH_TARGET:
            fixed = _WITH_TARGET[type_]
            if data + fixed >= at:
                raise Malformed
            target, _ = read_name(packet, data + fixed)
            records.append(Record(owner.lower(), type_, packet[data : data + fixed], target.lower()))
    return Answered(flags & 0xF, tuple(records))


def question(wire: bytes, type_: int, id_: bytes = b"\0\0") -> bytes:
    """A query of our own for an upstream server, with recursion desired."""
    return id_ + b"\x01\0\0\x01\0\0\0\0\0\0" + wire + pack("!HH", type_, 1)
