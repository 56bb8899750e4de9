"""Bytes: what a batch looks like before the kernel sees it, and what of a foreign table cannot be read."""

from __future__ import annotations

import socket
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from build_nft import SERVICE, TABLE, address, everything, kernel_nft, nft_program, private_namespace
from portway.netlink import codec
from portway.netlink.namespace import run_in
from portway.netlink.socket import NETLINK_NETFILTER, open_netlink
from portway.nft import constants as c
from portway.nft.kernel import KernelNft
from portway.nft.operations import AddElements, AddTable
from portway.nft.protocol import NftError
from portway.nft.tables import Element, Family, Key, Ruleset, Set, Type
from portway.nft.transaction import Transaction, diff
from portway.nft.udata import comment_of, comment_udata, udata
from portway.nft.values import FORMS, decode_key, first, key_length, key_number, last, span, types_of
from portway.nft.wire import batch

VALUES: dict[Type, st.SearchStrategy[object]] = {
    Type.PROTO: st.sampled_from(["tcp", "udp", "sctp", "icmp"]),
    Type.PORT: st.integers(0, 65535),
    Type.MARK: st.integers(0, 0xFFFFFFFF),
    Type.SLOT: st.integers(0, 0xFFFFFFFF),
    Type.IFNAME: st.text("abcdefgh0123-.", min_size=1, max_size=15),
}


@st.composite
def keys(draw: st.DrawFn) -> tuple[Family, tuple[Type, ...], Key]:
    family = draw(st.sampled_from(Family))
    addresses = st.ip_addresses(v=4 if family is Family.IP else 6)
    types = tuple(draw(st.lists(st.sampled_from([*VALUES, Type.ADDR]), min_size=1, max_size=4)))
    values = tuple(draw(addresses if t is Type.ADDR else VALUES[t]) for t in types)
    return family, types, values  # type: ignore[return-value]


@given(keys())
def test_a_key_comes_back_from_its_bytes(case: tuple[Family, tuple[Type, ...], Key]) -> None:
    family, types, values = case
    data = b"".join(FORMS[family][t].encode(v) for t, v in zip(types, values, strict=True))
    assert decode_key(family, types, data) == values
    assert len(data) % 4 == 0
    assert types_of(family, key_number(family, types)) == types
    assert key_length(family, types) == (len(data) if len(types) > 1 else FORMS[family][types[0]].length)


@given(st.ip_addresses(v=4), st.integers(0, 32))
def test_a_network_comes_back_from_its_ends(where: IPv4Address, length: int) -> None:
    whole = ip_network((int(where), length), strict=False)
    expected = whole.network_address if length == 32 else whole
    assert span(first(whole), last(whole)) == expected
    assert first(where) == last(where) == where


def test_ends_that_are_no_network_are_refused() -> None:
    with pytest.raises(ValueError):
        span(IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2"))
    with pytest.raises(ValueError):
        span(IPv6Address("fd00::1"), IPv6Address("fd00::4"))
    with pytest.raises(ValueError, match="not a network"):
        span(1, 2)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30))
def test_a_comment_comes_back_from_its_userdata(words: str) -> None:
    assert comment_of(udata(3, b"else") + comment_udata(words)) == words
    assert comment_of(None) == ""


def test_a_batch_is_framed_and_its_last_change_is_acknowledged() -> None:
    made = batch(diff(None, everything()), 100)
    found = list(codec.messages(made.data))
    assert [m.sequence for m in found] == list(range(100, 100 + len(found)))
    assert (found[0].type, found[-1].type) == (c.NFNL_MSG_BATCH_BEGIN, c.NFNL_MSG_BATCH_END)
    assert [m.sequence for m in found if m.flags & codec.NLM_F_ACK] == [made.last] == [found[-2].sequence]
    assert made.names[101] == "add table"


def test_messages_of_elements_fit_the_length_of_an_attribute() -> None:
    held: dict[Key, Element] = {(n, "eth0"): Element(comment="x" * 100) for n in range(3000)}
    pairs = Set("pairs", (Type.MARK, Type.IFNAME))
    made = batch(Transaction(Family.IP, TABLE, (AddTable(), AddElements(pairs, held))), 1)
    sizes = [
        len(attribute[c.NFTA_SET_ELEM_LIST_ELEMENTS])
        for m in codec.messages(made.data)
        if m.type & 0xFF == c.NFT_MSG_NEWSETELEM
        for attribute in [codec.attribute_map(m.body, 4)]
    ]
    assert len(sizes) > 3
    assert max(sizes) <= 65531
    total = sum(
        len(list(codec.attributes(codec.attribute_map(m.body, 4)[c.NFTA_SET_ELEM_LIST_ELEMENTS])))
        for m in codec.messages(made.data)
        if m.type & 0xFF == c.NFT_MSG_NEWSETELEM
    )
    assert total == 3000


