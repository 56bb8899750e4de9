"""Keys are looked at once, now or later, and waiting ends when there is one."""

from __future__ import annotations

import asyncio

from portway.loop import ALL, FakeClock, Wake


async def waiting(wake: Wake, clock: FakeClock) -> asyncio.Task[None]:
    task = asyncio.create_task(wake.wait(clock))
    await asyncio.sleep(0)
    return task


async def test_marking_twice_is_one_look() -> None:
    wake = Wake()
    wake.mark("a", "b")
    wake.mark("a")
    assert wake.take(0) == {"a", "b"}
    assert wake.take(0) == frozenset()


async def test_naming_no_key_marks_the_one_thing_there_is() -> None:
    wake = Wake()
    wake.mark()
    assert wake.take(0) == {ALL}


async def test_waiting_ends_with_a_mark() -> None:
    wake, clock = Wake(), FakeClock()
    task = await waiting(wake, clock)
    assert not task.done()
    wake.mark("a")
    await asyncio.wait_for(task, 1)


async def test_later_means_at_that_moment_and_the_earliest_counts() -> None:
    wake, clock = Wake(), FakeClock()
    wake.mark_later(5, "a")
    wake.mark_later(9, "a")
    wake.mark_later(3, "b")
    task = await waiting(wake, clock)
    await clock.advance(2.9)
    assert not task.done()
    await clock.advance(0.2)
    await asyncio.wait_for(task, 1)
    assert wake.take(clock.monotonic()) == {"b"}
    assert wake.take(5.0) == {"a"}
    assert wake.take(99.0) == frozenset(), "the later moment for the same key was dropped"


async def test_an_earlier_moment_shortens_a_wait_that_has_begun() -> None:
    wake, clock = Wake(), FakeClock()
    wake.mark_later(100, "a")
    task = await waiting(wake, clock)
    wake.mark_later(1, "b")
    await clock.advance(1.5)
    await asyncio.wait_for(task, 1)
    assert wake.take(clock.monotonic()) == {"b"}


async def test_a_cancelled_wait_leaves_no_sleeper_behind() -> None:
    wake, clock = Wake(), FakeClock()
    wake.mark_later(100, "a")
    task = await waiting(wake, clock)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.sleep(0)
    assert clock.sleepers == 0
