"""The supervisor around a cluster: what it reports, how it answers, and that it always cleans up behind itself."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from build_lab import until
from portway.apiserver.database import StoreFailed, StoreUnreadable
from portway.lab import ask, running, state, supervisor
from portway.lab.isolate import CannotIsolate
from portway.lab.logs import LATEST
from portway.lab.publish import NoSuchPublish, Published
from portway.lab.running import CannotStart
from portway.lab.state import Folder, PublishRecord, StateError
from portway.lab.supervisor import Reporter
from portway.lab.topology import NoSuchPlan
from portway.lab.wanted import Wanted
from portway.loop.clock import FakeClock
from portway.netns.kernel import NetworkError


class Reports:
    """What went up the pipe."""

    def __init__(self) -> None:
        self.read, self.write = os.pipe()
        self.reporter = Reporter(self.write)

    def said(self) -> list[dict[str, Any]]:
        self.reporter.close()
        with os.fdopen(self.read, "rb") as pipe:
            return [json.loads(line) for line in pipe]


@dataclass
class Script:
    """What the stand-in for the cluster does: `fails` while it comes up, or goes on for ever."""

    fails: Exception | None = None
    stuck: bool = False
    hosts: list[dict[str, str]] = field(default_factory=list)
    agents: list[dict[str, str]] = field(default_factory=list)
    wanted: list[Wanted] = field(default_factory=list)
    stopped: int = 0

    def running(self, folder: Folder, clock: object, report: Callable[..., None]) -> FakeRunning:
        return FakeRunning(self, folder, report)


class FakeRunning:
    def __init__(self, script: Script, folder: Folder, report: Callable[..., None]) -> None:
        self.script = script
        self.folder = folder
        self.report = report
        self.published = Published(FakeClock(), lambda: None, lambda _: None)

    async def start(self, wanted: Wanted) -> None:
        self.script.wanted.append(wanted)
        self.report("network: client, edge")
        if self.script.fails is not None:
            raise self.script.fails

    async def wait_ready(self) -> None:
        if self.script.stuck:
            await asyncio.Event().wait()

    async def stop(self) -> None:
        self.script.stopped += 1

    async def status(self, _: Mapping[str, Any]) -> dict[str, Any]:
        return {"hosts": self.script.hosts, "agents": self.script.agents}

    async def refuse(self, _: Mapping[str, Any]) -> None:
        raise ask.Refused("not in this play")

    node_add = node_remove = node_stop = node_start = route_add = route_delete = routes = refuse


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    script = Script()
    monkeypatch.setattr(running, "Running", script.running)
    return script


@pytest.fixture
def place(tmp_path: Path) -> Folder:
    place = state.folder(tmp_path, "portway")
    state.prepare(place)
    return place


def order(place: Folder, **changes: Any) -> dict[str, Any]:
    words = {"folder": str(place.path), "nodes": 2, "images": {}, "timeout": 30.0, "zones": None, "publish": []}
    return words | changes


@asynccontextmanager
async def at_work(place: Folder, reports: Reports, **changes: Any) -> AsyncIterator[asyncio.Task[int]]:
    """The supervisor until it says that it is ready or has ended; then it is told to leave."""
    ended = asyncio.Event()
    task = asyncio.create_task(supervisor._cluster(order(place, **changes), reports.reporter, ended))
    try:
        yield task
    finally:
        ended.set()
        await asyncio.wait_for(task, 10)


async def test_it_reports_answers_and_leaves_when_told(place: Folder, script: Script) -> None:
    reports = Reports()
    async with at_work(place, reports) as task:
        await until(lambda: reports.reporter._fd < 0)
        script.hosts = [{"name": "client", "state": "ready"}]
        assert (await asyncio.to_thread(ask.call, place.control, "status"))["hosts"] == script.hosts
        assert not task.done()
        assert script.stopped == 0
    assert task.result() == 0
    assert script.stopped == 1
    assert reports.said() == [{"step": "network: client, edge", "ready": False}, {"step": "ready", "ready": True}]


async def test_it_can_be_asked_to_leave(place: Folder, script: Script) -> None:
    reports = Reports()
    async with at_work(place, reports) as task:
        await until(place.control.exists)
        await asyncio.to_thread(ask.call, place.control, "down")
        assert await asyncio.wait_for(asyncio.shield(task), 10) == 0
    assert script.stopped == 1


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (CannotStart("no maps: modprobe nf_tables"), "no maps: modprobe nf_tables"),
        (NoSuchPlan("at most 253 nodes"), "at most 253 nodes"),
        (NetworkError(1, "make a veth"), "make a veth; run as root"),
        (StateError("cannot write state.json: free some space"), "cannot write state.json: free some space"),
        (StoreUnreadable("objects.db is no database"), "objects.db is no database"),
        (StoreFailed("disk full"), "disk full"),
        (NoSuchPublish("publishes nothing"), "publishes nothing"),
        (ZeroDivisionError("surprise"), "ZeroDivisionError: surprise; this is a bug, please report it"),
        (OSError(28, "No space left on device"), "No space left on device; free disk space below "),
        (OSError(24, "Too many open files"), "Too many open files; raise the limit of open files"),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, Exception) else "",
)
async def test_what_goes_wrong_is_told_and_everything_is_taken_down(
    place: Folder, script: Script, error: Exception, says: str
) -> None:
    script.fails = error
    reports = Reports()
    async with at_work(place, reports) as task:
        assert await asyncio.wait_for(asyncio.shield(task), 10) == 1
    assert script.stopped == 1
    *_, last = reports.said()
    assert says in last["error"]


@pytest.mark.parametrize(
    ("hosts", "agents", "says"),
    [
        (
            [{"name": "node-1", "state": "not ready"}, {"name": "edge", "state": "ready"}],
            [],
            "node-1 is not ready; node@node-1 said: no room;",
        ),
        ([], [{"name": "proxy", "host": "node-1", "error": "OSError: no"}], "proxy node-1: OSError: no;"),
        ([], [{"name": "controllers", "host": "", "error": "X"}], "controllers: X;"),
        ([{"name": "node-2", "state": "off"}], [{"name": "a", "host": "", "error": ""}], "a Service does not answer;"),
    ],
)
async def test_what_is_late_is_named(
    place: Folder,
    script: Script,
    hosts: list[dict[str, str]],
    agents: list[dict[str, str]],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script.stuck, script.hosts, script.agents = True, hosts, agents
    monkeypatch.setattr(LATEST, "said", {"node@node-1": "no room"})
    place.log.write_text("{}\n")
    reports = Reports()
    async with at_work(place, reports, timeout=0.0) as task:
        assert await asyncio.wait_for(asyncio.shield(task), 10) == 1
    *_, last = reports.said()
    assert last["error"].startswith("not ready within 0 s: ")
    assert says in last["error"]
    assert last["error"].endswith(f"; see {place.log}; give it more with --timeout")


async def test_a_log_that_is_not_there_is_not_named(place: Folder, script: Script) -> None:
    script.stuck = True
    reports = Reports()
    async with at_work(place, reports, timeout=0.0) as task:
        assert await asyncio.wait_for(asyncio.shield(task), 10) == 1
    assert reports.said()[-1]["error"] == (
        "not ready within 0 s: a Service does not answer; give it more with --timeout"
    )


async def test_an_interruption_while_it_comes_up_takes_everything_down(place: Folder, script: Script) -> None:
    script.stuck = True
    reports = Reports()
    async with at_work(place, reports) as task:
        await until(lambda: bool(script.wanted))
    assert task.result() == 0
    assert script.stopped == 1
    assert [r for r in reports.said() if r.get("ready") or "error" in r] == []


async def test_the_orders_words_become_values(place: Folder, script: Script) -> None:
    words = order(
        place, nodes=None, images={"web": "web"}, zones=3, publish=["8080:10.100.0.2:80", "53:10.0.1.2:53/udp"]
    )
    assert supervisor.wanted(words) == Wanted(
        None,
        {"web": "web"},
        3,
        (PublishRecord(8080, "10.100.0.2", 80), PublishRecord(53, "10.0.1.2", 53, "udp")),
    )
    with pytest.raises(NoSuchPublish):
        supervisor.wanted(order(place, publish=["nonsense"]))


def test_a_reporter_without_a_listener_goes_on() -> None:
    read, write = os.pipe()
    os.close(read)
    reporter = Reporter(write)
    reporter("nobody hears this")
    reporter.failed("nor this")
    reporter.close()


@pytest.mark.parametrize("before", [None, "/etc/ssl/mine.pem"])
def test_the_machines_authorities_are_back_after_the_import(
    monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    if before is None:
        monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    else:
        monkeypatch.setenv("SSL_CERT_FILE", before)
    with supervisor.without_authorities():
        assert ssl.create_default_context().cert_store_stats()["x509_ca"] == 0
    assert os.environ.get("SSL_CERT_FILE") == before
    assert "SSL_CERT_DIR" not in os.environ


def test_what_forbids_namespaces_is_told(monkeypatch: pytest.MonkeyPatch, place: Folder) -> None:
    reports = Reports()

    def refuse(*, user_namespace: bool) -> None:
        raise CannotIsolate(f"cannot make a user namespace ({user_namespace}): allow them")

    before = os.umask(0o022)
    try:
        monkeypatch.setattr(supervisor, "isolate", refuse)
        assert supervisor.main(order(place, user_namespace=True, report=reports.write, log="")) == 1
        assert os.umask(0o022) == 0o077, "whatever it writes is for its user alone"
    finally:
        os.umask(before)
    assert reports.said() == [{"error": "cannot make a user namespace (True): allow them"}]
