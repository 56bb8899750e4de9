"""Which ClusterIP and which node port a Service gets: pure arithmetic over two ranges and what is taken in them.

Both ranges keep a band at the bottom for addresses that people choose themselves; what is given out comes from above
the band while there is room (KEP-3070 for addresses, KEP-3668 for ports). A request is honoured anywhere in the range.
`services` calls this for each Service; the numbers that are taken come from the stored Services, there is no second
book.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from ipaddress import AddressValueError, IPv4Address, IPv4Network

Choose = Callable[[int], int]
"""A random whole number below the argument."""


class Refusal(StrEnum):
    """Why a number cannot be had, in Kubernetes' words."""

    FULL = "range is full"
    PORT_TAKEN = "provided port is already allocated"
    IP_TAKEN = "provided IP is already allocated"
    PORT_OUTSIDE = "provided port is not in the valid range. The range of valid ports is {}"
    IP_OUTSIDE = "the provided IP ({}) is not in the valid range. The range of valid IPs is {}"


class Refused(Exception):
    """`reason` is the name, the text is the sentence."""

    def __init__(self, reason: Refusal, *words: object) -> None:
        super().__init__(reason.value.format(*words))
        self.reason = reason


def band(size: int, smallest: int, step: int, largest: int) -> int:
    """How many numbers at the bottom of a range are given out last."""
    return min(max(smallest, size // step), largest)


@dataclass(frozen=True)
class AddressRange:
    """Service addresses; the network's own and its last address are never given out."""

    network: IPv4Network

    @cached_property
    def _bounds(self) -> tuple[int, int, int]:
        first, last = int(self.network.network_address) + 1, int(self.network.broadcast_address) - 1
        reserved = band(self.network.num_addresses, 16, 16, 256)
        return first, min(first + reserved, last + 1), last

    def request(self, address: str, taken: Container[str]) -> str:
        """The address that was asked for, or Refused."""
        try:
            number = int(IPv4Address(address))
        except AddressValueError:
            raise Refused(Refusal.IP_OUTSIDE, address, self.network) from None
        first, _, last = self._bounds
        if not first <= number <= last:
            raise Refused(Refusal.IP_OUTSIDE, address, self.network)
        if address in taken:
            raise Refused(Refusal.IP_TAKEN)
        return address

    def pick(self, taken: Container[str], choose: Choose) -> str:
        """A free address, or Refused."""
        first, middle, last = self._bounds
        found = _pick(first, middle, last, lambda n: str(IPv4Address(n)) in taken, choose)
        return str(IPv4Address(found))


@dataclass(frozen=True, slots=True)
class PortRange:
    """Node ports, both ends included."""

    first: int = 30000
    last: int = 32767

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"

    def request(self, port: int, taken: Container[int]) -> int:
        """The port that was asked for, or Refused."""
        if not self.first <= port <= self.last:
            raise Refused(Refusal.PORT_OUTSIDE, self)
        if port in taken:
            raise Refused(Refusal.PORT_TAKEN)
        return port

    def pick(self, taken: Container[int], choose: Choose) -> int:
        """A free port, or Refused."""
        middle = min(self.first + band(self.last - self.first + 1, 16, 32, 128), self.last + 1)
        return _pick(self.first, middle, self.last, lambda n: n in taken, choose)


def _pick(first: int, middle: int, last: int, is_taken: Callable[[int], bool], choose: Choose) -> int:
    """From a chosen place upwards and around: in [middle, last], then in [first, middle)."""
    for low, high in ((middle, last), (first, middle - 1)):
        size = high - low + 1
        if size <= 0:
            continue
        start = choose(size)
        for step in range(size):
            number = low + (start + step) % size
            if not is_taken(number):
                return number
    raise Refused(Refusal.FULL)
