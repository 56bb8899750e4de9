"""Start and stop a supervisor from the command line: the half of `up` and `down` that runs in the user's process.

`up` starts the detached process and yields what it reports until the cluster is ready; whatever goes wrong is a
`LaunchError` with a cure, and an interrupted start is cleaned up. `down` ends the process and removes the folder. Nothing
heavy is imported here: the supervisor imports its own things while the user's process already prints.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from portway.lab import ask, inside, resources, state
from portway.lab.state import Folder, ProcessId, State

_SUPERVISOR = "portway.lab.supervisor"
_DOWN_SECONDS = 10.0
_SLACK_SECONDS = 5.0
"""The supervisor watches the time itself and says more than we could; this is for one that hangs."""


class LaunchError(Exception):
    """The cluster did not come up or go down; the message is for the user and names the cure."""


@dataclass(frozen=True, slots=True)
class Order:
    """What `up` wants. `nodes` None: as many as there were, or two; `zones` None: as before, at first none."""

    nodes: int | None = None
    images: Mapping[str, str] | None = None
    user_namespace: bool = False
    timeout: float = 60.0
    zones: int | None = None
    publish: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """A line of progress: what is done, and after how many seconds."""

    text: str
    seconds: float


def wants_user_namespace(environment: Mapping[str, str]) -> bool:
    """An ordinary user needs one; root may ask for one with PORTWAY_USERNS=1."""
    return os.geteuid() != 0 or environment.get("PORTWAY_USERNS", "") not in ("", "0")


def up(place: Folder, order: Order) -> Generator[Step, None, None]:
    """Bring the cluster up, yielding its steps. The caller holds `state.lock`.

    Closing the generator (Ctrl-C) ends the supervisor and removes what it made, except objects of an earlier cluster."""
    fresh = not place.state_file.exists()
    held = state.occupy(place, _DOWN_SECONDS)
    read, write = os.pipe2(os.O_CLOEXEC)
    try:
        _check_leftovers(place)
        process = _spawn(place, order, write, held)
    except BaseException:
        os.close(read)
        raise
    finally:
        os.close(write)
        os.close(held)
    finished = False
    try:
        with os.fdopen(read, "rb", buffering=0) as reports:
            yield from _follow(place, reports.fileno(), order.timeout)
        finished = True
    finally:
        if not finished:
            with _undisturbed():
                _end(process)
                inside.end(place)
                state.remove_runtime(place)
                if fresh:
                    _keep_log(place)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """A second Ctrl-C must not end the clean-up that the first one began. Only a main thread has signals to ignore."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def is_up(place: Folder, known: State | None) -> bool:
    """Whether the cluster runs and stays. The caller holds the lock, so a supervisor that is still coming up has lost its `up`
    and is about to end; one that does not answer is about to end, too, or hangs."""
    if state.running(known) is None:
        return False
    try:
        return bool(ask.call(place.control, "status", timeout=_SLACK_SECONDS).get("up", True))
    except ask.Refused:
        return True
    except ask.NotRunning:
        return False


def _check_leftovers(place: Folder) -> None:
    """A file that is not ours to wipe: objects without a state that names them."""
    if not place.state_file.exists() and place.database.exists():
        raise LaunchError(
            f"{place.path} has objects but no state.json: nothing was changed. Move the folder away and start afresh: "
            f"mv {place.path} {place.path}.old"
        )
    inside.end(place)
    state.remove_runtime(place)


