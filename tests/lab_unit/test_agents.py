"""Agents under supervision: one that fails comes back, the others do not notice, and a host's agents go with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from portway.lab.agents import Agents, AgentState
from portway.loop.clock import FakeClock


@pytest.fixture
async def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def agents(clock: FakeClock) -> AsyncIterator[Agents]:
    agents = Agents(clock)
    yield agents
    await agents.stop()


class Flaky:
    """Fails as often as told, then runs until cancelled."""

    def __init__(self, failures: int) -> None:
        self.starts = 0
        self.failures = failures
        self.cancelled = False

    async def __call__(self) -> None:
        self.starts += 1
        if self.starts <= self.failures:
            raise ValueError(f"failure {self.starts}")
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled = True


async def test_an_agent_that_fails_is_shown_and_started_again(agents: Agents, clock: FakeClock) -> None:
    work = Flaky(failures=2)
    agent = agents.start("proxy", "node-1", work)
    await clock.advance(0)
    assert (agent.state, agent.error) == (AgentState.BACKING_OFF, "ValueError: failure 1")
    await clock.advance(1)
    assert (agent.state, agent.restarts, work.starts) == (AgentState.RUNNING, 2, 3)
    assert agent.error == "ValueError: failure 2", "what went wrong last stays visible"


async def test_an_agent_that_just_ends_is_started_again(agents: Agents, clock: FakeClock) -> None:
    starts = 0

    async def ends() -> None:
        nonlocal starts
        starts += 1

    agent = agents.start("watch", "", ends)
    await clock.advance(0)
    assert (agent.error, starts) == ("it ended", 1)
    await clock.advance(1)
    assert starts > 1


async def test_one_failure_does_not_touch_the_others(agents: Agents, clock: FakeClock) -> None:
    well = agents.start("node", "node-1", Flaky(0))
    agents.start("proxy", "node-1", Flaky(1000))
    await clock.advance(5)
    assert (well.state, well.restarts) == (AgentState.RUNNING, 0)


async def test_a_hosts_agents_stop_with_it(agents: Agents, clock: FakeClock) -> None:
    one, two = Flaky(0), Flaky(0)
    agents.start("proxy", "node-1", one)
    agents.start("proxy", "node-2", two)
    await clock.advance(0)
    await agents.stop("node-1")
    assert (one.cancelled, two.cancelled) == (True, False)
    assert [a.host for a in agents.all()] == ["node-2"]


async def test_an_agent_can_be_stopped_while_it_backs_off(agents: Agents, clock: FakeClock) -> None:
    work = Flaky(1000)
    agents.start("proxy", "node-1", work)
    await clock.advance(0)
    await agents.stop()
    before = work.starts
    await clock.advance(60)
    assert work.starts == before
    assert agents.all() == ()


async def test_repeated_failures_wait_longer(agents: Agents, clock: FakeClock) -> None:
    work = Flaky(1000)
    agents.start("proxy", "", work)
    await clock.advance(600)
    # At least 50 ms between two starts, and on average half of a back-off that grows to 10 s.
    assert 20 < work.starts < 1000
