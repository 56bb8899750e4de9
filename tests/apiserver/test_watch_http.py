"""Watches over HTTP: where they start, what selections do to events, bookmarks, time-outs, clients that do not read."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from build_apiserver import Served, serving
from portway.apiserver.render import Form
from portway.apiserver.selectors import EVERYTHING
from portway.apiserver.watch import Hub, Watcher, WatchOptions
from portway.objects.kinds import CONFIG_MAP

MAPS = "/api/v1/namespaces/default/configmaps"
STREAM = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as served:
        yield served


def config_map(name: str, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels}}


async def revision(api: Served) -> str:
    found: str = (await api.get(MAPS)).body["metadata"]["resourceVersion"]
    return found


async def test_a_watch_without_a_revision_begins_with_what_is_there(api: Served) -> None:
    await api.create(MAPS, config_map("a"))
    async with api.watch(f"{MAPS}?watch=true") as watching:
        assert await watching.names(1) == [("ADDED", "a")]
        await api.create(MAPS, config_map("b"))
        await api.patch(f"{MAPS}/a", {"data": {"x": "y"}})
        await api.call("DELETE", f"{MAPS}/b")
        assert await watching.names(3) == [("ADDED", "b"), ("MODIFIED", "a"), ("DELETED", "b")]


async def test_a_watch_from_a_revision_shows_what_came_after(api: Served) -> None:
    await api.create(MAPS, config_map("a"))
    start = await revision(api)
    await api.create(MAPS, config_map("b"))
    async with api.watch(f"{MAPS}?watch=true&resourceVersion={start}") as watching:
        await api.create(MAPS, config_map("c"))
        assert await watching.names(2) == [("ADDED", "b"), ("ADDED", "c")]


async def test_a_deleted_object_carries_the_revision_of_its_deletion(api: Served) -> None:
    made = await api.create(MAPS, config_map("a"))
    start = await revision(api)
    await api.call("DELETE", f"{MAPS}/a")
    async with api.watch(f"{MAPS}?watch=true&resourceVersion={start}") as watching:
        event = await watching.next()
    assert event["type"] == "DELETED"
    assert int(event["object"]["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])


async def test_a_streaming_list_ends_its_first_part_with_a_bookmark(api: Served) -> None:
    await api.create(MAPS, config_map("a"))
    async with api.watch(f"{MAPS}?{STREAM}") as watching:
        assert (await watching.next())["type"] == "ADDED"
        mark = await watching.next()
        assert mark["type"] == "BOOKMARK" and mark["object"]["kind"] == "ConfigMap"
        assert mark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        assert mark["object"]["metadata"]["resourceVersion"] == await revision(api)


async def test_a_revision_that_is_forgotten_is_an_error_event(tmp_path: Path) -> None:
    async with serving(tmp_path, history=3) as api:
        for i in range(10):
            await api.create(MAPS, config_map(f"m{i}"))
        async with api.watch(f"{MAPS}?watch=true&resourceVersion=2") as watching:
            event = await watching.next()
            assert watching.response.status == 200
        assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")


async def test_a_watch_goes_on_over_a_restart(tmp_path: Path) -> None:
    async with serving(tmp_path) as api:
        start = await revision(api)
        await api.create(MAPS, config_map("a", x="1"))
        await api.patch(f"{MAPS}/a", {"metadata": {"labels": {"x": "2"}}})
    async with serving(tmp_path) as api, api.watch(f"{MAPS}?watch=true&resourceVersion={start}") as watching:
        assert await watching.names(2) == [("ADDED", "a"), ("MODIFIED", "a")]


async def test_an_object_enters_and_leaves_a_label_selection(api: Served) -> None:
    async with api.watch(f"{MAPS}?watch=true&labelSelector=tier%3Dweb") as watching:
        await api.create(MAPS, config_map("other", tier="db"))
        await api.create(MAPS, config_map("a"))
        await api.patch(f"{MAPS}/a", {"metadata": {"labels": {"tier": "web"}}})
        await api.patch(f"{MAPS}/a", {"data": {"k": "v"}})
        last = await api.patch(f"{MAPS}/a", {"metadata": {"labels": {"tier": "db"}}})
        assert await watching.names(2) == [("ADDED", "a"), ("MODIFIED", "a")]
        left = await watching.next()
    assert left["type"] == "DELETED"
    assert left["object"]["metadata"]["labels"] == {"tier": "web"}, "as the selection last saw it"
    assert left["object"]["metadata"]["resourceVersion"] == last.body["metadata"]["resourceVersion"]


async def test_a_watch_of_one_name(api: Served) -> None:
    async with api.watch(f"{MAPS}?watch=true&fieldSelector=metadata.name%3Db&resourceVersion=0") as watching:
        await api.create(MAPS, config_map("a"))
        await api.create(MAPS, config_map("b"))
        assert await watching.names(1) == [("ADDED", "b")]


async def test_a_watch_of_one_namespace_sees_no_other(api: Served) -> None:
    await api.create("/api/v1/namespaces", {"metadata": {"name": "other"}})
    async with api.watch(f"{MAPS}?watch=true") as here, api.watch("/api/v1/configmaps?watch=true") as everywhere:
        await api.create("/api/v1/namespaces/other/configmaps", config_map("x"))
        await api.create(MAPS, config_map("y"))
        assert await here.names(1) == [("ADDED", "y")]
        assert await everywhere.names(2) == [("ADDED", "x"), ("ADDED", "y")]


async def test_table_events_have_one_row(api: Served) -> None:
    async with api.watch(f"{MAPS}?watch=true", headers=TABLE) as watching:
        await api.create(MAPS, {**config_map("a"), "data": {"k": "v"}})
        event = await watching.next()
    table = event["object"]
    assert (event["type"], table["kind"]) == ("ADDED", "Table")
    assert [row["cells"] for row in table["rows"]] == [["a", 1, "0s"]]
    assert table["rows"][0]["object"]["metadata"]["name"] == "a"


async def test_a_watch_ends_after_its_time(api: Served) -> None:
    async with api.watch(f"{MAPS}?watch=true&timeoutSeconds=1") as watching:
        with pytest.raises(EOFError):
            await watching.next(timeout=10)


@pytest.mark.parametrize(
    "query",
    [
        "sendInitialEvents=true",
        "resourceVersionMatch=NotOlderThan",
        "resourceVersion=x",
        "timeoutSeconds=soon",
        "fieldSelector=data%3Dx",
    ],
)
async def test_a_watch_that_is_refused(api: Served, query: str) -> None:
    assert (await api.get(f"{MAPS}?watch=true&{query}")).code == 400


async def test_one_change_reaches_a_hundred_watchers(api: Served) -> None:
    async with AsyncExitStack() as stack:
        watches = [await stack.enter_async_context(api.watch(f"{MAPS}?watch=true")) for _ in range(100)]
        await api.create(MAPS, config_map("a"))
        seen = await asyncio.gather(*(w.names(1) for w in watches))
        assert seen == [[("ADDED", "a")]] * 100
        assert api.server.hub.count == 100
    async with asyncio.timeout(5):
        while api.server.hub.count:
            await api.get("/readyz")


async def test_no_event_is_lost_or_doubled_while_watches_begin(api: Served) -> None:
    """Every watch, whenever it begins, shows each object exactly once."""

    async def follow(start: int) -> list[tuple[str, str]]:
        async with api.watch(f"{MAPS}?watch=true") as watching:
            return await watching.names(60)

    async def write() -> None:
        for i in range(60):
            await api.create(MAPS, config_map(f"m{i:02}"))

    writing = asyncio.create_task(write())
    seen = await asyncio.gather(*(follow(i) for i in range(10)))
    await writing
    expected = {("ADDED", f"m{i:02}") for i in range(60)}
    assert all(set(s) == expected for s in seen)


class Follower:
    """Lists, then keeps its own copy by watching, with a new connection every few events, until it sees the last object."""

    def __init__(self, api: Served, selector: str, seed: int) -> None:
        self.api = api
        self.query = f"labelSelector=t%3D{selector}" if selector else ""
        self.state: dict[str, Any] = {}
        self.chance = random.Random(seed)

    async def listed(self) -> tuple[dict[str, Any], str]:
        body = (await self.api.get(f"{MAPS}?{self.query}")).body
        return {i["metadata"]["name"]: i for i in body["items"]}, body["metadata"]["resourceVersion"]

    async def run(self) -> None:
        self.state, revision = await self.listed()
        while "last" not in self.state:
            async with self.api.watch(f"{MAPS}?watch=true&resourceVersion={revision}&{self.query}") as watching:
                for _ in range(self.chance.randrange(3, 20)):
                    event = await watching.next()
                    revision = event["object"]["metadata"]["resourceVersion"]
                    self.apply(event)
                    if "last" in self.state:
                        return

    def apply(self, event: dict[str, Any]) -> None:
        """ADDED is only for what was not there, MODIFIED and DELETED only for what was."""
        name = event["object"]["metadata"]["name"]
        assert (name in self.state) is (event["type"] != "ADDED"), event
        if event["type"] == "DELETED":
            del self.state[name]
        else:
            self.state[name] = event["object"]


async def change_at_random(api: Served, seed: int) -> None:
    chance = random.Random(seed)
    for i in range(60):
        name, labels = f"m{chance.randrange(20)}", {"t": chance.choice("ab")}
        match chance.randrange(3):
            case 0:
                await api.call("POST", MAPS, config_map(name, **labels))
            case 1:
                await api.patch(f"{MAPS}/{name}", {"metadata": {"labels": labels}, "data": {"i": str(i)}})
            case _:
                await api.call("DELETE", f"{MAPS}/{name}")


async def test_what_a_follower_has_is_what_a_list_shows(api: Served) -> None:
    followers = [Follower(api, selector, seed) for seed, selector in enumerate(("", "a", "b", "a"))]
    following = [asyncio.create_task(f.run()) for f in followers]
    await asyncio.gather(*(change_at_random(api, seed) for seed in range(8)))
    await api.create(MAPS, config_map("last", t="b"))
    await api.patch(f"{MAPS}/last", {"metadata": {"labels": {"t": "a"}}})
    await asyncio.gather(*following)
    for follower in followers[1:2] + followers[3:]:
        assert follower.state == (await follower.listed())[0]


async def test_a_watcher_that_does_not_read_is_cut_off() -> None:
    cut: list[bool] = []
    watcher = Watcher(CONFIG_MAP, "", EVERYTHING, Form(), limit=100)
    watcher.on_cut = lambda: cut.append(True)
    for _ in range(20):
        watcher.push(b"x" * 10)
    assert watcher.cut and cut == [True]
    until = asyncio.get_running_loop().time() + 60
    assert [c async for c in watcher.chunks(until=until, every=60, bookmark=None)] == []


async def test_a_client_that_does_not_read_loses_its_connection_and_nobody_else(api: Served) -> None:
    api.server.hub._limit = 1_000_000
    async with api.watch(f"{MAPS}?watch=true") as reading, api.watch(f"{MAPS}?watch=true"):
        for i in range(60):
            await api.create(MAPS, {**config_map(f"m{i}"), "data": {"x": "y" * 200_000}})
            assert (await reading.next())["object"]["metadata"]["name"] == f"m{i}"
        assert api.server.hub.count == 1


async def test_a_long_beginning_is_not_held_against_the_client(api: Served) -> None:
    api.server.hub._limit = 1000
    for i in range(20):
        await api.create(MAPS, {**config_map(f"m{i:02}"), "data": {"x": "y" * 500}})
    async with api.watch(f"{MAPS}?watch=true") as watching:
        assert await watching.names(20) == [("ADDED", f"m{i:02}") for i in range(20)]


async def test_a_quiet_watch_is_told_the_revision(api: Served) -> None:
    hub: Hub = api.server.hub
    watcher = await hub.open(CONFIG_MAP, "", EVERYTHING, Form(), WatchOptions(bookmarks=True))
    until = asyncio.get_running_loop().time() + 60
    chunks = watcher.chunks(until=until, every=0.01, bookmark=lambda: hub.bookmark(watcher))
    first = await anext(chunks)
    assert b'"BOOKMARK"' in first and f'"{api.server.store.revision}"'.encode() in first
    hub.close(watcher)


async def test_lines_that_wait_are_sent_together() -> None:
    watcher = Watcher(CONFIG_MAP, "", EVERYTHING, Form(), limit=1000)
    watcher.push(b"a\n")
    watcher.push(b"b\n")
    until = asyncio.get_running_loop().time() + 60
    assert await anext(watcher.chunks(until=until, every=60, bookmark=None)) == b"a\nb\n"
