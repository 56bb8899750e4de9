"""A line of the log says when, how bad, who and what; a traceback does not break the line."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from portway.lab.agents import Agents
from portway.lab.logs import AGENT, log_to
from portway.loop.clock import FakeClock

log = logging.getLogger("portway.test")


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    for handler in handlers:
        root.removeHandler(handler)
    stream = io.StringIO()
    log_to(stream)
    yield stream
    root.handlers[:], root.level = handlers, level


def lines(stream: io.StringIO) -> list[dict[str, str]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line(written: io.StringIO) -> None:
    log.warning("node %s is silent", "node-1")
    (line,) = lines(written)
    assert (line["level"], line["logger"], line["message"]) == ("warning", "portway.test", "node node-1 is silent")
    assert abs((datetime.now(UTC) - datetime.fromisoformat(line["time"])).total_seconds()) < 60
    assert "agent" not in line


def test_debug_is_left_out(written: io.StringIO) -> None:
    log.debug("details")
    assert written.getvalue() == ""


def test_a_traceback_is_a_field(written: io.StringIO) -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        log.exception("it failed")
    (line,) = lines(written)
    assert line["message"] == "it failed"
    assert "ValueError: two\nlines" in line["trace"]


async def test_an_agent_signs_what_it_and_its_tasks_write(written: io.StringIO) -> None:
    async def child() -> None:
        log.info("from a task of mine")

    async def work() -> None:
        log.info("from me")
        await asyncio.create_task(child())
        await asyncio.Event().wait()

    clock = FakeClock()
    agents = Agents(clock)
    agents.start("proxy", "node-1", work)
    agents.start("controllers", "", work)
    await clock.advance(0)
    await agents.stop()
    log.info("from nobody")
    assert [line.get("agent", "") for line in lines(written)] == [
        "proxy@node-1", "controllers", "proxy@node-1", "controllers", "",
    ]  # fmt: skip
    assert AGENT.get() == ""
