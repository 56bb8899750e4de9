"""Log files, from what a pipe brought to what `kubectl logs` shows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from portway.loop import FakeClock
from portway.node.logs import View, log_path, parse, read
from portway.node.sandbox_logs import LogWriter, entries, stamp


async def shown(path: Path, view: View | None = None) -> str:
    return b"".join([piece async for piece in read(path, view or View(), clock=FakeClock())]).decode()


def write(path: Path, *rows: tuple[str, str]) -> None:
    """Lines with times: ("10:00:01", "text")."""
    for time, text in rows:
        with path.open("ab") as file:
            file.write(entries(f"2026-01-01T{time}.000000000Z", "stdout", [text.encode()], partial=False))


def test_a_stamp_has_nine_digits() -> None:
    assert stamp(1_767_225_600_000_000_007) == "2026-01-01T00:00:00.000000007Z"


async def test_lines_from_pieces(tmp_path: Path) -> None:
    writer = LogWriter(str(tmp_path / "0.log"))
    for data in (b"one\ntw", b"o\n\n", b"three"):
        writer.feed("stdout", data)
    writer.feed("stderr", b"oh\n")
    writer.finish("stdout")
    writer.close()
    assert await shown(tmp_path / "0.log") == "one\ntwo\n\noh\nthree\n"


async def test_every_entry_names_time_and_stream(tmp_path: Path) -> None:
    writer = LogWriter(str(tmp_path / "0.log"))
    writer.feed("stderr", b"text with  blanks\n")
    writer.close()
    entry = parse((tmp_path / "0.log").read_bytes().rstrip(b"\n"))
    assert entry is not None
    assert (entry.stream, entry.whole, entry.text) == ("stderr", True, b"text with  blanks")
    assert entry.when.endswith("Z") and len(entry.when) == 30


async def test_a_long_line_is_cut_in_the_file_and_whole_for_the_user(tmp_path: Path) -> None:
    writer = LogWriter(str(tmp_path / "0.log"))
    line = b"x" * 50_000
    for start in range(0, len(line), 7000):
        writer.feed("stdout", line[start : start + 7000])
    writer.feed("stdout", b"\nnext\n")
    writer.close()
    assert await shown(tmp_path / "0.log") == line.decode() + "\nnext\n"
    assert max(map(len, (tmp_path / "0.log").read_bytes().split(b"\n"))) < 17_000
    assert (await shown(tmp_path / "0.log", View(timestamps=True))).count("Z ") == 2


async def test_tail_since_and_timestamps(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    write(path, ("10:00:01", "a"), ("10:00:02", "b"), ("10:00:03", "c"))
    assert await shown(path, View(tail=2)) == "b\nc\n"
    assert await shown(path, View(tail=0)) == ""
    assert await shown(path, View(tail=99)) == "a\nb\nc\n"
    assert await shown(path, View(since=datetime(2026, 1, 1, 10, 0, 2, tzinfo=UTC))) == "b\nc\n"
    assert await shown(path, View(tail=1, timestamps=True)) == "2026-01-01T10:00:03.000000000Z c\n"


async def test_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert await shown(tmp_path / "0.log") == ""


async def test_a_line_cut_off_by_a_crash_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    write(path, ("10:00:01", "a"))
    with path.open("ab") as file:
        file.write(b"2026-01-01T1")
    assert await shown(path) == "a\n"


async def test_a_full_file_is_put_aside_once(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    writer = LogWriter(str(path), limit=1000)
    for number in range(60):
        writer.feed("stdout", b"line %d\n" % number)
    writer.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0.log", "0.log.1"]
    assert all(p.stat().st_size <= 1000 for p in tmp_path.iterdir())
    lines = (await shown(path)).split()[1::2]
    assert lines == [str(n) for n in range(60 - len(lines), 60)]
    assert len(lines) > 20


async def test_following_sees_what_comes_and_ends_with_the_container(tmp_path: Path) -> None:
    path, clock = tmp_path / "0.log", FakeClock()
    alive, got = True, list[bytes]()
    write(path, ("10:00:01", "before"))

    async def follow() -> None:
        async for piece in read(path, View(), clock=clock, running=lambda: alive):
            got.append(piece)

    task = asyncio.create_task(follow())
    await _until(lambda: clock.sleepers == 1)
    write(path, ("10:00:02", "while"))
    await clock.advance(1)
    alive = False
    write(path, ("10:00:03", "last words"))
    await clock.advance(1)
    await asyncio.wait_for(task, 5)
    assert b"".join(got) == b"before\nwhile\nlast words\n"


async def test_following_goes_on_in_the_next_file(tmp_path: Path) -> None:
    path, clock, got = tmp_path / "0.log", FakeClock(), list[bytes]()
    alive = True
    writer = LogWriter(str(path), limit=200)
    writer.feed("stdout", b"first\n")

    async def follow() -> None:
        async for piece in read(path, View(), clock=clock, running=lambda: alive):
            got.append(piece)

    task = asyncio.create_task(follow())
    await _until(lambda: clock.sleepers == 1)
    for number in range(5):
        writer.feed("stdout", b"%d\n" % number)
    assert (tmp_path / "0.log.1").exists()
    await clock.advance(1)
    alive = False
    await clock.advance(1)
    await asyncio.wait_for(task, 5)
    writer.close()
    assert b"".join(got) == b"first\n0\n1\n2\n3\n4\n"


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("line", [b"", b"one two", b"a b c"])
def test_what_is_no_entry(line: bytes) -> None:
    assert parse(line) is None


def test_each_run_has_a_file_of_its_own() -> None:
    assert log_path(Path("/logs"), "main", 2) == Path("/logs/main/2.log")
