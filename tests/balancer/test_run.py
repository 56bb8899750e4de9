"""The controller against an API server: addresses, conditions and Events, and that nothing is written twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from build_balancer import Announces
from fake_api import FakeApi, fake_api
from portway.balancer.pools import Pool, pool
from portway.balancer.provider import Announcer, Nobody
from portway.balancer.reasons import Reason, Refused
from portway.balancer.run import Controller, run
from portway.balancer.status import CONDITION
from portway.client import Client, Reflector
from portway.controllers.events import Recorder
from portway.loop import FakeClock, Generation, SystemClock
from portway.objects.core import Service
from portway.objects.kinds import SERVICE

POOLS = (pool("public", "203.0.113.0-203.0.113.2"),)  # .1 and .2


def load_balancer(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "shop", "uid": f"uid-{name}"},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80, "nodePort": 30080}], **spec},
    }


class World:
    def __init__(self, api: FakeApi, client: Client, generation: Generation) -> None:
        self.api = api
        self.client = client
        self.generation = generation

    async def create(self, name: str, **spec: Any) -> None:
        await self.client.create(Service, load_balancer(name, **spec))

    def status(self, name: str) -> dict[str, Any]:
        return dict(self.api.objects[("services", "shop", name)].get("status") or {})

    def address(self, name: str) -> str:
        ingress = (self.status(name).get("loadBalancer") or {}).get("ingress") or [{}]
        return str(ingress[0].get("ip", ""))

    def reason(self, name: str) -> str:
        found = [c["reason"] for c in self.status(name).get("conditions") or () if c["type"] == CONDITION]
        return str(found[0]) if found else ""

    def events(self, name: str) -> list[str]:
        found = [e for e in self.api.named("events") if e["involvedObject"]["name"] == name]
        return [
            f"{e['type']} {e['reason']}" for e in sorted(found, key=lambda e: int(e["metadata"]["resourceVersion"]))
        ]

    async def until(self, condition: Callable[[], bool]) -> None:
        await self.api.until(condition)

    def writes(self) -> int:
        return sum(method == "PATCH" and path.endswith("/status") for method, path in self.api.requests)


@asynccontextmanager
async def running(announcer: Announcer, pools: Sequence[Pool] = POOLS) -> AsyncIterator[World]:
    async with fake_api() as (api, client):
        generation = Generation()
        agent = run(client, announcer, SystemClock(), pools=pools, generation=generation)
        task = asyncio.create_task(agent)
        try:
            yield World(api, client, generation)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_addresses_are_given_in_order_and_given_back() -> None:
    async with running(Announces()) as world:
        await world.create("a")
        await world.until(lambda: world.reason("a") == "Ready")
        await world.create("b")
        await world.create("c")
        await world.until(lambda: world.reason("c") == "PoolUsedUp")
        assert [world.address(n) for n in "abc"] == ["203.0.113.1", "203.0.113.2", ""]
        assert world.status("a")["loadBalancer"]["ingress"] == [{"ip": "203.0.113.1", "ipMode": "VIP"}]
        await world.client.delete(Service, "a", "shop")
        await world.until(lambda: world.address("c") == "203.0.113.1")
        await world.until(lambda: world.events("c") == ["Warning PoolUsedUp", "Normal Ready"])


async def test_no_address_while_nobody_would_answer_for_it() -> None:
    async with running(Nobody()) as world:
        await world.create("a")
        await world.until(lambda: world.reason("a") == "NoAnnouncer")
        assert world.address("a") == ""
        await world.until(lambda: world.events("a") == ["Warning NoAnnouncer"])


async def test_who_has_an_address_keeps_it_while_its_provider_is_away() -> None:
    provider = Announces()
    async with running(provider) as world:
        await world.create("a")
        await world.until(lambda: world.reason("a") == "Ready")
        provider.no = Refused(Reason.NO_ANNOUNCER)
        await world.create("b")
        await world.until(lambda: world.reason("a") == "NoAnnouncer" == world.reason("b"))
        assert (world.address("a"), world.address("b")) == ("203.0.113.1", "")


async def test_an_obstacle_is_told_and_the_address_stays() -> None:
    provider = Announces()
    provider.in_the_way = Refused(Reason.ALL_UNHEALTHY, "none of node-1 passes")
    async with running(provider) as world:
        await world.create("a")
        await world.until(lambda: world.reason("a") == "AllUnhealthy")
        assert world.address("a") == "203.0.113.1"


async def test_another_class_is_left_alone_but_told() -> None:
    async with running(Announces()) as world:
        await world.create("other", loadBalancerClass="example.com/other")
        await world.until(lambda: world.reason("other") == "OtherClass")
        assert "loadBalancer" not in world.status("other")


async def test_a_service_that_is_no_load_balancer_any_more_is_cleaned() -> None:
    async with running(Announces()) as world:
        await world.create("a")
        await world.until(lambda: world.reason("a") == "Ready")
        stored = world.api.objects[("services", "shop", "a")]
        foreign = {"type": "Foreign", "status": "True", "reason": "R", "message": "m", "lastTransitionTime": "t"}
        conditions = [*stored["status"]["conditions"], foreign]
        spec = {**stored["spec"], "type": "ClusterIP"}
        world.api.put(SERVICE, {**stored, "spec": spec, "status": {**stored["status"], "conditions": conditions}})
        await world.until(lambda: world.reason("a") == "")
        assert world.address("a") == ""
        assert [c["type"] for c in world.status("a")["conditions"]] == ["Foreign"], "others' conditions stay"


async def test_other_services_are_none_of_its_business() -> None:
    async with running(Announces()) as world:
        await world.create("plain", type="ClusterIP")
        await world.create("a")
        await world.until(lambda: world.reason("a") == "Ready")
        assert world.status("plain") == {}


async def test_nothing_is_written_when_nothing_changed() -> None:
    async with fake_api() as (api, client):
        await client.create(Service, load_balancer("a"))
        world = World(api, client, Generation())
        for expected in (1, 1):  # the second controller is one that was restarted
            services = Reflector(client, Service)
            task = asyncio.create_task(services.run())
            await asyncio.wait_for(services.synced.wait(), 5)
            made = Controller(client, services, Announces(), Recorder(client, FakeClock()), FakeClock(), pools=POOLS)
            assert await made.one_pass(frozenset()) == ()
            assert world.writes() == expected
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_an_address_on_its_way_to_the_server_is_not_given_to_another() -> None:
    """The watch may lag behind our own write: a younger Service with an earlier name must not push in."""
    async with fake_api() as (api, client):
        world = World(api, client, Generation())
        await world.create("b")
        services = Reflector(client, Service)
        task = asyncio.create_task(services.run())
        await asyncio.wait_for(services.synced.wait(), 5)
        made = Controller(client, services, Announces(), Recorder(client, FakeClock()), FakeClock(), pools=POOLS)
        assigned = made._assigned(tuple(services.items.values()))
        seen = asyncio.Event()
        services.subscribe(lambda changes: seen.set() if any(c.ref == "shop/a" for c in changes) else None)
        await world.create("a")
        await asyncio.wait_for(seen.wait(), 5)
        again = made._assigned(tuple(services.items.values()))
        assert again["shop/b"] == assigned["shop/b"] != again["shop/a"]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_write_that_is_refused_is_tried_again() -> None:
    async with running(Announces()) as world:
        world.api.fail_next = [("PATCH", 409, "Conflict")]
        await world.create("a")
        await world.until(lambda: world.reason("a") == "Ready")
        assert world.writes() >= 2
