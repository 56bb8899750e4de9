"""What the kernel says about a table, back as values of the vocabulary.

`kernel.KernelNft.read` hands in the bodies of the dumped messages: sets, elements and chains here, rules in
`decode_rules`. Raises `Foreign` for what our vocabulary has no word for: such a table is not ours.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from portway.netlink import codec
from portway.nft import constants as c
from portway.nft.tables import (
    Base,
    Chain,
    ChainType,
    Element,
    Family,
    Hook,
    Key,
    Set,
    Type,
    Value,
    Verdict,
    VerdictKind,
)
from portway.nft.udata import comment_of
from portway.nft.values import FORMS, Form, decode_key, span, types_of

_HOOKS = {v: Hook(k) for k, v in c.HOOKS.items()}
_VERDICTS = {v: VerdictKind(k) for k, v in c.VERDICT_CODES.items()}


class Foreign(ValueError):
    """Something in the table is not of our vocabulary."""


def string(data: bytes) -> str:
    return data.rstrip(b"\0").decode()


def number(data: bytes) -> int:
    return int.from_bytes(data, "big")


def value_of(data: bytes) -> bytes:
    return codec.attribute_map(data)[c.NFTA_DATA_VALUE]


@dataclass(frozen=True, slots=True)
class DumpedSet:
    """A set as dumped. An anonymous one belongs to a rule; its key type may be one that named sets do not have."""

    set: Set
    anonymous: bool
    key_number: int
    length: int


def decode_set(family: Family, body: bytes) -> DumpedSet:
    attributes = codec.attribute_map(body, 4)
    flags = number(attributes.get(c.NFTA_SET_FLAGS, b""))
    kind = number(attributes[c.NFTA_SET_KEY_TYPE])
    anonymous = bool(flags & c.NFT_SET_ANONYMOUS)
    name = string(attributes[c.NFTA_SET_NAME])
    try:
        key = () if anonymous else types_of(family, kind)
        value = types_of(family, number(attributes[c.NFTA_SET_DATA_TYPE])) if flags & c.NFT_SET_MAP else ()
    except KeyError as e:
        raise Foreign(f"set {name} has a type that is none of ours ({e})") from e
    comment = comment_of(attributes.get(c.NFTA_SET_USERDATA), c.UDATA_SET_COMMENT)
    made = Set(name, key, value, interval=bool(flags & c.NFT_SET_INTERVAL), comment=comment)
    return DumpedSet(made, anonymous, kind, number(attributes[c.NFTA_SET_KEY_LEN]))


@dataclass(slots=True)
class _Entry:
    low: bytes
    high: bytes
    element: Element
    end: bool


def _entries(family: Family, value: tuple[Type, ...], body: bytes) -> Iterator[_Entry]:
    listed = codec.attribute_map(body, 4).get(c.NFTA_SET_ELEM_LIST_ELEMENTS, b"")
    for _, raw in codec.attributes(listed):
        parts = codec.attribute_map(raw)
        low = value_of(parts[c.NFTA_SET_ELEM_KEY])
        high = value_of(parts[c.NFTA_SET_ELEM_KEY_END]) if c.NFTA_SET_ELEM_KEY_END in parts else low
        end = bool(number(parts.get(c.NFTA_SET_ELEM_FLAGS, b"")) & c.NFT_SET_ELEM_INTERVAL_END)
        held = _held(family, value, parts[c.NFTA_SET_ELEM_DATA]) if c.NFTA_SET_ELEM_DATA in parts else None
        yield _Entry(low, high, Element(held, comment_of(parts.get(c.NFTA_SET_ELEM_USERDATA))), end)


def _held(family: Family, types: tuple[Type, ...], data: bytes) -> Key | Verdict:
    parts = codec.attribute_map(data)
    if c.NFTA_DATA_VERDICT in parts:
        return verdict(parts[c.NFTA_DATA_VERDICT])
    return decode_key(family, types, parts[c.NFTA_DATA_VALUE])


def verdict(data: bytes) -> Verdict:
    parts = codec.attribute_map(data)
    (code,) = struct.unpack("!i", parts[c.NFTA_VERDICT_CODE])
    if code not in _VERDICTS:
        raise Foreign(f"verdict {code} is none of ours")
    return Verdict(_VERDICTS[code], string(parts.get(c.NFTA_VERDICT_CHAIN, b"")))


def decode_elements(family: Family, s: Set, bodies: list[bytes]) -> dict[Key, Element]:
    """The elements of a named set from all the messages of its dump."""
    entries = [e for body in bodies for e in _entries(family, s.value, body)]
    if s.interval and len(s.key) == 1:
        form = FORMS[family][s.key[0]]
        return {(value,): element for value, element in _ranges(form, entries)}
    if not s.interval:
        return {decode_key(family, s.key, e.low): e.element for e in entries}
    return {
        tuple(
            span(low, high)
            for low, high in zip(decode_key(family, s.key, e.low), decode_key(family, s.key, e.high), strict=True)
        ): e.element
        for e in entries
    }


def _ranges(form: Form, entries: list[_Entry]) -> Iterator[tuple[Value, Element]]:
    """Pair each first address with the end that follows it. An end at the same address belongs to the range before."""
    entries.sort(key=lambda e: (e.low, not e.end))
    highest = (1 << 8 * form.length) - 1
    for i, entry in enumerate(entries):
        if entry.end:
            continue
        past = number(entries[i + 1].low) if i + 1 < len(entries) else highest + 1
        yield span(form.decode(entry.low), form.decode((past - 1).to_bytes(form.length, "big"))), entry.element


def decode_anonymous(form: Form, interval: bool, bodies: list[bytes]) -> tuple[Value, ...]:
    """The values of a rule's own set, in order."""
    entries = [e for body in bodies for e in _entries(Family.IP, (), body)]
    if interval:
        return tuple(value for value, _ in _ranges(form, entries))
    return tuple(form.decode(e.low) for e in entries)


def decode_chain(body: bytes) -> Chain:
    attributes = codec.attribute_map(body, 4)
    base = None
    if c.NFTA_CHAIN_HOOK in attributes:
        hook = codec.attribute_map(attributes[c.NFTA_CHAIN_HOOK])
        (priority,) = struct.unpack("!i", hook[c.NFTA_HOOK_PRIORITY])
        kind = string(attributes[c.NFTA_CHAIN_TYPE])
        if kind not in list(ChainType):
            raise Foreign(f"chain type {kind} is none of ours")
        base = Base(ChainType(kind), _HOOKS[number(hook[c.NFTA_HOOK_HOOKNUM])], priority)
    name = string(attributes[c.NFTA_CHAIN_NAME])
    return Chain(name, base=base, comment=comment_of(attributes.get(c.NFTA_CHAIN_USERDATA)))
