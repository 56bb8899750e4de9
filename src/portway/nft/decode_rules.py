"""A rule's instructions, as the kernel dumps them, back as statements.

The instructions are read by playing them over symbolic registers: a load puts a word ("this is the destination
address") into a register, and what ends a statement (a comparison, a lookup, a verdict) takes it out. Called by
`kernel.KernelNft.read` after the sets, as a lookup's meaning depends on its set. Raises `Foreign` for an instruction
that none of our statements makes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import TypeVar

from portway.netlink import codec
from portway.nft import constants as c
from portway.nft.decode import Foreign, number, string, value_of, verdict
from portway.nft.expressions import ADDRESS_OFFSETS, CT_BITS, CT_KEYS, FIB_FLAGS, META_KEYS, PORT_OFFSETS, words
from portway.nft.tables import (
    ClearMark,
    Counter,
    DnatMap,
    DnatMaps,
    Expression,
    Family,
    Field,
    InSet,
    JHash,
    MarkBits,
    MarkMap,
    Masquerade,
    Match,
    Numgen,
    OrMark,
    Reject,
    RejectWith,
    Rule,
    Set,
    Statement,
    Type,
    Value,
    VerdictMap,
)
from portway.nft.udata import comment_of
from portway.nft.values import FORMS, field_form

K = TypeVar("K")
V = TypeVar("V")

_META = {v: k for k, v in META_KEYS.items()}
_CT = {v: k for k, v in CT_KEYS.items()}
_FIB = {v: k for k, v in FIB_FLAGS.items()}
_PORTS = {v: k for k, v in PORT_OFFSETS.items()}


@dataclass(frozen=True, slots=True)
class Sets:
    """What a lookup can refer to: named sets, and the values of anonymous ones."""

    named: Mapping[str, Set]
    anonymous: Mapping[str, tuple[Value, ...]]


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A field in a register, as far as instructions have changed it: cut to a prefix, or masked."""

    field: Expression
    length: int = 0
    mask: bytes = b""
    xor: bytes = b""


@dataclass(frozen=True, slots=True)
class _Found:
    """The result of a lookup of `key` in `map`."""

    key: tuple[Expression, ...]
    map: str


def decode_rule(family: Family, body: bytes, sets: Sets) -> tuple[str, Rule]:
    """The chain's name and the rule."""
    attributes = codec.attribute_map(body, 4)
    reader = _Reader(family, sets)
    statements: list[Statement] = []
    for _, raw in codec.attributes(attributes.get(c.NFTA_RULE_EXPRESSIONS, b"")):
        parts = codec.attribute_map(raw)
        name = string(parts[c.NFTA_EXPR_NAME])
        statements.extend(reader.play(name, codec.attribute_map(parts.get(c.NFTA_EXPR_DATA, b""))))
    chain = string(attributes[c.NFTA_RULE_CHAIN])
    return chain, Rule(tuple(statements), comment_of(attributes.get(c.NFTA_RULE_USERDATA)))


def _register(data: bytes) -> int:
    """Registers 1 to 4 are four words each and overlay the words from 8."""
    n = number(data)
    return c.NFT_REG32_00 + (n - 1) * 4 if 0 < n < c.NFT_REG32_00 else n


