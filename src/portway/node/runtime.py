"""The agent's end of the sandbox: `PodHost` starts the host process of a node, `Sandbox` is one pod in it, `Run` one
process.

Called by `pod` (containers, probes that run a command) and `streams` (kubectl exec). Orders and events go through
`sandbox_wire.Channel`; this module turns them into awaitables. When the host or a pod's init ends, for whatever
reason, every open `Run` ends with `KILLED`, so nobody waits for ever.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from portway.netlink.namespace import CLONE_NEWPID, unshare
from portway.node.lifecycle import KILLED, Exit
from portway.node.sandbox_wire import Channel, Message

_SOURCE = str(Path(__file__).parent.parent.parent)
_BOOT = f"""import sys; sys.path.insert(0, {_SOURCE!r})
from portway.node.sandbox import main; main(int(sys.argv[1]), sys.argv[2:])"""


class RuntimeRefused(Exception):
    """The kernel or the sandbox refused; the message says what and, where known, the cure."""


class StartFailed(RuntimeRefused):
    """A program could not be started; `code` is 127 (not there) or 126 (not executable)."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder or file of the machine, shown in a container at `target`."""

    source: str
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One container to start. `root` is an empty folder to build in, `files` what stands in its /etc."""

    argv: tuple[str, ...]
    env: dict[str, str]
    root: str
    log: str
    cwd: str = ""
    tty: bool = False
    files: dict[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()


class Run:
    """A process in a pod: await `started` (its pid in the pod; raises StartFailed), then `exited`."""

    def __init__(self, id_: str) -> None:
        loop = asyncio.get_running_loop()
        self.id = id_
        self.started: asyncio.Future[int] = loop.create_future()
        self.exited: asyncio.Future[Exit] = loop.create_future()
        self.terminal: asyncio.Future[int] = loop.create_future()
        for future in (self.started, self.terminal):
            future.add_done_callback(lambda f: f.cancelled() or f.exception())  # nobody may be interested

    def fail(self, error: RuntimeRefused) -> None:
        for future in (self.started, self.terminal):
            if not future.done():
                future.set_exception(error)

    def end(self, exit_: Exit) -> None:
        self.fail(StartFailed("the process ended before its program started", exit_.code))
        if not self.exited.done():
            self.exited.set_result(exit_)


class Sandbox:
    """One pod: its namespaces and its init."""

    def __init__(self, channel: Channel, warn: Callable[[str], None]) -> None:
        self._channel = channel
        self._warn = warn
        self._runs: dict[str, Run] = {}
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._ready.add_done_callback(lambda f: f.cancelled() or f.exception())
        self._count = 0
        self.gone: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(channel.fileno(), self._readable)

    async def ready(self) -> None:
        """Until the namespaces are made. Raises RuntimeRefused."""
        await asyncio.shield(self._ready)

    def start(self, id_: str, start: Start) -> Run:
        mounts = [{"source": m.source, "target": m.target, "read_only": m.read_only} for m in start.mounts]
        order = {"do": "start", "id": id_, "argv": start.argv, "env": start.env, "cwd": start.cwd, "tty": start.tty}
        return self._order({**order, "root": start.root, "log": start.log, "files": start.files, "mounts": mounts})

    def exec(
        self, container: str, argv: Sequence[str], env: dict[str, str], *, stdio: Sequence[int], tty: bool = False
    ) -> Run:
        """Run a command in the container of run id `container`, with three descriptors (none with `tty`: see `Run.terminal`)."""
        self._count += 1
        order = {
            "do": "exec",
            "id": f"exec-{self._count}",
            "container": container,
            "argv": list(argv),
            "env": env,
            "tty": tty,
        }
        return self._order(order, stdio)

    def signal(self, run: Run, number: int) -> None:
        self._channel.send({"do": "signal", "id": run.id, "signal": number})

    def kill(self, run: Run) -> None:
        self._channel.send({"do": "kill", "id": run.id})

    def close(self) -> None:
        """End the pod at once: its init leaves when the socket closes, and the kernel ends the rest with it."""
        self._lost("the pod was ended")

    def _order(self, message: Message, fds: Sequence[int] = ()) -> Run:
        run = Run(message["id"])
        if self._channel.closed:
            run.end(KILLED)
            return run
        self._runs[run.id] = run
        self._channel.send(message, fds)
        return run

    def _readable(self) -> None:
        for message, fds in self._channel.receive():
            self._event(message, fds)
        if self._channel.closed:
            self._lost("the pod's sandbox has ended")

    def _event(self, message: Message, fds: list[int]) -> None:
        run = self._runs.get(message.get("id", ""))
        match message["event"], run:
            case "ready", _:
                _resolve(self._ready, None)
            case "refused", _:
                _fail(self._ready, RuntimeRefused(refusal(message["error"])))
            case "warning", _:
                self._warn(message["text"])
            case "started", Run():
                _resolve(run.started, message["pid"])
            case "failed", Run():
                run.fail(StartFailed(message["error"], message["code"]))
            case "terminal", Run() if not run.terminal.done():
                run.terminal.set_result(fds.pop())
            case "exited", Run():
                del self._runs[run.id]
                run.end(Exit(message["code"], message["signal"]))
        for fd in fds:
            os.close(fd)

    def _lost(self, why: str) -> None:
        if self.gone.done():
            return
        self._loop.remove_reader(self._channel.fileno())
        self._channel.close()
        _fail(self._ready, RuntimeRefused(why))
        for run in self._runs.values():
            run.end(KILLED)
        self._runs.clear()
        self.gone.set_result(None)


class PodHost:
    """The host process of a node. A thread of ours starts it and waits for it: it is the parent whose end would kill it."""

    def __init__(self, needed: Sequence[str] = ()) -> None:
        self._needed = [*needed, sys.prefix, sys.base_prefix, _SOURCE]
        self._channel: Channel | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self.ended = asyncio.Event()

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    async def start(self) -> None:
        """Raises RuntimeRefused when the kernel does not let us make namespaces."""
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        forked: asyncio.Future[None] = loop.create_future()
        self._thread = threading.Thread(target=self._keep, args=(theirs, loop, forked), name="pod-host", daemon=True)
        self._thread.start()
        await forked
        self._channel = Channel(ours, wait=False)
        readable = asyncio.Event()
        loop.add_reader(ours.fileno(), readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(ours.fileno())
        if not list(self._channel.receive()):
            raise RuntimeRefused(
                "the host of the pods ended while it started: `portway doctor` says what this machine lacks"
            )

    def pod(
        self,
        hostname: str,
        network: int,
        *,
        memory: dict[str, str] | None = None,
        sysctls: dict[str, str] | None = None,
        warn: Callable[[str], None] = lambda _: None,
    ) -> Sandbox:
        """A new pod in the network namespace behind the descriptor `network`.

        `memory`: folders to mount as tmpfs, with options. `warn` hears what a container must do without.

        Raises RuntimeRefused."""
        if self._channel is None or self._channel.closed or self.ended.is_set():
            raise RuntimeRefused("the host of the pods is not running")
        ours, theirs = socket.socketpair()
        with theirs:
            order = {"do": "pod", "hostname": hostname[:64], "memory": memory or {}, "sysctls": sysctls or {}}
            self._channel.send(order, [theirs.fileno(), network])
        return Sandbox(Channel(ours, wait=False), warn)

    def kill(self) -> None:
        """End the host and with it every pod, at once."""
        if self._channel is not None and not self._channel.closed:
            self._channel.close()
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def close(self) -> None:
        """`kill`, and wait until the kernel has ended all of it."""
        self.kill()
        if self._process is not None:
            await self.ended.wait()

    def _keep(self, theirs: socket.socket, loop: asyncio.AbstractEventLoop, forked: asyncio.Future[None]) -> None:
        try:
            with theirs:
                unshare(CLONE_NEWPID)  # for the children of this thread
                command = [sys.executable, "-I", "-S", "-c", _BOOT, str(theirs.fileno()), *self._needed]
                self._process = process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], start_new_session=True, cwd="/"
                )
        except OSError as e:
            loop.call_soon_threadsafe(_fail, forked, RuntimeRefused(refusal(str(e))))
            return
        loop.call_soon_threadsafe(_resolve, forked, None)
        process.wait()
        try:
            loop.call_soon_threadsafe(self.ended.set)
        except RuntimeError:
            pass  # the loop has ended before us: nobody asks any more


def refusal(error: str) -> str:
    """The kernel's words with a cure."""
    if "Operation not permitted" in error or "EPERM" in error:
        return f"{error}. Pods need namespaces: run as root, or allow user namespaces (`portway doctor` says how)"
    if "No space left" in error:
        return f"{error}. The limit of namespaces is reached: raise user.max_*_namespaces, or remove pods"
    return error


def _resolve(future: asyncio.Future[Any], value: object) -> None:
    if not future.done():
        future.set_result(value)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
