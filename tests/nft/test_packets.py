"""Real packets against the walk: what the kernel does with a connection, the interpreter must have said before.

Everything is on the loopback interface of a private namespace, where any address of 127.0.0.0/8 can be sent to.
"""

from __future__ import annotations

import fcntl
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from build_nft import FILTER_IN, NAT_LOCAL, NAT_OUT, SERVICE, TABLE, TO_SERVICE, address, private_namespace
from portway.netlink.namespace import run_in, socket_in
from portway.netlink.socket import NETLINK_NETFILTER, open_netlink
from portway.nft.kernel import KernelNft
from portway.nft.tables import (
    DROP,
    Chain,
    ClearMark,
    Counter,
    DnatMap,
    Element,
    Family,
    Field,
    InSet,
    Key,
    MarkBits,
    Masquerade,
    Match,
    Numgen,
    OrMark,
    Reject,
    RejectWith,
    Rule,
    Ruleset,
    Set,
    Type,
    VerdictMap,
    goto,
)
from portway.nft.transaction import diff
from portway.nft.walk import End, Outcome, Packet, outcomes

SERVER, CLIENT = "127.0.0.1", "127.0.0.9"
PORT = 8080
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1


@dataclass(frozen=True)
class Loopback:
    """A namespace whose lo is up, the kernel's tables in it, and a server on two of its addresses."""

    fd: int
    nft: KernelNft


NOT_LO = Match(Field.OIFNAME, "lo", negate=True)


def _up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP))


@pytest.fixture
def loopback() -> Iterator[Loopback]:
    with private_namespace() as fd:
        run_in(fd, _up)
        nft = KernelNft(run_in(fd, lambda: open_netlink(NETLINK_NETFILTER)))
        try:
            yield Loopback(fd, nft)
        finally:
            nft.close()


@pytest.fixture
def servers(loopback: Loopback) -> Iterator[dict[str, socket.socket]]:
    found = {}
    for where in (SERVER, "127.0.0.2"):
        found[where] = socket_in(loopback.fd, socket.AF_INET, socket.SOCK_STREAM)
        found[where].bind((where, PORT))
        found[where].listen()
    yield found
    for sock in found.values():
        sock.close()


def road(*, filtering: tuple[Rule, ...] = ()) -> Ruleset:
    """Services on 127.1.0.x, with two pods, with one, with none, and with the one behind a source range."""
    services: dict[Key, Element] = {
        (address("127.1.0.2"), "tcp", 80): Element(goto("pick-2"), "two"),
        (address("127.1.0.1"), "tcp", 80): Element(goto("pick-1"), "one"),
        (address("127.1.0.3"), "tcp", 80): Element(goto("nobody"), "none"),
    }
    endpoints: dict[Key, Element] = {
        (address("127.1.0.2"), "tcp", 80, 0): Element((address(SERVER), PORT)),
        (address("127.1.0.2"), "tcp", 80, 1): Element((address("127.0.0.2"), PORT)),
        (address("127.1.0.1"), "tcp", 80, 0): Element((address("127.0.0.2"), PORT)),
    }
    picks = tuple(
        Chain(f"pick-{n}", (Rule((OrMark(0x4000), DnatMap((*TO_SERVICE, Numgen(n)), "endpoints"))),)) for n in (1, 2)
    )
    return Ruleset(
        Family.IP,
        TABLE,
        (Set("services", SERVICE, (Type.VERDICT,)), Set("endpoints", (*SERVICE, Type.SLOT), (Type.ADDR, Type.PORT))),
        (
            Chain("sent", (Rule((VerdictMap(TO_SERVICE, "services"),)),), NAT_LOCAL),
            # Not through lo: 127.0.0.1 is of host scope, and the kernel drops what it finds no address to masquerade with.
            Chain("outgoing", (Rule((MarkBits(0x4000), ClearMark(0x4000), NOT_LO, Masquerade())),), NAT_OUT),
            Chain("incoming", filtering, FILTER_IN),
            Chain("nobody", (Rule((Reject(RejectWith.TCP_RESET),)),)),
            *picks,
        ),
        {"services": services, "endpoints": endpoints},
    )


