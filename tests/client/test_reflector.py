"""A live copy stays right through changes, ended watches, forgotten versions, outages and objects that do not fit."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from fake_api import FakeApi, fake_api
from portway.client import Change, Client, Config, Reflector, Select
from portway.objects.core import ConfigMap
from portway.objects.kinds import CONFIG_MAP


class Watched:
    """A running reflector, everything that it told, and a way to wait for it."""

    def __init__(self, api: FakeApi, client: Client, select: Select) -> None:
        self.api, self.client = api, client
        self.waits: list[float] = []
        self.reflector = Reflector(client, ConfigMap, select, sleep=self._sleep, chance=random.Random(1))
        self.batches: list[list[tuple[str, str]]] = []
        self._told = asyncio.Event()
        self.reflector.subscribe(self._record)

    async def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        await asyncio.sleep(0)

    def _record(self, changes: Sequence[Change[ConfigMap]]) -> None:
        self.batches.append([(data(c.old), data(c.new)) for c in changes])
        self._told.set()

    async def until(self, **wanted: str) -> None:
        """Wait until the items are these: name → value."""

        async def wait() -> None:
            while {i.name: data(i) for i in self.reflector.items.values()} != wanted:
                self._told.clear()
                await self._told.wait()

        await asyncio.wait_for(wait(), 5)

    async def put(self, name: str, value: str, namespace: str = "shop") -> None:
        if (CONFIG_MAP.plural, namespace, name) in self.api.objects:
            await self.client.patch(ConfigMap, name, {"data": {"v": value}}, namespace)
        else:
            await self.client.create(ConfigMap, {"metadata": {"name": name}, "data": {"v": value}}, namespace)


def data(item: ConfigMap | None) -> str:
    return (item.data or {}).get("v", "") if item else ""


@asynccontextmanager
async def watched(select: Select = Select(), **there: str) -> AsyncIterator[Watched]:  # noqa: B008  # frozen
    async with fake_api() as (api, client):
        made = Watched(api, client, select)
        for name, value in there.items():
            await made.put(name, value)
        task = asyncio.create_task(made.reflector.run())
        try:
            await asyncio.wait_for(made.reflector.synced.wait(), 5)
            yield made
        finally:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


async def test_the_list_comes_as_one_batch_and_then_every_change() -> None:
    async with watched(a="1", b="1") as w:
        assert w.batches == [[("", "1"), ("", "1")]]
        await w.put("a", "2")
        await w.until(a="2", b="1")
        await w.client.delete(ConfigMap, "b", "shop")
        await w.until(a="2")
        assert w.batches[1:] == [[("1", "2")], [("1", "")]]
        assert w.reflector.generation == 3
        assert w.reflector.version == w.api.version


async def test_an_empty_cluster_is_synced_too() -> None:
    async with watched() as w:
        assert w.reflector.items == {}
        assert w.batches == []


async def test_who_subscribes_late_is_shown_what_is_there() -> None:
    async with watched(a="1") as w:
        late: list[int] = []
        w.reflector.subscribe(lambda changes: late.append(len(changes)))
        w.reflector.subscribe(lambda changes: late.append(-1), replay=False)
        assert late == [1]


async def test_a_watch_that_ends_goes_on_where_it_was() -> None:
    async with watched(a="1") as w:
        w.api.end_watches()
        await w.put("a", "2")
        await w.until(a="2")
        lists = [p for m, p in w.api.requests if m == "GET" and "limit=" in p]
        assert len(lists) == 1, "resumed, not listed again"
        assert w.batches == [[("", "1")], [("1", "2")]]


async def test_a_forgotten_version_means_listing_again_and_telling_the_difference() -> None:
    async with watched(gone="1", same="1", new="1") as w:
        w.api.delay.clear()
        await w.client.delete(ConfigMap, "gone", "shop")
        await w.put("new", "2")
        w.api.history.clear()
        w.api.forget()
        w.api.delay.set()
        await w.until(same="1", new="2")
        assert sorted(w.batches[-1]) == [("1", ""), ("1", "2")]


async def test_errors_back_off_with_jitter_until_the_server_answers() -> None:
    async with watched(a="1") as w:
        w.api.fail_next += [("GET", 503, "ServiceUnavailable")] * 4
        w.api.end_watches()
        await w.put("a", "2")
        await w.until(a="2")
        assert len(w.waits) == 4
        assert all(wait <= 0.01 * 2**n for n, wait in enumerate(w.waits))
        assert len(set(w.waits)) == 4


async def test_a_server_that_is_not_there_yet() -> None:
    tried = asyncio.Event()
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 20:
            tried.set()
            await asyncio.Event().wait()

    async with Client(Config("http://127.0.0.1:1")) as client:
        reflector = Reflector(client, ConfigMap, sleep=sleep, chance=random.Random(2))
        task = asyncio.create_task(reflector.run())
        await asyncio.wait_for(tried.wait(), 5)
        assert not reflector.synced.is_set()
        assert max(waits) <= 5.0
        task.cancel()


async def test_one_namespace_only() -> None:
    async with watched(Select("shop"), a="1") as w:
        await w.put("b", "9", namespace="other")
        await w.put("a", "2")
        await w.until(a="2")


async def test_an_object_that_does_not_fit_is_left_out_of_list_and_watch() -> None:
    async with fake_api() as (api, client):
        bad = {"metadata": {"name": "bad", "namespace": "shop"}, "data": "no map"}
        api.put(CONFIG_MAP, bad, "ADDED")
        w = Watched(api, client, Select())
        await w.put("good", "1")
        task = asyncio.create_task(w.reflector.run())
        await w.until(good="1")
        api.put(CONFIG_MAP, {**bad, "metadata": {"name": "worse", "namespace": "shop"}}, "ADDED")
        await w.put("good", "2")
        await w.until(good="2")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_many_changes_arrive_in_few_batches() -> None:
    async with watched(a="0") as w:
        w.api.delay.clear()
        for n in range(1, 200):
            await w.put("a", str(n))
        w.api.delay.set()
        await w.until(a="199")
        assert sum(map(len, w.batches)) == 200
        assert len(w.batches) < 100
