"""The doctor: a check is a name, a purpose, what was found and a cure; what is private stays private."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from portway.cli import doctor
from portway.cli.doctor import Check, Question, answer, examine, text
from portway.cli.errors import UserError


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