@dataclass(slots=True)
class _Reader:
    family: Family
    sets: Sets
    registers: dict[int, _Loaded | _Found] = field(default_factory=dict)

    def play(self, name: str, attributes: dict[int, bytes]) -> Iterator[Statement]:
        """One instruction: the statement that it ends, if it ends one."""
        match name:
            case "payload" | "ct" | "fib" | "numgen":
                self._load(name, attributes)
            case "meta":
                yield from self._meta(attributes)
            case "hash":
                self._hash(attributes)
            case "bitwise":
                self._bitwise(attributes)
            case "cmp":
                yield self._compare(attributes)
            case "lookup":
                yield from self._lookup(attributes)
            case "nat":
                yield self._nat(attributes)
            case "byteorder" if number(attributes[c.NFTA_BYTEORDER_LEN]) < number(attributes[c.NFTA_BYTEORDER_SIZE]):
                pass  # nft 1.0.6 writes one for a protocol in an interval key: a byte has no order, it swaps nothing
            case _:
                yield self._final(name, attributes)

    def _load(self, name: str, a: dict[int, bytes]) -> None:
        match name:  # in each of them the attribute 1 is the destination register
            case "payload":
                loaded = self._payload(a)
            case "ct":
                loaded = _Loaded(_known(_CT, number(a[c.NFTA_CT_KEY]), "ct key"))
            case "fib":
                loaded = _Loaded(_known(_FIB, number(a[c.NFTA_FIB_FLAGS]), "fib flags"))
            case _:
                loaded = _Loaded(Numgen(number(a[c.NFTA_NG_MODULUS])))
        self.registers[_register(a[1])] = loaded

    def _payload(self, a: dict[int, bytes]) -> _Loaded:
        offset, length = number(a[c.NFTA_PAYLOAD_OFFSET]), number(a[c.NFTA_PAYLOAD_LEN])
        if number(a[c.NFTA_PAYLOAD_BASE]) == c.NFT_PAYLOAD_TRANSPORT_HEADER:
            return _Loaded(_known(_PORTS, offset, "offset in the transport header"))
        addresses = {o: f for (family, f), o in ADDRESS_OFFSETS.items() if family is self.family}
        whole = FORMS[self.family][Type.ADDR].length
        return _Loaded(_known(addresses, offset, "offset in the network header"), length if length < whole else 0)

    def _meta(self, a: dict[int, bytes]) -> Iterator[Statement]:
        if c.NFTA_META_SREG not in a:
            self.registers[_register(a[c.NFTA_META_DREG])] = _Loaded(
                _known(_META, number(a[c.NFTA_META_KEY]), "meta key")
            )
            return
        source = self.registers.get(_register(a[c.NFTA_META_SREG]))
        if isinstance(source, _Found) and number(a[c.NFTA_META_KEY]) == c.NFT_META_MARK:
            yield MarkMap(_only_fields(source.key, source.map), source.map)
            return
        loaded = self._loaded(a[c.NFTA_META_SREG])
        if loaded.field is not Field.MARK or not loaded.mask:
            raise Foreign("a meta assignment that is not one of bits of the mark")
        if any(loaded.xor):
            yield OrMark(_host(loaded.xor))
        else:
            yield ClearMark(_host(loaded.mask) ^ 0xFFFFFFFF)

    def _hash(self, a: dict[int, bytes]) -> None:
        if number(a.get(c.NFTA_HASH_TYPE, b"")) != c.NFT_HASH_JENKINS or number(a.get(c.NFTA_HASH_OFFSET, b"")):
            raise Foreign("a hash that is not jhash from 0")
        register = _register(a[c.NFTA_HASH_SREG])
        end = register + number(a[c.NFTA_HASH_LEN]) // 4
        hashed: list[Expression] = []
        while register < end:
            loaded = self.registers.get(register)
            if not isinstance(loaded, _Loaded):
                raise Foreign("a hash of an empty register")
            hashed.append(loaded.field)
            register += words(self.family, loaded.field)
        fields = _only_fields(tuple(hashed), "a hash")
        made = JHash(fields, number(a[c.NFTA_HASH_MODULUS]), number(a.get(c.NFTA_HASH_SEED, b"")))
        self.registers[_register(a[c.NFTA_HASH_DREG])] = _Loaded(made)

    def _bitwise(self, a: dict[int, bytes]) -> None:
        loaded = self._loaded(a[c.NFTA_BITWISE_SREG])
        mask, xor = value_of(a[c.NFTA_BITWISE_MASK]), value_of(a[c.NFTA_BITWISE_XOR])
        self.registers[_register(a[c.NFTA_BITWISE_DREG])] = _Loaded(loaded.field, 0, mask, xor)

    def _loaded(self, register: bytes) -> _Loaded:
        loaded = self.registers.get(_register(register))
        if not isinstance(loaded, _Loaded):
            raise Foreign("an instruction reads a register that no field was loaded into")
        return loaded

    def _compare(self, a: dict[int, bytes]) -> Statement:
        loaded = self._loaded(a[c.NFTA_CMP_SREG])
        negate = number(a[c.NFTA_CMP_OP]) == c.NFT_CMP_NEQ
        raw = value_of(a[c.NFTA_CMP_DATA])
        what = loaded.field
        if not isinstance(what, Field):
            raise Foreign("a comparison of numgen or jhash")
        if what in CT_BITS and loaded.mask:
            names = sorted(n for n, bit in CT_BITS[what].items() if bit & _host(loaded.mask))
            return Match(what, names[0] if len(names) == 1 else tuple(names), negate=not negate)
        if what is Field.MARK and loaded.mask:
            return MarkBits(_host(raw))
        return Match(what, self._compared(what, loaded, raw), negate)

    def _compared(self, what: Field, loaded: _Loaded, raw: bytes) -> Value:
        form = field_form(self.family, what)
        if loaded.mask or loaded.length:
            ones = int.from_bytes(loaded.mask, "big").bit_count() if loaded.mask else loaded.length * 8
            address = raw.ljust(form.length, b"\0")
            return IPv4Network((address, ones)) if self.family is Family.IP else IPv6Network((address, ones))
        if what in (Field.IIFNAME, Field.OIFNAME) and len(raw) < form.length:
            return raw.decode() + "*"
        return form.decode(raw)

    def _key(self, register: int, s: Set) -> tuple[Expression, ...]:
        fields: list[Expression] = []
        for _ in s.key:
            loaded = self.registers.get(register)
            if not isinstance(loaded, _Loaded):
                raise Foreign(f"a lookup in {s.name} with an empty register")
            fields.append(loaded.field)
            register += words(self.family, loaded.field)
        return tuple(fields)

    def _lookup(self, a: dict[int, bytes]) -> Iterator[Statement]:
        name = string(a[c.NFTA_LOOKUP_SET])
        negate = bool(number(a.get(c.NFTA_LOOKUP_FLAGS, b"")) & c.NFT_LOOKUP_F_INV)
        if name in self.sets.anonymous:
            what = self._loaded(a[c.NFTA_LOOKUP_SREG]).field
            if not isinstance(what, Field):
                raise Foreign("a lookup of numgen or jhash alone")
            yield Match(what, self.sets.anonymous[name], negate)
            return
        key = self._key(_register(a[c.NFTA_LOOKUP_SREG]), _known(self.sets.named, name, "set"))
        if c.NFTA_LOOKUP_DREG in a and _register(a[c.NFTA_LOOKUP_DREG]):
            self.registers[_register(a[c.NFTA_LOOKUP_DREG])] = _Found(key, name)
            return
        fields = _only_fields(key, name)
        yield VerdictMap(fields, name) if c.NFTA_LOOKUP_DREG in a else InSet(fields, name, negate)

    def _nat(self, a: dict[int, bytes]) -> Statement:
        found = self.registers.get(_register(a.get(c.NFTA_NAT_REG_ADDR_MIN, b"")))
        if number(a[c.NFTA_NAT_TYPE]) != c.NFT_NAT_DNAT or not isinstance(found, _Found):
            raise Foreign("address translation that is not dnat by a map")
        port = self.registers.get(_register(a.get(c.NFTA_NAT_REG_PROTO_MIN, b"")))
        if isinstance(port, _Found):
            return DnatMaps(found.key, found.map, port.key, port.map)
        return DnatMap(found.key, found.map)

    def _final(self, name: str, a: dict[int, bytes]) -> Statement:
        match name:
            case "immediate":
                data = codec.attribute_map(a[c.NFTA_IMMEDIATE_DATA])
                if c.NFTA_DATA_VERDICT not in data:
                    raise Foreign("a rule with a fixed value that is no verdict")
                return verdict(data[c.NFTA_DATA_VERDICT])
            case "masq":
                flags = number(a.get(c.NFTA_MASQ_FLAGS, b""))
                return Masquerade(fully_random=bool(flags & c.NF_NAT_RANGE_PROTO_RANDOM_FULLY))
            case "reject":
                reset = number(a[c.NFTA_REJECT_TYPE]) == c.NFT_REJECT_TCP_RST
                return Reject(RejectWith.TCP_RESET if reset else RejectWith.PORT_UNREACHABLE)
            case "counter":
                return Counter()
            case _:
                raise Foreign(f"the instruction {name!r} is none of ours")


def _only_fields(key: tuple[Expression, ...], where: str) -> tuple[Field, ...]:
    fields = tuple(f for f in key if isinstance(f, Field))
    if fields != key:
        raise Foreign(f"a numgen or jhash slot in {where} that is not for dnat")
    return fields


def _host(data: bytes) -> int:
    return int.from_bytes(data, sys.byteorder)


def _known(names: Mapping[K, V], key: K, what: str) -> V:
    if key not in names:
        raise Foreign(f"{what} {key!r} is none of ours")
    return names[key]
