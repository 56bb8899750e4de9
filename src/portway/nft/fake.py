"""Tables in memory: a second implementation of `Nft`, for tests and for a dry run.

It refuses what the kernel refuses, with the kernel's words, and where the kernel would take nonsense (a key of other
types than the set's) it refuses, too. One contract test holds `FakeNft` and `kernel.KernelNft` to the same behaviour.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TypeVar

from portway.nft.canonical import canonical, simple
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
from portway.nft.protocol import NftError
from portway.nft.tables import (
    Base,
    Chain,
    ChainType,
    DnatMap,
    DnatMaps,
    Element,
    Expression,
    Family,
    Hook,
    InSet,
    Key,
    MarkMap,
    Masquerade,
    Reject,
    Rule,
    Ruleset,
    Set,
    Statement,
    Type,
    Verdict,
    VerdictMap,
    expression_type,
)
from portway.nft.transaction import Transaction
from portway.nft.values import first, last
from portway.nft.wire import batch, describe

_ABSENT, _EXISTS, _BUSY = "No such file or directory", "File exists", "Device or resource busy"
_UNSUPPORTED, _INVALID, _LINKS = "Operation not supported", "Invalid argument", "Too many links"
_DEEPEST = 16  # the kernel's NFT_JUMP_STACK_SIZE


V = TypeVar("V")


class _Refused(Exception):
    pass


@dataclass(slots=True)
class _Table:
    comment: str
    sets: dict[str, Set] = field(default_factory=dict)
    chains: dict[str, Chain] = field(default_factory=dict)
    elements: dict[str, dict[Key, Element]] = field(default_factory=dict)

    def copy(self) -> _Table:
        return _Table(self.comment, dict(self.sets), dict(self.chains), {n: dict(e) for n, e in self.elements.items()})


class FakeNft:
    """Tables of one imagined network namespace."""

    def __init__(self) -> None:
        self._tables: dict[tuple[Family, str], _Table] = {}
        self.applied: list[Transaction] = []

    def close(self) -> None:
        """Nothing is held."""

    def apply(self, transaction: Transaction) -> None:
        """Carry out the whole transaction. Raises `NftError`, with nothing changed, when a part is refused."""
        if not transaction:
            return
        key = (transaction.family, transaction.table)
        table = self._tables[key].copy() if key in self._tables else None
        name = "commit"
        try:
            batch(transaction, 1)  # refuses a value that does not fit its type, as on the way to the kernel
        except ValueError as e:
            raise NftError(f"{transaction.family} {transaction.table}: {e}") from e
        try:
            for op in transaction.operations:
                name = describe(op)
                table = _step(table, op)
            name = "commit"
            if table:
                _validate(table)
        except _Refused as e:
            raise NftError(f"{transaction.family} {transaction.table}: {name}: {e}") from e
        self.applied.append(transaction)
        if table:
            self._tables[key] = table
        else:
            self._tables.pop(key, None)

    def read(self, family: Family, name: str) -> Ruleset | None:
        table = self._tables.get((family, name))
        if table is None:
            return None
        sets, chains = tuple(table.sets.values()), tuple(table.chains.values())
        elements = {n: dict(e) for n, e in table.elements.items()}
        return canonical(Ruleset(family, name, sets, chains, elements, table.comment))


def _step(table: _Table | None, op: Operation) -> _Table | None:
    if isinstance(op, AddTable):
        return table or _Table(op.comment)
    if table is None:
        raise _Refused(_ABSENT)
    match op:
        case DeleteTable():
            return None
        case AddSet():
            if table.sets.setdefault(op.set.name, op.set) != op.set:
                raise _Refused(_EXISTS)
        case DeleteSet():
            _delete_set(table, op.set.name)
        case AddElements():
            _add_elements(table, op)
        case DeleteElements():
            _delete_elements(table, op)
        case _:
            _step_chain(table, op)
    return table


def _step_chain(table: _Table, op: AddChain | FlushChain | DeleteChain | AddRule) -> None:
    if isinstance(op, AddChain):
        known = table.chains.setdefault(op.chain.name, replace(op.chain, rules=()))
        if known.base != op.chain.base:
            raise _Refused(_UNSUPPORTED)
        return
    chain = _get(table.chains, op.chain)
    match op:
        case FlushChain():
            table.chains[op.chain] = replace(chain, rules=())
        case DeleteChain():
            if op.chain in _chains_pointed_to(table, without=op.chain):
                raise _Refused(_BUSY)
            del table.chains[op.chain]
        case AddRule():
            _check_rule(table, op.rule)
            table.chains[op.chain] = replace(chain, rules=(*chain.rules, op.rule))


def _get(things: dict[str, V], name: str) -> V:
    if name not in things:
        raise _Refused(_ABSENT)
    return things[name]


def _delete_set(table: _Table, name: str) -> None:
    _get(table.sets, name)
    if any(name in rule.sets_used for chain in table.chains.values() for rule in chain.rules):
        raise _Refused(_BUSY)
    del table.sets[name]
    table.elements.pop(name, None)


def _chains_pointed_to(table: _Table, without: str) -> Iterator[str]:
    """The chains that rules (but those of the chain `without`) and elements go to."""
    for chain in table.chains.values():
        if chain.name != without:
            for rule in chain.rules:
                yield from rule.chains_used
    for name in table.elements:
        yield from _targets(table, name)


def _targets(table: _Table, map_: str) -> set[str]:
    values = (e.value for e in table.elements.get(map_, {}).values())
    return {v.chain for v in values if isinstance(v, Verdict) and v.chain}


def _check_target(table: _Table, verdict: Verdict) -> None:
    if verdict.chain and _get(table.chains, verdict.chain).base:
        raise _Refused(_UNSUPPORTED)


def _check_rule(table: _Table, rule: Rule) -> None:
    for s in rule.statements:
        match s:
            case Verdict():
                _check_target(table, s)
            case InSet():
                _check_lookup(_get(table.sets, s.set), tuple(f.type for f in s.fields), ())
            case VerdictMap():
                _check_lookup(_get(table.sets, s.map), tuple(f.type for f in s.fields), (Type.VERDICT,))
            case DnatMap():
                _check_lookup(_get(table.sets, s.map), _types(s.key), (Type.ADDR, Type.PORT))
            case DnatMaps():
                _check_lookup(_get(table.sets, s.map), _types(s.key), (Type.ADDR,))
                _check_lookup(_get(table.sets, s.port_map), _types(s.port_key), (Type.PORT,))
            case MarkMap():
                _check_lookup(_get(table.sets, s.map), _types(s.fields), (Type.MARK,))
            case _:
                pass


def _types(key: Iterable[Expression]) -> tuple[Type | None, ...]:
    return tuple(expression_type(f) for f in key)


def _check_lookup(s: Set, key: tuple[Type | None, ...], value: tuple[Type, ...]) -> None:
    if s.key != key or s.value != value:
        raise _Refused(f"{_INVALID}: the set {s.name} has other types")


def _add_elements(table: _Table, op: AddElements) -> None:
    s = _get(table.sets, op.set.name)
    held = table.elements.setdefault(s.name, {})
    for raw, element in op.elements.items():
        key = tuple(simple(v) for v in raw) if s.interval else raw
        _check_element(table, s, key, element)
        known = held.get(key)
        if known is None:
            if s.interval and any(_overlap(key, other) for other in held):
                raise _Refused(f"{_EXISTS}: {key} overlaps another element")
            held[key] = element
        elif known.value != element.value:
            raise _Refused(f"{_EXISTS}: {key} has another value")


def _check_element(table: _Table, s: Set, key: Key, element: Element) -> None:
    if len(key) != len(s.key):
        raise _Refused(_INVALID)
    value = element.value
    if isinstance(value, Verdict):
        if s.value != (Type.VERDICT,):
            raise _Refused(_INVALID)
        _check_target(table, value)
    elif len(value or ()) != len(s.value):
        raise _Refused(_INVALID)


def _overlap(a: Key, b: Key) -> bool:
    if a[0] != b[0] and len(a) > 1 and first(a[0]) == last(a[0]) and first(b[0]) == last(b[0]):
        return False  # the common case, of many Services' source ranges in one set
    return all(_meet(x, y) for x, y in zip(a, b, strict=True))


def _meet(a: object, b: object) -> bool:
    low_a, high_a, low_b, high_b = (f(v) for v in (a, b) for f in (first, last))  # type: ignore[arg-type]
    return bool(low_a <= high_b and low_b <= high_a)  # type: ignore[operator]


def _delete_elements(table: _Table, op: DeleteElements) -> None:
    s = _get(table.sets, op.set.name)
    held = table.elements.get(s.name, {})
    for raw in op.keys:
        key = tuple(simple(v) for v in raw) if s.interval else raw
        if key not in held:
            raise _Refused(f"{_ABSENT}: {key}")
        del held[key]


def _validate(table: _Table) -> None:
    """What the kernel checks at the end: from each base chain, no loop, no depth, each statement where it may be."""
    for chain in table.chains.values():
        if chain.base:
            _visit(table, chain, chain.base, 0, {})


def _visit(table: _Table, chain: Chain, base: Base, depth: int, seen: dict[str, int]) -> None:
    if depth >= _DEEPEST:
        raise _Refused(_LINKS)
    if seen.get(chain.name, -1) >= depth:
        return
    seen[chain.name] = depth
    for rule in chain.rules:
        for s in rule.statements:
            _check_place(s, base)
            targets = {s.chain} - {""} if isinstance(s, Verdict) else set()
            targets |= _targets(table, s.map) if isinstance(s, VerdictMap) else set()
            for name in targets:
                _visit(table, table.chains[name], base, depth + 1, seen)


def _check_place(s: Statement, base: Base) -> None:
    nat = base.type is ChainType.NAT
    match s:
        case DnatMap() | DnatMaps():
            fits = nat and base.hook in (Hook.PREROUTING, Hook.OUTPUT)
        case Masquerade():
            fits = nat and base.hook is Hook.POSTROUTING
        case Reject():
            fits = base.hook is not Hook.POSTROUTING
        case _:
            fits = True
    if not fits:
        raise _Refused(f"{_UNSUPPORTED}: {s} in {base.type} {base.hook}")
