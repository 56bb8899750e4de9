"""A live copy of one kind: list once, watch for ever, tell who subscribed what changed.

    pods = Reflector(client, Pod, Select(fields="spec.nodeName=node-1"))
    pods.subscribe(lambda changes: wake.mark(*(c.ref for c in changes)))
    task = asyncio.create_task(pods.run());  await pods.synced.wait();  pods.items["shop/web-1"]

All agents read from reflectors and write through `Client`. A watch that ends goes on from the last resourceVersion;
only a server that has forgotten it (410) makes us list again. Errors back off with full jitter; `run` ends by
cancellation alone.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from types import MappingProxyType
from typing import Generic, TypeVar

from portway.client.errors import ApiError
from portway.client.http import EVERYTHING, Client, Select, WatchEvent
from portway.objects.meta import Object

T = TypeVar("T", bound=Object)
log = logging.getLogger("portway.client")


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """`old` is None for a new object, `new` is None for one that is gone."""

    old: T | None
    new: T | None

    @property
    def object(self) -> T:
        found = self.new or self.old
        if found is None:
            raise ValueError("a change has an old or a new object: this is a bug, please report it")
        return found

    @property
    def ref(self) -> str:
        return self.object.ref


Callback = Callable[[Sequence[Change[T]]], None]


class Reflector(Generic[T]):
    """`items` by ref. `generation` grows with every batch of changes; `synced` is set after the first full list."""

    def __init__(
        self,
        client: Client,
        kind: type[T],
        select: Select = EVERYTHING,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: random.Random | None = None,
    ) -> None:
        self.kind = kind
        self.select = select
        self.synced = asyncio.Event()
        self.generation = 0
        self._client = client
        self._items: dict[str, T] = {}
        self._callbacks: list[Callback[T]] = []
        self._version = ""
        self._failures = 0
        self._sleep = sleep
        self._chance = chance or random.Random()

    @property
    def version(self) -> int:
        """Everything up to this resourceVersion is in `items`. Versions are numbers in every server that we know."""
        return int(self._version) if self._version.isdigit() else 0

    @property
    def items(self) -> Mapping[str, T]:
        return MappingProxyType(self._items)

    def subscribe(self, callback: Callback[T], *, replay: bool = True) -> None:
        """Call with every batch of changes, in order; with `replay` first with what is there already."""
        self._callbacks.append(callback)
        if replay and self._items:
            callback([Change(None, item) for item in self._items.values()])

    async def run(self) -> None:
        while True:
            try:
                if not self._version:
                    await self._list()
                await self._watch()
            except ApiError as e:
                await self._failed(e)

    async def _list(self) -> None:
        listed = await self._client.list(self.kind, self.select)
        for text in listed.undecodable:
            log.warning("left out of the list of %s: %s", self.kind.KIND, text)
        fresh = {item.ref: item for item in listed.items}
        changes = [Change(old, None) for ref, old in self._items.items() if ref not in fresh]
        for ref, new in fresh.items():
            known = self._items.get(ref)
            if known is None or known.metadata.resource_version != new.metadata.resource_version:
                changes.append(Change(known, new))
        self._items = fresh
        self._version = listed.resource_version
        self._failures = 0
        self._tell(changes)
        self.synced.set()

    async def _watch(self) -> None:
        seconds = self._chance.randint(300, 600)
        stream = self._client.watch(self.kind, self.select, resource_version=self._version, seconds=seconds)
        async with aclosing(stream) as batches:
            async for batch in batches:
                self._failures = 0
                self._tell([change for event in batch if (change := self._apply(event))])

    def _apply(self, event: WatchEvent[T]) -> Change[T] | None:
        item = event.object
        self._version = item.metadata.resource_version or self._version
        if event.type == "BOOKMARK":
            return None
        if event.type == "DELETED":
            old = self._items.pop(item.ref, None)
            return Change(item, None) if old else None
        old = self._items.get(item.ref)
        self._items[item.ref] = item
        return Change(old, item)

    def _tell(self, changes: Sequence[Change[T]]) -> None:
        if not changes:
            return
        self.generation += 1
        for callback in self._callbacks:
            callback(changes)

    async def _failed(self, error: ApiError) -> None:
        """Full jitter: anything from nothing to 10 ms, 20 ms … 5 s, so that agents do not come back in step."""
        if error.gone:
            log.info("%s: the server has forgotten version %s, listing again", self.kind.KIND, self._version)
            self._version = ""
        level = logging.INFO if error.retryable or error.gone else logging.ERROR
        log.log(level, "watching %s: %s; trying again", self.kind.KIND, error)
        ceiling = min(5.0, 0.01 * 2 ** min(self._failures, 10))
        self._failures += 1
        await self._sleep(self._chance.uniform(0, ceiling))
