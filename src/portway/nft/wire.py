"""A transaction as nf_tables netlink messages: one batch that the kernel applies whole or not at all.

`batch(transaction, sequence)` gives the messages with the name of the operation behind each, so that the kernel's
refusal can be told in our words. `kernel.KernelNft` sends it. Elements are the hot path: ten thousand of them are a
sync, so their bytes are joined from a few prepared pieces, about 1,000 elements to a message, as the length of a nested
attribute holds 16 bits.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from portway.netlink import codec
from portway.nft import constants as c
from portway.nft.elements import chunks, encode_elements, encode_keys, entry, key, ranges
from portway.nft.expressions import encode_statement
from portway.nft.operations import (
    AddChain,
    AddElements,
    AddRule,
    AddSet,
    AddTable,
    DeleteChain,
    DeleteElements,
    DeleteSet,
    DeleteTable,
    FlushChain,
    Operation,
)
from portway.nft.tables import Chain, Family, Field, Rule, Set, Type, Value
from portway.nft.transaction import Transaction
from portway.nft.udata import comment_udata, key_order_udata, set_udata
from portway.nft.values import FORMS, field_form, first, key_length, key_number, last


@dataclass(frozen=True, slots=True)
class Batch:
    """The bytes of a whole transaction, and what each of its messages was for, by sequence number."""

    data: bytes
    last: int
    names: dict[int, str]


def batch(transaction: Transaction, sequence: int) -> Batch:
    """Encode a transaction; its messages are numbered from `sequence`. Raises ValueError for a value that no table holds."""
    writer = _Writer(transaction.family, transaction.table, sequence)
    for operation in transaction.operations:
        try:
            writer.operation(operation)
        except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as e:
            raise ValueError(f"{describe(operation)}: a value does not fit its type: {e!r}") from e
    return writer.finish()


def header(family: int, resource: int = 0) -> bytes:
    """nfgenmsg: the family, and the subsystem where a batch begins."""
    return struct.pack("!BBH", family, 0, resource)


@dataclass(slots=True)
class _Writer:
    """Collects the messages of a batch; also where a rule's own sets go (`AnonymousSets`)."""

    family: Family
    table: str
    sequence: int
    parts: list[bytes] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    _set_id: int = 0
    _name: str = ""

    def __post_init__(self) -> None:
        self._put(c.NFNL_MSG_BATCH_BEGIN, codec.NLM_F_REQUEST, header(0, c.NFNL_SUBSYS_NFTABLES))
        self.names[self.sequence - 1] = "commit"

    def _put(self, type_: int, flags: int, body: bytes) -> None:
        self.parts.append(codec.message(type_, flags, self.sequence, body))
        self.names[self.sequence] = self._name
        self.sequence += 1

    def _send(self, type_: int, flags: int, *attributes: bytes) -> None:
        body = header(c.NFPROTO[self.family]) + b"".join(attributes)
        self._put(c.NFNL_SUBSYS_NFTABLES << 8 | type_, codec.NLM_F_REQUEST | flags, body)

    def finish(self) -> Batch:
        """End the batch. The last message asks for an acknowledgement: it comes after the commit."""
        raw = bytearray(self.parts[-1])
        (flags,) = struct.unpack_from("=H", raw, 6)
        struct.pack_into("=H", raw, 6, flags | codec.NLM_F_ACK)
        self.parts[-1] = bytes(raw)
        last_ = self.sequence - 1
        self._put(c.NFNL_MSG_BATCH_END, codec.NLM_F_REQUEST, header(0, c.NFNL_SUBSYS_NFTABLES))
        return Batch(b"".join(self.parts), last_, self.names)

    def operation(self, op: Operation) -> None:
        self._name = describe(op)
        match op:
            case AddTable():
                note = [codec.attr(c.NFTA_TABLE_USERDATA, comment_udata(op.comment))] if op.comment else []
                self._send(c.NFT_MSG_NEWTABLE, codec.NLM_F_CREATE, codec.text(c.NFTA_TABLE_NAME, self.table), *note)
            case DeleteTable():
                self._send(c.NFT_MSG_DELTABLE, 0, codec.text(c.NFTA_TABLE_NAME, self.table))
            case AddSet():
                self._send(c.NFT_MSG_NEWSET, codec.NLM_F_CREATE, *self._set(op.set))
            case DeleteSet():
                where = codec.text(c.NFTA_SET_TABLE, self.table), codec.text(c.NFTA_SET_NAME, op.set.name)
                self._send(c.NFT_MSG_DELSET, 0, *where)
            case AddElements():
                entries = chunks(encode_elements(self.family, op.set, op.elements.items()))
                self._elements(c.NFT_MSG_NEWSETELEM, op.set.name, entries)
            case DeleteElements():
                entries = chunks(encode_keys(self.family, op.set, op.keys))
                self._elements(c.NFT_MSG_DELSETELEM, op.set.name, entries)
            case _:
                self._chain_operation(op)

    def _chain_operation(self, op: AddChain | DeleteChain | FlushChain | AddRule) -> None:
        rule_table = codec.text(c.NFTA_RULE_TABLE, self.table)
        match op:
            case AddChain():
                self._send(c.NFT_MSG_NEWCHAIN, codec.NLM_F_CREATE, *self._chain(op.chain))
            case DeleteChain():
                where = codec.text(c.NFTA_CHAIN_TABLE, self.table), codec.text(c.NFTA_CHAIN_NAME, op.chain)
                self._send(c.NFT_MSG_DELCHAIN, 0, *where)
            case FlushChain():  # a deletion that names no rule is one of all rules
                self._send(c.NFT_MSG_DELRULE, 0, rule_table, codec.text(c.NFTA_RULE_CHAIN, op.chain))
            case AddRule():
                body = self._rule(op.rule)
                chain = codec.text(c.NFTA_RULE_CHAIN, op.chain)
                self._send(c.NFT_MSG_NEWRULE, codec.NLM_F_CREATE | codec.NLM_F_APPEND, rule_table, chain, *body)

    def _chain(self, chain: Chain) -> Iterator[bytes]:
        yield codec.text(c.NFTA_CHAIN_TABLE, self.table)
        yield codec.text(c.NFTA_CHAIN_NAME, chain.name)
        if chain.base:
            hook = codec.be32(c.NFTA_HOOK_HOOKNUM, c.HOOKS[chain.base.hook])
            priority = codec.attr(c.NFTA_HOOK_PRIORITY, struct.pack("!i", chain.base.priority))
            yield codec.nested(c.NFTA_CHAIN_HOOK, hook, priority)
            yield codec.be32(c.NFTA_CHAIN_POLICY, c.NF_ACCEPT)
            yield codec.text(c.NFTA_CHAIN_TYPE, chain.base.type)
        if chain.comment:
            yield codec.attr(c.NFTA_CHAIN_USERDATA, comment_udata(chain.comment))

    def _rule(self, rule: Rule) -> Iterator[bytes]:
        encoded = [encode_statement(self.family, s, self) for s in rule.statements]
        yield codec.nested(c.NFTA_RULE_EXPRESSIONS, *encoded)
        if rule.comment:
            yield codec.attr(c.NFTA_RULE_USERDATA, comment_udata(rule.comment))

    def _set(self, s: Set) -> Iterator[bytes]:
        concatenated = len(s.key) > 1
        flags = (c.NFT_SET_INTERVAL if s.interval else 0) | (c.NFT_SET_MAP if s.value else 0)
        if s.interval and concatenated:
            flags |= c.NFT_SET_CONCAT
        self._set_id += 1
        yield codec.text(c.NFTA_SET_TABLE, self.table)
        yield codec.text(c.NFTA_SET_NAME, s.name)
        yield codec.be32(c.NFTA_SET_FLAGS, flags)
        yield codec.be32(c.NFTA_SET_KEY_TYPE, key_number(self.family, s.key))
        yield codec.be32(c.NFTA_SET_KEY_LEN, key_length(self.family, s.key))
        if s.value:
            yield codec.be32(c.NFTA_SET_DATA_TYPE, key_number(self.family, s.value))
            length = 16 if s.value == (Type.VERDICT,) else key_length(self.family, s.value)
            yield codec.be32(c.NFTA_SET_DATA_LEN, length)
        yield codec.be32(c.NFTA_SET_ID, self._set_id)
        if s.interval and concatenated:
            yield codec.nested(c.NFTA_SET_DESC, _field_lengths(self.family, s.key))
        yield codec.attr(c.NFTA_SET_USERDATA, set_udata(self.family, s))

    def add(self, field_: Field, values: tuple[Value, ...]) -> int:
        """The number of a new anonymous set that holds `values`."""
        form = field_form(self.family, field_)
        interval = any(first(v) != last(v) for v in values)
        self._set_id += 1
        self._send(
            c.NFT_MSG_NEWSET,
            codec.NLM_F_CREATE,
            codec.text(c.NFTA_SET_TABLE, self.table),
            codec.text(c.NFTA_SET_NAME, "__set%d"),
            codec.be32(
                c.NFTA_SET_FLAGS, c.NFT_SET_ANONYMOUS | c.NFT_SET_CONSTANT | (c.NFT_SET_INTERVAL if interval else 0)
            ),
            codec.be32(c.NFTA_SET_KEY_TYPE, form.number),
            codec.be32(c.NFTA_SET_KEY_LEN, form.length),
            codec.be32(c.NFTA_SET_ID, self._set_id),
            codec.nested(
                c.NFTA_SET_DESC, codec.be32(c.NFTA_SET_DESC_SIZE, len(values) * 2 + 1 if interval else len(values))
            ),
            codec.attr(c.NFTA_SET_USERDATA, key_order_udata(field_)),
        )
        plain = (entry(key(form, v)) for v in values)
        entries = ranges(form, ((v, b"", b"") for v in values)) if interval else plain
        self._elements(c.NFT_MSG_NEWSETELEM, "__set%d", chunks(entries), self._set_id)
        return self._set_id

    def _elements(self, type_: int, name: str, pieces: Iterable[bytes], set_id: int = 0) -> None:
        table = codec.text(c.NFTA_SET_ELEM_LIST_TABLE, self.table)
        names = table + codec.text(c.NFTA_SET_ELEM_LIST_SET, name)
        names += codec.be32(c.NFTA_SET_ELEM_LIST_SET_ID, set_id) if set_id else b""
        flags = codec.NLM_F_CREATE if type_ == c.NFT_MSG_NEWSETELEM else 0
        for chunk in pieces:
            self._send(type_, flags, names, codec.nested(c.NFTA_SET_ELEM_LIST_ELEMENTS, chunk))


def describe(op: Operation) -> str:
    """The operation in a few words, for an error's message."""
    match op:
        case AddTable():
            return "add table"
        case DeleteTable():
            return "delete table"
        case AddSet() | DeleteSet():
            return f"{'add' if isinstance(op, AddSet) else 'delete'} set {op.set.name}"
        case AddElements() | DeleteElements():
            return f"{'add' if isinstance(op, AddElements) else 'delete'} elements of {op.set.name}"
        case AddChain():
            return f"add chain {op.chain.name}"
        case FlushChain():
            return f"flush chain {op.chain}"
        case DeleteChain():
            return f"delete chain {op.chain}"
        case AddRule():
            return f"add rule to chain {op.chain}{f' ({op.rule.comment})' if op.rule.comment else ''}"


def _field_lengths(family: Family, types: tuple[Type, ...]) -> bytes:
    lengths = (codec.be32(c.NFTA_SET_FIELD_LEN, FORMS[family][t].length) for t in types)
    return codec.nested(c.NFTA_SET_DESC_CONCAT, *(codec.nested(c.NFTA_LIST_ELEM, x) for x in lengths))
