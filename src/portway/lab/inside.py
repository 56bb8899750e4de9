"""Processes that the user started inside the lab: marked when they enter, found and ended when the lab ends.

They are no children of the supervisor (`portway exec` becomes the command), so its end is not theirs, and one that stays keeps
a host's namespace alive. The mark is a variable of the environment, which children inherit however they detach. `cli.enter` sets
it; `launch` ends whoever carries it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from portway.lab.state import Folder

VARIABLE = "PORTWAY_INSIDE"
_ROUNDS = (signal.SIGTERM, signal.SIGKILL, signal.SIGKILL)
"""The third is for what was started while the second ran."""
_SECONDS = 1.0


def mark(place: Folder) -> str:
    """The value of VARIABLE for the cluster in `place`, however its path was spelled."""
    return os.path.realpath(place.path)


def find(place: Folder) -> list[int]:
    """This user's marked processes, without the caller and its ancestors (a shell of the lab may run `down`)."""
    entry = f"{VARIABLE}={mark(place)}".encode()
    spared = set(_lineage(os.getpid()))
    return [pid for pid in _ours() if pid not in spared and _carries(pid, entry)]


def end(place: Folder) -> int:
    """End them: SIGTERM, a moment, SIGKILL. How many there were; one that another user has become is left alone."""
    seen: set[int] = set()
    for number in _ROUNDS:
        found = find(place)
        seen.update(found)
        if not found:
            break
        _signal(found, number, f"{VARIABLE}={mark(place)}".encode())
    return len(seen)


def _signal(pids: list[int], number: signal.Signals, entry: bytes) -> None:
    """Send `number` and wait until all have ended, _SECONDS at the most. A descriptor never means a later process."""
    with contextlib.ExitStack() as stack:
        waiting = select.poll()
        left = 0
        for pid in pids:
            try:
                fd = os.pidfd_open(pid)
                stack.callback(os.close, fd)
                if _carries(pid, entry):
                    signal.pidfd_send_signal(fd, number)
                    waiting.register(fd, select.POLLIN)
                    left += 1
            except (ProcessLookupError, PermissionError):
                continue
        until = time.monotonic() + _SECONDS
        while left and (seconds := until - time.monotonic()) > 0:
            for fd, _ in waiting.poll(seconds * 1000):
                waiting.unregister(fd)
                left -= 1


def _ours() -> Iterator[int]:
    me = os.geteuid()
    with os.scandir("/proc") as entries:
        for entry in entries:
            try:
                if entry.name.isdigit() and entry.stat().st_uid == me:
                    yield int(entry.name)
            except OSError:  # it has ended
                continue


def _carries(pid: int, entry: bytes) -> bool:
    try:
        return entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def _lineage(pid: int) -> Iterator[int]:
    """`pid`, its parent, and so on."""
    while pid > 0:
        yield pid
        try:
            text = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return
        pid = int(text[text.rindex(")") + 2 :].split()[1])
