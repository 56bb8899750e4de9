"""A number that grows with every pass of a loop, and can be awaited: tests and `portway up` wait for it instead of
sleeping."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Generation:
    def __init__(self) -> None:
        self.value = 0
        self._grown = asyncio.Event()

    def advance(self) -> None:
        self.value += 1
        self._grown.set()
        self._grown = asyncio.Event()

    async def at_least(self, value: int) -> None:
        while self.value < value:
            await self._grown.wait()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return when the condition holds; it is looked at now and after every pass."""
        while not condition():
            await self._grown.wait()
