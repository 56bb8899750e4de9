"""Resource records as values, and the writer that puts them into a message with compressed names. Pure.

A name is its bytes on the wire, in lower case, with the root label at its end: it is what queries carry, so nothing is
converted on the way from a query to its answer. `intent` makes records, `compile` and `answer` write them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from struct import pack

MAX_NAME = 255
MAX_LABEL = 63
_MAX_POINTER = 0x3FFF
_POINTER = 0xC000
_HEADER = 12
IN = 1


class Type(IntEnum):
    A = 1
    NS = 2
    CNAME = 5
    SOA = 6
    PTR = 12
    TXT = 16
    AAAA = 28
    SRV = 33
    OPT = 41
    IXFR = 251
    AXFR = 252
    ANY = 255


# RFC 3597: only the types of RFC 1035 may carry a compressed name in their data.
_COMPRESSIBLE = frozenset({Type.NS, Type.CNAME, Type.PTR})


class BadName(ValueError):
    """A text that is no DNS name: an empty label, one over 63 bytes, or more than 255 bytes in all."""


def name(text: str) -> bytes:
    """The name of a dotted text, with or without a final dot. BadName when DNS cannot carry it."""
    labels = text.removesuffix(".").split(".") if text not in ("", ".") else []
    try:
        raw = [label.encode("ascii").lower() for label in labels]
    except UnicodeEncodeError as e:
        raise BadName(f"{text!r} is not ASCII: write it as xn--…") from e
    if any(not 0 < len(label) <= MAX_LABEL for label in raw):
        raise BadName(f"{text!r} has a label that is empty or longer than {MAX_LABEL} bytes")
    made = b"".join(bytes((len(label),)) + label for label in raw) + b"\0"
    if len(made) > MAX_NAME:
        raise BadName(f"{text!r} is longer than {MAX_NAME} bytes")
    return made


def text(wire: bytes) -> str:
    """A name as people write it, without the final dot ("" is the root)."""
    return ".".join(label.decode("ascii", "backslashreplace") for label in labels(wire))


def labels(wire: bytes) -> Iterator[bytes]:
    at = 0
    while length := wire[at]:
        yield wire[at + 1 : at + 1 + length]
        at += 1 + length


def parents(wire: bytes) -> Iterator[bytes]:
    """The names above `wire`, the nearest first, without the root."""
    at = wire[0] + 1 if wire[0] else 0
    while wire[at]:
        yield wire[at:]
        at += wire[at] + 1


def is_below(wire: bytes, zone: bytes) -> bool:
    """Whether `wire` is `zone` or a name in it, label by label."""
    return wire == zone or (wire.endswith(zone) and any(parent == zone for parent in parents(wire)))


def reverse(address: IPv4Address | IPv6Address) -> bytes:
    return name(address.reverse_pointer)


@dataclass(frozen=True, slots=True, order=True)
class Record:
    """`data` is the record's fixed data, `target` the name at its end (empty when it has none)."""

    name: bytes
    type: int
    data: bytes
    target: bytes = b""


def address(owner: bytes, value: IPv4Address | IPv6Address) -> Record:
    return Record(owner, Type.A if value.version == 4 else Type.AAAA, value.packed)


def alias(owner: bytes, target: bytes) -> Record:
    return Record(owner, Type.CNAME, b"", target)


def pointer(owner: bytes, target: bytes) -> Record:
    return Record(owner, Type.PTR, b"", target)


def service(owner: bytes, port: int, target: bytes, weight: int = 100) -> Record:
    """An SRV record of priority 0."""
    return Record(owner, Type.SRV, pack("!HHH", 0, weight, port), target)


def nameserver(owner: bytes, target: bytes) -> Record:
    return Record(owner, Type.NS, b"", target)


def texts(owner: bytes, *values: str) -> Record:
    return Record(owner, Type.TXT, b"".join(bytes((len(v),)) + v.encode("ascii") for v in values))


def authority(owner: bytes, server: bytes, mailbox: bytes, ttl: int) -> Record:
    """An SOA record. Nobody may transfer the zone, so its serial never moves; `ttl` is that of negative answers."""
    return Record(owner, Type.SOA, server + mailbox + pack("!IIIII", 1, 7200, 1800, 86400, ttl))


class Writer:
    """The sections behind a question. Offsets count from the start of the message, whose question is already there."""

    def __init__(self, question: bytes, ttl: int) -> None:
        self.out = bytearray()
        self._ttl = ttl
        self._start = _HEADER + len(question) + 4
        self._seen = {question: _HEADER}
        for parent in parents(question):
            self._seen[parent] = _HEADER + len(question) - len(parent)

    @property
    def size(self) -> int:
        """Of the whole message so far."""
        return self._start + len(self.out)

    def record(self, record: Record) -> None:
        self._name(record.name, compress=True)
        self.out += pack("!HHI", record.type, IN, self._ttl)
        length_at = len(self.out)
        self.out += b"\0\0" + record.data
        if record.target:
            self._name(record.target, compress=record.type in _COMPRESSIBLE)
        self.out[length_at : length_at + 2] = pack("!H", len(self.out) - length_at - 2)

    def cut(self, size: int) -> None:
        """Take back what makes the message longer than `size`; nothing may be written afterwards."""
        del self.out[max(0, size - self._start) :]

    def _name(self, wire: bytes, *, compress: bool) -> None:
        at = 0
        while wire[at]:
            rest = wire[at:]
            known = self._seen.get(rest)
            if known is not None and compress:
                self.out += pack("!H", _POINTER | known)
                return
            if known is None and self.size <= _MAX_POINTER:
                self._seen[rest] = self.size
            self.out += wire[at : at + wire[at] + 1]
            at += wire[at] + 1
        self.out += b"\0"
