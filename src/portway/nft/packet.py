"""What the walk is given and what it gives back: a packet, the host that it comes to, and how it ended.

`walk` steps a `Packet` through the hooks of a `Host`; the `Outcome` is a frozen value that tests compare and `explain`
prints. Printed, an outcome is the verdict and below it one line for each rule and element that matched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address

from portway.nft.tables import Address, Hook, RejectWith

_LAST_RESORT = IPv4Address("255.255.255.255")


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet as it enters a host. An empty `iif` says that the host itself sends it.

    `ct_state` is what connection tracking thinks of it, `ct_status` whether its connection is translated already."""

    saddr: Address
    daddr: Address
    dport: int = 80
    proto: str = "tcp"
    sport: int = 40000
    iif: str = "eth0"
    oif: str = ""
    mark: int = 0
    ct_state: str = "new"
    ct_status: frozenset[str] = frozenset()


def _no_interface(address: Address) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Host:
    """What the walk must know of the host: its own addresses, and by which interface it would reach an address."""

    addresses: frozenset[Address] = frozenset()
    route: Callable[[Address], str] = _no_interface
    broadcasts: frozenset[Address] = frozenset()

    def address_type(self, address: Address) -> str:
        """As `fib daddr type` says it. Every loopback address is local."""
        if address in self.addresses or address.is_loopback:
            return "local"
        if address.is_multicast:
            return "multicast"
        return "broadcast" if address in self.broadcasts or address == _LAST_RESORT else "unicast"


class End(StrEnum):
    """Where a packet's way through a host ends."""

    LOCAL = "local"  # a socket of this host gets it, if one listens
    FORWARDED = "forwarded"  # it leaves the host
    DROPPED = "dropped"
    REJECTED = "rejected"  # the sender is told


@dataclass(frozen=True, slots=True)
class Step:
    """A rule that matched, or an element that was found, and where; `comment` names its origin."""

    hook: Hook
    chain: str
    text: str
    comment: str = ""

    def __str__(self) -> str:
        return f"{self.hook:<12} {self.chain:<20} {self.text}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended. Two outcomes are equal when the same happened to the packet, whichever rules did it."""

    end: End
    packet: Packet
    dnat: tuple[Address, int] | None = None
    masqueraded: bool = False
    reject: RejectWith | None = None
    steps: tuple[Step, ...] = field(default=(), compare=False)

    def __str__(self) -> str:
        words = [self.end.value]
        if self.reject:
            words.append(f"({self.reject})")
        if self.dnat:
            words.append(f"dnat to {self.dnat[0]} port {self.dnat[1]}")
        if self.masqueraded:
            words.append("masqueraded")
        return "\n".join([", ".join(words), *(f"  {step}" for step in self.steps)])
