"""Statements of a rule as nf_tables expressions: little instructions over sixteen 32-bit registers.

A match loads a field into a register and compares; a concatenation loads field after field into adjoining registers
and looks them up at once. `wire` puts what is made here into rule messages; `decode` reads it back. The forms are those
that nft itself makes, so that `nft list` prints our rules as if it had loaded them from `text`.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network
from typing import Protocol

from portway.netlink import codec
from portway.nft import constants as c
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
    Statement,
    Type,
    Value,
    Verdict,
    VerdictMap,
    expression_type,
)
from portway.nft.values import CT_STATES, CT_STATUSES, FORMS, field_form

ADDRESS_OFFSETS = {
    (Family.IP, Field.SADDR): 12,
    (Family.IP, Field.DADDR): 16,
    (Family.IP6, Field.SADDR): 8,
    (Family.IP6, Field.DADDR): 24,
}
PORT_OFFSETS = {Field.SPORT: 0, Field.DPORT: 2}
META_KEYS = {
    Field.L4PROTO: c.NFT_META_L4PROTO,
    Field.MARK: c.NFT_META_MARK,
    Field.IIFNAME: c.NFT_META_IIFNAME,
    Field.OIFNAME: c.NFT_META_OIFNAME,
}
CT_KEYS = {Field.CT_STATE: c.NFT_CT_STATE, Field.CT_STATUS: c.NFT_CT_STATUS}
CT_BITS = {Field.CT_STATE: CT_STATES, Field.CT_STATUS: CT_STATUSES}
FIB_FLAGS = {Field.FIB_SADDR_TYPE: c.NFTA_FIB_F_SADDR, Field.FIB_DADDR_TYPE: c.NFTA_FIB_F_DADDR}


class AnonymousSets(Protocol):
    """Where `{ 80, 443 }` within a rule goes: a set that belongs to the rule, made just before it."""

    def add(self, field: Field, values: tuple[Value, ...]) -> int:
        """The number by which the rule's message refers to the set."""
        ...


def expression(name: str, *attributes: bytes) -> bytes:
    data = codec.nested(c.NFTA_EXPR_DATA, *attributes)
    return codec.nested(c.NFTA_LIST_ELEM, codec.text(c.NFTA_EXPR_NAME, name), data)


def data(attribute: int, value: bytes) -> bytes:
    """An attribute that holds a value as nf_tables wraps it."""
    return codec.nested(attribute, codec.attr(c.NFTA_DATA_VALUE, value))


def verdict_data(attribute: int, verdict: Verdict) -> bytes:
    code = codec.attr(c.NFTA_VERDICT_CODE, struct.pack("!i", c.VERDICT_CODES[verdict.kind]))
    chain = codec.text(c.NFTA_VERDICT_CHAIN, verdict.chain) if verdict.chain else b""
    return codec.nested(attribute, codec.nested(c.NFTA_DATA_VERDICT, code, chain))


_SET_MARK = expression("meta", codec.be32(c.NFTA_META_KEY, c.NFT_META_MARK), codec.be32(c.NFTA_META_SREG, c.NFT_REG_1))
_SCRATCH = 8


def encode_statement(family: Family, statement: Statement, sets: AnonymousSets) -> bytes:
    """The instructions of one statement. Raises TypeError for one that is not in the vocabulary."""
    match statement:
        case Match():
            return _match(family, statement, sets)
        case InSet():
            return _load_all(family, statement.fields) + _lookup(statement.set, negate=statement.negate)
        case VerdictMap():
            return _load_all(family, statement.fields) + _lookup(statement.map, register=c.NFT_REG_VERDICT)
        case DnatMap():
            return _dnat(family, statement)
        case DnatMaps():
            return _dnat_of_two(family, statement)
        case MarkMap():
            found = _lookup(statement.map, register=c.NFT_REG_1)
            return _load_all(family, statement.fields) + found + _SET_MARK
        case MarkBits() | OrMark() | ClearMark():
            return _mark(statement)
        case Reject():
            return _reject(family, statement)
        case _:
            return _terminal(statement)


def _terminal(statement: Statement) -> bytes:
    match statement:
        case Verdict():
            register = codec.be32(c.NFTA_IMMEDIATE_DREG, c.NFT_REG_VERDICT)
            return expression("immediate", register, verdict_data(c.NFTA_IMMEDIATE_DATA, statement))
        case Masquerade():
            flags = [codec.be32(c.NFTA_MASQ_FLAGS, c.NF_NAT_RANGE_PROTO_RANDOM_FULLY)] if statement.fully_random else []
            return expression("masq", *flags)
        case Counter():
            return expression("counter", codec.be64(c.NFTA_COUNTER_BYTES, 0), codec.be64(c.NFTA_COUNTER_PACKETS, 0))
        case _:
            raise TypeError(f"no nf_tables expression for {statement!r}")


