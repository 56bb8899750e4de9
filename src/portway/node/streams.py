"""What `kubectl logs` and `kubectl exec` reach on a node: `apiserver.streams.PodStreams` over the workers of one
agent.

`NodeStreams` finds the pod's worker, `Session` moves bytes between the user and a command in a container, over pipes
or a terminal. The lab joins the streams of all its nodes by `PodContainer.node`.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import struct
import termios
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from portway.apiserver.streams import STDERR, STDOUT, ExecRequest, LogRequest, PodContainer, StreamRefused
from portway.loop import Clock
from portway.node import logs
from portway.node.containers import ContainerKeeper
from portway.node.pod import PodWorker
from portway.node.runtime import Run, RuntimeRefused, Sandbox, StartFailed

_CHUNK = 1 << 16
_QUEUE = 16


class NodeStreams:
    def __init__(self, worker_of: Callable[[str, str], PodWorker | None], clock: Clock) -> None:
        self._worker_of = worker_of
        self._clock = clock

    async def logs(self, request: LogRequest) -> AsyncIterator[bytes]:
        _, keeper = self._find(request.target)
        path = keeper.log(previous=request.previous)
        if path is None:
            raise StreamRefused(_no_log(request, keeper))
        view = logs.View(request.tail_lines, request.since, request.timestamps)
        run = keeper.run
        running = (
            (lambda: run is not None and not run.exited.done()) if request.follow and not request.previous else None
        )
        async for data in logs.read(path, view, clock=self._clock, running=running):
            yield data

    async def exec(self, request: ExecRequest) -> Session:
        worker, keeper = self._find(request.target)
        if worker.sandbox is None or keeper.run is None or not keeper.running:
            raise StreamRefused(f"container {request.target.container} of pod {request.target.pod} is not running")
        try:
            return await Session.open(worker.sandbox, keeper, request)
        except StartFailed as e:
            raise StreamRefused(str(e)) from e
        except RuntimeRefused as e:
            raise StreamRefused(str(e), 500) from e

    async def attach(self, request: ExecRequest) -> Session:
        raise StreamRefused(
            "attach is not there yet: use `kubectl logs -f`, or `kubectl exec` for a command of your own", 501
        )

    def _find(self, target: PodContainer) -> tuple[PodWorker, ContainerKeeper]:
        worker = self._worker_of(target.namespace, target.pod)
        if worker is None or (target.uid and worker.pod.metadata.uid != target.uid):
            raise StreamRefused(f"pod {target.namespace}/{target.pod} is not on node {target.node}", 404)
        keeper = worker.keepers.get(target.container)
        if keeper is None:
            raise StreamRefused(f"container {target.container} is not in pod {target.pod}", 404)
        return worker, keeper


def _no_log(request: LogRequest, keeper: ContainerKeeper) -> str:
    name, pod = request.target.container, request.target.pod
    if request.previous:
        return f'previous terminated container "{name}" in pod "{pod}" not found'
    waiting = f": {keeper.shown.reason}" if keeper.shown.reason else ""
    return f'container "{name}" in pod "{pod}" is waiting to start{waiting}'


class Session:
    """A command that runs in a container (`apiserver.streams.ExecSession`)."""

    def __init__(self, sandbox: Sandbox, run: Run, stdin: int, outputs: dict[int, int]) -> None:
        """`outputs`: our descriptors to read from, each with its stream's number; a terminal is in both roles."""
        self._sandbox = sandbox
        self._run = run
        self._stdin = stdin
        self._outputs = dict(outputs)
        self._terminal = stdin if stdin in outputs else -1
        self._queue: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Event()
        for fd in outputs:
            os.set_blocking(fd, False)
            self._loop.add_reader(fd, self._readable, fd)
        if stdin >= 0:
            os.set_blocking(stdin, False)

    @classmethod
    async def open(cls, sandbox: Sandbox, keeper: ContainerKeeper, request: ExecRequest) -> Session:
        """Raises StartFailed (not found, not executable) and RuntimeRefused."""
        if keeper.run is None:
            raise RuntimeRefused("the container is not running")
        environment = keeper.environment | ({"TERM": "xterm"} if request.tty else {})
        if request.tty:
            run = sandbox.exec(keeper.run.id, request.command, environment, stdio=(), tty=True)
            terminal = await asyncio.shield(run.terminal)
            session = cls(sandbox, run, terminal, {terminal: STDOUT})
        else:
            session, run = cls._with_pipes(sandbox, keeper.run.id, environment, request)
        try:
            await asyncio.shield(run.started)
        except RuntimeRefused:
            await session.close()
            raise
        return session

    @classmethod
    def _with_pipes(
        cls, sandbox: Sandbox, container: str, environment: dict[str, str], request: ExecRequest
    ) -> tuple[Session, Run]:
        input_, out, err = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)
        run = sandbox.exec(container, request.command, environment, stdio=(input_[0], out[1], err[1]))
        for fd in (input_[0], out[1], err[1]):
            os.close(fd)
        session = cls(sandbox, run, input_[1], {out[0]: STDOUT, err[0]: STDERR})
        if not request.stdin:
            session._close_stdin()
        return session, run

    async def read(self) -> tuple[int, bytes] | None:
        while True:
            if not self._queue.empty():
                return self._queue.get_nowait()
            if not self._outputs:
                return None
            # A program may leave children behind that hold its output open: the session ends with the program itself.
            self._room.clear()
            await _either(self._room.wait(), self._run.exited)
            if self._run.exited.done() and self._queue.empty():
                for fd in list(self._outputs):
                    self._readable(fd)
                if self._queue.empty():
                    self._close_outputs()

    async def write(self, data: bytes) -> None:
        while data and self._stdin >= 0:
            try:
                data = data[os.write(self._stdin, data) :]
            except BlockingIOError:
                await self._writable()
            except OSError:
                return

    async def close_stdin(self) -> None:
        self._close_stdin()

    async def resize(self, width: int, height: int) -> None:
        if self._terminal >= 0:
            fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    async def wait(self) -> int:
        return (await asyncio.shield(self._run.exited)).code

    async def close(self) -> None:
        if not self._run.exited.done():
            self._sandbox.signal(self._run, signal.SIGHUP)
            self._sandbox.kill(self._run)
        self._close_stdin()
        self._close_outputs()

    async def _writable(self) -> None:
        room = asyncio.Event()
        self._loop.add_writer(self._stdin, room.set)
        try:
            await _either(room.wait(), self._run.exited)
        finally:
            if self._stdin >= 0:
                self._loop.remove_writer(self._stdin)
        if self._run.exited.done():
            self._close_stdin()

    def _readable(self, fd: int) -> None:
        if self._queue.qsize() >= _QUEUE and not self._run.exited.done():
            self._loop.remove_reader(fd)
            self._loop.call_later(0.01, self._resume, fd)
            return
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return
        except OSError:  # EIO: the other side of a terminal is closed
            data = b""
        if data:
            self._queue.put_nowait((self._outputs[fd], data))
        else:
            self._close_output(fd)
        self._room.set()

    def _resume(self, fd: int) -> None:
        if fd in self._outputs:
            self._loop.add_reader(fd, self._readable, fd)

    def _close_outputs(self) -> None:
        for fd in list(self._outputs):
            self._close_output(fd)

    def _close_output(self, fd: int) -> None:
        if self._outputs.pop(fd, None) is not None:
            self._loop.remove_reader(fd)
            os.close(fd)
        if fd == self._terminal:
            self._terminal = self._stdin = -1

    def _close_stdin(self) -> None:
        """End of input: a pipe is closed, a terminal is told by its control character."""
        if self._stdin < 0:
            return
        if self._terminal >= 0:
            try:
                os.write(self._terminal, b"\x04")
            except OSError:
                pass
        else:
            os.close(self._stdin)
            self._stdin = -1


async def _either(first: Coroutine[Any, Any, object], second: asyncio.Future[Any]) -> None:
    waiting = asyncio.ensure_future(first)
    try:
        await asyncio.wait([waiting, second], return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
