"""Virtual time moves only when told to, and sleepers wake in the order of their times."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone

import pytest

from portway.loop import FakeClock, SystemClock, micro_stamp, parse_stamp, stamp


async def test_sleepers_wake_in_order_and_see_their_own_moment() -> None:
    clock, seen = FakeClock(), list[tuple[str, float]]()

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        seen.append((name, clock.monotonic()))

    tasks = [asyncio.create_task(sleeper(n, s)) for n, s in (("late", 3.0), ("soon", 1.0), ("never", 9.0))]
    await clock.advance(5)
    assert seen == [("soon", 1.0), ("late", 3.0)]
    assert clock.sleepers == 1
    for task in tasks:
        task.cancel()


async def test_a_sleeper_that_sleeps_again_is_woken_within_one_advance() -> None:
    clock, ticks = FakeClock(), list[float]()

    async def ticker() -> None:
        while True:
            await clock.sleep(1)
            ticks.append(clock.monotonic())

    task = asyncio.create_task(ticker())
    await clock.advance(3.5)
    assert ticks == [1.0, 2.0, 3.0]
    task.cancel()


async def test_a_cancelled_sleeper_is_no_sleeper() -> None:
    clock = FakeClock()
    task = asyncio.create_task(clock.sleep(1))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert clock.sleepers == 0
    await clock.advance(2)


async def test_the_wall_clock_moves_with_the_monotonic_one() -> None:
    clock = FakeClock(datetime(2026, 1, 1, tzinfo=UTC))
    await clock.advance(90)
    assert clock.now() == datetime(2026, 1, 1, 0, 1, 30, tzinfo=UTC)


async def test_the_system_clock_is_aware_and_does_not_go_back() -> None:
    clock = SystemClock()
    before = clock.monotonic()
    await clock.sleep(0)
    assert clock.now().tzinfo is UTC
    assert clock.monotonic() >= before


def test_stamps() -> None:
    moment = datetime(2026, 3, 4, 6, 6, 7, 89, tzinfo=timezone(timedelta(hours=1)))
    assert stamp(moment) == "2026-03-04T05:06:07Z"
    assert micro_stamp(moment) == "2026-03-04T05:06:07.000089Z"
    assert parse_stamp(micro_stamp(moment)) == moment
    assert parse_stamp("2026-03-04T05:06:07").tzinfo is UTC
    with pytest.raises(ValueError):
        parse_stamp("yesterday")
