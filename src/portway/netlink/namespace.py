"""Work inside another network namespace from this process.

setns(2) with CLONE_NEWNET moves the calling *thread*, so the work is done in a thread of its own that ends with it: the
process itself never leaves its namespace, whatever fails. A socket stays in the namespace in which it was made.
"""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from collections.abc import Callable
from typing import TypeVar

CLONE_NEWNS = 0x0002_0000
CLONE_NEWUTS = 0x0400_0000
CLONE_NEWIPC = 0x0800_0000
CLONE_NEWUSER = 0x1000_0000
CLONE_NEWPID = 0x2000_0000
CLONE_NEWNET = 0x4000_0000

T = TypeVar("T")
_libc = ctypes.CDLL(None, use_errno=True)


def setns(fd: int, kind: int) -> None:
    """setns(2): the calling thread joins the namespace behind `fd`. (os.setns comes with Python 3.12 only.)"""
    if _libc.setns(fd, kind) != 0:
        raise _error("setns")


def unshare(kinds: int) -> None:
    """unshare(2): the calling thread gets new namespaces of `kinds`."""
    if _libc.unshare(kinds) != 0:
        raise _error("unshare")


def run_in(namespace: int, work: Callable[[], T]) -> T:
    """What `work` returns (or raises) when run inside the network namespace behind the descriptor `namespace`."""

    def inside() -> T:
        setns(namespace, CLONE_NEWNET)
        return work()

    return _in_thread(inside)


def new_namespace() -> int:
    """A descriptor of a new, empty network namespace; the namespace lives while the descriptor or a process in it does."""

    def inside() -> int:
        unshare(CLONE_NEWNET)
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    return _in_thread(inside)


def socket_in(namespace: int, family: int, kind: int, protocol: int = 0) -> socket.socket:
    """A socket that lives in the network namespace behind `namespace`."""
    return run_in(namespace, lambda: socket.socket(family, kind, protocol))


def _in_thread(work: Callable[[], T]) -> T:
    results: list[T] = []
    errors: list[BaseException] = []

    def target() -> None:
        try:
            results.append(work())
        except BaseException as e:  # noqa: BLE001 - handed to the caller, who raises it
            errors.append(e)

    thread = threading.Thread(target=target, name="netns")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _error(call: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{call}: {os.strerror(number)}")
