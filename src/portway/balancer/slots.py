"""Which node a connection falls to: a table of slots, filled so that a node which leaves takes only its own with it. Pure.

The kernel hashes a client's address and port to a slot. Each node draws a number for each slot from its name alone, and
the highest number has the slot (rendezvous hashing): with N nodes a change of one moves 1/N of the slots, and every edge
comes to the same table whatever it lived through. `compile` turns the table into elements.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import lru_cache
from hashlib import shake_128

SLOTS = 1021
"""A prime number: about a hundred for each of ten nodes, so that none has much more than its share."""


@lru_cache(maxsize=512)
def _draws(name: str, count: int) -> array[int]:
    return array("I", shake_128(name.encode()).digest(4 * count))


@lru_cache(maxsize=512)
def _table(names: tuple[str, ...], count: int) -> tuple[str, ...]:
    drawn = [(_draws(name, count), name) for name in names]
    return tuple(max((numbers[slot], name) for numbers, name in drawn)[1] for slot in range(count))


def table(names: Sequence[str], count: int = SLOTS) -> tuple[str, ...]:
    """The name that has each slot; () without names."""
    return _table(tuple(sorted(set(names))), count) if names else ()
