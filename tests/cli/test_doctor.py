"""The doctor: a check is a name, a purpose, what was found and a cure; what is private stays private."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from portway.cli import doctor
from portway.cli.doctor import Check, Question, answer, examine, text
from portway.cli.errors import UserError
from portway.lab.isolate import CannotIsolate
from portway.netns.kernel import NetworkError


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def raises(error: Exception) -> str:
    raise error


@pytest.mark.parametrize(
    ("ask", "ok", "found"),
    [
        (lambda: "", True, ""),
        (lambda: "4 MB are free", False, "4 MB are free"),
        (lambda: raises(PermissionError(1, "Operation not permitted")), False, "[Errno 1] Operation not permitted"),
        (lambda: raises(UserError("kubectl is not installed")), False, "kubectl is not installed"),
    ],
)
def test_an_answer_is_ok_or_has_a_cure(ask: object, ok: bool, found: str) -> None:
    assert callable(ask)
    check = answer(Question("disk", "objects", "free 50 MB", ask))
    assert (check.ok, check.found, check.cure) == (ok, found, "" if ok else "free 50 MB")


@pytest.mark.parametrize(
    "ask",
    [
        lambda: raises(NetworkError(errno.ENOSPC, "make a network namespace")),
        lambda: raises(caused(CannotIsolate("cannot make it"), OSError(errno.ENOSPC, "No space left on device"))),
        lambda: "[Errno 28] No space left on device",
    ],
)
def test_a_limit_that_is_reached_is_the_cure(ask: object) -> None:
    assert callable(ask)
    check = answer(Question("network namespaces", "hosts", "use another kernel", ask, limit="net"))
    assert check.cure.startswith("raise the limit (as root: sysctl -w user.max_net_namespaces=15000)")


def test_a_disk_without_space_is_no_limit_of_namespaces() -> None:
    check = answer(Question("disk", "objects", "free 50 MB", lambda: raises(OSError(errno.ENOSPC, "full"))))
    assert check.cure == "free 50 MB"


@pytest.mark.parametrize(
    ("broken", "silent"),
    [("_network_namespace", {"veth", "bridge"}), ("_isolated", {"overlay", "proc mount"})],
)
def test_what_needs_a_namespace_is_not_blamed_for_its_absence(
    monkeypatch: pytest.MonkeyPatch, broken: str, silent: set[str]
) -> None:
    for name in ("_network_namespace", "_isolated", "_veth", "_bridge", "_overlay", "_proc_mount"):
        monkeypatch.setattr(doctor, name, lambda: "")
    monkeypatch.setattr(doctor, "_nftables", lambda: iter(()))
    monkeypatch.setattr(doctor, broken, lambda: "no")
    checks = {row["name"]: row["ok"] for row in doctor._private_checks()}
    assert list(checks.values()).count(False) == 1
    assert {"veth", "bridge", "overlay", "proc mount"} - set(checks) == silent


def test_the_text_shows_the_cure_below_what_is_missing() -> None:
    checks = [
        Check("veth", True, "cables"),
        Check("bridge", False, "the node network", "modprobe bridge", "not supported"),
    ]
    assert text(checks).splitlines() == [
        "ok       veth: cables",
        "MISSING  bridge: the node network",
        "         found: not supported",
        "         cure:  modprobe bridge",
        "1 of 2 missing",
    ]
    assert text(checks[:1]).endswith("all is there: portway up")


def test_the_machine_is_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTWAY_HOME", str(tmp_path / "not" / "yet" / "there"))
    mounts, links = Path("/proc/self/mounts").read_text(), socket.if_nameindex()
    namespaces = {kind: os.readlink(f"/proc/self/ns/{kind}") for kind in ("net", "mnt", "user", "pid")}
    checks = examine(every=True)
    assert Path("/proc/self/mounts").read_text() == mounts
    assert socket.if_nameindex() == links
    assert {kind: os.readlink(f"/proc/self/ns/{kind}") for kind in namespaces} == namespaces
    assert list(tmp_path.iterdir()) == []
    names = [c.name for c in checks]
    assert len(set(names)) == len(names)
    assert {"Python", "user namespaces", "veth", "bridge", "overlay", "proc mount", "kubectl", "free port"} <= set(
        names
    )
    assert any(name.startswith("nftables") for name in names)
    assert all(c.ok or (c.cure and c.found) for c in checks)


def test_a_place_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTWAY_HOME", "/proc/nowhere")
    monkeypatch.setattr(os, "access", lambda *_: False)
    (folder,) = [c for c in examine() if c.name == "state folder"]
    assert not folder.ok
    assert folder.found == "/proc cannot be written"


def test_a_check_that_dies_does_not_take_the_doctor_along() -> None:
    assert "the check itself failed" in doctor._in_child(lambda: os._exit(3))
