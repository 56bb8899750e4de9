"""The agent and the ports of its node: opened with a pod, closed with it, and refused to a pod that comes second."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from build_node import (
    NODE_ADDRESS,
    NodeRoad,
    api_server,
    give_cidr,
    is_ready,
    manifest,
    needs_pods,
    node_namespace,
    node_road,
    shell,
)
from portway.loop import SystemClock
from portway.netlink.socket import NETLINK_NETFILTER, open_netlink
from portway.netns.kernel import Namespace
from portway.nft.kernel import KernelNft
from portway.nft.tables import Family
from portway.node.agent import NodeAgent
from portway.node.context import AgentConfig
from portway.node.hostports import ANY_ADDRESS, TABLE
from portway.node.wiring import link_name
from portway.objects.core import Pod

pytestmark = [needs_pods, pytest.mark.lab]


def holder(name: str, number: int = 8080, **port: Any) -> dict[str, Any]:
    """A pod that asks for a host port and does nothing."""
    ports = [{"containerPort": 80, "hostPort": number, **port}]
    return manifest(name, shell("exec sleep 1000", ports=ports), terminationGracePeriodSeconds=0)


def opened(namespace: Namespace) -> dict[str, str]:
    """ "tcp 8080" → "10.0.1.2:80", for the ports that are open on all addresses."""
    nft = KernelNft(namespace.run(lambda: open_netlink(NETLINK_NETFILTER)))
    try:
        found = nft.read(Family.IP, TABLE)
    finally:
        nft.close()
    assert found is not None, "there is no table"
    return {
        f"{key[0]} {key[1]}": f"{e.value[0]}:{e.value[1]}"
        for key, e in found.elements.get(ANY_ADDRESS, {}).items()
        if isinstance(e.value, tuple)
    }


async def until_opened(road: NodeRoad, wanted: dict[str, str]) -> None:
    async with asyncio.timeout(10):
        while opened(road.namespace) != wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def failed(shown: Pod) -> bool:
    return shown.status.phase == "Failed"


async def test_a_host_port_is_open_while_the_pod_is_there() -> None:
    async with node_road() as road:
        assert opened(road.namespace) == {}
        await road.apply(holder("web"))
        shown = await road.until("web", is_ready)
        assert opened(road.namespace) == {"tcp 8080": f"{shown.status.pod_ip}:80"}
        setting = f"net.ipv4.conf.{link_name(shown.metadata.uid)}.route_localnet"
        assert road.namespace.sysctl(setting) == "1", "so that 127.0.0.1:8080 leads to the pod"
        await road.client.delete(Pod, "web", "default")
        await road.until_gone("web")
        assert opened(road.namespace) == {}, "closed before the object is gone"


async def test_a_pod_that_vanished_gives_its_port_to_the_next() -> None:
    async with node_road() as road:
        await road.apply(holder("web"))
        await road.until("web", is_ready)
        await road.client.delete(Pod, "web", "default", grace_seconds=0)
        await road.apply(holder("next"))
        shown = await road.until("next", is_ready)
        assert opened(road.namespace) == {"tcp 8080": f"{shown.status.pod_ip}:80"}


async def test_a_finished_pod_gives_its_port_back() -> None:
    async with node_road() as road:
        body = holder("once")
        body["spec"] |= {"restartPolicy": "Never"}
        body["spec"]["containers"][0]["command"] = ["/bin/true"]
        await road.apply(body)
        await road.until("once", lambda p: p.status.phase == "Succeeded")
        await until_opened(road, {})
        await road.apply(holder("web"))
        await road.until("web", is_ready)


async def test_the_second_of_two_pods_is_rejected_and_the_first_is_not_disturbed() -> None:
    async with node_road() as road:
        await road.apply(holder("first"))
        first = await road.until("first", is_ready)
        await road.apply(holder("second", hostIP="127.0.0.1"))
        second = await road.until("second", failed)
        words = "host port 8080/TCP of address 127.0.0.1 is held by pod default/first (container main)"
        assert second.status.reason == "NodePorts"
        assert second.status.message == f"Pod was rejected: on node node-1 {words}"
        assert not second.status.pod_ip
        assert words in (await road.events("NodePorts"))[0].message
        assert opened(road.namespace) == {"tcp 8080": f"{first.status.pod_ip}:80"}
        await road.apply(holder("udp", protocol="UDP"))
        await road.until("udp", is_ready)
        await road.client.delete(Pod, "second", "default")
        await road.until_gone("second")
        await road.client.delete(Pod, "first", "default")
        await road.until_gone("first")
        await road.apply(holder("third"))
        await road.until("third", is_ready)


async def test_of_two_that_race_exactly_one_runs() -> None:
    async with node_road() as road:
        names = [f"racer-{n}" for n in range(4)]
        await asyncio.gather(*(road.apply(holder(name)) for name in names))
        shown = [await road.until(name, lambda p: is_ready(p) or failed(p)) for name in names]
        (winner,) = [p for p in shown if is_ready(p)]
        assert [p.status.reason for p in shown if p is not winner] == ["NodePorts"] * 3
        assert opened(road.namespace) == {"tcp 8080": f"{winner.status.pod_ip}:80"}


async def test_a_host_network_pod_holds_its_ports_too() -> None:
    async with node_road() as road:
        agent = manifest("agent", shell("exec sleep 1000", ports=[{"containerPort": 8080}]), hostNetwork=True)
        await road.apply(agent)
        await road.until("agent", is_ready)
        assert opened(road.namespace) == {}, "its program opens the port itself"
        await road.apply(holder("web"))
        assert "held by pod default/agent" in (await road.until("web", failed)).status.message


@pytest.mark.parametrize(
    ("port", "reason"),
    [
        ({"number": 30080}, "HostPortOverlapsNodePorts"),
        ({"hostIP": "192.0.2.1"}, "HostIPNotOnNode"),
        ({"hostIP": "fd00::1"}, "HostIPFamilyMismatch"),
    ],
)
async def test_what_a_host_port_will_not_do_is_said(port: dict[str, Any], reason: str) -> None:
    async with node_road() as road:
        await road.apply(holder("web", **port))
        await road.until("web", is_ready)
        (event,) = await road.events(reason)
        assert (event.type, event.involved_object.name) == ("Warning", "web")


async def test_a_busy_port_is_explained_in_the_status_and_in_an_event() -> None:
    async with node_road() as road:
        serve = "exec python3 -m http.server 8080"
        await road.apply(manifest("first", shell(serve, readinessProbe=probe()), hostNetwork=True))
        await road.until("first", is_ready)
        late = shell(serve, ports=[{"containerPort": 8080}])
        await road.apply(manifest("late", late, hostNetwork=True, restartPolicy="Never"))
        shown = await road.until("late", failed)
        ended = (shown.status.container_statuses or ())[0].state.terminated
        assert ended is not None
        words = "port 8080/tcp of node node-1 is held by pod default/first (container main)"
        assert "Address already in use" in ended.message
        assert words.lower() in ended.message.lower()
        assert words.lower() in (await road.events("HostPortInUse"))[0].message.lower()


async def test_an_error_that_is_none_of_a_port_is_not_explained() -> None:
    async with node_road() as road:
        await road.apply(manifest("bad", shell("echo sorry; exit 3"), hostNetwork=True, restartPolicy="Never"))
        shown = await road.until("bad", failed)
        ended = (shown.status.container_statuses or ())[0].state.terminated
        assert ended is not None
        assert (ended.exit_code, ended.message) == (3, "")


def probe() -> dict[str, Any]:
    return {"tcpSocket": {"port": 8080}, "periodSeconds": 1}


async def test_after_a_restart_the_table_is_adopted_and_who_ran_before_keeps_the_port(tmp_path: Path) -> None:
    with node_namespace() as namespace:
        async with api_server(tmp_path) as (server, client):
            for _ in range(2):
                config = AgentConfig(state=tmp_path / "node-1")
                agent = NodeAgent(
                    "node-1",
                    client=client,
                    namespace=namespace,
                    address=NODE_ADDRESS,
                    config=config,
                    clock=SystemClock(),
                )
                task = asyncio.create_task(agent.run())
                await give_cidr(client, task)
                road = NodeRoad(agent, client, namespace, tmp_path, task, server)
                if await road.get("zebra") is None:
                    await road.apply(holder("zebra"))
                shown = await road.until("zebra", is_ready)
                await until_opened(road, {"tcp 8080": f"{shown.status.pod_ip}:80"})
                await agent.crash()
                assert opened(namespace) == {}, "its pods ended with it, and so did their ports"
                if await road.get("aardvark") is None:
                    await road.apply(holder("aardvark"))
            assert failed(await client.get(Pod, "aardvark", "default"))
