"""Events are news: those that nobody has touched for an hour are deleted, as Kubernetes does (`--event-ttl`).

`server` runs `forget_events` for as long as it serves.
"""

from __future__ import annotations

import asyncio

from portway.apiserver.database import StoreFailed
from portway.apiserver.rest import Rest
from portway.apiserver.store import Stored
from portway.apiserver.times import Clock, parse
from portway.objects.kinds import EVENT

TTL_SECONDS = 3600.0
EVERY_SECONDS = 60.0


async def forget_events(rest: Rest, clock: Clock, every: float = EVERY_SECONDS) -> None:
    """Runs until it is cancelled. A disk that refuses is asked again the next time."""
    while True:
        await asyncio.sleep(every)
        forget_once(rest, clock())
        try:
            await rest.store.durable()
        except StoreFailed:
            continue


def forget_once(rest: Rest, now: float) -> int:
    """Delete what is too old; how many that were."""
    old = [s for s in rest.store.items(EVENT) if now - _touched(s) > TTL_SECONDS]
    for stored in old:
        rest.store.remove(EVENT, stored.namespace, stored.name)
    return len(old)


def _touched(event: Stored) -> float:
    """When it was last written, as far as the event says; an unreadable time counts as the creation."""
    value = event.value
    created = parse(value["metadata"]["creationTimestamp"])
    series = value.get("series") or {}
    try:
        return max(
            created, *(parse(t) for t in (series.get("lastObservedTime"), value.get("lastTimestamp")) if t), created
        )
    except ValueError:
        return created
