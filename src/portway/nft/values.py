"""Values of the vocabulary as the bytes that nf_tables holds in registers, and back.

Every value fills whole 32-bit registers: shorter ones are padded at the end. Addresses and ports are in network order,
marks and slots in host order, names zero-padded to 16 bytes. `wire` and `decode` use the tables here for keys, values
and comparisons alike; the numbers are those of include/uapi/linux/netfilter and of nft's data types.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from operator import attrgetter
from typing import Literal, cast

from portway.nft.tables import Family, Field, Key, Type, Value

PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "dccp": 33, "ipv6-icmp": 58, "sctp": 132, "udplite": 136}
CT_STATES = {"invalid": 1, "established": 2, "related": 4, "new": 8, "untracked": 64}
CT_STATUSES = {"snat": 0x10, "dnat": 0x20}
FIB_TYPES = {"unicast": 1, "local": 2, "broadcast": 3, "multicast": 5}
_PROTOCOL_NAMES = {v: k for k, v in PROTOCOLS.items()}
_FIB_NAMES = {v: k for k, v in FIB_TYPES.items()}


@dataclass(frozen=True, slots=True)
class Form:
    """How one data type lies in registers: nft's number for it, its length in bytes, both directions.

    `encode` gives padded bytes, `decode` takes them padded or not."""

    number: int
    length: int
    encode: Callable[[Value], bytes]
    decode: Callable[[bytes], Value]

    @property
    def padded(self) -> int:
        return (self.length + 3) & ~3


class _Padded(dict[Value, bytes]):
    """Encodings of small integers and names, remembered: ports and protocols repeat ten thousand times in a sync."""

    def __init__(self, length: int, order: Literal["little", "big"], names: dict[str, int]) -> None:
        super().__init__()
        self._length = length
        self._order = order
        self._names = names

    def __missing__(self, value: Value) -> bytes:
        number = self._names[value] if isinstance(value, str) else int(cast(int, value))
        encoded = number.to_bytes(self._length, self._order).ljust(4, b"\0")
        if len(self) < 1 << 17:
            self[value] = encoded
        return encoded


_packed: Callable[[Value], bytes] = attrgetter("packed")


def _name(value: Value) -> bytes:
    raw = str(value).encode()
    if len(raw) > 15:
        raise ValueError(f"interface name {value!r} is longer than 15 bytes")
    return raw.ljust(16, b"\0")


def _host(data: bytes) -> int:
    return int.from_bytes(data[:4], sys.byteorder)


def _protocol(data: bytes) -> Value:
    return _PROTOCOL_NAMES.get(data[0], data[0])


def _forms(address: Form) -> dict[Type, Form]:
    ports = _Padded(2, "big", {})
    protocols = _Padded(1, "big", PROTOCOLS)
    host = _Padded(4, sys.byteorder, {})
    return {
        Type.ADDR: address,
        Type.PROTO: Form(12, 1, protocols.__getitem__, _protocol),
        Type.PORT: Form(13, 2, ports.__getitem__, lambda d: int.from_bytes(d[:2], "big")),
        Type.MARK: Form(19, 4, host.__getitem__, _host),
        Type.SLOT: Form(4, 4, host.__getitem__, _host),
        Type.IFNAME: Form(41, 16, _name, lambda d: d.rstrip(b"\0").decode()),
    }


FORMS: dict[Family, dict[Type, Form]] = {
    Family.IP: _forms(Form(7, 4, _packed, lambda d: IPv4Address(d[:4]))),
    Family.IP6: _forms(Form(8, 16, _packed, lambda d: IPv6Address(d[:16]))),
}
VERDICT_NUMBER = 0xFFFFFF00

_FIB = _Padded(4, sys.byteorder, FIB_TYPES)
FIB_FORM = Form(38, 4, _FIB.__getitem__, lambda d: _FIB_NAMES.get(_host(d), _host(d)))


def field_form(family: Family, field: Field) -> Form:
    """The form of a field's value in a comparison (bit masks of connection state have none: KeyError)."""
    if field in (Field.FIB_DADDR_TYPE, Field.FIB_SADDR_TYPE):
        return FIB_FORM
    if field.type is None:
        raise KeyError(f"{field} is compared by bits")
    return FORMS[family][field.type]


def key_number(family: Family, types: tuple[Type, ...]) -> int:
    """nft's number of a concatenation: six bits for each type."""
    if types == (Type.VERDICT,):
        return VERDICT_NUMBER
    number = 0
    for t in types:
        number = number << 6 | FORMS[family][t].number
    return number


def types_of(family: Family, number: int) -> tuple[Type, ...]:
    """The reverse of `key_number`. Raises KeyError for a type that is not in the vocabulary."""
    if number == VERDICT_NUMBER:
        return (Type.VERDICT,)
    by_number = {form.number: t for t, form in FORMS[family].items()}
    types: list[Type] = []
    while number:
        types.append(by_number[number & 0x3F])
        number >>= 6
    return tuple(reversed(types))


def key_length(family: Family, types: tuple[Type, ...]) -> int:
    """Bytes of a key; a single value is not padded, those of a concatenation are."""
    forms = [FORMS[family][t] for t in types]
    return forms[0].length if len(forms) == 1 else sum(f.padded for f in forms)


def decode_key(family: Family, types: tuple[Type, ...], data: bytes) -> Key:
    values: list[Value] = []
    offset = 0
    for t in types:
        form = FORMS[family][t]
        values.append(form.decode(data[offset : offset + form.length]))
        offset += form.padded
    return tuple(values)


def first(value: Value) -> Value:
    """The lowest address of a network; any other value itself."""
    return value.network_address if isinstance(value, IPv4Network | IPv6Network) else value


def last(value: Value) -> Value:
    """The highest address of a network; any other value itself."""
    return value.broadcast_address if isinstance(value, IPv4Network | IPv6Network) else value


def span(low: Value, high: Value) -> Value:
    """The network from `low` to `high`, or the value itself when both are the same.

    Raises ValueError when the addresses between are no network: our tables hold none such."""
    if low == high:
        return low
    if isinstance(low, IPv4Address) and isinstance(high, IPv4Address):
        return IPv4Network((low, 32 - (int(low) ^ int(high)).bit_length()))
    if isinstance(low, IPv6Address) and isinstance(high, IPv6Address):
        return IPv6Network((low, 128 - (int(low) ^ int(high)).bit_length()))
    raise ValueError(f"{low} to {high} is not a network")
