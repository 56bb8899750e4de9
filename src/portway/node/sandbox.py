"""The process that is the parent of a node's pods, and the tiny init (pid 1) of each of them. Standard library only.

The agent starts one *host* per node (`python -I -S`, no site packages); for every pod the host forks an init into new
pid, uts, ipc and mount namespaces, which joins the network namespace it is handed, and takes orders from the agent
over a socket of its own: start, exec, signal, kill. The containers of a pod share its pid namespace with the init, as
with `shareProcessNamespace`, so SIGTERM ends a program without a handler, which it would not as a bare pid 1.
Everything dies with the agent's process: the host is pid 1 of a namespace around all pods, gets SIGKILL when its
parent ends, and each init leaves when its socket closes. See `runtime` for the other end, `sandbox_root` for what a
container sees.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
from dataclasses import dataclass, field
from typing import Any, NoReturn

from portway.netlink.namespace import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUTS,
    setns,
    unshare,
)
from portway.node import sandbox_root
from portway.node.sandbox_kernel import MS_PRIVATE, MS_REC, die_with_parent, mount
from portway.node.sandbox_logs import LogWriter
from portway.node.sandbox_wire import Channel, Message

_READ = 1 << 16
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126


def main(control: int, needed: list[str]) -> NoReturn:
    """The host: fork an init for every message ("pod", with its socket and network namespace), until the socket closes."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    unshare(CLONE_NEWNS)
    mount("none", "/", flags=MS_REC | MS_PRIVATE)
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        nested = sandbox_root.nested_mounts(file.read(), needed)
    channel = Channel(socket.socket(fileno=control))
    children = _child_wakeups()
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    poll.register(children, select.POLLIN)
    home = os.open("/proc/self/ns/pid", os.O_RDONLY)
    gc.freeze()
    channel.send({"event": "ready"})
    while not channel.closed:
        for fd, _ in poll.poll():
            if fd == children:
                os.read(children, _READ)
                _reap()
                continue
            for message, fds in channel.receive():
                _fork_pod(message, fds, home, nested)
    os._exit(0)


def _fork_pod(message: Message, fds: list[int], home: int, nested: list[str]) -> None:
    pod = Channel(socket.socket(fileno=fds[0]))
    try:
        unshare(CLONE_NEWPID)
        pid = os.fork()
        if pid == 0:
            die_with_parent()
            _pod_main(pod, fds[1], message, nested)
        setns(home, CLONE_NEWPID)
    except OSError as e:
        pod.send({"event": "refused", "error": str(e)})
    for fd in fds[1:]:
        os.close(fd)
    pod.sock.close()


def _pod_main(pod: Channel, network: int, message: Message, nested: list[str]) -> NoReturn:
    try:
        setns(network, CLONE_NEWNET)
        os.close(network)
        unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC)
        socket.sethostname(message["hostname"])
        init = Init(pod, nested)
        init.mount_own_proc()
        for path, options in message["memory"].items():
            mount("tmpfs", path, "tmpfs", 0, options)
        for name, value in message["sysctls"].items():
            with open("/proc/sys/" + name.replace(".", "/"), "w", encoding="ascii") as file:
                file.write(value)
    except OSError as e:
        pod.send({"event": "refused", "error": str(e)})
        os._exit(1)
    pod.send({"event": "ready"})
    init.run()
    os._exit(0)


def _child_wakeups() -> int:
    """A descriptor that becomes readable when a child ends."""
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    return read


def _reap() -> list[tuple[int, int]]:
    """(pid, wait status) of every child that has ended."""
    ended = []
    try:
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            ended.append((pid, status))
    except ChildProcessError:
        pass
    return ended


@dataclass(slots=True)
class Run:
    """A container, or a command in one (then `container` names it). `mounts` is its mount namespace, opened."""

    id: str
    pid: int
    report: Channel
    container: str = ""
    mounts: int = -1
    log: LogWriter | None = None
    pipes: dict[int, str] = field(default_factory=dict)
    error: str = ""
    started: bool = False