def _spawn(place: Folder, order: Order, report: int, held: int) -> subprocess.Popen[bytes]:
    words = {
        "folder": str(place.path),
        "nodes": order.nodes,
        "images": dict(order.images or {}),
        "user_namespace": order.user_namespace,
        "report": report,
        "timeout": order.timeout,
        "zones": order.zones,
        "publish": list(order.publish),
        "log": str(place.log),
    }
    try:
        log = os.open(place.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as e:
        raise LaunchError(
            f"cannot write {place.log}: {e.strerror}; {resources.cure(e, place.path) or 'mend it'}"
        ) from e
    try:
        return subprocess.Popen(
            [sys.executable, "-m", _SUPERVISOR, json.dumps(words)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(report, held),
            start_new_session=True,
            cwd="/",
            env=_environment(),
        )
    finally:
        os.close(log)


def _environment() -> dict[str, str]:
    """Ours, with the folder of this very package first on the path, so that a checkout starts its own supervisor.

    `up` may be run in a shell that `exec` started: the supervisor is not inside of the lab that it makes."""
    source = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    path = os.environ.get("PYTHONPATH", "")
    parts = [source, *(p for p in path.split(os.pathsep) if p and p != source)]
    kept = {name: value for name, value in os.environ.items() if name != inside.VARIABLE}
    return {**kept, "PYTHONPATH": os.pathsep.join(parts)}


def _follow(place: Folder, report: int, timeout: float) -> Iterator[Step]:
    started = time.monotonic()
    waiting = select.poll()
    waiting.register(report, select.POLLIN | select.POLLHUP)
    rest = b""
    while True:
        left = timeout + _SLACK_SECONDS - (time.monotonic() - started)
        if left <= 0 or not waiting.poll(left * 1000):
            late = f"the cluster was not ready within {timeout:g} s"
            raise LaunchError("; ".join((late, *place.see, "give it more with --timeout")))
        data = os.read(report, 65536)
        if not data:
            ended = "the supervisor ended before the cluster was ready; this is a bug, please report it"
            raise LaunchError("; ".join((ended, *place.see)))
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            said = json.loads(line)
            if "error" in said:
                raise LaunchError(said["error"])
            yield Step(said["step"], time.monotonic() - started)
            if said.get("ready"):
                return


def _keep_log(place: Folder) -> None:
    """Remove a cluster that never was, but for the log, which says why."""
    try:
        log = place.log.read_bytes()
    except OSError:
        log = b""
    state.remove(place)
    if log:
        with contextlib.suppress(OSError):  # nothing hangs on it
            place.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            place.log.write_bytes(log)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_DOWN_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def down(place: Folder, known: State | None) -> bool:
    """End the supervisor and remove the folder; whether there was anything. The caller holds the lock.

    `known` is what `state.json` says; without it the supervisor is found by its socket."""
    end(place, known)
    return state.remove(place)


def end(place: Folder, known: State | None) -> bool:
    """End the supervisor and whoever is inside, and leave the folder as it is; whether there was a supervisor."""
    alive = state.running(known) or _listening(place)
    if alive is not None:
        _end_other(alive)
    if place.path.is_dir():
        os.close(state.occupy(place, _DOWN_SECONDS))
    inside.end(place)
    return alive is not None


def _listening(place: Folder) -> ProcessId | None:
    """Who listens on the control socket, if that is a supervisor of this very folder: a socket may be anybody's."""
    pid = ask.listener(place.control)
    found = state.identify(pid) if pid is not None else None
    if found is None:
        return None
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        order = json.loads(words[words.index(_SUPERVISOR.encode()) + 1])
    except (OSError, ValueError, IndexError):
        return None
    its = os.path.realpath(str(order.get("folder"))) if isinstance(order, dict) else ""
    return found if its == os.path.realpath(place.path) else None


def _end_other(known: ProcessId) -> None:
    pid = known.pid
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if state.identify(pid) != known:  # the number was reused between the two looks
            return
        ended = select.poll()
        ended.register(fd, select.POLLIN)
        for number, seconds in ((signal.SIGTERM, _DOWN_SECONDS), (signal.SIGKILL, _DOWN_SECONDS)):
            try:
                signal.pidfd_send_signal(fd, number)
            except ProcessLookupError:
                return
            except PermissionError as e:
                raise LaunchError(
                    f"the supervisor (process {pid}) belongs to another user: run portway down as that user"
                ) from e
            if ended.poll(seconds * 1000):
                return
        raise LaunchError(f"process {pid} does not end: it waits for a disk or device; try portway down again")
    finally:
        os.close(fd)
