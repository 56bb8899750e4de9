"""What woke the loop: a set of keys that need another look, now or at a later moment.

Callbacks of reflectors `mark`; a decision that depends on time (a pod is available after ten seconds, a lease runs
out) says `mark_later`. `reconcile` waits here and takes all keys at once. Marking a key twice is one look: the loop
is level-triggered.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Coroutine
from typing import Any

from portway.loop.clock import Clock

ALL = "*"
"""The key of loops that have only one thing to do."""


class Wake:
    def __init__(self) -> None:
        self._dirty: set[str] = set()
        self._later: list[tuple[float, str]] = []
        self._wanted: dict[str, float] = {}
        self._stir = asyncio.Event()

    def mark(self, *keys: str) -> None:
        """Look at these keys (at everything, when none is named) as soon as possible."""
        self._dirty.update(keys or (ALL,))
        self._stir.set()

    def mark_later(self, moment: float, key: str = ALL) -> None:
        """Look at the key at `moment` of the monotonic clock. Of several calls for a key the earliest moment counts."""
        if self._wanted.get(key, float("inf")) <= moment:
            return
        self._wanted[key] = moment
        heapq.heappush(self._later, (moment, key))
        self._stir.set()

    def take(self, now: float) -> frozenset[str]:
        """All keys that are marked or due by `now`, which are then no longer marked."""
        self._ripen(now)
        taken = frozenset(self._dirty)
        self._dirty.clear()
        return taken

    async def wait(self, clock: Clock) -> None:
        """Return when a key is marked or due. Costs nothing while nothing happens."""
        while True:
            self._ripen(clock.monotonic())
            if self._dirty:
                return
            self._stir.clear()
            if self._later:
                await _sooner(self._stir.wait(), clock.sleep(self._later[0][0] - clock.monotonic()))
            else:
                await self._stir.wait()

    def _ripen(self, now: float) -> None:
        while self._later and self._later[0][0] <= now:
            moment, key = heapq.heappop(self._later)
            if self._wanted.get(key) == moment:
                del self._wanted[key]
                self._dirty.add(key)


async def _sooner(*awaitables: Coroutine[Any, Any, object]) -> None:
    """Wait until one is done, and cancel the others."""
    tasks = [asyncio.ensure_future(a) for a in awaitables]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
