"""The supervisor's first step, in child processes: root in a user namespace, and mounts that nobody else sees."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from portway.lab import isolate
from portway.lab.isolate import CannotIsolate

ISOLATED = """
import json, os, sys
from portway.lab import isolate
try:
    isolate.isolate(user_namespace=sys.argv[1] == "user")
except isolate.CannotIsolate as e:
    sys.exit(str(e))
isolate.mount("tmpfs", sys.argv[2], "tmpfs", "mode=700")
open(sys.argv[2] + "/inside", "w").close()
print(json.dumps({
    "uid": os.getuid(), "gid": os.getgid(), "map": open("/proc/self/uid_map").read().split(),
    "inside": os.listdir(sys.argv[2]),
    **{kind: os.readlink("/proc/self/ns/" + kind) for kind in ("user", "mnt", "net")},
}))
isolate.unmount(sys.argv[2])
assert os.listdir(sys.argv[2]) == []
"""


def isolated(how: str, folder: Path) -> dict[str, object]:
    words = [sys.executable, "-c", ISOLATED, how, str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30)
    if "cannot make a" in done.stderr and how == "user":
        pytest.skip(f"no user namespaces here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def own(kind: str) -> str:
    return os.readlink(f"/proc/self/ns/{kind}")


def test_an_ordinary_user_is_root_inside_and_keeps_the_machines_network(tmp_path: Path) -> None:
    found = isolated("user", tmp_path)
    assert (found["uid"], found["gid"]) == (0, 0)
    assert found["map"] == ["0", str(os.geteuid()), "1"]
    assert found["user"] != own("user")
    assert found["mnt"] != own("mnt")
    assert found["net"] == own("net"), "the API server listens on the user's 127.0.0.1"


def test_what_is_mounted_inside_is_not_seen_outside(tmp_path: Path) -> None:
    before = Path("/proc/self/mounts").read_text()
    assert isolated("user", tmp_path)["inside"] == ["inside"]
    assert list(tmp_path.iterdir()) == []
    assert Path("/proc/self/mounts").read_text() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can leave out the user namespace")
def test_root_keeps_its_user_namespace(tmp_path: Path) -> None:
    found = isolated("root", tmp_path)
    assert found["user"] == own("user")
    assert found["mnt"] != own("mnt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("call", [isolate.enter_user_namespace, isolate.enter_mount_namespace])
def test_a_refusal_says_what_to_switch_on(call: object, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(isolate, "unshare", refuse)
    assert callable(call)
    with pytest.raises(
        CannotIsolate, match=r"cannot make a .* namespace .*: allow user namespaces .*or run portway as root"
    ):
        call()


def test_errors_of_mounts_name_the_place() -> None:
    with pytest.raises(OSError, match="mount no-such-thing on /nowhere"):
        isolate.mount("x", "/nowhere", "no-such-thing")
    with pytest.raises(OSError, match="unmount /nowhere"):
        isolate.unmount("/nowhere")
