"""The one loop: wait until the inputs are there, gather changes for a moment, run one pass, start over.

Every controller and agent is a `Pass` given to `reconcile`: a coroutine that takes the keys which changed and makes
the world as it should be. It is level-triggered: a pass reads what is true now and never what happened. Retries live
here and nowhere else.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from portway.loop.backoff import Backoff
from portway.loop.clock import Clock
from portway.loop.generation import Generation
from portway.loop.wake import Wake

log = logging.getLogger("portway.loop")


class Synced(Protocol):
    """Something that must be complete before the first pass: `await synced.wait()` (an asyncio.Event)."""

    async def wait(self) -> object: ...


Pass = Callable[[frozenset[str]], Awaitable[Collection[str] | None]]
"""One pass over the marked keys. It returns the keys to try again (None or nothing: all went well)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`settle` in seconds: how long to gather more after the first change. `retryable` decides which errors mean "later"."""

    settle: float = 0.001
    retryable: Callable[[Exception], bool] = field(default=lambda e: bool(getattr(e, "retryable", False)))
    backoff: Callable[[], Backoff] = Backoff


DEFAULTS = Settings()


async def reconcile(
    name: str,
    one_pass: Pass,
    wake: Wake,
    clock: Clock,
    *,
    inputs: Iterable[Synced] = (),
    generation: Generation | None = None,
    settings: Settings = DEFAULTS,
) -> None:
    """Run passes until cancelled. An error that is not retryable is a bug: it is logged as one and goes up.

    Marks that arrive during a pass are looked at in the next one. A key that failed waits for its own back-off, unless
    something marks it before; other keys do not wait.
    """
    for synced in inputs:
        await synced.wait()
    failing: dict[str, Backoff] = {}
    while True:
        await wake.wait(clock)
        if settings.settle:
            await clock.sleep(settings.settle)
        keys = wake.take(clock.monotonic())
        again: Collection[str] | None
        try:
            again = await one_pass(keys)
        except Exception as e:
            if not settings.retryable(e):
                log.error("%s: %s: %s: this is a bug, please report it", name, type(e).__name__, e)
                raise
            log.info("%s: %s; trying again", name, e)
            again = keys
        again = frozenset(again or ())
        for key in keys - again:
            failing.pop(key, None)
        for key in again:
            wake.mark_later(clock.monotonic() + failing.setdefault(key, settings.backoff()).next(), key)
        if generation:
            generation.advance()
