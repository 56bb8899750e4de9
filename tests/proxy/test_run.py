"""`run` as the lab starts it: an API server, reflectors, and the table that follows what is written there."""

from __future__ import annotations

import asyncio

from build_proxy import CONFIG, endpoint, plain, ruleset, service, slice_of
from fake_api import fake_api
from portway.client import Client
from portway.loop import Generation, SystemClock
from portway.nft.canonical import canonical
from portway.nft.fake import FakeNft
from portway.nft.tables import Ruleset
from portway.objects.core import Service
from portway.objects.discovery import EndpointSlice
from portway.objects.meta import Object
from portway.proxy.apply import run


class Running:
    """The agent against a server; `shows` waits until its table is the one of these objects."""

    def __init__(self, client: Client) -> None:
        self.nft = FakeNft()
        self.generation = Generation()
        agent = run(client, self.nft, node_name="node-1", clock=SystemClock(), generation=self.generation)
        self.task = asyncio.create_task(agent)

    async def shows(self, *objects: Service | EndpointSlice) -> None:
        wanted = canonical(plain(ruleset(*objects)))
        await asyncio.wait_for(self.generation.until(lambda: self.table() == wanted), 5)

    def table(self) -> Ruleset | None:
        return self.nft.read(CONFIG.family, CONFIG.table)


async def create(client: Client, *objects: Object) -> None:
    for item in objects:
        await client.create(type(item), item)


async def test_the_table_follows_the_server() -> None:
    web, pods = service("shop/web"), slice_of("shop/web", endpoint("10.0.1.2"))
    api = service("shop/api", "10.3.240.10")
    async with fake_api() as (_, client):
        await create(client, web, pods)
        running = Running(client)
        try:
            await running.shows(web, pods)
            await create(client, api)
            await running.shows(web, pods, api)
            await client.delete(Service, "web", "shop")
            await running.shows(api)
        finally:
            running.task.cancel()
            await asyncio.gather(running.task, return_exceptions=True)


async def test_an_interrupted_watch_loses_nothing() -> None:
    web, pods = service("shop/web"), slice_of("shop/web", endpoint("10.0.1.2"))
    async with fake_api() as (server, client):
        await create(client, web)
        running = Running(client)
        try:
            await running.shows(web)
            server.forget()
            await create(client, pods)
            await running.shows(web, pods)
        finally:
            running.task.cancel()
            await asyncio.gather(running.task, return_exceptions=True)
