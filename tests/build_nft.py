"""Rulesets for the tests of `nft`: a sentence-long vocabulary, one table that uses all of it, and random tables.

The random tables are ones that the kernel must take: chains only go to later ones, translation is reached from nat
chains only, ranges do not overlap.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

import pytest
from hypothesis import strategies as st

from portway.netlink.namespace import new_namespace, run_in
from portway.netlink.socket import NETLINK_NETFILTER, open_netlink
from portway.nft.kernel import KernelNft
from portway.nft.tables import (
    ACCEPT,
    DROP,
    RETURN,
    Address,
    Base,
    Chain,
    ChainType,
    ClearMark,
    Counter,
    DnatMap,
    DnatMaps,
    Element,
    Family,
    Field,
    Hook,
    InSet,
    JHash,
    Key,
    MarkBits,
    MarkMap,
    Masquerade,
    Match,
    Network,
    Numgen,
    OrMark,
    Reject,
    RejectWith,
    Rule,
    Ruleset,
    Set,
    Statement,
    Type,
    Verdict,
    VerdictKind,
    VerdictMap,
    goto,
    jump,
)

TABLE = "portway"
NAT_IN = Base(ChainType.NAT, Hook.PREROUTING, -100)
NAT_LOCAL = Base(ChainType.NAT, Hook.OUTPUT, -100)
NAT_OUT = Base(ChainType.NAT, Hook.POSTROUTING, 100)
FILTER_IN = Base(ChainType.FILTER, Hook.INPUT, 0)
FILTER_FORWARD = Base(ChainType.FILTER, Hook.FORWARD, 0)
SERVICE = (Type.ADDR, Type.PROTO, Type.PORT)
TO_SERVICE = (Field.DADDR, Field.L4PROTO, Field.DPORT)


def address(words: str) -> Address:
    return ip_address(words)


def network(words: str) -> Network:
    return ip_network(words)


def services(elements: dict[Key, Element], endpoints: dict[Key, Element], **more: Any) -> Ruleset:
    """The layout of the proxy in small: a map of Services, a chain for each number of endpoints, a map of endpoints."""
    counts = sorted({e.value.chain for e in elements.values() if isinstance(e.value, Verdict) and e.value.chain})
    picks = tuple(
        Chain(name, (Rule((DnatMap((*TO_SERVICE, Numgen(int(name[5:]))), "endpoints"),)),)) for name in counts
    )
    return Ruleset(
        Family.IP,
        TABLE,
        (Set("services", SERVICE, (Type.VERDICT,)), Set("endpoints", (*SERVICE, Type.SLOT), (Type.ADDR, Type.PORT))),
        (Chain("incoming", (Rule((VerdictMap(TO_SERVICE, "services"),)),), NAT_IN), *picks),
        {"services": elements, "endpoints": endpoints},
        **more,
    )


def service(where: str, *endpoints: str, port: int = 80) -> tuple[dict[Key, Element], dict[Key, Element]]:
    """The elements of one Service: ("10.3.240.9", "10.0.1.2", "10.0.2.2")."""
    key: Key = (address(where), "tcp", port)
    slots: dict[Key, Element] = {(*key, i): Element((address(e), 8080), "shop/web") for i, e in enumerate(endpoints)}
    return {key: Element(goto(f"pick-{len(endpoints)}"), "shop/web")}, slots


def everything(family: Family = Family.IP) -> Ruleset:
    """One table that uses every statement, every type and every kind of set."""
    four = family is Family.IP
    ip = (lambda n: IPv4Address(f"10.0.0.{n}")) if four else (lambda n: IPv6Address(f"fd00::{n}"))
    wide = IPv4Network("10.16.0.0/12") if four else IPv6Network("fd01::/20")
    bytewise = IPv4Network("10.1.0.0/16") if four else IPv6Network("fd02::/64")
    rules: dict[str, tuple[Statement, ...]] = {
        "Services": (VerdictMap(TO_SERVICE, "services"),),
        "node ports": (Match(Field.FIB_DADDR_TYPE, "local"), Match(Field.L4PROTO, "tcp"), Match(Field.DPORT, 80), DROP),
        "ct": (Match(Field.CT_STATE, "new"), Match(Field.CT_STATE, "invalid", True), jump("pick-2")),
        "ct many": (Match(Field.CT_STATE, ("established", "related")), Match(Field.CT_STATUS, ("dnat", "snat"), True)),
        "status": (Match(Field.CT_STATUS, "dnat"), Match(Field.CT_STATUS, "snat", True), goto("pick-2")),
        "fib": (Match(Field.FIB_SADDR_TYPE, ("broadcast", "local")), Match(Field.FIB_DADDR_TYPE, "local", True), DROP),
        "groups": (MarkMap(TO_SERVICE, "groups"),),
        "slots": (
            Match(Field.L4PROTO, "tcp"),
            DnatMaps((Field.MARK, JHash((Field.SADDR, Field.SPORT), 1021, 7)), "slots", TO_SERVICE, "doors"),
        ),
        "marks": (MarkBits(0x4000), OrMark(0x8000), ClearMark(0x4000), Match(Field.MARK, 0x10), RETURN),
        "names": (Match(Field.IIFNAME, "veth*"), Match(Field.IIFNAME, "eth0", True), Match(Field.OIFNAME, ("a", "b"))),
        "wide": (Match(Field.SADDR, wide, True), Match(Field.DADDR, bytewise), Match(Field.L4PROTO, ("sctp", "udp"))),
        "choice": (Match(Field.DADDR, (ip(1), wide)), Match(Field.DPORT, (80, 443), True), Match(Field.SPORT, 53)),
        "sets": (InSet((*TO_SERVICE, Field.SADDR), "sources", True), InSet((Field.DADDR,), "ranges"), RETURN),
        "mark sets": (InSet((Field.MARK, Field.IIFNAME), "pairs"), InSet((Field.MARK,), "marks"), ACCEPT),
        "plain sets": (InSet((Field.L4PROTO,), "protocols"), InSet((Field.DPORT,), "ports"), Counter()),
        "ranges": (VerdictMap((Field.SADDR,), "by-source"), Match(Field.MARK, (1, 256)), Verdict(VerdictKind.CONTINUE)),
    }
    chains = (
        Chain(
            "forwarding",
            (Rule((Match(Field.L4PROTO, "tcp"), Reject(RejectWith.TCP_RESET))), Rule((Reject(),))),
            FILTER_FORWARD,
            "what nobody serves",
        ),
        Chain("incoming", tuple(Rule(s, comment) for comment, s in rules.items()), NAT_IN),
        Chain("outgoing", (Rule((Masquerade(),)), Rule((Masquerade(fully_random=False),))), NAT_OUT),
        Chain("pick-2", (Rule((Counter(), DnatMap((*TO_SERVICE, Numgen(2)), "endpoints")), "a lot"),), None, "two"),
    )
    sets = (
        Set("by-source", (Type.ADDR,), (Type.VERDICT,), interval=True),
        Set("doors", SERVICE, (Type.PORT,)),
        Set("endpoints", (*SERVICE, Type.SLOT), (Type.ADDR, Type.PORT), comment="who answers"),
        Set("groups", SERVICE, (Type.MARK,)),
        Set("marks", (Type.MARK,)),
        Set("pairs", (Type.MARK, Type.IFNAME)),
        Set("ports", (Type.PORT,)),
        Set("protocols", (Type.PROTO,)),
        Set("ranges", (Type.ADDR,), interval=True, comment="sorted"),
        Set("services", SERVICE, (Type.VERDICT,)),
        Set("slots", (Type.MARK, Type.SLOT), (Type.ADDR,)),
        Set("sources", (*SERVICE, Type.ADDR), interval=True),
    )
    elements: dict[str, dict[Key, Element]] = {
        "by-source": {(wide,): Element(DROP, "all of it")},
        "endpoints": {(ip(9), "tcp", 80, i): Element((ip(20 + i), 8080), "shop/web") for i in range(2)},
        "doors": {(ip(9), "tcp", 80): Element((30080,))},
        "groups": {(ip(9), "tcp", 80): Element((7,), "shop/web")},
        "slots": {(7, i): Element((ip(20 + i),)) for i in range(2)},
        "marks": {(0x4000,): Element()},
        "pairs": {(0x4000, "eth0"): Element(comment="a pair")},
        "ports": {(80,): Element()},
        "protocols": {("tcp",): Element()},
        "ranges": {(ip(1),): Element(), (bytewise,): Element(comment="near"), (_next(bytewise),): Element()},
        "services": {(ip(9), "tcp", 80): Element(goto("pick-2"), "shop/web"), (ip(9), "udp", 53): Element(DROP)},
        "sources": {(ip(9), "tcp", 80, ip(3)): Element(), (ip(9), "tcp", 80, wide): Element(comment="office")},
    }
    return Ruleset(family, TABLE, sets, chains, elements, "made for a test")


def _next(of: Network) -> Network:
    """The network of the same size beside it: ranges that touch."""
    return ip_network((int(of.broadcast_address) + 1, of.prefixlen))


_POOL: dict[Type, list[Any]] = {
    Type.ADDR: [IPv4Address(f"10.0.0.{n}") for n in range(1, 5)],
    Type.PROTO: ["tcp", "udp", "sctp"],
    Type.PORT: [53, 80, 443, 65535],
    Type.MARK: [1, 0x4000, 0xFFFFFFFF],
    Type.SLOT: [0, 1, 2, 700],
    Type.IFNAME: ["eth0", "veth-123456789a"],
}
_RANGES = [
    IPv4Network("10.1.0.0/16"),
    IPv4Network("10.2.0.0/16"),
    IPv4Network("10.3.0.0/17"),
    IPv4Address("1.1.1.1"),
    IPv4Address("255.255.255.255"),
    IPv4Network("0.0.0.0/8"),
]
_COMMENTS = st.sampled_from(["", "shop/web", "spec.ports[0]"])
_SETS = [
    Set("services", SERVICE, (Type.VERDICT,)),
    Set("services", SERVICE, (Type.VERDICT,), comment="of the cluster"),
    Set("endpoints", (*SERVICE, Type.SLOT), (Type.ADDR, Type.PORT)),
    Set("ranges", (Type.ADDR,), interval=True),
    Set("sources", (*SERVICE, Type.ADDR), interval=True),
    Set("sources", (*SERVICE, Type.ADDR)),
    Set("pairs", (Type.MARK, Type.IFNAME)),
]


@st.composite
def rulesets(draw: st.DrawFn) -> Ruleset:
    """A table that the kernel must take, small enough that two of them have much in common."""
    sets = draw(st.lists(st.sampled_from(_SETS), unique_by=lambda s: s.name))
    names = draw(st.lists(st.sampled_from(["pick-1", "pick-2", "pick-3"]), unique=True))
    elements = {s.name: draw(st.dictionaries(_keys(s), _values(s, names), max_size=5)) for s in sets}
    chains = [draw(_picks(name, sorted(n for n in names if n > name), sets)) for name in names]
    if draw(st.booleans()):
        chains.append(draw(_incoming(sets, names)))
    if draw(st.booleans()):
        chains.append(Chain("outgoing", (Rule((MarkBits(0x4000), Masquerade()), "ours"),), NAT_OUT))
    comment = draw(st.sampled_from(["", "", "", "a table"]))
    return Ruleset(Family.IP, TABLE, tuple(sets), tuple(chains), elements, comment)


def _keys(s: Set) -> st.SearchStrategy[Key]:
    fields = [st.sampled_from(_POOL[t]) for t in s.key]
    if s.interval:
        fields[-1] = st.sampled_from(_RANGES)
    return st.tuples(*fields)


def _values(s: Set, chains: list[str]) -> st.SearchStrategy[Element]:
    value: st.SearchStrategy[Any] = st.none()
    if s.value == (Type.VERDICT,):
        value = st.sampled_from([DROP, ACCEPT, *(goto(c) for c in chains)])
    elif s.value:
        value = st.tuples(*(st.sampled_from(_POOL[t]) for t in s.value))
    return st.builds(Element, value, _COMMENTS)


def _rules(statements: list[tuple[Statement, ...]]) -> st.SearchStrategy[tuple[Rule, ...]]:
    return st.lists(st.builds(Rule, st.sampled_from(statements), _COMMENTS), max_size=3).map(tuple)


def _picks(name: str, later: list[str], sets: list[Set]) -> st.SearchStrategy[Chain]:
    bodies: list[tuple[Statement, ...]] = [(Counter(),), *((jump(c),) for c in later)]
    if any(s.name == "endpoints" for s in sets):
        bodies.append((DnatMap((*TO_SERVICE, Numgen(2)), "endpoints"),))
    return st.builds(Chain, st.just(name), _rules(bodies), st.none(), _COMMENTS)


def _incoming(sets: list[Set], chains: list[str]) -> st.SearchStrategy[Chain]:
    bodies: list[tuple[Statement, ...]] = [
        (Match(Field.DPORT, (80, 443)), OrMark(0x4000)),
        (Match(Field.SADDR, IPv4Network("10.0.0.0/9"), True), ACCEPT),
        *((Match(Field.CT_STATE, "new"), goto(c)) for c in chains),
    ]
    named = {s.name for s in sets}
    if "services" in named:
        bodies.append((VerdictMap(TO_SERVICE, "services"),))
    if "ranges" in named:
        bodies.append((InSet((Field.SADDR,), "ranges"), DROP))
    if "sources" in named:
        bodies.append((InSet((*TO_SERVICE, Field.SADDR), "sources", True), DROP))
    if "pairs" in named:
        bodies.append((InSet((Field.MARK, Field.IIFNAME), "pairs"), RETURN))
    return st.builds(Chain, st.just("incoming"), _rules(bodies), st.just(NAT_IN))


@contextmanager
def private_namespace() -> Iterator[int]:
    """A descriptor of an empty network namespace; skips the test where none may be made."""
    import os

    try:
        fd = new_namespace()
    except PermissionError as e:
        pytest.skip(f"no private network namespace here: {e}")
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def kernel_nft() -> Iterator[KernelNft]:
    """The kernel's tables in a namespace of their own; skips the test where there is no nf_tables."""
    with private_namespace() as fd:
        try:
            sock = run_in(fd, lambda: open_netlink(NETLINK_NETFILTER))
        except OSError as e:
            pytest.skip(f"no netfilter in this kernel: {e}")
        nft = KernelNft(sock)
        try:
            yield nft
        finally:
            nft.close()


def nft_program(namespace: int, *arguments: str, stdin: str = "") -> str:
    """What `nft` prints when it runs in the namespace; skips the test where it is not installed."""
    program = shutil.which("nft", path="/usr/sbin:/usr/bin:/sbin:/bin")
    if program is None:
        pytest.skip("nft is not installed (package nftables)")
    command = [program, *arguments]
    done = run_in(namespace, lambda: subprocess.run(command, input=stdin, capture_output=True, text=True))
    assert done.returncode == 0, done.stderr
    return done.stdout
