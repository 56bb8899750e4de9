"""Processes inside the lab are found by their mark alone, and end; nobody else does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from portway.lab import inside, state
from portway.lab.state import Folder

WAIT = "print(flush=True); input()"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {WAIT}"

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def place(tmp_path: Path) -> Folder:
    place = state.folder(tmp_path, "portway")
    state.prepare(place)
    return place


@pytest.fixture
def start() -> Iterator[Start]:
    """A process that runs `code` with one more variable, in a session of its own; it is at work when this returns."""
    started: list[subprocess.Popen[bytes]] = []

    def start(value: str, code: str = WAIT, variable: str = inside.VARIABLE) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", code],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, env={**os.environ, variable: value},
        )  # fmt: skip
        started.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_the_marked_ones_end(place: Folder, start: Start) -> None:
    processes = [start(inside.mark(place)), start(inside.mark(place))]
    assert sorted(inside.find(place)) == sorted(p.pid for p in processes)
    assert inside.end(place) == 2
    assert [p.wait(5) for p in processes] == [-15, -15]
    assert inside.end(place) == 0


def test_who_ignores_the_request_is_killed(place: Folder, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inside, "_SECONDS", 0.05)
    process = start(inside.mark(place), STUBBORN)
    assert inside.end(place) == 1
    assert process.wait(5) == -9


@pytest.mark.parametrize("suffix", ["-2", "/nodes", ""])
def test_who_has_another_mark_stays(place: Folder, start: Start, suffix: str) -> None:
    """A cluster whose name begins like ours, and a variable whose name ends like ours."""
    variable = inside.VARIABLE if suffix else f"X_{inside.VARIABLE}"
    process = start(f"{inside.mark(place)}{suffix}", variable=variable)
    assert inside.end(place) == 0
    assert process.poll() is None


def test_a_shell_of_the_lab_may_end_the_lab(place: Folder, start: Start) -> None:
    """The caller and its ancestors carry the mark too, and live; its brother ends."""
    brother = start(inside.mark(place))
    code = (
        "import sys; from pathlib import Path; from portway.lab import inside, state; "
        "print(inside.end(state.Folder(Path(sys.argv[1]))))"
    )
    shell = ["sh", "-c", '"$@"; echo alive', "sh", sys.executable, "-c", code, str(place.path)]
    env = {**os.environ, inside.VARIABLE: inside.mark(place), "PYTHONPATH": str(Path(inside.__file__).parents[2])}
    done = subprocess.run(shell, env=env, capture_output=True, text=True, timeout=30)
    assert done.stdout == "1\nalive\n"
    assert brother.wait(5) == -15


def test_the_mark_is_the_same_through_a_link(place: Folder, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(place.path)
    assert inside.mark(Folder(tmp_path / "link")) == str(place.path.resolve()) == inside.mark(place)
