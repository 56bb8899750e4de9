"""Every object, in memory for reading and in a file for good; one revision counter, which is every resourceVersion.

A change is made by plain calls (`put`, `remove`) on the event loop: whoever looks an object up, decides and puts
without an `await` in between has done a compare-and-set, so nothing here locks. The change is visible at once to the
next decision, and leaves the process only when it is on disk: writers `await durable()` before they answer, so do
readers that saw a change which is still under way, and watchers are told by `subscribe` after the commit. Changes that
arrive while the disk is busy share the next commit.

What is read is never changed in place: `Stored.value` is shared by all readers. `rest` writes here, `watch` listens
here.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from portway.apiserver.database import Database, Row, StoreFailed
from portway.objects.kinds import Kind

Value = dict[str, Any]
Key = tuple[str, str]
"""(namespace, name); the namespace is empty for cluster-wide kinds."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Stored:
    """One revision of one object: its JSON bytes, and the same decoded on demand. Read only."""

    __slots__ = ("_value", "data", "name", "namespace", "revision")

    def __init__(self, namespace: str, name: str, revision: int, data: bytes, value: Value | None = None) -> None:
        self.namespace = namespace
        self.name = name
        self.revision = revision
        self.data = data
        self._value = value

    @property
    def value(self) -> Value:
        if self._value is None:
            self._value = _decode(self.data)
        return self._value

    def copy(self) -> Value:
        """A private copy, to change and put back."""
        return _decode(self.data)

    def forget(self) -> None:
        """Keep the bytes only: the object has been replaced and is now history."""
        self._value = None


class Change(StrEnum):
    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"


@dataclass(frozen=True, slots=True)
class Event:
    """One change. `previous` is None for a new object, and for one whose earlier state was lost in a restart (`type` tells)."""

    revision: int
    type: Change
    kind: Kind
    stored: Stored
    previous: Stored | None


class TooOld(Exception):
    """The history no longer reaches back to that revision."""

    def __init__(self, asked: int, oldest: int) -> None:
        super().__init__(f"too old resource version: {asked} ({oldest})")
        self.asked = asked
        self.oldest = oldest


class _Shelf:
    """All objects of one kind, by key and in key order."""

    __slots__ = ("items", "keys")

    def __init__(self) -> None:
        self.items: dict[Key, Stored] = {}
        self.keys: list[Key] = []

    def set(self, stored: Stored) -> None:
        key = (stored.namespace, stored.name)
        if key not in self.items:
            insort(self.keys, key)
        self.items[key] = stored

    def drop(self, key: Key) -> None:
        del self.items[key]
        del self.keys[bisect_left(self.keys, key)]


