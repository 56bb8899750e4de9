"""up, down, and what is left: nothing, whatever happened in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from build_manifests import echo_deployment, service
from lab_driver import EXAMPLE, Lab

pytestmark = pytest.mark.lab


def processes_of(home: Path) -> list[int]:
    """Processes that carry this cluster's state folder in their environment or arguments."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            text = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if str(home).encode() in text:
            found.append(int(entry.name))
    return found


def test_up_with_pods_then_down_leaves_nothing(home: Path) -> None:
    mounts = Path("/proc/self/mounts").read_text()
    lab = Lab(home)
    lab.up("--nodes", "2")
    try:
        lab.apply("default", EXAMPLE / "10-deployment.yaml")
        lab.rolled_out("default", "service-demo")
        status = lab.status()
        assert status["ready"] is True
        assert Path(status["kubeconfig"]).stat().st_mode & 0o077 == 0
        roles = {h["name"]: h["role"] for h in status["hosts"]}
        assert roles == {"client": "client", "edge": "edge", "node-1": "node", "node-2": "node"}
        addresses = {h["name"]: h["addresses"] for h in status["hosts"]}
        assert "198.51.100.10" in addresses["client"]
        assert "10.100.0.1" in addresses["edge"]
        assert addresses["node-1"][0] == "10.100.0.2"
        assert {a["name"] for a in status["agents"]} >= {"apiserver", "controllers"}
        assert processes_of(home)
    finally:
        lab.portway("down")
    lab.eventually("every process is gone", lambda: processes_of(home) == [])
    assert [p for p in home.rglob("*") if p.is_file() and "kubectl-cache" not in p.parts] == []
    assert Path("/proc/self/mounts").read_text() == mounts
    lab.portway("down")  # nothing to do is no error


def test_a_second_up_says_that_it_is_up(home: Path) -> None:
    lab = Lab(home)
    lab.up("--nodes", "1")
    try:
        again = lab.portway("up")
        assert "already up" in again.stdout + again.stderr
    finally:
        lab.portway("down")


def test_two_at_once_make_one_cluster(home: Path) -> None:
    lab = Lab(home)
    words = [sys.executable, "-m", "portway", "up", "--nodes", "1"]
    both = [subprocess.Popen(words, env=lab.env, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        said = [process.communicate(timeout=90)[0] for process in both]
        assert [process.returncode for process in both] == [0, 0]
        assert sorted("already up" in text for text in said) == [False, True]
    finally:
        lab.portway("down")
    lab.eventually("every process is gone", lambda: processes_of(home) == [])


def test_up_right_after_a_killed_up(home: Path) -> None:
    lab = Lab(home)
    words = [sys.executable, "-m", "portway", "up", "--nodes", "1"]
    try:
        with subprocess.Popen(words, env=lab.env, stderr=subprocess.PIPE, text=True) as first:
            assert first.stderr is not None
            for line in first.stderr:
                if "API server" in line:
                    break
            first.kill()
        assert "is up after" in lab.portway("up").stdout
        assert lab.status()["ready"] is True
    finally:
        lab.portway("down")
    lab.eventually("every process is gone", lambda: processes_of(home) == [])


def supervisor_of(lab: Lab) -> int:
    return int(lab.status()["supervisor"]["pid"])


def test_objects_survive_a_killed_supervisor_and_nothing_else_does(home: Path) -> None:
    lab = Lab(home)
    lab.up("--nodes", "2")
    try:
        lab.apply("default", echo_deployment("web"), service("web"))
        lab.rolled_out("default", "web")
        before = lab.get("service", "web")["spec"]["clusterIP"]
        pid = supervisor_of(lab)
        os.kill(pid, signal.SIGKILL)
        lab.eventually("pods die with the supervisor", lambda: processes_of(home) == [])
        assert lab.portway("status", check=False).returncode != 0

        lab.up("--nodes", "2")
        assert lab.get("service", "web")["spec"]["clusterIP"] == before
        lab.rolled_out("default", "web")
        lab.eventually("it answers again", lambda: lab.request("node-1", f"http://{before}/").ok == 1)
    finally:
        lab.portway("down")
    lab.eventually("every process is gone", lambda: processes_of(home) == [])


def test_down_after_a_killed_supervisor_leaves_nothing(home: Path) -> None:
    lab = Lab(home)
    lab.up("--nodes", "1")
    os.kill(supervisor_of(lab), signal.SIGKILL)
    lab.portway("down")
    lab.eventually("every process is gone", lambda: processes_of(home) == [])
    assert [p for p in home.rglob("*") if p.is_file() and "kubectl-cache" not in p.parts] == []


def started_inside(lab: Lab) -> int:
    """A process that `exec` started and that detached itself; its pid."""
    done = lab.portway("exec", "node-1", "--", "setsid", "--fork", "sh", "-c", "echo $$; exec sleep 600 >&- 2>&-")
    return int(done.stdout)


def test_what_was_started_inside_goes_with_the_cluster(home: Path) -> None:
    lab = Lab(home, userns=True)
    lab.up("--nodes", "1")
    try:
        first = started_inside(lab)
        assert first in processes_of(home)
        os.kill(supervisor_of(lab), signal.SIGKILL)
        lab.up("--nodes", "1")
        assert first not in processes_of(home)
        assert started_inside(lab) in processes_of(home)
    finally:
        lab.portway("down")
    lab.eventually("every process is gone", lambda: processes_of(home) == [])


def test_a_state_folder_that_cannot_be_read_is_reported_and_never_wiped(home: Path) -> None:
    lab = Lab(home)
    lab.up("--nodes", "1")
    lab.portway("down")
    folder = home / "portway"
    folder.mkdir(parents=True, exist_ok=True)
    broken = folder / "state.json"
    broken.write_text("{ this is not JSON")
    done = lab.portway("up", check=False)
    assert done.returncode != 0
    assert str(folder) in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert broken.read_text() == "{ this is not JSON"


def test_down_ends_a_cluster_whose_state_is_gone_or_damaged(home: Path) -> None:
    lab = Lab(home)
    folder = home / "portway"
    lab.up("--nodes", "1")
    (folder / "state.json").write_text("{ this is not JSON")
    done = lab.portway("down", check=False)
    assert done.returncode == 1
    assert f"mv {folder} {folder}.old; its supervisor is ended" in done.stderr
    assert (folder / "objects.db").exists(), "nothing is wiped"
    lab.eventually("every process is gone", lambda: processes_of(home) == [])
    folder.rename(home / "aside")

    lab.up("--nodes", "1")
    (folder / "state.json").unlink()
    lab.portway("down")
    lab.eventually("every process is gone", lambda: processes_of(home) == [])
    assert not folder.exists()


def test_doctor_lists_what_the_machine_has(home: Path) -> None:
    lab = Lab(home)
    done = lab.portway("doctor", "-o", "json", check=False)
    checks = json.loads(done.stdout)["checks"]
    assert {"user namespaces"} <= {c["name"] for c in checks}
    assert all(c["ok"] or c["cure"] for c in checks)
    assert done.returncode == (0 if all(c["ok"] for c in checks) else 1)
