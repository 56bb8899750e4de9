"""The agent answers as the objects say: nothing before the first lists, then every change; and who is behind `kube-dns`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import dns.asyncquery
import dns.message
import dns.rcode
import msgspec

from build_dns import CONFIG, DB, DB_SLICE, WEB, Store, lines, pod, query
from fake_api import fake_api
from portway.client import Client, Reflector
from portway.dns import announce
from portway.dns.apply import Agent, Inputs, run, serve
from portway.dns.config import DnsConfig, PodNames
from portway.dns.server import listen
from portway.dns.upstream import Upstream
from portway.loop import Generation, SystemClock
from portway.objects.core import Node, Pod, Service
from portway.objects.discovery import EndpointSlice

NOBODY = Upstream((), lambda _: (_ for _ in ()).throw(OSError("there is no way out")))
VERIFIED = DnsConfig(pods=PodNames.VERIFIED)


class World:
    """The agent, its inputs and its sockets."""

    def __init__(self, config: DnsConfig = CONFIG) -> None:
        self.services: Store[Service] = Store(WEB)
        self.slices: Store[EndpointSlice] = Store(DB_SLICE)
        self.pods: Store[Pod] = Store()
        self.sockets = listen("127.0.0.1", 0)
        self.generation = Generation()
        pods = self.pods if config.pods is PodNames.VERIFIED else None
        self.agent = Agent(Inputs(self.services, self.slices, pods), config)

    def sync(self) -> None:
        for store in (self.services, self.slices, self.pods):
            store.synced.set()

    async def passes(self) -> None:
        await asyncio.wait_for(self.generation.at_least(self.generation.value + 1), 5)

    async def ask(self, name: str, type_: str = "A") -> dns.message.Message:
        port = self.sockets.udp.getsockname()[1]
        return await dns.asyncquery.udp(query(name, type_), "127.0.0.1", port=port, timeout=5)

    async def found(self, name: str) -> list[str]:
        return [line.rpartition(" ")[2] for line in lines((await self.ask(name)).answer)]


@asynccontextmanager
async def running(world: World) -> AsyncIterator[World]:
    task = asyncio.create_task(
        serve(world.agent, world.sockets, NOBODY, clock=SystemClock(), generation=world.generation)
    )
    try:
        yield world
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        world.sockets.close()


async def test_a_query_waits_for_the_first_lists() -> None:
    async with running(World()) as world:
        asking = asyncio.create_task(world.found("web.shop.svc.cluster.local"))
        world.services.synced.set()
        await asyncio.wait([asking], timeout=0.05)
        assert not asking.done(), "without all lists, there is no such name would be a lie"
        world.sync()
        assert await asyncio.wait_for(asking, 5) == ["10.3.240.9"]


async def test_services_and_endpoints_come_change_and_go() -> None:
    async with running(World()) as world:
        world.sync()
        await world.passes()
        assert await world.found("db.shop.svc.cluster.local") == []
        world.services.put(DB)
        await world.passes()
        assert await world.found("db.shop.svc.cluster.local") == ["10.0.1.5", "10.0.2.5", "10.0.2.6"]
        world.slices.put(msgspec.structs.replace(DB_SLICE, endpoints=(DB_SLICE.endpoints or ())[:1]))
        await world.passes()
        assert await world.found("db.shop.svc.cluster.local") == ["10.0.1.5"]
        world.slices.remove(DB_SLICE.ref)
        await world.passes()
        assert (await world.ask("db-0.db.shop.svc.cluster.local")).rcode() == dns.rcode.NXDOMAIN
        world.services.remove(WEB.ref)
        await world.passes()
        assert (await world.ask("web.shop.svc.cluster.local")).rcode() == dns.rcode.NXDOMAIN


async def test_verified_pods_come_and_go() -> None:
    async with running(World(VERIFIED)) as world:
        world.sync()
        world.pods.put(pod("shop/p", "10.0.1.5"))
        await world.passes()
        assert await world.found("10-0-1-5.shop.pod.cluster.local") == ["10.0.1.5"]
        world.pods.put(pod("shop/p", "10.0.1.6"))
        await world.passes()
        assert await world.found("10-0-1-5.shop.pod.cluster.local") == []
        assert await world.found("10-0-1-6.shop.pod.cluster.local") == ["10.0.1.6"]
        world.pods.remove("shop/p")
        await world.passes()
        assert await world.found("10-0-1-6.shop.pod.cluster.local") == []


async def test_a_change_that_says_nothing_new_keeps_the_zone() -> None:
    async with running(World()) as world:
        world.sync()
        await world.passes()
        before = world.agent.zone
        world.services.put(msgspec.structs.replace(WEB, status=WEB.status))
        await world.passes()
        assert world.agent.zone is before


async def test_run_follows_a_server() -> None:
    for config in (CONFIG, VERIFIED):
        async with fake_api() as (_, client):
            await client.create(Service, WEB)
            sockets, generation = listen("127.0.0.1", 0), Generation()
            work = run(client, sockets, NOBODY, clock=SystemClock(), config=config, generation=generation)
            task = asyncio.create_task(work)
            try:
                await asyncio.wait_for(generation.at_least(1), 5)
                port = sockets.udp.getsockname()[1]
                asked = query("web.shop.svc.cluster.local")
                answer = await dns.asyncquery.udp(asked, "127.0.0.1", port=port, timeout=5)
                assert lines(answer.answer) == ["web.shop.svc.cluster.local A 10.3.240.9"]
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                sockets.close()


# Who is behind kube-dns


def node(name: str, address: str, *, ready: bool = True) -> Node:
    addresses = [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": address}]
    status: dict[str, Any] = {"addresses": addresses if address else addresses[:1]}
    status["conditions"] = [{"type": "Ready", "status": "True" if ready else "Unknown"}]
    return msgspec.convert({"metadata": {"name": name}, "status": status}, Node)


def test_an_endpoint_for_each_node_ready_as_it_is() -> None:
    made = announce.slice_of([node("node-2", "10.100.0.3", ready=False), node("node-1", "10.100.0.2"), node("x", "")])
    assert made["endpoints"] == [
        {
            "addresses": ["10.100.0.2"],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "nodeName": "node-1",
        },
        {
            "addresses": ["10.100.0.3"],
            "conditions": {"ready": False, "serving": False, "terminating": False},
            "nodeName": "node-2",
        },
    ]
    assert [(p["name"], p["protocol"], p["port"]) for p in made["ports"]] == [
        ("dns", "UDP", 10053),
        ("dns-tcp", "TCP", 10053),
    ]


async def test_the_slice_follows_the_nodes_and_is_restored() -> None:
    async with fake_api() as (_, client):
        await client.create(Node, node("node-1", "10.100.0.2"))
        nodes = Reflector(client, Node)
        generation = Generation()
        work = announce.run(client, nodes, SystemClock(), generation)
        tasks = [asyncio.create_task(nodes.run()), asyncio.create_task(work)]
        seen = Seen(client)
        try:
            await seen.addresses("10.100.0.2")
            await client.create(Node, node("node-2", "10.100.0.3"))
            await seen.addresses("10.100.0.2", "10.100.0.3")
            await client.patch(EndpointSlice, "kube-dns", {"endpoints": None}, "kube-system")
            await seen.addresses("10.100.0.2", "10.100.0.3")
            await client.delete(EndpointSlice, "kube-dns", "kube-system")
            await seen.addresses("10.100.0.2", "10.100.0.3")
            await client.delete(Node, "node-1")
            await seen.addresses("10.100.0.3")
        finally:
            for task in (*tasks, seen.task):
                task.cancel()
            await asyncio.gather(*tasks, seen.task, return_exceptions=True)


class Seen:
    """What somebody who follows the slices sees."""

    def __init__(self, client: Client) -> None:
        self.slices = Reflector(client, EndpointSlice)
        self.changed = Generation()
        self.slices.subscribe(lambda _: self.changed.advance())
        self.task = asyncio.create_task(self.slices.run())

    async def addresses(self, *wanted: str) -> None:
        def there() -> bool:
            item = self.slices.items.get("kube-system/kube-dns")
            return item is not None and [e.addresses[0] for e in item.endpoints or ()] == list(wanted)

        await asyncio.wait_for(self.changed.until(there), 5)
