"""Where addresses come from: named pools of ranges, in the order in which they are used up. Pure.

A pool comes from configuration today (`DEFAULT_POOLS` is the one-machine cluster's) and from custom resources later;
`assign` only sees this value. Network and broadcast addresses of every /24 are left out unless a pool says otherwise,
as many a client network swallows packets to .0 and .255.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address


class PoolError(ValueError):
    """A pool that cannot be; the message names it, and the other one where two collide."""


@dataclass(frozen=True, slots=True, order=True)
class Range:
    """All addresses from `first` to `last`."""

    first: Address
    last: Address

    def __contains__(self, address: object) -> bool:
        return (
            isinstance(address, IPv4Address | IPv6Address)
            and address.version == self.first.version
            and int(self.first) <= int(address) <= int(self.last)
        )

    def overlaps(self, other: Range) -> bool:
        return other.first in self or self.first in other

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """`automatic`: given out to whoever asks for nothing special. Lower `priority` is used up first, then by name."""

    name: str
    ranges: tuple[Range, ...]
    automatic: bool = True
    priority: int = 0
    avoid_edges: bool = True
    excluded: frozenset[Address] = frozenset()

    def __contains__(self, address: object) -> bool:
        return any(address in r for r in self.ranges) and not self._left_out(address)

    def __iter__(self) -> Iterator[Address]:
        """The addresses that may be given out, lowest first."""
        for r in sorted(self.ranges):
            kind = type(r.first)
            yield from (a for n in range(int(r.first), int(r.last) + 1) if not self._left_out(a := kind(n)))

    @property
    def size(self) -> int:
        return sum(1 for _ in self)

    def _left_out(self, address: object) -> bool:
        edge = self.avoid_edges and isinstance(address, IPv4Address) and address.packed[3] in (0, 255)
        return edge or address in self.excluded


def parse_range(text: str) -> Range:
    """ "203.0.113.0/24", "203.0.113.10-203.0.113.20" or a single address. PoolError for anything else."""
    low, dash, high = (part.strip() for part in text.partition("-"))
    try:
        if not dash:
            network = ip_network(low)
            return Range(network.network_address, network.broadcast_address)
        first, last = ip_address(low), ip_address(high)
    except ValueError as e:
        raise PoolError(f"{text!r} is no range: write 203.0.113.0/24 or 203.0.113.10-203.0.113.20 ({e})") from e
    if first.version != last.version or int(first) > int(last):
        raise PoolError(f"{text!r} is no range: the first address must not be above the last")
    return Range(first, last)


def pool(name: str, *ranges: str, automatic: bool = True, excluded: Iterable[str] = ()) -> Pool:
    """A pool from texts. PoolError names it when one of them is wrong."""
    try:
        parsed = tuple(parse_range(text) for text in ranges)
    except PoolError as e:
        raise PoolError(f"pool {name}: {e}") from e
    return Pool(name=name, ranges=parsed, automatic=automatic, excluded=frozenset(map(ip_address, excluded)))


def checked(pools: Iterable[Pool]) -> tuple[Pool, ...]:
    """The pools in the order in which they are used up. PoolError when two overlap or have the same name."""
    ordered = tuple(sorted(pools, key=lambda p: (p.priority, p.name)))
    for i, one in enumerate(ordered):
        for other in ordered[i + 1 :]:
            if one.name == other.name:
                raise PoolError(f"there are two pools named {one.name}: give one of them another name")
            for a in one.ranges:
                for b in other.ranges:
                    if a.overlaps(b):
                        raise PoolError(f"{a} of pool {one.name} overlaps {b} of pool {other.name}: change one of them")
    return ordered


DEFAULT_POOLS = (pool("public", "203.0.113.0/24", excluded=("203.0.113.1",)),)
"""The one-machine cluster's public addresses; .1 is the edge's own, should it ever need one there."""