def test_an_error_names_the_operation_and_the_value() -> None:
    wrong: dict[Key, Element] = {(address("10.0.0.1"), "quic", 80): Element()}
    with pytest.raises(ValueError, match=r"add elements of services: .*quic"):
        batch(Transaction(Family.IP, TABLE, (AddElements(Set("services", SERVICE), wrong),)), 1)


FOREIGN = [
    ("the length of a packet", "add rule ip portway a ip length 100 drop"),
    ("a log", "add rule ip portway a log"),
    (
        "a plain dnat",
        "add chain ip portway n { type nat hook prerouting priority 0; }\nadd rule ip portway n dnat to 10.0.0.1",
    ),
    ("a set of ethernet addresses", "add set ip portway s { type ether_addr; }"),
    (
        "a range that is no network",
        "add set ip portway s { type ipv4_addr; flags interval; }\nadd element ip portway s { 10.0.0.1-10.0.0.2 }",
    ),
    ("a trace", "add rule ip portway a meta nftrace set 1"),
    ("a mark that is set, not changed", "add rule ip portway a meta mark set 1"),
]


@pytest.mark.parametrize(("sentence", "text"), FOREIGN, ids=[f[0] for f in FOREIGN])
def test_what_is_not_of_our_vocabulary_is_said_not_guessed(sentence: str, text: str) -> None:
    with private_namespace() as fd:
        nft_program(fd, "-f", "-", stdin=f"add table ip {TABLE}\nadd chain ip {TABLE} a\n{text}\n")
        nft = KernelNft(run_in(fd, lambda: open_netlink(NETLINK_NETFILTER)))
        with pytest.raises(NftError, match="delete the table if it was not made by portway"):
            nft.read(Family.IP, TABLE)
        nft.apply(diff(everything(), None))
        assert nft.read(Family.IP, TABLE) is None, sentence
        nft.close()


def test_other_peoples_tables_are_not_touched_and_not_seen() -> None:
    with private_namespace() as fd:
        nft_program(fd, "-f", "-", stdin="table ip theirs {\n chain c {\n log\n }\n}\n")
        nft = KernelNft(run_in(fd, lambda: open_netlink(NETLINK_NETFILTER)))
        nft.apply(diff(None, everything()))
        nft.read(Family.IP, TABLE)
        nft.apply(diff(everything(), None))
        assert "log" in nft_program(fd, "list", "table", "ip", "theirs")
        nft.close()


def test_a_closed_holder_is_closed() -> None:
    with kernel_nft() as nft:
        nft.close()
        with pytest.raises(OSError):
            nft.read(Family.IP, TABLE)


class SmallBuffer(socket.socket):
    """An ordinary user's socket: its buffer may not grow beyond a limit."""

    def setsockopt(self, *arguments: object) -> None:
        if arguments[:2] == (socket.SOL_SOCKET, 32):
            raise PermissionError("SO_SNDBUFFORCE")
        if arguments[:2] == (socket.SOL_SOCKET, socket.SO_SNDBUF):
            arguments = (*arguments[:2], 20_000)
        super().setsockopt(*arguments)  # type: ignore[call-overload]


def test_what_does_not_fit_the_socket_goes_in_halves() -> None:
    held: dict[Key, Element] = {(n, "eth0"): Element(comment="x" * 20) for n in range(3000)}
    table = Ruleset(Family.IP, TABLE, (Set("pairs", (Type.MARK, Type.IFNAME)),), elements={"pairs": held})
    with private_namespace() as fd:
        sock = run_in(fd, lambda: open_netlink(NETLINK_NETFILTER))
        nft = KernelNft(SmallBuffer(fileno=sock.detach()))
        nft.apply(diff(None, table))
        assert nft.read(Family.IP, TABLE) == table
        nft.apply(diff(table, replace(table, elements={})))
        assert nft.read(Family.IP, TABLE) == replace(table, elements={})
        nft.close()
