"""Watches: each committed change, handed to everybody whose selection it touches.

A change is turned into bytes once per form (object, Table, metadata) and the bytes are shared by all watchers. A
watcher has a bounded queue; one that does not read is cut off, as in Kubernetes, and its client lists again. `Hub.open`
decides where a watch starts (resourceVersion unset, 0 or N; initial events and their bookmark), `Watcher.chunks` is
what `server` writes to the socket.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass

from portway.apiserver import render
from portway.apiserver.errors import expired
from portway.apiserver.render import Form
from portway.apiserver.selectors import EVERYTHING, Selection
from portway.apiserver.store import Change, Event, Store, Stored, TooOld
from portway.apiserver.times import Clock
from portway.objects.kinds import Kind

BOOKMARK_SECONDS = 60.0
_CHUNK_BYTES = 256 << 10


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """`revision` None when the request named none. `initial`: sendInitialEvents, None when not given. `timeout` in seconds."""

    revision: int | None = None
    initial: bool | None = None
    bookmarks: bool = False
    timeout: float = 3600.0


class Watcher:
    """One watch. `hub` fills it, one task drains it."""

    def __init__(self, kind: Kind, namespace: str, selection: Selection, form: Form, *, limit: int) -> None:
        self.kind = kind
        self.namespace = namespace
        self.selection = selection
        self.form = form
        self.after = 0
        self.cut = False
        self.live = True
        self.on_cut: Callable[[], None] | None = None
        self._name = selection.name
        self._limit = limit
        self._queue: deque[bytes] = deque()
        self._size = 0
        self._wake = asyncio.Event()

    def offer(self, event: Event, shared: Shared) -> None:
        """Queue the event if it concerns this watch."""
        stored = event.stored
        if event.revision <= self.after or (self.namespace and stored.namespace != self.namespace):
            return
        if self._name and stored.name != self._name:
            return
        change = self._change(event)
        if change is not None:
            self.push(shared.line(change, self.form))

    def _change(self, event: Event) -> Change | None:
        """What the event is to this selection: an object may enter or leave it."""
        if self.selection is EVERYTHING:
            return event.type
        matches = self.selection.matches
        if event.type is Change.ADDED:
            return Change.ADDED if matches(event.stored.value) else None
        before = event.previous is None or matches(event.previous.value)
        if event.type is Change.DELETED:
            return Change.DELETED if before else None
        now = matches(event.stored.value)
        if now:
            return Change.MODIFIED if before else Change.ADDED
        return Change.DELETED if before else None

    def push(self, line: bytes) -> None:
        if self.cut:
            return
        self._queue.append(line)
        self._size += len(line)
        if self.live and self._size > self._limit:
            self.end()
            if self.on_cut is not None:
                self.on_cut()
        self._wake.set()

    def go_live(self) -> None:
        """What the client asked to begin with is queued, however much it is; from here on the limit counts."""
        self.live = True
        self._limit += self._size

    def end(self) -> None:
        """Nothing more will come; what is queued is dropped."""
        self.cut = True
        self._queue.clear()
        self._wake.set()

    def _take(self) -> bytes:
        """What waits, up to a size that one write can carry without holding up everybody else."""
        lines, size = [], 0
        while self._queue and size < _CHUNK_BYTES:
            lines.append(self._queue.popleft())
            size += len(lines[-1])
        self._size -= size
        return b"".join(lines)

    async def chunks(self, *, until: float, every: float, bookmark: Callable[[], bytes] | None) -> AsyncIterator[bytes]:
        """Lines as they come, joined; ends at loop time `until`. With `bookmark`, one line of it each `every` quiet seconds."""
        loop = asyncio.get_running_loop()
        while not self.cut:
            if self._queue:
                yield self._take()
                continue
            self._wake.clear()
            left = until - loop.time()
            if left <= 0:
                return
            try:
                async with asyncio.timeout(min(left, every)):
                    await self._wake.wait()
            except TimeoutError:
                if bookmark is not None:
                    yield bookmark()


class Shared:
    """One event's bytes, made when first needed, for all watchers."""

    __slots__ = ("_event", "_lines", "_now")

    def __init__(self, event: Event, now: float) -> None:
        self._event = event
        self._now = now
        self._lines: dict[tuple[Change, Form], bytes] = {}

    def line(self, change: Change, form: Form) -> bytes:
        line = self._lines.get((change, form))
        if line is None:
            line = self._lines[change, form] = self._make(change, form)
        return line

    def _make(self, change: Change, form: Form) -> bytes:
        event = self._event
        stored = event.stored
        if change is Change.DELETED and event.type is not Change.DELETED and event.previous is not None:
            stored = _restamped(event.previous, event.revision)
        return render.event(change, render.one(event.kind, stored, form, self._now))


