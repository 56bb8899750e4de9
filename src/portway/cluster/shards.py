"""A mapping that is cheap to copy with a few changes, and cheap to compare with the copy it came from.

45,000 Services in a plain dict cost milliseconds to copy for one change. Here the entries are spread over dicts of
their own by the key's hash; a changed mapping shares every dict that it did not touch with its predecessor.
`changed_since` skips shared dicts, so the difference of two neighbours costs what the change costs. `cluster.picture`
and `proxy.compile` keep their state in it.

The order of iteration is arbitrary and differs between processes: who prints, sorts.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping
from typing import Generic, TypeVar, overload

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")

# A power of two. 256 dicts of about 1,000 entries hold the endpoints of the largest clusters that users report.
_SHARDS = 256
_MASK = _SHARDS - 1


class _Items(ItemsView[K, V]):
    """Without this, the mixin looks every key up again."""

    _mapping: ShardMap[K, V]

    def __iter__(self) -> Iterator[tuple[K, V]]:
        for shard in self._mapping._shards:
            yield from shard.items()


class ShardMap(Mapping[K, V]):
    """An immutable mapping; `changed` makes the next one. Equal to any mapping with the same entries."""

    __slots__ = ("_length", "_shards")

    def __init__(self, entries: Mapping[K, V] | None = None) -> None:
        shards: list[dict[K, V]] = [{} for _ in range(_SHARDS)]
        for key, value in (entries or {}).items():
            shards[hash(key) & _MASK][key] = value
        self._shards: tuple[dict[K, V], ...] = tuple(shards)
        self._length = sum(map(len, shards))

    def __getitem__(self, key: K) -> V:
        return self._shards[hash(key) & _MASK][key]

    def __contains__(self, key: object) -> bool:
        return key in self._shards[hash(key) & _MASK]

    @overload
    def get(self, key: K, /) -> V | None: ...
    @overload
    def get(self, key: K, /, default: V | D) -> V | D: ...
    def get(self, key: K, /, default: V | D | None = None) -> V | D | None:
        return self._shards[hash(key) & _MASK].get(key, default)

    def __iter__(self) -> Iterator[K]:
        for shard in self._shards:
            yield from shard

    def __len__(self) -> int:
        return self._length

    def items(self) -> ItemsView[K, V]:
        return _Items(self)

    def __repr__(self) -> str:
        return f"ShardMap({dict(self.items())!r})"

    def edit(self) -> Edit[K, V]:
        return Edit(self)

    def changed(self, changes: Mapping[K, V | None]) -> ShardMap[K, V]:
        """A mapping with `changes` applied; None removes the key. Itself when there is nothing to change."""
        edit = self.edit()
        for key, value in changes.items():
            if value is None:
                edit.remove(key)
            else:
                edit.put(key, value)
        return edit.done()

    def changed_since(self, older: ShardMap[K, V]) -> Iterator[K]:
        """The keys that were added, removed or given another value since `older`."""
        for mine, theirs in zip(self._shards, older._shards, strict=True):
            if mine is theirs:
                continue
            yield from (key for key, value in mine.items() if key not in theirs or theirs[key] != value)
            yield from (key for key in theirs if key not in mine)


class Edit(Generic[K, V]):
    """Changes on the way from one ShardMap to the next. Copies a shard at its first change; `done` ends it."""

    __slots__ = ("_base", "_copied", "_length", "_shards")

    def __init__(self, base: ShardMap[K, V]) -> None:
        self._base = base
        self._shards = list(base._shards)
        self._copied: set[int] = set()
        self._length = len(base)

    def get(self, key: K) -> V | None:
        return self._shards[hash(key) & _MASK].get(key)

    def put(self, key: K, value: V) -> None:
        shard = self._own(hash(key) & _MASK)
        self._length += key not in shard
        shard[key] = value

    def remove(self, key: K) -> None:
        """Remove `key`; nothing happens when it is not there."""
        index = hash(key) & _MASK
        if key in self._shards[index]:
            del self._own(index)[key]
            self._length -= 1

    def done(self) -> ShardMap[K, V]:
        if not self._copied:
            return self._base
        made: ShardMap[K, V] = ShardMap.__new__(ShardMap)
        made._shards = tuple(self._shards)
        made._length = self._length
        return made

    def _own(self, index: int) -> dict[K, V]:
        if index not in self._copied:
            self._copied.add(index)
            self._shards[index] = self._shards[index].copy()
        return self._shards[index]