class Init:
    """Pid 1 of one pod: starts, reaps and signals processes, and writes what they print to the log files."""

    def __init__(self, channel: Channel, nested: list[str]) -> None:
        self._channel = channel
        self._nested = nested
        self._runs: dict[str, Run] = {}
        self._by_pid: dict[int, Run] = {}
        self._by_fd: dict[int, Run] = {}
        self._own_proc = False
        self._poll = select.poll()

    def mount_own_proc(self) -> None:
        try:
            mount("proc", "/proc", "proc")
            self._own_proc = True
        except OSError:
            self._own_proc = False  # `sandbox_root` tells the user

    def run(self) -> None:
        children = _child_wakeups()
        self._poll.register(children, select.POLLIN)
        self._poll.register(self._channel, select.POLLIN)
        while not self._channel.closed:
            for fd, _ in self._poll.poll():
                if fd == children:
                    os.read(children, _READ)
                elif fd == self._channel.fileno():
                    self._orders()
                elif fd in self._by_fd:
                    self._hear(fd)
            # Every time round: a wake-up that came between two reads must not be lost.
            for pid, status in _reap():
                self._ended(pid, status)

    def _orders(self) -> None:
        for message, fds in self._channel.receive():
            match message["do"]:
                case "start":
                    self._start(message)
                case "exec":
                    self._exec(message, fds)
                case "signal":
                    self._signal(message["id"], message["signal"])
                case "kill":
                    self._kill(message["id"])

    def _start(self, message: Message) -> None:
        out, err = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)
        run = self._fork(message, [os.open("/dev/null", os.O_RDONLY), out[1], err[1]])
        run.log = LogWriter(message["log"])
        run.pipes = {out[0]: "stdout", err[0]: "stderr"}
        for fd in run.pipes:
            os.set_blocking(fd, False)
            self._watch(fd, run)

    def _exec(self, message: Message, fds: list[int]) -> None:
        container = self._runs.get(message["container"])
        if container is None or container.mounts < 0:
            for fd in fds:
                os.close(fd)
            self._tell(message["id"], "failed", error="the container is not running", code=_NOT_FOUND)
            return
        self._fork(message, fds, container.mounts)

    def _fork(self, message: Message, stdio: list[int], mounts: int = -1) -> Run:
        """Fork the child that becomes the program; it reports its mount namespace, warnings and failure, then closes."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        pid = os.fork()
        if pid == 0:
            _become(message, stdio, Channel(theirs), mounts, self._nested)
        theirs.close()
        for fd in stdio:
            os.close(fd)
        run = Run(message["id"], pid, Channel(ours), message.get("container", ""))
        self._runs[run.id] = self._by_pid[pid] = run
        self._watch(ours.fileno(), run)
        return run

    def _watch(self, fd: int, run: Run) -> None:
        self._by_fd[fd] = run
        self._poll.register(fd, select.POLLIN)

    def _forget(self, fd: int) -> None:
        if self._by_fd.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def _hear(self, fd: int) -> None:
        run = self._by_fd[fd]
        if fd in run.pipes:
            self._log(run, fd)
        else:
            self._report(run)

    def _report(self, run: Run) -> None:
        """What the child said before it became the program: silence (its end closed by execve) is success."""
        for message, fds in run.report.receive():
            if message["event"] == "mounts":
                run.mounts = fds[0]
            elif message["event"] == "terminal":
                self._tell(run.id, "terminal", fds)
                os.close(fds[0])
            elif message["event"] == "failed":
                run.error = message["error"]
                self._tell(run.id, "failed", error=run.error, code=message["code"])
            else:
                self._tell(run.id, message["event"], text=message.get("text", ""))
        if run.report.closed:
            self._forget(run.report.fileno())
            run.report.close()
            if not run.error and not run.started:
                run.started = True
                self._tell(run.id, "started", pid=run.pid)

    def _log(self, run: Run, fd: int) -> bool:
        """Move what a pipe holds to the log. False when there is no more now."""
        try:
            data = os.read(fd, _READ)
        except BlockingIOError:
            return False
        if run.log is None:
            return False
        if data:
            run.log.feed(run.pipes[fd], data)
            return True
        run.log.finish(run.pipes.pop(fd))
        self._forget(fd)
        os.close(fd)
        if not run.pipes:
            run.log.close()
            run.log = None
        return False

    def _ended(self, pid: int, status: int) -> None:
        run = self._by_pid.pop(pid, None)
        if run is None:
            return
        while not run.report.closed:
            self._report(run)
        if run.mounts >= 0:
            self._kill_left(run)
            os.close(run.mounts)
            run.mounts = -1
        for fd in list(run.pipes):
            while self._log(run, fd):
                pass
        del self._runs[run.id]
        code = os.waitstatus_to_exitcode(status)
        self._tell(run.id, "exited", code=code if code >= 0 else 128 - code, signal=max(0, -code))

    def _kill_left(self, run: Run) -> None:
        """What a container leaves behind when its first process ends, known by the mount namespace."""
        if not self._own_proc:
            return
        mine = os.fstat(run.mounts).st_ino
        for name in os.listdir("/proc"):
            try:
                if name.isdigit() and os.stat(f"/proc/{name}/ns/mnt").st_ino == mine:
                    os.kill(int(name), signal.SIGKILL)
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue

    def _signal(self, id_: str, number: int) -> None:
        run = self._runs.get(id_)
        if run is not None and run.pid in self._by_pid:
            os.kill(run.pid, number)

    def _kill(self, id_: str) -> None:
        self._signal(id_, signal.SIGKILL)

    def _tell(self, id_: str, event: str, fds: list[int] | None = None, **more: Any) -> None:
        self._channel.send({"event": event, "id": id_, **more}, fds or [])


def _become(message: Message, stdio: list[int], report: Channel, mounts: int, nested: list[str]) -> NoReturn:
    """In the child: enter the container's (or a new) mount namespace, then become the program. Never returns."""
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        if mounts >= 0:
            setns(mounts, CLONE_NEWNS)
        else:
            _own_root(message, report, nested)
        if message.get("tty"):
            stdio = _terminal(report)
        _standard_streams(stdio)
        cwd = message.get("cwd") or "/"
        os.makedirs(cwd, exist_ok=True)
        os.chdir(cwd)
        os.umask(0o022)
        os.execvpe(message["argv"][0], message["argv"], message["env"])
    except FileNotFoundError as e:
        report.send({"event": "failed", "error": _words(e, message["argv"][0]), "code": _NOT_FOUND})
        os._exit(_NOT_FOUND)
    except (OSError, ValueError) as e:
        report.send({"event": "failed", "error": _words(e, message["argv"][0]), "code": _NOT_EXECUTABLE})
        os._exit(_NOT_EXECUTABLE)


