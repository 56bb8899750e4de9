"""The state folder: found, locked, read, and never wiped because it is not understood."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from portway.lab import state
from portway.lab.files import write_private
from portway.lab.state import Folder, Locked, NodeRecord, ProcessId, PublishRecord, RouteRecord, State, StateError

FULL = State(
    supervisor=ProcessId(7, 70, "boot"),
    port=6443,
    nodes=(NodeRecord("node-1", 1), NodeRecord("node-7", 2, on=False)),
    images={"web": "python3 -m http.server"},
    routes=(RouteRecord("edge", "10.3.240.0/20", "10.100.0.2"),),
    zones=2,
    published=(PublishRecord(8080, "10.100.0.2", 30080), PublishRecord(53, "10.3.240.10", 53, "udp")),
)


@pytest.fixture
def place(tmp_path: Path) -> Folder:
    place = state.folder(tmp_path, "portway")
    state.prepare(place)
    return place


@pytest.mark.parametrize(
    ("environment", "want"),
    [
        ({"PORTWAY_HOME": "/srv/lab", "XDG_STATE_HOME": "/xdg", "HOME": "/home/me"}, "/srv/lab"),
        ({"XDG_STATE_HOME": "/xdg", "HOME": "/home/me"}, "/xdg/portway"),
        ({"XDG_STATE_HOME": "relative", "HOME": "/home/me"}, "/home/me/.local/state/portway"),
        ({"HOME": "/home/me"}, "/home/me/.local/state/portway"),
    ],
)
def test_where_the_state_lives(environment: dict[str, str], want: str) -> None:
    assert state.home(environment) == Path(want)


@pytest.mark.parametrize("environment", [{"PORTWAY_HOME": "/srv/a:b"}, {"XDG_STATE_HOME": "/a:b"}, {"HOME": "/a:b"}])
def test_a_home_that_kubeconfig_would_take_for_two_paths(environment: dict[str, str]) -> None:
    with pytest.raises(StateError, match="set PORTWAY_HOME to a folder without"):
        state.home(environment)


@pytest.mark.parametrize("name", ["", "../other", "a/b", "a b", "x" * 41, "ä", "-test", "_test", "test\n"])
def test_a_name_that_cannot_be_a_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(StateError, match="cannot name a cluster"):
        state.folder(tmp_path, name)


def test_what_was_saved_is_loaded(place: Folder) -> None:
    assert state.load(place) is None
    state.save(place, FULL)
    assert state.load(place) == FULL
    assert place.state_file.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in place.path.iterdir()] == ["state.json"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{ this is not JSON", "is damaged"),
        (b'{"nodes": "two"}', "is damaged"),
        (b'{"format": 99}', "format 99, this version reads 1"),
        (b"", "is damaged"),
    ],
)
def test_a_file_that_we_do_not_understand_is_reported_and_kept(place: Folder, content: bytes, says: str) -> None:
    place.state_file.write_bytes(content)
    with pytest.raises(StateError, match=says) as caught:
        state.load(place)
    assert f"mv {place.path} {place.path}.old" in str(caught.value)
    assert place.state_file.read_bytes() == content


def test_a_folder_in_the_place_of_the_file_is_reported(place: Folder) -> None:
    place.state_file.mkdir()
    with pytest.raises(StateError, match="cannot read"):
        state.load(place)


def test_others_are_shut_out_of_the_folder(tmp_path: Path) -> None:
    place = state.folder(tmp_path, "portway")
    place.path.mkdir(mode=0o755)
    state.prepare(place)
    assert place.path.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's folder")
def test_another_users_folder_is_not_ours_to_use(tmp_path: Path) -> None:
    place = state.folder(tmp_path, "portway")
    place.path.mkdir()
    os.chown(place.path, 12345, 12345)
    with pytest.raises(StateError, match="belongs to another user"):
        state.prepare(place)


def test_a_place_that_cannot_hold_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="set PORTWAY_HOME"):
        state.prepare(state.folder(tmp_path / "file", "portway"))
    with pytest.raises(StateError, match="set PORTWAY_HOME"), state.lock(tmp_path / "file" / "home"):
        pass


def test_one_command_at_a_time(tmp_path: Path) -> None:
    with state.lock(tmp_path / "home"):
        with pytest.raises(Locked, match="wait until it has ended"), state.lock(tmp_path / "home"):
            pass
    with state.lock(tmp_path / "home"):
        pass
    assert list((tmp_path / "home").iterdir()) == [], "a lock leaves no file"


def test_the_second_command_may_wait_for_the_first(tmp_path: Path) -> None:
    with ExitStack() as first:
        first.enter_context(state.lock(tmp_path / "home"))
        ending = threading.Timer(0.05, first.close)
        ending.start()
        with state.lock(tmp_path / "home", 10):
            assert ending.finished.is_set()
        ending.join()


def test_a_folder_has_one_supervisor(place: Folder) -> None:
    held = state.occupy(place, 0.0)
    with pytest.raises(Locked, match="portway down ends it"):
        state.occupy(place, 0.05)
    os.close(held)
    os.close(state.occupy(place, 0.0))


def test_a_running_process_is_told_from_a_later_one_with_its_number() -> None:
    me = state.identify(os.getpid())
    assert me is not None
    assert state.running(State(supervisor=me)) == me
    assert state.running(State(supervisor=msgspec.structs.replace(me, started=me.started + 1))) is None
    assert state.running(State(supervisor=msgspec.structs.replace(me, boot="another"))) is None
    assert state.running(State()) is None
    assert state.running(None) is None


def test_a_process_that_has_ended_runs_no_more() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    recorded = State(supervisor=state.identify(process.pid))
    assert state.running(recorded) is not None
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert state.running(recorded) is None, "a zombie runs no more"
    process.wait()
    process.communicate()
    assert state.running(recorded) is None


def test_what_belongs_to_a_dead_supervisor_goes_and_the_objects_stay(place: Folder) -> None:
    state.save(place, FULL)
    place.database.write_text("objects")
    write_private(place.control, b"")
    (place.nodes / "node-1" / "pods").mkdir(parents=True)
    state.remove_runtime(place)
    assert {p.name for p in place.path.iterdir()} == {"state.json", "objects.db"}
    state.remove_runtime(place)


def test_a_tree_with_folders_that_nobody_may_enter_is_removed(place: Folder) -> None:
    deep = place.nodes / "work" / "work"
    deep.mkdir(parents=True)
    (deep / "file").write_text("")
    deep.chmod(0)
    deep.parent.chmod(0)
    state.remove(place)
    assert not place.path.exists()
    state.remove(place)


def test_a_folder_that_is_the_users_own_is_not_wiped(place: Folder) -> None:
    """`PORTWAY_HOME=~ portway down --name Documents`, or an interrupted `up` there."""
    place.path.mkdir(parents=True, exist_ok=True)
    (place.path / "thesis.txt").write_text("precious")
    assert state.remove(place) is False
    state.save(place, State())
    with pytest.raises(StateError, match=r"did not make \(thesis.txt\)"):
        state.remove(place)
    assert [p.name for p in place.path.iterdir()] == ["thesis.txt"]


def test_a_private_file_replaces_the_old_one_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["token"]
