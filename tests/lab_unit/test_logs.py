"""A line of the log says when, how bad, who and what; a traceback does not break the line."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from portway.lab.agents import Agents
from portway.lab.logs import AGENT, JsonLines, Rotating, log_to
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


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "supervisor.log"


@pytest.fixture
def rotating(file: Path) -> Iterator[logging.Logger]:
    """A logger of its own whose file is full after 2,000 bytes."""
    logger = logging.Logger("portway.rotating")
    with open(file, "a") as stream:
        handler = Rotating(stream, file, most=2000)
        handler.setFormatter(JsonLines())
        logger.addHandler(handler)
        yield logger


def messages(file: Path) -> list[int]:
    return [int(json.loads(line)["message"]) for line in file.read_text().splitlines()]


def test_a_full_log_begins_anew_and_one_older_file_stays(rotating: logging.Logger, file: Path) -> None:
    for n in range(200):
        rotating.info("%d", n)
    assert sorted(p.name for p in file.parent.iterdir()) == ["supervisor.log", "supervisor.log.1"]
    older, newer = messages(file.with_name("supervisor.log.1")), messages(file)
    assert older + newer == list(range(older[0], 200)), "no line is lost at the seam"
    assert 2000 <= file.with_name("supervisor.log.1").stat().st_size < 2200
    assert file.stat().st_size < 2000
    assert file.stat().st_mode & 0o077 == 0


def test_what_was_there_before_counts(file: Path) -> None:
    file.write_text("x" * 1999)
    logger = logging.Logger("portway.rotating")
    with open(file, "a") as stream:
        logger.addHandler(Rotating(stream, file, most=2000))
        logger.info("one more")
        logger.info("and in the new one")
    assert file.read_text() == "and in the new one\n"
    assert file.with_name("supervisor.log.1").read_text().endswith("xone more\n")


def test_whoever_writes_to_the_same_descriptor_is_in_the_new_file(rotating: logging.Logger, file: Path) -> None:
    handler = rotating.handlers[0]
    assert isinstance(handler, Rotating)
    rotating.info("1" * 2000)
    os.write(handler.stream.fileno(), b"from C\n")
    assert file.read_text() == "from C\n"


def test_a_folder_that_is_gone_does_not_stop_whoever_logs(
    rotating: logging.Logger, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    file.unlink()
    for n in range(100):
        rotating.info("%d", n)
    assert not file.exists()
