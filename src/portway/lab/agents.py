"""The tasks of the supervisor under supervision: one that dies is started again, after a back-off, and `status` shows it.

An agent is a coroutine function that runs until cancelled. It is named and belongs to a host ("" for the control plane);
switching a host off stops all of its agents.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum

from portway.lab.logs import AGENT
from portway.loop.backoff import Backoff
from portway.loop.clock import Clock

log = logging.getLogger("portway.lab")

_CALM_SECONDS = 30.0
"""An agent that ran this long has recovered: its next failure starts the back-off anew."""


class AgentState(StrEnum):
    RUNNING = "running"
    BACKING_OFF = "backing off"


@dataclass(slots=True)
class Agent:
    """One agent as `status` reports it. `error` is what ended it last."""

    name: str
    host: str
    state: AgentState = AgentState.RUNNING
    restarts: int = 0
    error: str = ""
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class Agents:
    """Starts, restarts and stops agents."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._agents: list[Agent] = []

    def all(self) -> tuple[Agent, ...]:
        return tuple(self._agents)

    def start(self, name: str, host: str, run: Callable[[], Awaitable[object]]) -> Agent:
        """Run `run()` until `stop`, and again whenever it ends or fails."""
        agent = Agent(name, host)
        agent.task = asyncio.create_task(self._supervise(agent, run), name=f"{name}@{host}" if host else name)
        self._agents.append(agent)
        return agent

    async def stop(self, host: str | None = None) -> None:
        """End the agents of `host` (None: all), and wait until they have ended."""
        ending = [a for a in self._agents if host is None or a.host == host]
        self._agents = [a for a in self._agents if a not in ending]
        tasks = [a.task for a in ending if a.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _supervise(self, agent: Agent, run: Callable[[], Awaitable[object]]) -> None:
        AGENT.set(f"{agent.name}@{agent.host}" if agent.host else agent.name)
        backoff = Backoff(first=0.1, most=10.0)
        while True:
            started = self._clock.monotonic()
            try:
                await run()
                agent.error = "it ended"
            except Exception as e:
                agent.error = words(e)
                log.exception("the agent failed and is started again")
            if self._clock.monotonic() - started > _CALM_SECONDS:
                backoff.reset()
            agent.state = AgentState.BACKING_OFF
            agent.restarts += 1
            await self._clock.sleep(0.05 + backoff.next())
            agent.state = AgentState.RUNNING


def words(error: BaseException) -> str:
    """The first real error: a group of tasks says only that there was one."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"