def _own_root(message: Message, report: Channel, nested: list[str]) -> None:
    unshare(CLONE_NEWNS)
    with open("/proc/self/ns/mnt", "rb") as namespace:
        report.send({"event": "mounts"}, [namespace.fileno()])
    sandbox_root.enter(message, nested, lambda text: report.send({"event": "warning", "text": text}))


def _terminal(report: Channel) -> list[int]:
    """A terminal of the container's own devpts; its controlling end goes to the agent."""
    controlling, line = os.openpty()
    report.send({"event": "terminal"}, [controlling])
    os.close(controlling)
    os.close(os.open(os.ttyname(line), os.O_RDWR))  # opening it makes it the session's controlling terminal
    return [line, line, line]


def _standard_streams(stdio: list[int]) -> None:
    kept = [fd if fd > 2 else os.dup(fd) for fd in stdio]
    for number, fd in enumerate(kept):
        os.dup2(fd, number, inheritable=True)


def _words(error: Exception, program: str) -> str:
    if isinstance(error, OSError) and error.filename is None and error.errno is not None and error.args[1:]:
        return str(error.args[1]) if ":" in str(error.args[1]) else f"{program}: {error.args[1]}"
    return f"exec {program}: {error.strerror}" if isinstance(error, OSError) else f"exec {program}: {error}"


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
