"""What the running cluster decides for itself: which nodes `up` brings, what `status` says, what it refuses."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from portway.apiserver.database import Database, StoreFailed
from portway.lab import state
from portway.lab.ask import Refused
from portway.lab.parts import Api, WatchedStore
from portway.lab.running import CannotStart, Running
from portway.lab.sockets import listen
from portway.lab.state import NodeRecord, PublishRecord, RouteRecord, State
from portway.lab.topology import NoSuchPlan
from portway.lab.wanted import Wanted, first_state
from portway.loop.clock import FakeClock
from portway.objects.kinds import KINDS

TWO = (NodeRecord("node-1", 1), NodeRecord("node-2", 2))


@pytest.fixture
def running(tmp_path: Path) -> Running:
    place = state.folder(tmp_path, "portway")
    state.prepare(place)
    return Running(place, FakeClock(), lambda _: None)


@pytest.mark.parametrize(
    ("what", "found", "nodes", "want"),
    [
        ("the first time two", None, None, ["node-1", "node-2"]),
        ("as many as asked for", None, 3, ["node-1", "node-2", "node-3"]),
        ("those of last time", State(nodes=TWO), None, ["node-1", "node-2"]),
        ("those of last time and more", State(nodes=TWO), 3, ["node-1", "node-2", "node-3"]),
        ("never fewer: their pods are in the store", State(nodes=TWO), 1, ["node-1", "node-2"]),
        ("one that the user added", State(nodes=(*TWO, NodeRecord("worker", 3))), 2, ["node-1", "node-2", "worker"]),
    ],
)
def test_which_nodes_up_brings(what: str, found: State | None, nodes: int | None, want: list[str]) -> None:
    assert [n.name for n in first_state(found, Wanted(nodes)).nodes] == want, what


def test_no_two_nodes_get_one_address_when_more_are_asked_for_than_there_were() -> None:
    found = State(nodes=(NodeRecord("node-1", 1), NodeRecord("worker", 2)))
    first = first_state(found, Wanted(3))
    assert [(n.name, n.number) for n in first.nodes] == [("node-1", 1), ("worker", 2), ("node-2", 3)]


def test_up_switches_every_node_on_and_adds_images() -> None:
    found = State(nodes=(NodeRecord("node-1", 1, on=False),), images={"web": "old", "db": "db"}, port=7)
    first = first_state(found, Wanted(None, {"web": "new"}))
    assert first.nodes == (NodeRecord("node-1", 1),)
    assert first.images == {"web": "new", "db": "db"}
    assert first.port == 7


@pytest.mark.parametrize(("before", "asked", "want"), [(0, None, 0), (3, None, 3), (3, 2, 2), (0, 4, 4)])
def test_zones_stay_until_others_are_asked_for(before: int, asked: int | None, want: int) -> None:
    assert first_state(State(zones=before), Wanted(zones=asked)).zones == want


def test_more_nodes_than_addresses() -> None:
    with pytest.raises(NoSuchPlan, match="at most 253"):
        first_state(None, Wanted(254))


async def test_a_port_that_is_taken_ends_up_before_anything_is_made(running: Running) -> None:
    before = State(nodes=TWO, images={"web": "web"})
    state.save(running.folder, before)
    with listen("127.0.0.1", 0) as other:
        record = PublishRecord(int(other.getsockname()[1]), "10.100.0.2", 80)
        with pytest.raises(CannotStart, match=f"127.0.0.1:{record.port}/tcp: somebody listens there already"):
            await running.start(Wanted(3, publish=(record,)))
    assert state.load(running.folder) == before
    assert running.hosts.get("client") is None, "no network was made"


async def test_status_names_the_zones(running: Running) -> None:
    running.state = State(nodes=(*TWO, NodeRecord("node-3", 3)), zones=2)
    zones = {h["name"]: h["zone"] for h in (await running.status({}))["hosts"]}
    assert zones == {"client": "", "edge": "", "node-1": "zone-a", "node-2": "zone-b", "node-3": "zone-a"}


async def test_status_tells_versions(running: Running) -> None:
    assert set((await running.status({}))["versions"]) == {"portway", "kubectl", "python", "kernel"}


async def test_status_before_anything_runs(running: Running) -> None:
    running.state = State(nodes=TWO)
    found = await running.status({})
    assert found["ready"] is False
    assert [(h["name"], h["state"], h["namespace"]) for h in found["hosts"]] == [
        ("client", "off", ""),
        ("edge", "off", ""),
        ("node-1", "off", ""),
        ("node-2", "off", ""),
    ]


@pytest.mark.parametrize(
    ("operation", "request_", "says"),
    [
        ("node_stop", {"node": "node-9"}, "there is no node 'node-9': it has node-1, node-2"),
        ("node_start", {"node": "node-1"}, "node-1 is on already: portway node stop node-1"),
        ("node_add", {"node": "node-2"}, "there is a node-2 already"),
        ("node_add", {"node": "Node!"}, "lower-case"),
        ("node_add", {"node": "node-3"}, "still coming up"),
        ("node_remove", {"node": "node-1"}, "still coming up"),
        ("route_add", {"destination": "10.3.240.0/20", "via": "node-1"}, "no host 'edge' is on"),
        ("route_add", {"destination": "nonsense", "via": "node-1"}, "is no network"),
        ("route_add", {"destination": "10.3.240.0/20", "via": "node-9"}, "neither a node nor an address"),
        ("route_delete", {"destination": "10.9.0.0/16"}, "portway route list shows"),
        ("route_delete", {"destination": "nonsense"}, "is no network"),
        ("routes", {"host": "mars"}, "choose one of client, edge, node-1, node-2"),
    ],
)
async def test_what_is_refused_and_why(running: Running, operation: str, request_: dict[str, Any], says: str) -> None:
    running.state = State(nodes=TWO)
    with pytest.raises(Refused, match=says):
        await getattr(running, operation)(request_)
    assert running.state.nodes == TWO, "nothing was changed"


async def test_the_last_node_stays(running: Running) -> None:
    running.state = State(nodes=(TWO[0], NodeRecord("node-2", 2, on=False)))
    with pytest.raises(Refused, match="last node that is on: add another first"):
        await running.node_remove({"node": "node-1"})


async def test_a_route_of_a_host_that_is_off_is_forgotten(running: Running) -> None:
    route = RouteRecord("node-1", "10.9.0.0/16", "10.100.0.1")
    running.state = State(nodes=TWO, routes=(route, RouteRecord("edge", "10.9.0.0/16", "10.100.0.2")))
    await running.route_delete({"destination": "10.9.0.0/16", "host": "node-1"})
    assert [r.host for r in running.state.routes] == ["edge"]
    assert state.load(running.folder) == running.state, "and the next up knows it"


async def test_an_agent_that_never_starts_ends_the_attempt_before_the_time_is_up(tmp_path: Path) -> None:
    clock = FakeClock()
    place = state.folder(tmp_path, "portway")
    running = Running(place, clock, lambda _: None)

    async def refused() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fails())

    async def fails() -> None:
        raise OSError("pods need namespaces: portway doctor says what is missing")

    running.agents.start("node", "node-1", refused)
    waiting = asyncio.create_task(running._give_up())
    await clock.advance(30)
    with pytest.raises(CannotStart, match="the node agent of node-1 does not start: OSError: pods need namespaces"):
        await waiting
    await running.stop()


async def test_a_store_that_cannot_write_ends_the_attempt_at_once(tmp_path: Path) -> None:
    class Broken:
        failure = "objects.db: database or disk is full"

    running = Running(state.folder(tmp_path, "portway"), FakeClock(), lambda _: None)
    running._api = cast(Api, Broken())
    with pytest.raises(CannotStart, match="disk is full"):
        await running._give_up()


async def test_the_store_remembers_why_it_could_not_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Database) -> None:
        self.rollback()
        raise StoreFailed("disk is full")

    store = WatchedStore(tmp_path / "objects.db", KINDS)
    try:
        (kind,) = (k for k in KINDS if k.resource == "configmaps")
        monkeypatch.setattr(Database, "commit", refuse)
        store.put(kind, {"metadata": {"namespace": "default", "name": "a"}})
        with pytest.raises(StoreFailed):
            await store.durable()
        assert store.failure == "disk is full"
    finally:
        await store.close()


async def test_an_agent_that_stumbles_once_is_given_time(tmp_path: Path) -> None:
    clock = FakeClock()
    running = Running(state.folder(tmp_path, "portway"), clock, lambda _: None)
    starts = 0

    async def stumbles() -> None:
        nonlocal starts
        starts += 1
        if starts == 1:
            raise OSError("not yet")
        await asyncio.Event().wait()

    running.agents.start("proxy", "node-1", stumbles)
    waiting = asyncio.create_task(running._give_up())
    await clock.advance(30)
    assert not waiting.done()
    waiting.cancel()
    await running.stop()
