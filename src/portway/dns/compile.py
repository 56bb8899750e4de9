"""Records as answers that are encoded already: the second step, and the whole state of a server. Pure.

`Zone` maps the question as it stands in a query (name in lower case, type, class) to the rest of its answer, so that most
queries cost one look-up. `advance` makes the next zone from the last one and the owners ("namespace/name") whose records
changed: what it costs depends on those owners, not on the cluster. `answer` reads zones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from struct import pack
from typing import TypeVar

from portway.cluster.shards import Edit, ShardMap
from portway.dns import records
from portway.dns.config import DnsConfig
from portway.dns.intent import REVERSE_ZONES, zone_records
from portway.dns.records import Record, Type, Writer

K = TypeVar("K")
V = TypeVar("V")
Records = tuple[Record, ...]
ByType = Mapping[int, Records]
ByName = Mapping[bytes, Records]

STATIC = ""
"""The owner of what is there without any object."""
_NOTHING: ByName = {}
_NO_TYPES: ByType = {}
_ADDRESSES = frozenset({Type.A.value, Type.AAAA.value})
"""A client asks for both: where a name has only one, "no data" for the other is kept as an answer too."""
_ADDRESS_RECORD = 16
"""Bytes of an A record whose name is a pointer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Everything behind the question. `counts` and `counts_edns` are the three counts of the sections, without and with an
    OPT record. A body of several A records may begin at any multiple of `stride`: clients that take the first are spread."""

    counts: bytes
    counts_edns: bytes
    body: bytes
    stride: int = 0


@dataclass(frozen=True, slots=True)
class Zone:
    """`below` counts the names below a name: one that has none of its own still exists (RFC 8020)."""

    config: DnsConfig
    apex: bytes
    reverse: tuple[bytes, ...]
    fragments: ShardMap[str, ByName] = field(default_factory=ShardMap)
    holders: ShardMap[bytes, tuple[str, ...]] = field(default_factory=ShardMap)
    names: ShardMap[bytes, ByType] = field(default_factory=ShardMap)
    below: ShardMap[bytes, int] = field(default_factory=ShardMap)
    answers: ShardMap[bytes, Answer] = field(default_factory=ShardMap)

    def exists(self, name: bytes) -> bool:
        return name in self.names or name in self.below


def empty(config: DnsConfig) -> Zone:
    """The zone of a cluster without objects. Raises BadName for a domain that is none."""
    reverse = tuple(map(records.name, REVERSE_ZONES))
    return advance(Zone(config, records.name(config.domain), reverse), {STATIC: zone_records(config)})


def compile_all(wanted: Mapping[str, Records], config: DnsConfig) -> Zone:
    return advance(empty(config), wanted)


def advance(zone: Zone, wanted: Mapping[str, Records]) -> Zone:
    """`zone` with the records of these owners replaced; no records removes the owner. Itself when nothing changes."""
    building = _Building(zone)
    for owner in sorted(wanted):
        building.replace(owner, _by_name(wanted[owner]))
    return building.done()


def _by_name(wanted: Iterable[Record]) -> ByName:
    groups: dict[bytes, list[Record]] = {}
    for record in sorted(set(wanted)):
        groups.setdefault(record.name, []).append(record)
    return {name: tuple(group) for name, group in groups.items()}


class _Building:
    """The way from one zone to the next."""

    def __init__(self, before: Zone) -> None:
        self._before = before
        self._fragments = before.fragments.edit()
        self._holders = before.holders.edit()
        self._names = before.names.edit()
        self._below = before.below.edit()
        self._answers = before.answers.edit()
        self._changed: set[bytes] = set()
        self._owners: set[str] = set()

    def replace(self, owner: str, new: ByName) -> None:
        old = self._fragments.get(owner) or _NOTHING
        changed = {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
        if not changed:
            return
        self._owners.add(owner)
        self._changed |= changed
        _put(self._fragments, owner, new or None)
        for name in changed:
            held = set(self._holders.get(name) or ()) - {owner} | ({owner} if name in new else set())
            _put(self._holders, name, tuple(sorted(held)) or None)

    def done(self) -> Zone:
        if not self._changed:
            return self._before
        for name in self._changed:
            self._rename(name)
        for name in self._changed | self._pointing():
            self._encode(name)
        before = self._before
        return Zone(
            before.config, before.apex, before.reverse, self._fragments.done(), self._holders.done(),
            self._names.done(), self._below.done(), self._answers.done(),
        )  # fmt: skip

    def _rename(self, name: bytes) -> None:
        """Collect what the owners want of `name`, by type."""
        wanted: dict[int, set[Record]] = {}
        for owner in self._holders.get(name) or ():
            for record in (self._fragments.get(owner) or _NOTHING)[name]:
                wanted.setdefault(record.type, set()).add(record)
        old = self._names.get(name)
        for type_ in {*(old or _NO_TYPES), *_ADDRESSES}:
            self._answers.remove(key(name, type_))
        _put(self._names, name, {t: tuple(sorted(found)) for t, found in wanted.items()} or None)
        if (old is None) == bool(wanted):
            self._count(name, 1 if wanted else -1)

    def _count(self, name: bytes, step: int) -> None:
        for parent in records.parents(name):
            _put(self._below, parent, ((self._below.get(parent) or 0) + step) or None)

    def _pointing(self) -> set[bytes]:
        """The owners' other names with SRV records: they repeat addresses that may have changed."""
        fragments = (self._fragments.get(owner) or _NOTHING for owner in self._owners)
        return {n for fragment in fragments for n, found in fragment.items() if found[-1].type == Type.SRV}

    def _encode(self, name: bytes) -> None:
        ttl, by_type = self._before.config.ttl, self._names.get(name) or _NO_TYPES
        for type_, found in by_type.items():
            extra = additional(self._names, found)
            self._answers.put(key(name, type_), encode(name, (found, (), extra), ttl))
        if by_type.keys() & _ADDRESSES:
            soa = (self._names.get(self._before.apex) or _NO_TYPES).get(Type.SOA, ())
            for type_ in _ADDRESSES - by_type.keys():
                self._answers.put(key(name, type_), encode(name, ((), soa, ()), ttl))


