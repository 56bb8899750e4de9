"""What a container prints, as files in the format of the Container Runtime Interface: time, stream, P or F, text.

`LogWriter` runs in the sandbox, so that a chatty pod burdens its own process and not the cluster's. A file that has
grown past `limit` becomes `<name>.1` and a new one begins: two files at most. `logs` reads them. Standard library
only (see `sandbox`).
"""

from __future__ import annotations

import os
import time

LIMIT = 10 << 20
_LONGEST = 16 << 10


def stamp(nanoseconds: int) -> str:
    """RFC 3339 with nanoseconds, always nine digits, so that equal length means text order is time order."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09d}Z"


def entries(when: str, stream: str, lines: list[bytes], *, partial: bool) -> bytes:
    """Lines as log entries; with `partial` the last one goes on in the next entry."""
    head, out = f"{when} {stream} ".encode(), bytearray()
    for number, line in enumerate(lines, 1):
        pieces = [line[i : i + _LONGEST] for i in range(0, len(line), _LONGEST)] or [b""]
        for piece in pieces[:-1]:
            out += head + b"P " + piece + b"\n"
        out += head + (b"P " if partial and number == len(lines) else b"F ") + pieces[-1] + b"\n"
    return bytes(out)


class LogWriter:
    """One container run's log. `feed` takes what one read of a pipe brought; `finish` writes a line that never ended."""

    def __init__(self, path: str, limit: int = LIMIT) -> None:
        self._path = path
        self._limit = limit
        self._rest: dict[str, bytes] = {}
        self._file = self._open()
        self._size = os.fstat(self._file).st_size

    def feed(self, stream: str, data: bytes) -> None:
        *lines, rest = (self._rest.pop(stream, b"") + data).split(b"\n")
        when = stamp(time.time_ns())
        if len(rest) > _LONGEST:
            self._write(entries(when, stream, [*lines, rest], partial=True))
            return
        if rest:
            self._rest[stream] = rest
        if lines:
            self._write(entries(when, stream, lines, partial=False))

    def finish(self, stream: str) -> None:
        rest = self._rest.pop(stream, b"")
        if rest:
            self._write(entries(stamp(time.time_ns()), stream, [rest], partial=False))

    def close(self) -> None:
        os.close(self._file)

    def _write(self, data: bytes) -> None:
        if self._size and self._size + len(data) > self._limit:
            os.close(self._file)
            os.replace(self._path, self._path + ".1")
            self._file = self._open()
            self._size = 0
        self._size += os.write(self._file, data)

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
