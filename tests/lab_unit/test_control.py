"""The control socket: a question and an answer, refusals in words, and a path longer than the kernel's limit."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from portway.lab import ask, control


async def twice(request: Mapping[str, Any]) -> Any:
    return {"twice": request["number"] * 2}


async def refuses(_: Mapping[str, Any]) -> Any:
    raise ask.Refused("node-1 is off already: portway node start node-1")


async def fails(_: Mapping[str, Any]) -> Any:
    raise KeyError("surprise")


@pytest.fixture
async def path(tmp_path: Path) -> AsyncIterator[Path]:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    path = folder / "control.sock"
    assert len(str(path)) > 107, "a unix socket's path may have 107 bytes"
    server = await control.serve(path, {"twice": twice, "refuses": refuses, "fails": fails})
    async with server:
        yield path


async def test_a_question_is_answered(path: Path) -> None:
    assert await asyncio.to_thread(ask.call, path, "twice", number=21) == {"twice": 42}


async def test_many_ask_at_once(path: Path) -> None:
    answers = await asyncio.gather(*(asyncio.to_thread(ask.call, path, "twice", number=n) for n in range(20)))
    assert [a["twice"] for a in answers] == [2 * n for n in range(20)]


async def test_a_refusal_arrives_in_its_own_words(path: Path) -> None:
    with pytest.raises(ask.Refused, match="portway node start node-1"):
        await asyncio.to_thread(ask.call, path, "refuses")


async def test_a_bug_is_told_and_the_next_question_is_answered(path: Path) -> None:
    with pytest.raises(ask.Refused, match="KeyError: 'surprise'; this is a bug, please report it"):
        await asyncio.to_thread(ask.call, path, "fails")
    assert await asyncio.to_thread(ask.call, path, "twice", number=1) == {"twice": 2}


async def test_a_question_that_nobody_knows_names_the_versions(path: Path) -> None:
    with pytest.raises(ask.Refused, match="differ in version"):
        await asyncio.to_thread(ask.call, path, "explode")


@pytest.mark.parametrize("words", [b"not json\n", b"[]\n", b"\n", b""])
async def test_nonsense_on_the_socket_is_answered_or_ended(path: Path, words: bytes) -> None:
    def speak() -> bytes:
        with ask.short(path) as name, socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(name)
            connection.sendall(words)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    assert b"error" in await asyncio.to_thread(speak)


async def test_the_socket_is_for_its_owner_alone(path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600


async def test_a_socket_that_a_dead_supervisor_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(ask.NotRunning, match="does not answer"):
        ask.call(path, "twice", number=1)
    async with await control.serve(path, {"twice": twice}):
        assert await asyncio.to_thread(ask.call, path, "twice", number=1) == {"twice": 2}


def test_no_socket_at_all(tmp_path: Path) -> None:
    with pytest.raises(ask.NotRunning, match="does not answer"):
        ask.call(tmp_path / "control.sock", "status")
