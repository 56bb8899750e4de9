"""What the machine runs out of while a cluster comes up, and the cure: disk space and open files.

`supervisor` raises its limit of open files at the start, and asks for the cure of an error that the parts do not know.
"""

from __future__ import annotations

import errno
import resource
from collections.abc import Iterator
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT)
_TOO_MANY = (errno.EMFILE, errno.ENFILE)
_FULL_WORDS = ("disk is full", "disk I/O error", "No space left on device")
"""SQLite's errors carry no errno, and of an agent's error only the words arrive here."""
_TOO_MANY_WORDS = "Too many open files"


def raise_file_limit() -> None:
    """As many open files as we may have: hosts, agents, pods and watches all take some."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def cure(error: BaseException, folder: Path) -> str:
    """What helps against `error`; "" when it is not about disk space or open files."""
    for one in _chain(error):
        number = one.errno if isinstance(one, OSError) else None
        if number in _FULL or any(words in str(one) for words in _FULL_WORDS):
            return f"free disk space below {folder}"
        if number in _TOO_MANY or _TOO_MANY_WORDS in str(one):
            return "raise the limit of open files (ulimit -n 1024, as root: ulimit -Hn 1024)"
    return ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """`error` and what led to it."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        error = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error.__cause__