def said(table: Ruleset, to: str, port: int) -> tuple[set[str], set[Outcome]]:
    """Where the walk says that a connection may end, in the words of `_answered`."""
    packet = Packet(address(CLIENT), address(to), port, iif="")
    ends = outcomes(table, packet)
    words = {End.DROPPED: "silence", End.REJECTED: "refused"}
    listening = {(address(SERVER), PORT), (address("127.0.0.2"), PORT)}
    found = {
        words.get(o.end, str(o.packet.daddr) if (o.packet.daddr, o.packet.dport) in listening else "refused")
        for o in ends
    }
    return found, ends


NO_EIGHTY = (Rule((Match(Field.CT_STATE, "new"), Match(Field.DPORT, (22, PORT)), Counter(), DROP)),)
FROM_CLIENT = (Rule((Match(Field.SADDR, address(CLIENT)), Match(Field.IIFNAME, "lo"), Reject())),)
ROWS = [
    ("a Service with one pod", "127.1.0.1", 80, ()),
    ("a Service with two pods", "127.1.0.2", 80, ()),
    ("a Service with none", "127.1.0.3", 80, ()),
    ("no Service", "127.1.0.4", 80, ()),
    ("another port of a Service", "127.1.0.1", 81, ()),
    ("the pod itself", "127.0.0.2", PORT, ()),
    ("the pod, but its port is dropped", "127.0.0.2", PORT, NO_EIGHTY),
    ("a Service whose pod's port is dropped", "127.1.0.1", 80, NO_EIGHTY),
    ("a sender that is rejected", "127.0.0.2", PORT, FROM_CLIENT),
]


@pytest.mark.parametrize(("sentence", "to", "port", "filtering"), ROWS, ids=[r[0] for r in ROWS])
def test_a_connection_ends_where_the_walk_says(
    loopback: Loopback,
    servers: dict[str, socket.socket],
    sentence: str,
    to: str,
    port: int,
    filtering: tuple[Rule, ...],
) -> None:
    table = road(filtering=filtering)
    loopback.nft.apply(diff(None, table))
    expected, ends = said(table, to, port)
    seen = {_answered(loopback, servers, to, port) for _ in range(24 if len(expected) > 1 else 1)}
    assert seen == expected, f"{sentence}\n" + "\n".join(map(str, ends))


def _answered(loopback: Loopback, servers: dict[str, socket.socket], to: str, port: int) -> str:
    """Connect, and see which server has the connection: the handshake is the kernel's, so nobody need wait."""
    sock = socket_in(loopback.fd, socket.AF_INET, socket.SOCK_STREAM)
    sock.settimeout(0.3)
    try:
        sock.bind((CLIENT, 0))
        sock.connect((to, port))
        return next(where for where, server in servers.items() if _accepts(server))
    except ConnectionRefusedError:
        return "refused"
    except TimeoutError:
        return "silence"
    finally:
        sock.close()


def _accepts(server: socket.socket) -> bool:
    server.setblocking(False)
    try:
        server.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def test_a_set_of_senders_is_honoured(loopback: Loopback, servers: dict[str, socket.socket]) -> None:
    closed = (Rule((InSet((Field.SADDR,), "senders"), Reject())),)
    table = road(filtering=closed)
    senders = Set("senders", (Type.ADDR,), interval=True)
    held: dict[Key, Element] = {(address(CLIENT),): Element(comment="the client")}
    table = Ruleset(table.family, table.name, (*table.sets, senders), table.chains, {**table.elements, "senders": held})
    loopback.nft.apply(diff(None, table))
    expected, ends = said(table, "127.0.0.2", PORT)
    assert {_answered(loopback, servers, "127.0.0.2", PORT)} == expected == {"refused"}, ends
