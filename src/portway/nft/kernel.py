"""The kernel's nf_tables as a holder of tables: transactions go in over netlink, tables come back from dumps.

`KernelNft(sock)` takes a NETLINK_NETFILTER socket and works in the network namespace in which that was made. It is the
only module here that talks to the kernel; `wire` makes the bytes, `decode` and `decode_rules` read them. One owner, not
thread-safe; calls block for as long as the kernel computes, about 10 ms per 10,000 elements.
"""

from __future__ import annotations

import errno
import socket

from portway.netlink import codec
from portway.netlink.socket import Netlink, NetlinkError
from portway.nft import constants as c
from portway.nft.canonical import canonical, ordered
from portway.nft.decode import DumpedSet, Foreign, decode_anonymous, decode_chain, decode_elements, decode_set, string
from portway.nft.decode_rules import Sets, decode_rule
from portway.nft.protocol import NftError
from portway.nft.tables import Chain, Element, Family, Key, Rule, Ruleset, Value
from portway.nft.transaction import Transaction, halves
from portway.nft.udata import comment_of
from portway.nft.values import FIB_FORM, FORMS, Form
from portway.nft.wire import batch, header

_NLM_F_DUMP_INTR = 0x10
_READS = 10


class KernelNft:
    """Tables of one network namespace. Satisfies `protocol.Nft`."""

    def __init__(self, sock: socket.socket) -> None:
        self._netlink = Netlink(sock)

    def close(self) -> None:
        self._netlink.close()

    def apply(self, transaction: Transaction) -> None:
        """Give the kernel the whole transaction. Raises `NftError`, with nothing changed, when it refuses any part.

        An ordinary user's socket buffer (twice net.core.wmem_max) holds about 5,000 elements; what is longer goes in
        halves, each of them whole or not at all, and a refusal of the second leaves the first in place."""
        if not transaction:
            return
        where = f"{transaction.family} {transaction.table}"
        try:
            made = batch(transaction, self._netlink.next_sequence())
        except ValueError as e:
            raise NftError(f"{where}: {e}") from e
        self._netlink.skip_to(made.last + 1)
        try:
            self._netlink.batch(made.data, made.last, lambda n: f"{where}: {made.names.get(n, 'commit')}")
        except NetlinkError as e:
            if e.errno == errno.EMSGSIZE and (parts := halves(transaction)):
                for part in parts:
                    self.apply(part)
                return
            raise NftError(f"{e.args[1]}{_cure(e)}") from e

    def read(self, family: Family, name: str) -> Ruleset | None:
        """The table as the kernel has it, canonical. Raises `NftError` when something in it is not of our vocabulary."""
        for _ in range(_READS):
            try:
                return self._read(family, name)
            except _Interrupted:
                continue
            except (ValueError, KeyError) as e:  # Foreign, or a form of something that no statement of ours makes
                what = str(e) if isinstance(e, Foreign) else f"it holds what we cannot read ({e!r})"
                raise NftError(f"{family} {name}: {what}; delete the table if it was not made by portway") from e
            except NetlinkError as e:
                raise NftError(f"{e.args[1]}{_cure(e)}") from e
        raise NftError(f"{family} {name}: changed {_READS} times while it was read; another program writes to it")

    def _read(self, family: Family, name: str) -> Ruleset | None:
        try:
            (table,) = self._get(family, c.NFT_MSG_GETTABLE, codec.text(c.NFTA_TABLE_NAME, name), dump=False)
        except NetlinkError as e:
            if e.errno == errno.ENOENT:
                return None
            raise
        comment = comment_of(codec.attribute_map(table, 4).get(c.NFTA_TABLE_USERDATA))
        dumped = [
            decode_set(family, body)
            for body in self._get(family, c.NFT_MSG_GETSET, codec.text(c.NFTA_SET_TABLE, name))
            if _belongs(body, c.NFTA_SET_TABLE, name)
        ]
        named = [d for d in dumped if not d.anonymous]
        sets = Sets(
            {d.set.name: d.set for d in named},
            {d.set.name: self._anonymous(family, name, d) for d in dumped if d.anonymous},
        )
        return canonical(
            Ruleset(
                family,
                name,
                tuple(d.set for d in named),
                self._chains(family, name, sets),
                {d.set.name: self._elements(family, name, d) for d in named},
                comment,
            )
        )

    def _chains(self, family: Family, table: str, sets: Sets) -> tuple[Chain, ...]:
        rules: dict[str, list[Rule]] = {}
        for body in self._get(family, c.NFT_MSG_GETRULE, codec.text(c.NFTA_RULE_TABLE, table)):
            if _belongs(body, c.NFTA_RULE_TABLE, table):
                chain, rule = decode_rule(family, body, sets)
                rules.setdefault(chain, []).append(rule)
        chains = (
            decode_chain(body)
            for body in self._get(family, c.NFT_MSG_GETCHAIN, codec.text(c.NFTA_CHAIN_TABLE, table))
            if _belongs(body, c.NFTA_CHAIN_TABLE, table)
        )
        return tuple(Chain(x.name, tuple(rules.get(x.name, ())), x.base, x.comment) for x in chains)

    def _element_bodies(self, family: Family, table: str, name: str) -> list[bytes]:
        where = codec.text(c.NFTA_SET_ELEM_LIST_TABLE, table) + codec.text(c.NFTA_SET_ELEM_LIST_SET, name)
        return self._get(family, c.NFT_MSG_GETSETELEM, where)

    def _elements(self, family: Family, table: str, dumped: DumpedSet) -> dict[Key, Element]:
        return decode_elements(family, dumped.set, self._element_bodies(family, table, dumped.set.name))

    def _anonymous(self, family: Family, table: str, dumped: DumpedSet) -> tuple[Value, ...]:
        forms: dict[int, Form] = {form.number: form for form in FORMS[family].values()}
        forms[FIB_FORM.number] = FIB_FORM
        if dumped.key_number not in forms:
            raise Foreign(f"an anonymous set of type {dumped.key_number}")
        bodies = self._element_bodies(family, table, dumped.set.name)
        return ordered(set(decode_anonymous(forms[dumped.key_number], dumped.set.interval, bodies)))

    def _get(self, family: Family, type_: int, attributes: bytes, *, dump: bool = True) -> list[bytes]:
        flags = codec.NLM_F_DUMP if dump else 0
        body = header(c.NFPROTO[family]) + attributes
        answers = self._netlink.request(c.NFNL_SUBSYS_NFTABLES << 8 | type_, flags, body, "read nf_tables")
        if any(m.flags & _NLM_F_DUMP_INTR for m in answers):
            raise _Interrupted
        return [m.body for m in answers]


class _Interrupted(Exception):
    """The tables changed during a dump: what came is a mixture of two generations."""


def _belongs(body: bytes, attribute: int, table: str) -> bool:
    """Whether a dumped thing is the table's: older kernels ignore the filter in a dump's request."""
    return string(codec.attribute_map(body, 4)[attribute]) == table


def _cure(error: NetlinkError) -> str:
    match error.errno:
        case errno.EPERM:
            return "; nf_tables needs CAP_NET_ADMIN in the namespace: run as root or inside a user namespace"
        case errno.EMSGSIZE | errno.ENOBUFS:
            return "; the socket buffer is too small for it: raise net.core.wmem_max"
        case _:
            return ""
