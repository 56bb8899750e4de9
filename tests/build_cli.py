"""Run the command line in this process, and stand in for a cluster: a state folder, a control socket, answers."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from portway.cli.main import main
from portway.lab import control, state
from portway.lab.state import Folder, NodeRecord, State


@dataclass(frozen=True)
class Said:
    """What a command left behind."""

    code: int
    out: str
    err: str


@dataclass
class CommandLine:
    """`portway(*words)`: exit code and both outputs."""

    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *words: str) -> Said:
        self.monkeypatch.setattr(sys, "argv", ["portway", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = self.capsys.readouterr()
        code = ended.value.code
        return Said(code if isinstance(code, int) else 0 if code is None else 1, captured.out, captured.err)


def status(**changes: Any) -> dict[str, Any]:
    """What a supervisor answers when all is well."""
    return {
        "ready": True,
        "name": "portway",
        "kubeconfig": "/state/kubeconfig",
        "server": "https://127.0.0.1:6443",
        "log": "/state/supervisor.log",
        "supervisor": {"pid": 1, "seconds": 1.0},
        "hosts": [
            {
                "name": "client",
                "role": "client",
                "addresses": ["198.51.100.10"],
                "zone": "",
                "state": "ready",
                "namespace": "/proc/1/fd/5",
            },
            {
                "name": "node-1",
                "role": "node",
                "addresses": ["10.100.0.2"],
                "zone": "",
                "state": "ready",
                "namespace": "/proc/1/fd/6",
            },
            {
                "name": "node-2",
                "role": "node",
                "addresses": ["10.100.0.3"],
                "zone": "",
                "state": "off",
                "namespace": "",
            },
        ],
        "agents": [{"name": "proxy", "host": "node-1", "state": "running", "restarts": 0, "error": ""}],
        "routes": [],
        "published": [],
        "versions": {"portway": "0.1.0", "kubectl": "1.37.0", "python": "3.11.7", "kernel": "6.18"},
    } | changes


class StandIn:
    """A supervisor that answers with what the test put into `answers` and remembers what it was asked."""

    def __init__(self, place: Folder) -> None:
        self.place = place
        self.answers: dict[str, Any] = {"status": status()}
        self.asked: list[dict[str, Any]] = []

    def answer(self, op: str) -> Callable[[Mapping[str, Any]], Any]:
        async def handler(request: Mapping[str, Any]) -> Any:
            self.asked.append(dict(request))
            found = self.answers[op]
            if isinstance(found, Exception):
                raise found
            return found

        return handler


OPERATIONS = (
    "status", "node-add", "node-remove", "node-stop", "node-start", "route-add", "route-delete", "routes",
    "publish-add", "publish-remove", "published",
)  # fmt: skip


@contextmanager
def stand_in(home: Path, name: str = "portway") -> Iterator[StandIn]:
    """A cluster that is up, as far as the command line can tell: this very process is its supervisor."""
    place = state.folder(home, name)
    state.prepare(place)
    nodes = (NodeRecord("node-1", 1), NodeRecord("node-2", 2))
    state.save(place, State(supervisor=state.identify(os.getpid()), port=6443, nodes=nodes))
    found = StandIn(place)
    loop = asyncio.new_event_loop()
    operations = {op: found.answer(op) for op in OPERATIONS}
    server = loop.run_until_complete(control.serve(place.control, operations))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield found
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
