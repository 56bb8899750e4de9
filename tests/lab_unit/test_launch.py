"""Starting and ending the supervisor from the user's side, with a process in its place that does what the test says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from portway.lab import inside, launch, state
from portway.lab.launch import LaunchError, Order
from portway.lab.state import Folder, State

# Says what the test wrote into "says", then stays until SIGTERM, after which it leaves a file behind.
STAND_IN = """
import json, os, signal, sys
order = json.loads(sys.argv[1])
folder = order["folder"]
def leave(*_):
    open(folder + "/supervisor.log.left", "w").close()
    os._exit(0)
signal.signal(signal.SIGTERM, leave)
with open(folder + "/supervisor.log.says") as file:
    text = file.read()
os.write(order["report"], text.encode())
if "stay" not in text:
    os._exit(3)
signal.pause()
"""


@pytest.fixture
def place(tmp_path: Path) -> Folder:
    place = state.folder(tmp_path, "portway")
    state.prepare(place)
    return place


real_spawn = launch._spawn


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Every supervisor that is started is the stand-in; none outlives the test."""
    started: list[subprocess.Popen[bytes]] = []

    def spawn(place: Folder, order: Order, report: int, held: int) -> subprocess.Popen[bytes]:
        words = json.dumps({"folder": str(place.path), "report": report})
        process = subprocess.Popen([sys.executable, "-I", "-S", "-c", STAND_IN, words], pass_fds=(report, held))
        started.append(process)
        return process

    monkeypatch.setattr(launch, "_spawn", spawn)
    yield started
    for process in started:
        process.kill()
        process.wait()


def says(place: Folder, *lines: object) -> None:
    (place.path / "supervisor.log.says").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_the_steps_arrive_until_it_is_ready(place: Folder, stand_in: list[subprocess.Popen[bytes]]) -> None:
    says(place, {"step": "network"}, {"step": "stay"}, {"step": "ready", "ready": True})
    with closing(launch.up(place, Order())) as steps:
        assert [s.text for s in steps] == ["network", "stay", "ready"]
    assert stand_in[0].poll() is None, "it goes on without us"


def test_an_error_of_the_supervisor_is_told_and_the_folder_is_clean_again(place: Folder) -> None:
    says(place, {"step": "network"}, {"error": "veth is missing: modprobe veth"})
    place.log.write_text("what happened\n")
    with pytest.raises(LaunchError, match="modprobe veth"), closing(launch.up(place, Order())) as steps:
        list(steps)
    assert [p.name for p in place.path.iterdir()] == ["supervisor.log"], "the log says why; nothing else stays"


def test_a_supervisor_that_vanishes_is_a_bug(place: Folder) -> None:
    says(place, {"step": "network"})
    with pytest.raises(LaunchError, match=r"this is a bug, please report it$"):
        list(launch.up(place, Order()))


def test_an_interrupted_start_is_taken_back(place: Folder, stand_in: list[subprocess.Popen[bytes]]) -> None:
    says(place, {"step": "stay"})
    steps = launch.up(place, Order())
    assert next(steps).text == "stay"
    steps.close()
    assert stand_in[0].poll() == 0, "it was asked to end, and ended"
    assert not place.path.exists()


