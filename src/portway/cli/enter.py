"""Become a command inside a host of the lab: terminal, files and exit code stay the user's, the network is the host's.

The supervisor holds a host's network namespace as a descriptor; `/proc/PID/fd/N` opens it for whoever owns the supervisor. An
ordinary user first joins the supervisor's user namespace, which gives the right to join the other. `execvp` then replaces
this process: signals and job control need no relay.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from portway.lab import inside
from portway.lab.state import Folder

NOT_FOUND, NOT_EXECUTABLE = 127, 126


class CannotEnter(Exception):
    """The namespaces could not be joined or the command not started; `code` is what a shell would exit with."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


def enter(supervisor: int, namespace: str, command: Sequence[str], place: Folder) -> NoReturn:
    """Run `command` in the network namespace at the path `namespace`, held by the process `supervisor` of the cluster `place`.

    It carries the cluster's mark: it and its children end with the cluster, though they are nobody's children there."""
    try:
        join(Path(f"/proc/{supervisor}/ns/user"), Path(namespace))
    except OSError as e:
        raise CannotEnter(f"cannot enter the host: {e}; only the user who ran `portway up` (or root) may") from e
    os.environ[inside.VARIABLE] = inside.mark(place)
    become(command)


def join(user: Path, network: Path) -> None:
    """Enter both namespaces; the user namespace only where it is not ours already."""
    from portway.netlink.namespace import CLONE_NEWNET, CLONE_NEWUSER  # loads ctypes, which no other command needs

    if not user.samefile("/proc/self/ns/user"):
        _join(user, CLONE_NEWUSER)
    _join(network, CLONE_NEWNET)


def _join(path: Path, kind: int) -> None:
    from portway.netlink.namespace import setns

    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(fd, kind)
    finally:
        os.close(fd)


def become(command: Sequence[str]) -> NoReturn:
    """execvp, with a shell's exit codes for a command that is not there or not executable."""
    try:
        os.execvp(command[0], list(command))
    except FileNotFoundError as e:
        raise CannotEnter(f"{command[0]}: no such command", NOT_FOUND) from e
    except OSError as e:
        raise CannotEnter(f"{command[0]}: {e.strerror}", NOT_EXECUTABLE) from e