def additional(names: Edit[bytes, ByType] | ShardMap[bytes, ByType], found: Sequence[Record]) -> Records:
    """The addresses of what SRV records point to, so that nobody has to ask again."""
    targets = sorted({r.target for r in found if r.type == Type.SRV})
    return tuple(_addresses(names, targets))


def _addresses(names: Edit[bytes, ByType] | ShardMap[bytes, ByType], targets: Iterable[bytes]) -> Iterator[Record]:
    for target in targets:
        by_type = names.get(target) or _NO_TYPES
        yield from by_type.get(Type.A, ())
        yield from by_type.get(Type.AAAA, ())


def key(name: bytes, type_: int) -> bytes:
    """The question section of a query for `name`, in lower case. The types of our records are no upper-case letters, so a
    whole question may be lowered and still means the same."""
    return name + pack("!HH", type_, records.IN)


def encode(name: bytes, sections: tuple[Records, Records, Records], ttl: int) -> Answer:
    """The answer, authority and additional sections behind a question for `name`."""
    writer = Writer(name, ttl)
    for section in sections:
        for record in section:
            writer.record(record)
    answers, authorities, extra = sections
    spread = len(answers) > 1 and not extra and all(r.type == Type.A for r in answers)
    counts = (
        pack("!HHH", *(len(s) & 0xFFFF for s in (answers, authorities)), (len(extra) + opt) & 0xFFFF) for opt in (0, 1)
    )
    return Answer(next(counts), next(counts), bytes(writer.out), _ADDRESS_RECORD if spread else 0)


def _put(edit: Edit[K, V], name: K, value: V | None) -> None:
    if value is None:
        edit.remove(name)
    else:
        edit.put(name, value)
