"""What the machine runs out of has a cure, wherever in the chain of errors it stands."""

from __future__ import annotations

import errno
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from portway.lab.resources import cure


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("error", "want"),
    [
        (FULL, "free disk space below /state"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "free disk space below /state"),
        (sqlite3.OperationalError("database or disk is full"), "free disk space below /state"),
        (caused(RuntimeError("cannot be read"), FULL), "free disk space below /state"),
        (ExceptionGroup("tasks", [FULL]), "free disk space below /state"),
        (OSError(errno.EMFILE, "Too many open files"), "raise the limit of open files"),
        (RuntimeError("the node agent does not start: OSError: [Errno 24] Too many open files"), "raise the limit"),
        (OSError(errno.EACCES, "Permission denied"), ""),
        (ValueError("no"), ""),
    ],
    ids=repr,
)
def test_the_cure(error: Exception, want: str) -> None:
    found = cure(error, Path("/state"))
    assert found.startswith(want) if want else found == ""


def test_a_loop_of_causes_ends() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert cure(first, Path("/state")) == ""


def test_the_limit_of_open_files_is_raised_to_what_we_may_have() -> None:
    code = (
        "import resource; from portway.lab.resources import raise_file_limit; "
        "resource.setrlimit(resource.RLIMIT_NOFILE, (40, 60)); raise_file_limit(); "
        "print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stdout == "60 60\n"
