"""What a transaction is made of: one frozen value for each change that the kernel knows.

`transaction.diff` makes them, `text` prints them, `wire` encodes them and `fake` carries them out. An operation names
its set with its types, so that a deletion can be encoded (and printed) without a look at any table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from portway.nft.tables import Chain, Element, Key, Rule, Set


@dataclass(frozen=True, slots=True)
class AddTable:
    """Make the table; the transaction says which."""

    comment: str = ""


@dataclass(frozen=True, slots=True)
class DeleteTable:
    """Remove the table and all that is in it."""


@dataclass(frozen=True, slots=True)
class AddSet:
    set: Set


@dataclass(frozen=True, slots=True)
class DeleteSet:
    """Remove a set that no rule uses, with its elements; what these pointed to is free afterwards."""

    set: Set


@dataclass(frozen=True, slots=True)
class AddChain:
    """Make an empty chain: `chain.rules` are not looked at, they come as `AddRule`."""

    chain: Chain


@dataclass(frozen=True, slots=True)
class FlushChain:
    """Remove the chain's rules."""

    chain: str


@dataclass(frozen=True, slots=True)
class DeleteChain:
    """Remove an empty chain that no rule and no element points to."""

    chain: str


@dataclass(frozen=True, slots=True)
class AddRule:
    """Append a rule to its chain."""

    chain: str
    rule: Rule


@dataclass(frozen=True, slots=True)
class AddElements:
    set: Set
    elements: Mapping[Key, Element]


@dataclass(frozen=True, slots=True)
class DeleteElements:
    set: Set
    keys: tuple[Key, ...]


Operation: TypeAlias = (
    AddTable
    | DeleteTable
    | AddSet
    | DeleteSet
    | AddChain
    | FlushChain
    | DeleteChain
    | AddRule
    | AddElements
    | DeleteElements
)