def _reject(family: Family, statement: Reject) -> bytes:
    if statement.with_ is RejectWith.TCP_RESET:
        kind, code = c.NFT_REJECT_TCP_RST, 0
    else:  # port unreachable is code 3 of ICMP's destination unreachable, and code 4 of ICMPv6's
        kind, code = c.NFT_REJECT_ICMP_UNREACH, 3 if family is Family.IP else 4
    return expression("reject", codec.be32(c.NFTA_REJECT_TYPE, kind), codec.u8(c.NFTA_REJECT_ICMP_CODE, code))


def load(family: Family, field: Expression, register: int, length: int = 0) -> bytes:
    """Load a field into a register; `length` bytes of it only, where that is not 0."""
    if isinstance(field, Numgen):
        return expression(
            "numgen",
            codec.be32(c.NFTA_NG_DREG, register),
            codec.be32(c.NFTA_NG_MODULUS, field.mod),
            codec.be32(c.NFTA_NG_TYPE, c.NFT_NG_RANDOM),
            codec.be32(c.NFTA_NG_OFFSET, 0),
        )
    if isinstance(field, JHash):
        return _jhash(family, field, register)
    if field in META_KEYS:
        return expression("meta", codec.be32(c.NFTA_META_DREG, register), codec.be32(c.NFTA_META_KEY, META_KEYS[field]))
    if field in CT_KEYS:
        return expression("ct", codec.be32(c.NFTA_CT_DREG, register), codec.be32(c.NFTA_CT_KEY, CT_KEYS[field]))
    if field in FIB_FLAGS:
        return expression(
            "fib",
            codec.be32(c.NFTA_FIB_DREG, register),
            codec.be32(c.NFTA_FIB_RESULT, c.NFT_FIB_RESULT_ADDRTYPE),
            codec.be32(c.NFTA_FIB_FLAGS, FIB_FLAGS[field]),
        )
    return _payload(family, field, register, length)


def _jhash(family: Family, of: JHash, register: int) -> bytes:
    """The hashed fields go into the upper eight words, where no key of ours reaches."""
    length = 4 * sum(words(family, f) for f in of.fields)
    return _load_all(family, of.fields, _SCRATCH) + expression(
        "hash",
        codec.be32(c.NFTA_HASH_SREG, c.NFT_REG32_00 + _SCRATCH),
        codec.be32(c.NFTA_HASH_DREG, register),
        codec.be32(c.NFTA_HASH_LEN, length),
        codec.be32(c.NFTA_HASH_MODULUS, of.mod),
        codec.be32(c.NFTA_HASH_SEED, of.seed),
        codec.be32(c.NFTA_HASH_OFFSET, 0),
        codec.be32(c.NFTA_HASH_TYPE, c.NFT_HASH_JENKINS),
    )


def _payload(family: Family, field: Field, register: int, length: int) -> bytes:
    if field in PORT_OFFSETS:
        base, offset, size = c.NFT_PAYLOAD_TRANSPORT_HEADER, PORT_OFFSETS[field], 2
    else:
        base, offset = c.NFT_PAYLOAD_NETWORK_HEADER, ADDRESS_OFFSETS[family, field]
        size = FORMS[family][Type.ADDR].length
    return expression(
        "payload",
        codec.be32(c.NFTA_PAYLOAD_DREG, register),
        codec.be32(c.NFTA_PAYLOAD_BASE, base),
        codec.be32(c.NFTA_PAYLOAD_OFFSET, offset),
        codec.be32(c.NFTA_PAYLOAD_LEN, length or size),
    )


def _load_all(family: Family, fields: Iterable[Expression], word: int = 0) -> bytes:
    """Load a concatenation: each field begins a 32-bit register of its own, the first is register 1."""
    out: list[bytes] = []
    for field in fields:
        out.append(load(family, field, c.NFT_REG32_00 + word))
        word += words(family, field)
    return b"".join(out)


def words(family: Family, field: Expression) -> int:
    """How many 32-bit registers a field fills."""
    type_ = expression_type(field)
    if type_ is None:
        raise TypeError(f"{field} cannot be part of a key")
    return FORMS[family][type_].padded // 4


def _lookup(name: str, *, register: int | None = None, negate: bool = False, set_id: int = 0) -> bytes:
    parts = [codec.text(c.NFTA_LOOKUP_SET, name), codec.be32(c.NFTA_LOOKUP_SREG, c.NFT_REG_1)]
    if register is not None:
        parts.append(codec.be32(c.NFTA_LOOKUP_DREG, register))
    if set_id:
        parts.append(codec.be32(c.NFTA_LOOKUP_SET_ID, set_id))
    if negate:
        parts.append(codec.be32(c.NFTA_LOOKUP_FLAGS, c.NFT_LOOKUP_F_INV))
    return expression("lookup", *parts)