def test_a_second_interruption_does_not_stop_the_clean_up(
    place: Folder, stand_in: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    says(place, {"step": "stay"})
    steps = launch.up(place, Order())
    next(steps)
    real_end, handler = launch._end, signal.getsignal(signal.SIGINT)

    def end(process: subprocess.Popen[bytes]) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        real_end(process)

    monkeypatch.setattr(launch, "_end", end)
    steps.close()
    assert stand_in[0].poll() == 0
    assert not place.path.exists()
    assert signal.getsignal(signal.SIGINT) is handler


def test_an_interrupted_restart_keeps_the_objects(place: Folder) -> None:
    state.save(place, State(port=6443))
    place.database.write_text("objects")
    says(place, {"step": "stay"})
    steps = launch.up(place, Order())
    next(steps)
    steps.close()
    assert place.database.read_text() == "objects"
    assert state.load(place) == State(port=6443)


def test_a_start_that_takes_too_long(place: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_SLACK_SECONDS", 0.0)
    says(place, {"step": "stay"})
    with pytest.raises(LaunchError, match=r"was not ready within 0\.2 s; give it more with --timeout"):
        list(launch.up(place, Order(timeout=0.2)))


def test_objects_without_a_state_are_not_wiped(place: Folder) -> None:
    place.database.write_text("objects")
    with pytest.raises(LaunchError, match="nothing was changed"):
        next(launch.up(place, Order()))
    assert place.database.read_text() == "objects"


@contextmanager
def marked(place: Folder) -> Iterator[subprocess.Popen[bytes]]:
    """A process that `portway exec` started, in a session of its own."""
    code = "print(flush=True); input()"
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", code],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        env={inside.VARIABLE: inside.mark(place)},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.communicate()


def test_who_is_inside_ends_with_the_cluster(place: Folder) -> None:
    with marked(place) as process:
        launch.down(place, None)
        assert process.wait(5) == -15


def test_who_outlived_a_killed_supervisor_ends_before_the_next_one_starts(place: Folder) -> None:
    says(place, {"step": "stay"}, {"step": "ready", "ready": True})
    with marked(place) as process, closing(launch.up(place, Order())) as steps:
        next(steps)
        assert process.poll() == -15


def test_who_is_inside_ends_with_a_start_that_failed(place: Folder) -> None:
    says(place, {"step": "stay"})
    steps = launch.up(place, Order())
    next(steps)
    with marked(place) as process:
        steps.close()
        assert process.wait(5) == -15


def test_a_supervisor_that_is_started_inside_is_not_inside(place: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(inside.VARIABLE, inside.mark(place))
    assert inside.VARIABLE not in launch._environment()


def supervisor() -> tuple[subprocess.Popen[bytes], State]:
    """A process that leaves at SIGTERM, and the state that names it."""
    command = [sys.executable, "-I", "-S", "-c", "print(flush=True); input()"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process, State(supervisor=state.identify(process.pid))


def test_down_ends_the_process_and_removes_the_folder(place: Folder) -> None:
    process, known = supervisor()
    try:
        state.save(place, known)
        assert launch.down(place, known) is True
        assert process.wait(5) == -15
        assert not place.path.exists()
        assert launch.down(place, None) is False, "nothing to do is no error"
    finally:
        process.kill()
        process.communicate()


LISTENER = """
import socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind("control.sock")
listener.listen()
print(flush=True)
input()
"""


@contextmanager
def listening(place: Folder, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """Somebody at the cluster's control socket, with these words in its command line."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", LISTENER, *words],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=place.path,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.communicate()


def test_down_finds_a_supervisor_that_no_state_names(place: Folder) -> None:
    with listening(place, "portway.lab.supervisor", json.dumps({"folder": str(place.path)})) as process:
        assert launch.down(place, None) is True
        assert process.wait(5) == -15
        assert not place.path.exists()


def test_a_supervisor_can_end_while_its_folder_stays(place: Folder) -> None:
    place.state_file.write_text("{ this is not JSON")
    with listening(place, "portway.lab.supervisor", json.dumps({"folder": str(place.path)})) as process:
        assert launch.end(place, None) is True
        assert process.wait(5) == -15
        assert launch.end(place, None) is False
    assert place.state_file.read_text() == "{ this is not JSON"


@pytest.mark.parametrize(
    "words",
    [
        ("portway.lab.supervisor", '{"folder": "/another"}'),
        ("portway.lab.supervisor", "[]"),
        ("portway.lab.supervisor", "{"),
        ("portway.lab.supervisor",),
        ("an-editor", "{}"),
    ],
    ids=" ".join,
)
def test_whoever_else_listens_there_is_not_ended(place: Folder, words: tuple[str, ...]) -> None:
    with listening(place, *words) as process:
        assert launch.end(place, None) is False
        assert process.poll() is None


def test_down_never_ends_a_later_process_with_the_same_number(place: Folder) -> None:
    process, known = supervisor()
    try:
        assert known.supervisor is not None
        reused = State(supervisor=state.ProcessId(process.pid, known.supervisor.started - 1, known.supervisor.boot))
        state.save(place, reused)
        launch.down(place, reused)
        assert process.poll() is None
        assert not place.path.exists()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("environment", "root", "want"),
    [
        ({}, True, False),
        ({"PORTWAY_USERNS": "1"}, True, True),
        ({"PORTWAY_USERNS": "0"}, True, False),
        ({}, False, True),
        ({"PORTWAY_USERNS": "0"}, False, True),
    ],
)
def test_who_needs_a_user_namespace(
    environment: dict[str, str], root: bool, want: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0 if root else 1000)
    assert launch.wants_user_namespace(environment) is want


def test_the_order_reaches_the_supervisor_and_its_words_the_log(place: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter is exchanged for a program that prints what it was started with."""
    program = place.path / "python"
    program.write_text('#!/bin/sh\necho "$1 $2 $PYTHONPATH"; pwd; echo "$3"\n')
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    read, write = os.pipe()
    try:
        order = Order(3, {"web": "web"}, True, 9.0, 2, ("8080:10.100.0.2:80",))
        held = state.occupy(place, 1.0)
        assert real_spawn(place, order, write, held).wait(10) == 0
    finally:
        os.close(held)
        os.close(read)
        os.close(write)
    words, folder, ordered = place.log.read_text().splitlines()
    source = Path(launch.__file__).resolve().parents[2]
    assert words == f"-m portway.lab.supervisor {source}:/elsewhere"
    assert folder == "/", "it holds no folder of the user's"
    assert place.log.stat().st_mode & 0o777 == 0o600
    assert json.loads(ordered) == {
        "folder": str(place.path), "nodes": 3, "images": {"web": "web"}, "user_namespace": True, "report": write,
        "timeout": 9.0, "zones": 2, "publish": ["8080:10.100.0.2:80"], "log": str(place.log),
    }  # fmt: skip


def test_a_supervisor_that_ignores_the_request_is_killed(place: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_DOWN_SECONDS", 0.0)
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); input()"
    process = subprocess.Popen([sys.executable, "-I", "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        launch._end(process)
        assert process.returncode == -9
    finally:
        process.kill()
        process.communicate()


def test_a_supervisor_of_another_user_is_not_ours_to_end(place: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    process, known = supervisor()
    try:
        state.save(place, known)

        def refuse(*_: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(signal, "pidfd_send_signal", refuse)
        with pytest.raises(LaunchError, match="belongs to another user: run portway down as that user"):
            launch.down(place, known)
        assert place.state_file.exists(), "nothing was removed"
    finally:
        process.kill()
        process.communicate()
