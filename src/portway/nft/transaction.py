"""The difference of two rulesets as one transaction: ordered operations that the kernel applies whole or not at all.

`diff(old, new)` is what an apply loop calls with what is loaded and what is wanted; the result goes to an `Nft`
(`kernel.KernelNft` or `fake.FakeNft`), and `str(transaction)` is the same as text for `nft -f`.

The order is the one that the kernel accepts. Things that are pointed to are made before what points to them and removed
after it: delete elements, flush chains, delete sets, delete chains; then add sets, chains, rules, elements.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeAlias

from portway.nft.operations import (
    AddChain,
    AddElements,
    AddRule,
    AddSet,
    AddTable,
    DeleteChain,
    DeleteElements,
    DeleteSet,
    DeleteTable,
    FlushChain,
    Operation,
)
from portway.nft.tables import Chain, Element, Family, Key, Ruleset, Verdict
from portway.nft.text import operation_lines

_Elements: TypeAlias = Mapping[Key, Element]
_NOTHING: _Elements = {}


@dataclass(frozen=True, slots=True)
class Transaction:
    """Ordered changes of one table. False when there is nothing to do; printed, it is a file for `nft -f`."""

    family: Family
    table: str
    operations: tuple[Operation, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.operations)

    def __str__(self) -> str:
        lines = (line for op in self.operations for line in operation_lines(self.family, self.table, op))
        return "".join(f"{line}\n" for line in lines)


def diff(old: Ruleset | None, new: Ruleset | None) -> Transaction:
    """The least that turns `old` into `new`; None stands for "no such table".

    Costs one look at each element of the sets whose mapping is not the very same object in both. Raises ValueError
    when the two are different tables."""
    if new is None:
        return Transaction(old.family, old.name, (DeleteTable(),)) if old else Transaction(Family.IP, "")
    if old is None:
        return Transaction(new.family, new.name, tuple(_create(new)))
    if (old.family, old.name) != (new.family, new.name):
        raise ValueError(f"{old.family} {old.name} and {new.family} {new.name} are different tables")
    if old.comment != new.comment:  # the kernel cannot change a table's comment
        return Transaction(new.family, new.name, (DeleteTable(), *_create(new)))
    return Transaction(new.family, new.name, tuple(_change(old, new)))


def halves(transaction: Transaction) -> tuple[Transaction, Transaction] | None:
    """Two transactions that do the same one after the other; None when there is nothing left to divide.

    Between them the table is as it would be in the midst of the one: every operation stands behind those it needs."""
    operations = transaction.operations
    if len(operations) == 1:
        operations = tuple(_halved(operations[0]))
    middle = len(operations) // 2
    if not middle:
        return None
    return replace(transaction, operations=operations[:middle]), replace(transaction, operations=operations[middle:])


def _halved(operation: Operation) -> Iterator[Operation]:
    match operation:
        case AddElements() if len(operation.elements) > 1:
            items = list(operation.elements.items())
            middle = len(items) // 2
            yield from (replace(operation, elements=dict(part)) for part in (items[:middle], items[middle:]))
        case DeleteElements() if len(operation.keys) > 1:
            middle = len(operation.keys) // 2
            yield from (replace(operation, keys=part) for part in (operation.keys[:middle], operation.keys[middle:]))
        case _:
            yield operation


def _create(new: Ruleset) -> Iterator[Operation]:
    yield AddTable(new.comment)
    yield from (AddSet(s) for s in new.sets)
    yield from (AddChain(replace(c, rules=())) for c in new.chains)
    yield from (AddRule(c.name, rule) for c in new.chains for rule in c.rules)
    for s in new.sets:
        if elements := new.elements.get(s.name, _NOTHING):
            yield AddElements(s, elements)


@dataclass(frozen=True, slots=True)
class _Changes:
    """Names, by what happens to them. A set or chain whose header changed is both deleted and added."""

    sets_gone: frozenset[str]
    chains_gone: frozenset[str]
    chains_refilled: frozenset[str]


def _change(old: Ruleset, new: Ruleset) -> Iterator[Operation]:
    changes = _changes(old, new)
    old_sets = {s.name for s in old.sets} - changes.sets_gone
    old_chains = {c.name for c in old.chains} - changes.chains_gone
    gone: list[Operation] = []
    come: list[Operation] = []
    for s in new.sets:
        before = old.elements.get(s.name, _NOTHING) if s.name in old_sets else _NOTHING
        deleted, added = _elements(before, new.elements.get(s.name, _NOTHING), changes.chains_gone)
        if deleted:
            gone.append(DeleteElements(s, deleted))
        if added:
            come.append(AddElements(s, added))
    yield from gone
    for c in old.chains:
        if c.rules and (c.name in changes.chains_refilled or c.name in changes.chains_gone):
            yield FlushChain(c.name)
    yield from (DeleteSet(s) for s in old.sets if s.name in changes.sets_gone)
    yield from (DeleteChain(c.name) for c in old.chains if c.name in changes.chains_gone)
    yield from (AddSet(s) for s in new.sets if s.name not in old_sets)
    yield from (AddChain(replace(c, rules=())) for c in new.chains if c.name not in old_chains)
    for c in new.chains:
        if c.name not in old_chains or c.name in changes.chains_refilled:
            yield from (AddRule(c.name, rule) for rule in c.rules)
    yield from come


def _changes(old: Ruleset, new: Ruleset) -> _Changes:
    new_sets = {s.name: s for s in new.sets}
    new_chains = {c.name: c for c in new.chains}
    sets_gone = frozenset(s.name for s in old.sets if new_sets.get(s.name) != s)
    chains_gone = frozenset(c.name for c in old.chains if _header(new_chains.get(c.name)) != _header(c))
    refilled = frozenset(
        c.name
        for c in old.chains
        if c.name not in chains_gone and (c.rules != new_chains[c.name].rules or _points_to(c, sets_gone, chains_gone))
    )
    return _Changes(sets_gone, chains_gone, refilled)


def _header(chain: Chain | None) -> tuple[object, ...]:
    return (chain.name, chain.base, chain.comment) if chain else ()


def _points_to(chain: Chain, sets: frozenset[str], chains: frozenset[str]) -> bool:
    """Whether a rule uses something that goes away: the kernel deletes nothing that is in use."""
    return any(not sets.isdisjoint(rule.sets_used) or not chains.isdisjoint(rule.chains_used) for rule in chain.rules)


def _elements(
    old: _Elements, new: _Elements, chains_gone: frozenset[str]
) -> tuple[tuple[Key, ...], dict[Key, Element]]:
    """(keys to delete, elements to add). An element that points to a chain that is made anew is made anew, too."""
    if old is new and not chains_gone:
        return (), {}
    if not chains_gone:
        old, new = _differing(old, new)
    deleted: list[Key] = []
    added: dict[Key, Element] = {}
    for key, before in old.items():
        after = new.get(key)
        if after is before or after == before:
            value = before.value
            if not (chains_gone and isinstance(value, Verdict) and value.chain in chains_gone):
                continue
        deleted.append(key)
        if after is not None:
            added[key] = after
    for key, after in new.items():
        if key not in old:
            added[key] = after
    return tuple(deleted), added


def _differing(old: _Elements, new: _Elements) -> tuple[_Elements, _Elements]:
    """Both without what they begin and end with in common, compared by identity.

    A change touches few of many elements, and a key's hash costs more than all else here."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return old, new
    head = _common(zip(old.items(), new.items(), strict=False))
    rest = min(len(old), len(new)) - head
    tail = _common(islice(zip(reversed(old.items()), reversed(new.items()), strict=False), rest))
    return _middle(old, head, tail), _middle(new, head, tail)


def _common(pairs: Iterable[tuple[tuple[Key, Element], tuple[Key, Element]]]) -> int:
    """How many pairs are the very same key and element, up to the first that is not."""
    count = 0
    for (key, element), (other_key, other_element) in pairs:
        if key is not other_key or element is not other_element:
            break
        count += 1
    return count


def _middle(elements: dict[Key, Element], head: int, tail: int) -> dict[Key, Element]:
    return dict(islice(elements.items(), head, len(elements) - tail))
