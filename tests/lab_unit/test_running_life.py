"""A cluster's life on stand-ins: up, nodes that come, go, lose their power and get it back, and the end."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from build_lab import USER, FakeHosts, Stage, cluster, stage
from build_publish import free_port
from portway.lab import running as module
from portway.lab import state
from portway.lab.ask import Refused
from portway.lab.running import CannotStart, Running
from portway.lab.sockets import listen
from portway.lab.state import NodeRecord, PublishRecord, RouteRecord, State
from portway.lab.wanted import Wanted
from portway.netns.kernel import NetworkError
from portway.netns.plan import Route


@pytest.fixture
def on_stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    return stage(monkeypatch)


@pytest.fixture
async def running(tmp_path: Path, on_stage: Stage) -> AsyncIterator[Running]:
    made, _ = cluster(tmp_path, on_stage)
    yield made
    await made.stop()


@pytest.fixture
async def up(running: Running) -> Running:
    await running.start(Wanted(2))
    await running.wait_ready()
    return running


def hosts(running: Running) -> FakeHosts:
    return cast(FakeHosts, running.hosts)


def agents(running: Running) -> set[tuple[str, str]]:
    return {(a.name, a.host) for a in running.agents.all()}


async def test_up_tells_each_step_and_the_state_is_on_disk(up: Running, on_stage: Stage) -> None:
    assert on_stage.said == [
        "network: client, edge, node-1, node-2",
        f"API server: https://127.0.0.1:{up.port}",
        "nodes ready: node-1, node-2",
        "Services answer: 10.3.240.1:443 from every node",
    ]
    saved = state.load(up.folder)
    assert saved is not None and saved == up.state
    assert saved.supervisor == state.identify(os.getpid())
    assert [n.name for n in saved.nodes] == ["node-1", "node-2"]
    assert saved.port == up.port
    assert up.folder.kubeconfig.stat().st_mode & 0o777 == 0o600
    assert agents(up) == {
        ("controllers", ""), ("watch", ""), ("cloud-routes", "edge"), ("edge", "edge"), ("balancer", ""), ("dns-endpoints", ""),
        *((agent, node) for agent in ("proxy", "dns", "node") for node in ("node-1", "node-2")),
    }  # fmt: skip


async def test_up_waits_for_nodes_and_for_their_services(tmp_path: Path, on_stage: Stage) -> None:
    on_stage.problems = ["no answer", "no answer"]
    running, clock = cluster(tmp_path, on_stage)
    await running.start(Wanted(1))
    waiting = asyncio.create_task(running.wait_ready())
    await asyncio.sleep(0)
    assert not waiting.done()
    await clock.advance(1)
    await asyncio.wait_for(waiting, 10)
    assert on_stage.problems == []
    await running.stop()


async def test_what_the_kernel_lacks_ends_up(running: Running, on_stage: Stage) -> None:
    on_stage.missing = ("no maps: modprobe nf_tables", "no numgen: modprobe nft_numgen")
    with pytest.raises(CannotStart, match="no maps: modprobe nf_tables; no numgen: modprobe nft_numgen"):
        await running.start(Wanted(1))


async def test_the_port_of_last_time_is_taken_again_if_it_is_free(running: Running) -> None:
    port = free_port()
    state.save(running.folder, State(port=port, nodes=(NodeRecord("node-1", 1),)))
    await running.start(Wanted())
    assert running.port == port


async def test_a_port_that_somebody_took_since_is_no_reason_not_to_come_up(running: Running) -> None:
    with listen("127.0.0.1", 0) as other:
        taken = int(other.getsockname()[1])
        state.save(running.folder, State(port=taken, nodes=(NodeRecord("node-1", 1),)))
        await running.start(Wanted())
    assert running.port not in (0, taken)


async def test_another_problem_with_the_port_is_told(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> socket.socket:
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(module, "listen", refuse)
    with pytest.raises(CannotStart, match=r"cannot listen on 127\.0\.0\.1:0: Permission denied"):
        await running.start(Wanted())


async def test_routes_and_published_addresses_of_last_time_are_there_again(running: Running, on_stage: Stage) -> None:
    record = PublishRecord(free_port(), "10.100.0.2", 80)
    route = RouteRecord("edge", "10.3.240.0/20", "10.100.0.2")
    state.save(running.folder, State(nodes=(NodeRecord("node-1", 1),), routes=(route,), published=(record,)))
    await running.start(Wanted())
    assert hosts(running)["edge"].table == {Route("10.3.240.0/20", via="10.100.0.2"): USER}
    (shown,) = (await running.status({}))["published"]
    assert (shown["port"], shown["listening"]) == (record.port, True)


async def test_a_published_port_that_was_taken_since_is_told_while_up(running: Running, on_stage: Stage) -> None:
    with listen("127.0.0.1", 0) as other:
        record = PublishRecord(int(other.getsockname()[1]), "10.100.0.2", 80)
        state.save(running.folder, State(nodes=(NodeRecord("node-1", 1),), published=(record,)))
        await running.start(Wanted())
    assert on_stage.said[0].startswith(f"not published: 127.0.0.1:{record.port}/tcp: somebody listens there")
    saved = state.load(running.folder)
    assert saved is not None and saved.published == (record,), "the next up tries again"


async def test_what_is_published_now_is_saved(up: Running) -> None:
    record = PublishRecord(free_port(), "10.100.0.2", 80)
    await up.published.add({"publish": record.text})
    saved = state.load(up.folder)
    assert saved is not None and saved.published == (record,)
    await up.published.remove({"publish": str(record.port)})
    saved = state.load(up.folder)
    assert saved is not None and saved.published == ()


async def test_zones_reach_the_nodes_and_those_that_join_later(running: Running, on_stage: Stage) -> None:
    await running.start(Wanted(2, zones=2))
    await running.node_add({"node": "worker"})
    assert on_stage.zones == {"node-1": "zone-a", "node-2": "zone-b", "worker": "zone-a"}
    saved = state.load(running.folder)
    assert saved is not None and saved.zones == 2


async def test_a_node_joins(up: Running) -> None:
    assert await up.node_add({"node": "node-3"}) == {"name": "node-3", "addresses": ["10.100.0.4"]}
    assert {("proxy", "node-3"), ("node", "node-3")} <= agents(up)
    saved = state.load(up.folder)
    assert saved is not None and saved.nodes[-1] == NodeRecord("node-3", 3)


async def test_a_node_that_the_kernel_refuses_leaves_nothing(up: Running) -> None:
    before = up.state
    hosts(up).refuse = NetworkError(errno.EMFILE, "make network namespace node-3")
    with pytest.raises(Refused, match="raise the limit of open files"):
        await up.node_add({"node": "node-3"})
    assert hosts(up).done == ["on node-3", "off node-3"]
    assert up.state == before
    assert not [a for a in agents(up) if a[1] == "node-3"]


async def test_a_node_that_does_not_come_up_is_told_with_its_reason(
    up: Running, on_stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_NODE_SECONDS", 0.0)
    on_stage.silent = {"node-3"}
    with pytest.raises(Refused, match="node-3 is on, but not ready after 0 s: its Services do not answer"):
        await up.node_add({"node": "node-3"})
    assert [n.name for n in up.state.nodes] == ["node-1", "node-2", "node-3"], "it is there, and status shows it"


async def test_a_node_loses_its_power_and_gets_it_back(up: Running) -> None:
    await up.node_stop({"node": "node-1"})
    assert hosts(up).done == ["unplug node-1", "off node-1"], "the cable first: nothing is heard of it any more"
    assert [(n.name, n.on) for n in up.state.nodes] == [("node-1", False), ("node-2", True)]
    assert not [a for a in agents(up) if a[1] == "node-1"]
    with pytest.raises(Refused, match="node-1 is off already"):
        await up.node_stop({"node": "node-1"})
    assert await up.node_start({"node": "node-1"}) == {"name": "node-1"}
    assert all(n.on for n in up.state.nodes)
    assert ("node", "node-1") in agents(up)


async def test_a_nodes_own_routes_come_back_with_it(up: Running) -> None:
    await up.route_add({"destination": "10.9.0.0/16", "via": "node-2", "host": "node-1"})
    await up.node_stop({"node": "node-1"})
    await up.node_start({"node": "node-1"})
    assert hosts(up)["node-1"].table == {Route("10.9.0.0/16", via="10.100.0.3"): USER}
    assert hosts(up)["edge"].table == {}


async def test_a_node_leaves_after_its_pods_have(up: Running, on_stage: Stage) -> None:
    on_stage.left = ["default/slow"]
    assert await up.node_remove({"node": "node-2", "seconds": 5}) == {"name": "node-2", "left": ["default/slow"]}
    assert on_stage.drained == [("node-2", 5.0)]
    assert on_stage.forgotten == ["node-2"]
    assert [n.name for n in up.state.nodes] == ["node-1"]


async def test_nobody_waits_for_the_pods_of_a_node_that_is_off(up: Running, on_stage: Stage) -> None:
    await up.node_stop({"node": "node-2"})
    await up.node_remove({"node": "node-2"})
    assert on_stage.drained == []
    assert on_stage.forgotten == ["node-2"]


async def test_two_changes_at_once_take_their_turns(up: Running) -> None:
    added = await asyncio.gather(*(up.node_add({"node": f"worker-{n}"}) for n in range(5)))
    assert len({a["addresses"][0] for a in added}) == 5, "no address is given twice"
    assert len(up.state.nodes) == 7


async def test_routes_are_added_replaced_listed_and_deleted(up: Running) -> None:
    await up.route_add({"destination": "10.3.240.0/20", "via": "node-1"})
    await up.route_add({"destination": "10.3.240.0/20", "via": "node-2"})
    assert [(r.host, r.via) for r in up.state.routes] == [("edge", "10.100.0.3")], "one way for one network"
    listed = await up.routes({})
    assert {"destination": "10.3.240.0/20", "via": "10.100.0.3", "link": "", "owner": "user-routes"} in listed
    assert await up.route_delete({"destination": "10.3.240.0/20"}) == {"host": "edge", "destination": "10.3.240.0/20"}
    assert up.state.routes == ()


async def test_status_shows_hosts_and_where_to_enter_them(up: Running) -> None:
    await up.node_stop({"node": "node-2"})
    found = await up.status({})
    shown = {h["name"]: (h["state"], bool(h["namespace"])) for h in found["hosts"]}
    assert shown == {
        "client": ("ready", True), "edge": ("ready", True), "node-1": ("not ready", True), "node-2": ("off", False),
    }  # fmt: skip
    assert found["ready"] is False
    assert found["agents"][0] == {"name": "apiserver", "host": "", "state": "running", "restarts": 0, "error": ""}


async def test_the_end_closes_what_was_published(up: Running) -> None:
    port = free_port()
    await up.published.add({"publish": f"{port}:10.100.0.2:80"})
    await up.stop()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED
    assert agents(up) == set()
