"""A packet's journey through a compiled table, in a line: who sends it, to where, how it ends and whom it may reach.

    check("nobody is behind the Service", table, packet(POD_A, "10.3.240.9", 80), Ends(End.REJECTED))

All outcomes that a draw of lots can give are looked at. When they are not the expected ones the rules that matched are
printed. Addresses are those of the lab: node-1 and node-2 with their pods, and a client behind the edge.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

import pytest

from portway.nft.tables import Address, RejectWith, Ruleset
from portway.nft.walk import End, Host, Outcome, Packet, outcomes

CLIENT, EDGE = "198.51.100.10", "10.100.0.1"
NODE_1_IP, NODE_2_IP = "10.100.0.2", "10.100.0.3"
POD_A, POD_B = "10.0.1.2", "10.0.1.3"  # on node-1
POD_FAR = "10.0.2.2"  # on node-2


@dataclass(frozen=True, slots=True)
class Ends:
    """How a journey ends, over all lots. `reached` are "address:port" after translation; `masqueraded` None: some are."""

    end: End
    reached: frozenset[str] = frozenset()
    masqueraded: bool | None = False
    reject: RejectWith | None = None


def arrives(*reached: str, masqueraded: bool | None = False) -> Ends:
    """It leaves the node towards one of these endpoints."""
    return Ends(End.FORWARDED, frozenset(reached), masqueraded)


RESET = Ends(End.REJECTED, reject=RejectWith.TCP_RESET)
UNREACHABLE = Ends(End.REJECTED, reject=RejectWith.PORT_UNREACHABLE)
DROPPED = Ends(End.DROPPED)
UNTOUCHED_HERE = Ends(End.LOCAL)
UNTOUCHED_ON = Ends(End.FORWARDED)


def host(number: int = 1) -> Host:
    """node-N with its pods' interfaces; everything else is behind eth0."""
    own = frozenset({IPv4Address(f"10.100.0.{number + 1}"), IPv4Address(f"10.0.{number}.1")})
    pods = IPv4Network(f"10.0.{number}.0/24")

    def route(address: Address) -> str:
        return f"veth-{address}" if isinstance(address, IPv4Address) and address in pods else "eth0"

    return Host(own, route)


def packet(source: str, destination: str, port: int, proto: str = "tcp", *, at: int = 1) -> Packet:
    """The first packet of a connection as node-`at` sees it: from itself, from one of its pods, or from the wire."""
    node, address = host(at), IPv4Address(source)
    iif = "" if address in node.addresses else node.route(address)
    return Packet(address, IPv4Address(destination), port, proto, iif=iif)


def check(sentence: str, table: Ruleset, sent: Packet, expected: Ends, *, at: int = 1) -> None:
    found = outcomes(table, sent, host(at))
    if summary(found) != expected:
        trace = "\n".join(str(o) for o in sorted(found, key=str))
        pytest.fail(f"{sentence}\n  expected {expected}\n  found    {summary(found)}\n{trace}", pytrace=False)


def summary(found: Iterable[Outcome]) -> Ends | None:
    """All outcomes in one, or None when they do not even end alike."""
    known = tuple(found)
    ends, rejects = {o.end for o in known}, {o.reject for o in known}
    masks = {o.masqueraded for o in known}
    if len(ends) != 1 or len(rejects) != 1:
        return None
    reached = frozenset(f"{o.dnat[0]}:{o.dnat[1]}" for o in known if o.dnat)
    return Ends(ends.pop(), reached, masks.pop() if len(masks) == 1 else None, rejects.pop())