def _restamped(previous: Stored, revision: int) -> Stored:
    """The state that a selection last saw, with the revision at which it left."""
    value = previous.copy()
    value["metadata"]["resourceVersion"] = str(revision)
    return Stored(previous.namespace, previous.name, revision, render.encode(value), value)


class Hub:
    """All watches over one store. `limit` is how many bytes may wait for a client that does not read."""

    def __init__(self, store: Store, *, clock: Clock, limit: int = 16 << 20) -> None:
        self._store = store
        self._clock = clock
        self._limit = limit
        self._watchers: dict[str, set[Watcher]] = {}
        store.subscribe(self.publish)

    @property
    def count(self) -> int:
        return sum(map(len, self._watchers.values()))

    def publish(self, batch: Sequence[Event]) -> None:
        now = self._clock()
        for event in batch:
            watchers = self._watchers.get(event.kind.resource)
            if watchers:
                shared = Shared(event, now)
                for watcher in tuple(watchers):
                    watcher.offer(event, shared)

    async def open(
        self, kind: Kind, namespace: str, selection: Selection, form: Form, options: WatchOptions
    ) -> Watcher:
        """Register, with what has to be sent first already queued. 410 for a revision that is forgotten."""
        watcher = Watcher(kind, namespace, selection, form, limit=self._limit)
        self._watchers.setdefault(kind.resource, set()).add(watcher)
        try:
            watcher.live = False
            self._begin(watcher, options)
            watcher.go_live()
            await self._store.durable()
        except BaseException:
            self.close(watcher)
            raise
        return watcher

    def _begin(self, watcher: Watcher, options: WatchOptions) -> None:
        """Everything here happens at one moment: what is listed is exactly what will not be sent as an event."""
        wants_state = options.initial if options.initial is not None else not options.revision
        if not wants_state:
            watcher.after = self._store.durable_revision
            self._replay(watcher, options.revision or self._store.durable_revision)
            return
        watcher.after = self._store.revision
        now = self._clock()
        for stored in self.selected(watcher.kind, watcher.namespace, watcher.selection):
            watcher.push(render.event("ADDED", render.one(watcher.kind, stored, watcher.form, now)))
        if options.initial and options.bookmarks:
            watcher.push(render.bookmark(watcher.kind, watcher.after, watcher.form, initial_end=True))

    def _replay(self, watcher: Watcher, revision: int) -> None:
        try:
            events = list(self._store.since(revision))
        except TooOld as error:
            raise expired(str(error)) from error
        after, watcher.after = watcher.after, 0
        now = self._clock()
        for event in events:
            if event.kind is watcher.kind:
                watcher.offer(event, Shared(event, now))
        watcher.after = max(after, revision)

    def selected(self, kind: Kind, namespace: str, selection: Selection) -> Iterable[Stored]:
        """What a list shows."""
        if selection is EVERYTHING:
            return self._store.items(kind, namespace)
        if selection.name and (namespace or not kind.namespaced):
            found = self._store.get(kind, namespace, selection.name)
            return [found] if found is not None and selection.matches(found.value) else []
        return (s for s in self._store.items(kind, namespace) if selection.matches(s.value))

    def bookmark(self, watcher: Watcher) -> bytes:
        revision = max(self._store.durable_revision, watcher.after)
        return render.bookmark(watcher.kind, revision, watcher.form, initial_end=False)

    def close(self, watcher: Watcher) -> None:
        self._watchers.get(watcher.kind.resource, set()).discard(watcher)

    def end_all(self) -> None:
        """The server stops."""
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.end()
