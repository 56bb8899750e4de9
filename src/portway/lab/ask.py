"""The command line's half of the control socket: ask the supervisor one question and wait for its answer.

A request is one line of JSON, so is the answer; `control` is the other half. The socket's path may be longer than the 107 bytes
that the kernel takes, so both go through a descriptor of its folder. No asyncio: this is imported by every command.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_UCRED = struct.Struct("=iII")
"""The kernel's `struct ucred`: pid, uid, gid."""
_LISTENER_SECONDS = 1.0


class Refused(Exception):
    """The supervisor says no; the message is for the user and names the cure."""


class NotRunning(Exception):
    """Nobody answers on the control socket."""


@contextmanager
def short(path: Path) -> Iterator[str]:
    """A name of the socket `path` that is short enough, as long as the context lasts."""
    fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{path.name}"
    finally:
        os.close(fd)


def listener(path: Path) -> int | None:
    """The pid of whoever listens on the socket `path`, as the kernel knows it; None when nobody does."""
    try:
        with short(path) as name, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_LISTENER_SECONDS)
            connection.connect(name)
            found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    except OSError:
        return None
    return int(_UCRED.unpack(found)[0]) or None


def call(path: Path, op: str, *, timeout: float = 60.0, **fields: Any) -> Any:
    """The answer of the supervisor. Refused with its words; NotRunning when nobody answers within `timeout` seconds."""
    try:
        with short(path) as name, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            connection.connect(name)
            connection.sendall(json.dumps({"op": op, **fields}).encode() + b"\n")
            line = b"".join(iter(lambda: connection.recv(65536), b""))
    except OSError as e:
        raise NotRunning(f"the supervisor does not answer on {path}: {e}") from e
    if not line:
        raise NotRunning("the supervisor ended while it was asked")
    answer = json.loads(line)
    if "error" in answer:
        raise Refused(answer["error"])
    return answer.get("result")