def _dnat(family: Family, statement: DnatMap) -> bytes:
    port = c.NFT_REG32_00 + FORMS[family][Type.ADDR].padded // 4
    nat = _nat(family, c.NFT_REG_1, port)
    return _load_all(family, statement.key) + _lookup(statement.map, register=c.NFT_REG_1) + nat


def _dnat_of_two(family: Family, statement: DnatMaps) -> bytes:
    """The address waits in register 3 while the port's key is loaded over the address's key."""
    address = _load_all(family, statement.key) + _lookup(statement.map, register=c.NFT_REG_3)
    port = _load_all(family, statement.port_key) + _lookup(statement.port_map, register=c.NFT_REG_4)
    return address + port + _nat(family, c.NFT_REG_3, c.NFT_REG_4)


def _nat(family: Family, address: int, port: int) -> bytes:
    return expression(
        "nat",
        codec.be32(c.NFTA_NAT_TYPE, c.NFT_NAT_DNAT),
        codec.be32(c.NFTA_NAT_FAMILY, c.NFPROTO[family]),
        codec.be32(c.NFTA_NAT_REG_ADDR_MIN, address),
        codec.be32(c.NFTA_NAT_REG_PROTO_MIN, port),
    )


def compare(value: bytes, negate: bool) -> bytes:
    op = c.NFT_CMP_NEQ if negate else c.NFT_CMP_EQ
    return expression(
        "cmp",
        codec.be32(c.NFTA_CMP_SREG, c.NFT_REG_1),
        codec.be32(c.NFTA_CMP_OP, op),
        data(c.NFTA_CMP_DATA, value),
    )


def bitwise(mask: bytes, xor: bytes) -> bytes:
    """register 1 = (register 1 & mask) ^ xor."""
    return expression(
        "bitwise",
        codec.be32(c.NFTA_BITWISE_SREG, c.NFT_REG_1),
        codec.be32(c.NFTA_BITWISE_DREG, c.NFT_REG_1),
        codec.be32(c.NFTA_BITWISE_LEN, len(mask)),
        data(c.NFTA_BITWISE_MASK, mask),
        data(c.NFTA_BITWISE_XOR, xor),
    )


def _host(number: int) -> bytes:
    return number.to_bytes(4, sys.byteorder)


def _mark(statement: MarkBits | OrMark | ClearMark) -> bytes:
    fetch = load(Family.IP, Field.MARK, c.NFT_REG_1)
    bits, rest = _host(statement.bits), _host(statement.bits ^ 0xFFFFFFFF)
    if isinstance(statement, MarkBits):
        return fetch + bitwise(bits, bytes(4)) + compare(bits, negate=False)
    return fetch + bitwise(rest, bits if isinstance(statement, OrMark) else bytes(4)) + _SET_MARK


def _match(family: Family, match: Match, sets: AnonymousSets) -> bytes:
    field, value = match.field, match.value
    if field in CT_KEYS:
        names = value if isinstance(value, tuple) else (value,)
        mask = 0
        for name in names:
            mask |= CT_BITS[field][str(name)]
        matched = bitwise(_host(mask), bytes(4)) + compare(bytes(4), negate=not match.negate)
        return load(family, field, c.NFT_REG_1) + matched
    if isinstance(value, tuple):
        lookup = _lookup("__set%d", negate=match.negate, set_id=sets.add(field, value))
        return load(family, field, c.NFT_REG_1) + lookup
    if isinstance(value, IPv4Network | IPv6Network):
        return _prefix(family, field, value, match.negate)
    if isinstance(value, str) and value.endswith("*") and field in (Field.IIFNAME, Field.OIFNAME):
        return load(family, field, c.NFT_REG_1) + compare(value[:-1].encode(), match.negate)
    form = field_form(family, field)
    return load(family, field, c.NFT_REG_1) + compare(form.encode(value)[: form.length], match.negate)


def _prefix(family: Family, field: Field, network: IPv4Network | IPv6Network, negate: bool) -> bytes:
    """Whole bytes are compared without a mask, as a shorter load; a prefix within a byte needs the mask."""
    address, length = network.network_address.packed, network.prefixlen
    if length and length % 8 == 0:
        return load(family, field, c.NFT_REG_1, length // 8) + compare(address[: length // 8], negate)
    masked = bitwise(network.netmask.packed, bytes(len(address)))
    return load(family, field, c.NFT_REG_1) + masked + compare(address, negate)
