"""The loop: nothing before the inputs, changes gathered, failures later, bugs up."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager

import pytest

from portway.loop import Backoff, FakeClock, Generation, Settings, Wake, reconcile


class Later(Exception):
    retryable = True


class Harness:
    """A loop whose passes are recorded; `behave` decides what a pass does."""

    def __init__(self) -> None:
        self.clock, self.wake, self.generation = FakeClock(), Wake(), Generation()
        self.synced = asyncio.Event()
        self.passes: list[frozenset[str]] = []
        self.behave: Callable[[frozenset[str]], Collection[str] | None] = lambda keys: None

    async def one_pass(self, keys: frozenset[str]) -> Collection[str] | None:
        self.passes.append(keys)
        return self.behave(keys)


@asynccontextmanager
async def running(settle: float = 0.0, synced: bool = True) -> AsyncIterator[tuple[Harness, asyncio.Task[None]]]:
    harness = Harness()
    if synced:
        harness.synced.set()
    settings = Settings(settle=settle, backoff=lambda: Backoff(1.0, 60.0, random.Random(1)))
    task = asyncio.create_task(
        reconcile(
            "test",
            harness.one_pass,
            harness.wake,
            harness.clock,
            inputs=(harness.synced,),
            generation=harness.generation,
            settings=settings,
        )
    )
    try:
        yield harness, task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def reached(harness: Harness, value: int) -> None:
    await asyncio.wait_for(harness.generation.at_least(value), 2)


async def test_nothing_before_the_inputs_are_complete() -> None:
    async with running(synced=False) as (harness, _):
        harness.wake.mark("a")
        await harness.clock.advance(1)
        assert harness.passes == []
        harness.synced.set()
        await reached(harness, 1)
        assert harness.passes == [{"a"}]


async def test_changes_that_come_together_are_one_pass() -> None:
    async with running(settle=0.005) as (harness, _):
        harness.wake.mark("a")
        await harness.clock.advance(0.003)
        harness.wake.mark("b")
        await harness.clock.advance(0.003)
        await reached(harness, 1)
        assert harness.passes == [{"a", "b"}]


async def test_a_mark_during_a_pass_is_the_next_pass() -> None:
    async with running() as (harness, _):
        harness.behave = lambda keys: harness.wake.mark("b") if keys == {"a"} else None
        harness.wake.mark("a")
        await reached(harness, 2)
        assert harness.passes == [{"a"}, {"b"}]


async def test_failed_keys_come_again_after_the_back_off_and_others_do_not_wait() -> None:
    async with running() as (harness, _):
        harness.behave = lambda keys: {"bad"} & keys
        harness.wake.mark("bad", "good")
        await reached(harness, 1)
        harness.wake.mark("other")
        await reached(harness, 2)
        assert harness.passes == [{"bad", "good"}, {"other"}]
        await harness.clock.advance(1)
        assert harness.passes[2] == {"bad"}


async def test_the_back_off_of_a_key_grows_and_a_success_forgets_it() -> None:
    async with running() as (harness, _):
        harness.behave = lambda keys: keys
        harness.wake.mark("bad")
        await harness.clock.advance(120)
        failing = len(harness.passes)
        assert 5 <= failing <= 40, "1, 2, 4 … seconds at most, not a busy loop"
        harness.behave = lambda keys: None
        await harness.clock.advance(120)
        assert len(harness.passes) == failing + 1


async def test_a_retryable_error_means_all_keys_again() -> None:
    async with running() as (harness, _):

        def fail_once(keys: frozenset[str]) -> None:
            if len(harness.passes) == 1:
                raise Later("conflict")

        harness.behave = fail_once
        harness.wake.mark("a", "b")
        await reached(harness, 1)
        await harness.clock.advance(5)
        await asyncio.wait_for(harness.generation.until(lambda: set().union(*harness.passes[1:]) == {"a", "b"}), 2)


async def test_any_other_error_is_a_bug_and_goes_up(caplog: pytest.LogCaptureFixture) -> None:
    async with running() as (harness, task):

        def fail(keys: frozenset[str]) -> None:
            raise KeyError("oops")

        harness.behave = fail
        with caplog.at_level(logging.ERROR):
            harness.wake.mark("a")
            with pytest.raises(KeyError):
                await asyncio.wait_for(task, 2)
        assert "this is a bug, please report it" in caplog.text


async def test_cancelling_ends_it() -> None:
    async with running() as (_, task):
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 1)


async def test_generation_until_is_looked_at_now_and_after_every_pass() -> None:
    generation = Generation()
    await asyncio.wait_for(generation.until(lambda: True), 1)
    waiter = asyncio.create_task(generation.until(lambda: generation.value >= 2))
    for expected in (False, True):
        generation.advance()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert waiter.done() is expected


def test_back_off_is_full_jitter_under_a_growing_ceiling() -> None:
    backoff = Backoff(first=1.0, most=8.0, chance=random.Random(7))
    waits = [backoff.next() for _ in range(2000)]
    assert all(w <= min(8.0, 2.0**n) for n, w in enumerate(waits[:10]))
    assert min(waits) < 0.1 and max(waits) > 7.9
    backoff.reset()
    assert backoff.next() <= 1.0