class Store:
    """`history` events and at most `history_bytes` are kept for watches that resume."""

    def __init__(
        self, path: Path, kinds: Sequence[Kind], *, history: int = 5000, history_bytes: int = 16 << 20
    ) -> None:
        self._database = Database(path)
        self._kinds = {k.resource: k for k in kinds}
        self._limit = (history, history_bytes)
        self._listeners: list[Callable[[Sequence[Event]], None]] = []
        self._stage_listeners: list[tuple[Callable[[Event], None], Callable[[], None]]] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._flushing: asyncio.Task[None] | None = None
        self._load()

    def _load(self) -> None:
        self._shelves: dict[str, _Shelf] = {name: _Shelf() for name in self._kinds}
        self._history: deque[Event] = deque()
        self._history_bytes = 0
        self._pending: list[Event] = []
        self._waiting: asyncio.Future[None] | None = None
        self.revision = 1
        for resource, namespace, name, revision, data in self._database.objects():
            if resource in self._shelves:
                self._shelves[resource].items[namespace, name] = Stored(namespace, name, revision, data)
                self.revision = max(self.revision, revision)
        for shelf in self._shelves.values():
            shelf.keys = sorted(shelf.items)
        self._load_history()
        self.durable_revision = self.revision

    def _load_history(self) -> None:
        self._forgotten = 0
        last: dict[tuple[str, str, str], Stored] = {}
        for row in self._database.events():
            self._forgotten = self._forgotten or row.revision - 1
            self.revision = max(self.revision, row.revision)
            kind = self._kinds.get(row.resource)
            if kind is None:
                continue
            key = (row.resource, row.namespace, row.name)
            stored = Stored(row.namespace, row.name, row.revision, row.data)
            self._remember(Event(row.revision, Change(row.type), kind, stored, last.get(key)))
            last[key] = stored
        if not self._history:
            self._forgotten = self.revision

    # reading

    def get(self, kind: Kind, namespace: str, name: str) -> Stored | None:
        return self._shelves[kind.resource].items.get((namespace, name))

    def items(self, kind: Kind, namespace: str = "", after: Key | None = None) -> Iterator[Stored]:
        """In order of (namespace, name); an empty namespace means all; `after` skips up to and including that key."""
        shelf = self._shelves[kind.resource]
        start = bisect_left(shelf.keys, (namespace, "")) if namespace else 0
        if after is not None:
            start = max(start, bisect_left(shelf.keys, (after[0], after[1] + "\0")))
        items = shelf.items
        for key in shelf.keys[start:]:
            if namespace and key[0] != namespace:
                return
            yield items[key]

    def count(self, kind: Kind) -> int:
        return len(self._shelves[kind.resource].items)

    def since(self, revision: int) -> Iterator[Event]:
        """Every durable event after `revision`, oldest first. TooOld when some are forgotten."""
        if revision < self._forgotten:
            raise TooOld(revision, self._forgotten)
        return (e for e in list(self._history) if e.revision > revision)

    def as_of(self, kind: Kind, revision: int) -> dict[Key, Stored]:
        """All objects of a kind as they were at `revision`: today's, with later changes undone. TooOld."""
        if revision < self._forgotten:
            raise TooOld(revision, self._forgotten)
        items = dict(self._shelves[kind.resource].items)
        later = [e for e in (*self._history, *self._pending) if e.revision > revision and e.kind is kind]
        for event in reversed(later):
            key = (event.stored.namespace, event.stored.name)
            if event.type is Change.ADDED:
                items.pop(key, None)
            elif event.previous is None:
                raise TooOld(revision, event.revision)
            else:
                items[key] = event.previous
        return items

    # writing

    def put(self, kind: Kind, value: Value) -> Stored:
        """Create or replace; sets metadata.resourceVersion in `value`, which belongs to the store from now on."""
        metadata = value["metadata"]
        key = (metadata.get("namespace", ""), metadata["name"])
        previous = self._shelves[kind.resource].items.get(key)
        stored = self._stamp(value, key)
        self._shelves[kind.resource].set(stored)
        self._stage(Event(self.revision, Change.MODIFIED if previous else Change.ADDED, kind, stored, previous))
        return stored

    def remove(self, kind: Kind, namespace: str, name: str) -> Stored:
        """Delete; the last state is returned, with the revision of its deletion. KeyError when it is not there."""
        previous = self._shelves[kind.resource].items[namespace, name]
        stored = self._stamp(previous.copy(), (namespace, name))
        self._shelves[kind.resource].drop((namespace, name))
        self._stage(Event(self.revision, Change.DELETED, kind, stored, previous))
        return stored

    def _stamp(self, value: Value, key: Key) -> Stored:
        value["metadata"]["resourceVersion"] = str(self.revision + 1)
        data = _encode(value)
        self.revision += 1
        return Stored(key[0], key[1], self.revision, data, value)

    def _stage(self, event: Event) -> None:
        self._pending.append(event)
        for staged, _ in self._stage_listeners:
            staged(event)
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().create_task(self._flush())

    async def durable(self) -> None:
        """Returns when everything that is visible now is on disk; StoreFailed when it could not be written."""
        if self._flushing is None:
            return
        if self._waiting is None:
            self._waiting = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._waiting)

    async def _flush(self) -> None:
        """Commit until nothing is pending. All that waited when a round began is answered when it ends."""
        loop = asyncio.get_running_loop()
        while self._pending:
            batch, self._pending = self._pending, []
            waiting, self._waiting = self._waiting, None
            try:
                self._database.begin([_row(e) for e in batch], self._forget_before())
                await loop.run_in_executor(self._thread, self._database.commit)
            except StoreFailed as error:
                self._failed(error, waiting)
                return
            self._committed(batch, waiting)
        self._flushing = None
        if self._waiting is not None:
            self._waiting.set_result(None)
            self._waiting = None

    def _committed(self, batch: list[Event], waiting: asyncio.Future[None] | None) -> None:
        self.durable_revision = batch[-1].revision
        for event in batch:
            self._remember(event)
        # A listener that fails must not stop the writes: the loop reports it.
        asyncio.get_running_loop().call_soon(self._tell, batch)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def _tell(self, batch: Sequence[Event]) -> None:
        for listener in self._listeners:
            listener(batch)
        for event in batch:
            if event.previous is not None:
                event.previous.forget()

    def _failed(self, error: StoreFailed, waiting: asyncio.Future[None] | None) -> None:
        """Nothing that was visible but not on disk stays: the memory is read anew from the file."""
        later = self._waiting
        self._load()
        self._flushing = None
        for _, reset in self._stage_listeners:
            reset()
        for future in (waiting, later):
            if future is not None and not future.done():
                future.set_exception(error)

    def _remember(self, event: Event) -> None:
        self._history.append(event)
        self._history_bytes += len(event.stored.data)

    def _forget_before(self) -> int:
        """Drop the oldest events beyond the limits; the revision to forget in the file (0: nothing yet)."""
        events, size = self._limit
        before = self._forgotten
        while self._history and (len(self._history) > events or self._history_bytes > size):
            old = self._history.popleft()
            self._history_bytes -= len(old.stored.data)
            self._forgotten = old.revision
        return self._forgotten + 1 if self._forgotten != before else 0

    # listening

    def subscribe(self, listener: Callable[[Sequence[Event]], None]) -> None:
        """`listener` is called with each committed batch, in order."""
        self._listeners.append(listener)

    def on_stage(self, staged: Callable[[Event], None], reset: Callable[[], None]) -> None:
        """For what is derived from the newest state: `staged` at each change, `reset` now and when memory is read anew."""
        self._stage_listeners.append((staged, reset))
        reset()

    async def close(self) -> None:
        """Write what is pending and close the file."""
        if self._flushing is not None:
            await self._flushing
        self._thread.shutdown()
        self._database.close()


def _row(event: Event) -> Row:
    stored = event.stored
    return Row(event.revision, event.type.value, event.kind.resource, stored.namespace, stored.name, stored.data)
