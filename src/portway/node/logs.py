"""Read the log files that `sandbox_logs.LogWriter` writes: `kubectl logs` with tail, since, timestamps, previous and
follow.

The files of a container are `<folder>/<restart>.log`, an older half beside it as `.log.1`. `read` yields whole lines
as the user shall see them. Called by `streams`.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from portway.loop import Clock

_CHUNK = 1 << 16
_LOOK_AGAIN = 0.05
"""Seconds between two looks at a log that is followed."""


@dataclass(frozen=True, slots=True)
class View:
    """What of a log to show. `since`: nothing older."""

    tail: int | None = None
    since: datetime | None = None
    timestamps: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a log file."""

    when: str
    stream: str
    whole: bool
    text: bytes


def log_path(folder: Path, container: str, restart: int) -> Path:
    return folder / container / f"{restart}.log"


def parse(line: bytes) -> Entry | None:
    """An entry, or None for a line that is none (a file cut off by a crash)."""
    parts = line.split(b" ", 3)
    if len(parts) != 4:
        return None
    return Entry(parts[0].decode(), parts[1].decode(), parts[2] == b"F", parts[3])


class Shaper:
    """Entries → bytes for the user. Long lines come in pieces: only the first shows a time, only the last ends the line."""

    def __init__(self, view: View) -> None:
        self._since = f"{view.since.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}" if view.since else ""
        self._timestamps = view.timestamps
        self._middle: set[str] = set()

    def shape(self, entry: Entry) -> bytes:
        if entry.when < self._since:
            return b""
        head = b"" if not self._timestamps or entry.stream in self._middle else entry.when.encode() + b" "
        if entry.whole:
            self._middle.discard(entry.stream)
        else:
            self._middle.add(entry.stream)
        return head + entry.text + (b"\n" if entry.whole else b"")


class _Tailer:
    """One log, read as it grows and through its rotations."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rest = b""
        self._fd = -1
        self._waiting: list[Path] = [p for p in (path.with_name(path.name + ".1"), path) if p.exists()]

    def entries(self) -> Iterator[Entry]:
        """What has been written since the last call."""
        while self._next_file():
            while data := os.read(self._fd, _CHUNK):
                *lines, self._rest = (self._rest + data).split(b"\n")
                yield from (entry for line in lines if (entry := parse(line)))
            if not self._rotated():
                return

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _next_file(self) -> bool:
        if self._fd < 0:
            if not self._waiting:
                if not self._path.exists():
                    return False
                self._waiting = [self._path]
            self._fd = os.open(self._waiting.pop(0), os.O_RDONLY | os.O_CLOEXEC)
        return True

    def _rotated(self) -> bool:
        """Whether this file is read to its end for good, and another one follows."""
        try:
            same = not self._waiting and os.stat(self._path).st_ino == os.fstat(self._fd).st_ino
        except FileNotFoundError:
            same = True  # between two renames: look again later
        if not same:
            self.close()
            self._rest = b""
        return not same


async def read(
    path: Path, view: View, *, clock: Clock, running: Callable[[], bool] | None = None
) -> AsyncIterator[bytes]:
    """The log. With `running` it is followed while that holds, and read to its end after."""
    tailer, shaper = _Tailer(path), Shaper(view)
    try:
        alive = running is not None and running()
        first = await asyncio.to_thread(_start, tailer, shaper, view.tail)
        for text in first:
            yield text
        while alive:
            await clock.sleep(_LOOK_AGAIN)
            alive = running is not None and running()
            fresh = b"".join(shaper.shape(entry) for entry in tailer.entries())
            if fresh:
                yield fresh
    finally:
        tailer.close()


def _start(tailer: _Tailer, shaper: Shaper, tail: int | None) -> list[bytes]:
    """All there is, or its last `tail` lines, in pieces of a size that suits a socket."""
    lines: deque[bytes] = deque(maxlen=None if tail is None else tail)
    open_: dict[str, bytes] = {}
    for entry in tailer.entries():
        text = open_.pop(entry.stream, b"") + shaper.shape(entry)
        if entry.whole:
            if text:
                lines.append(text)
        else:
            open_[entry.stream] = text
    if tail != 0:
        lines.extend(text for text in open_.values() if text)
    return _pieces(lines)


def _pieces(lines: deque[bytes]) -> list[bytes]:
    pieces, now, size = [], [], 0
    for line in lines:
        now.append(line)
        size += len(line)
        if size >= _CHUNK:
            pieces.append(b"".join(now))
            now, size = [], 0
    return [*pieces, b"".join(now)] if now else pieces
