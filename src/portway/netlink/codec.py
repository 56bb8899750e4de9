"""Netlink messages and attributes as bytes: pure packing and unpacking.

A message is a 16-byte header (length, type, flags, sequence number, port id) and a body; a body is a family header and
attributes; an attribute is a 4-byte header (length, type) and a payload padded to 4 bytes. Integers in headers are in
host order; nf_tables attributes carry integers in network order, rtnetlink ones in host order, hence both sets of helpers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

NLM_F_REQUEST = 0x1
NLM_F_MULTI = 0x2
NLM_F_ACK = 0x4
NLM_F_ROOT = 0x100
NLM_F_MATCH = 0x200
NLM_F_DUMP = NLM_F_ROOT | NLM_F_MATCH
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLM_F_APPEND = 0x800

NLMSG_NOOP, NLMSG_ERROR, NLMSG_DONE, NLMSG_OVERRUN = 1, 2, 3, 4
NLA_F_NESTED = 0x8000
NLA_TYPE_MASK = 0x3FFF

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
HEADER_SIZE = _HEADER.size


class Message(NamedTuple):
    """One netlink message as received: its type, flags, sequence number and body (without the header)."""

    type: int
    flags: int
    sequence: int
    body: bytes


def message(type_: int, flags: int, sequence: int, body: bytes) -> bytes:
    """A whole message, header included. `body` must already be padded to 4 bytes (attributes are)."""
    return _HEADER.pack(HEADER_SIZE + len(body), type_, flags, sequence, 0) + body


def messages(data: bytes) -> Iterator[Message]:
    """The messages of one datagram, in order."""
    offset, size = 0, len(data)
    while offset + HEADER_SIZE <= size:
        length, type_, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        if length < HEADER_SIZE:
            raise ValueError(f"netlink message of {length} bytes is shorter than its header")
        if offset + length > size:
            raise ValueError(f"netlink message of {length} bytes is cut off after {size - offset}")
        yield Message(type_, flags, sequence, data[offset + HEADER_SIZE : offset + length])
        offset += (length + 3) & ~3


def attr(type_: int, payload: bytes) -> bytes:
    """One attribute, padded. Its length field holds 16 bits: ValueError beyond 65,531 bytes of payload."""
    length = 4 + len(payload)
    if length > 0xFFFF:
        raise ValueError(f"a netlink attribute holds 65,531 bytes at most, not {len(payload)}")
    return _ATTRIBUTE.pack(length, type_) + payload + b"\0" * (-length & 3)


def nested(type_: int, *attributes: bytes) -> bytes:
    """An attribute whose payload is attributes."""
    return attr(type_ | NLA_F_NESTED, b"".join(attributes))


def text(type_: int, value: str) -> bytes:
    """A zero-terminated string."""
    return attr(type_, value.encode() + b"\0")


def u8(type_: int, value: int) -> bytes:
    return attr(type_, struct.pack("=B", value))


def u16(type_: int, value: int) -> bytes:
    """Host order (rtnetlink)."""
    return attr(type_, struct.pack("=H", value))


def u32(type_: int, value: int) -> bytes:
    """Host order (rtnetlink)."""
    return attr(type_, struct.pack("=I", value))


def be16(type_: int, value: int) -> bytes:
    """Network order."""
    return attr(type_, struct.pack("!H", value))


def be32(type_: int, value: int) -> bytes:
    """Network order (nf_tables)."""
    return attr(type_, struct.pack("!I", value))


def be64(type_: int, value: int) -> bytes:
    """Network order (nf_tables)."""
    return attr(type_, struct.pack("!Q", value))


def attributes(data: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """(type without flags, payload) of each attribute in `data` from `offset`."""
    size = len(data)
    while offset + 4 <= size:
        length, type_ = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4:
            raise ValueError(f"netlink attribute of {length} bytes is shorter than its header")
        if offset + length > size:
            raise ValueError(f"netlink attribute of {length} bytes is cut off after {size - offset}")
        yield type_ & NLA_TYPE_MASK, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def attribute_map(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """The attributes as a dict; of a repeated type the last one stays."""
    return dict(attributes(data, offset))
