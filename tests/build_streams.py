"""A fake of whoever runs the pods, for the API server's streams: logs from lists, commands from small coroutines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from portway.apiserver.streams import STDERR, STDOUT, ExecRequest, LogRequest, StreamRefused


class FakeSession:
    """Understands a few commands: `cat` echoes until the end of input, `fail N` writes to both outputs and exits with N,
    `size` waits for a resize and prints it."""

    def __init__(self, request: ExecRequest) -> None:
        self.request = request
        self.closed = asyncio.Event()
        self._output: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue()
        self._code = 0
        self._begin(request.command)

    def _begin(self, command: tuple[str, ...]) -> None:
        if command[:1] == ("fail",):
            self._output.put_nowait((STDOUT, b"out\n"))
            self._output.put_nowait((STDERR, b"err\n"))
            self._code = int(command[1])
            self._output.put_nowait(None)
        elif command[:1] == ("echo",):
            self._output.put_nowait((STDOUT, " ".join(command[1:]).encode() + b"\n"))
            self._output.put_nowait(None)

    async def read(self) -> tuple[int, bytes] | None:
        return await self._output.get()

    async def write(self, data: bytes) -> None:
        self._output.put_nowait((STDOUT, data))

    async def close_stdin(self) -> None:
        self._output.put_nowait(None)

    async def resize(self, width: int, height: int) -> None:
        if self.request.command == ("size",):
            self._output.put_nowait((STDOUT, f"{width}x{height}\n".encode()))
            self._output.put_nowait(None)

    async def wait(self) -> int:
        return self._code

    async def close(self) -> None:
        self.closed.set()


@dataclass
class FakeStreams:
    """`lines` is every container's log; a follower gets what `more` is given until None."""

    lines: list[bytes] = field(default_factory=list)
    more: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue)
    refuse: StreamRefused | None = None
    asked: list[LogRequest] = field(default_factory=list)
    sessions: list[FakeSession] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def logs(self, request: LogRequest) -> AsyncIterator[bytes]:
        self.asked.append(request)
        if self.refuse is not None:
            raise self.refuse
        try:
            for line in self.lines[-request.tail_lines :] if request.tail_lines else self.lines:
                yield line
            while request.follow and (line_or_end := await self.more.get()) is not None:
                yield line_or_end
        finally:
            self.ended.set()

    async def exec(self, request: ExecRequest) -> FakeSession:
        if self.refuse is not None:
            raise self.refuse
        self.sessions.append(FakeSession(request))
        return self.sessions[-1]

    async def attach(self, request: ExecRequest) -> FakeSession:
        return await self.exec(request)
