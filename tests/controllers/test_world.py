"""The shared parts: views that never fall behind our own writes, events that count, garbage verdicts, the supervisor."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from build_controllers import deployment
from fake_api import FakeApi, fake_api
from portway.client import ApiError, Client
from portway.controllers.events import Recorder
from portway.controllers.garbage import Verdict, judge
from portway.controllers.run import supervise
from portway.controllers.view import View
from portway.controllers.world import Settings, World, each, metadata_of
from portway.loop import Backoff, FakeClock
from portway.objects.core import ConfigMap
from portway.objects.kinds import CONFIG_MAP, KINDS, SECRET
from portway.objects.meta import OwnerReference


@asynccontextmanager
async def viewing() -> AsyncIterator[tuple[FakeApi, Client, View[ConfigMap], list[str]]]:
    async with fake_api() as (api, client):
        view = View(client, ConfigMap, {"team": lambda c: (c.labels.get("team", ""),)})
        told: list[str] = []
        view.subscribe(lambda changes: told.extend(f"{'-' if c.new is None else '+'}{c.ref}" for c in changes))
        task = asyncio.create_task(view.reflector.run())
        await asyncio.wait_for(view.reflector.synced.wait(), 5)
        try:
            yield api, client, view, told
        finally:
            api.delay.set()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def caught_up(api: FakeApi, view: View[ConfigMap]) -> None:
    """Wait until the watch has delivered a mark that is written now."""
    made = api.put(CONFIG_MAP, {"metadata": {"name": "mark", "namespace": "x", "uid": f"m{api.version}"}}, "ADDED")
    seen = asyncio.Event()
    view.reflector.subscribe(
        lambda _: seen.set() if view.reflector.version >= int(made["metadata"]["resourceVersion"]) else None
    )
    await asyncio.wait_for(seen.wait(), 5)


def body(name: str, team: str = "a") -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": {"team": team}}}


async def test_a_write_is_seen_before_the_watch_says_so_and_told_once() -> None:
    async with viewing() as (api, _, view, told):
        api.delay.clear()
        made = await view.create(body("one"), "shop")
        assert view.items["shop/one"] == made
        assert [c.name for c in view.by("team", "a")] == ["one"]
        api.delay.set()
        await caught_up(api, view)
        assert told.count("+shop/one") == 1


async def test_an_older_event_does_not_undo_a_newer_write() -> None:
    async with viewing() as (api, _, view, _told):
        api.delay.clear()
        made = await view.create(body("one"), "shop")
        newer = await view.patch(made, {"metadata": {"labels": {"team": "b"}}})
        view._read([])
        assert view.items["shop/one"] == newer
        api.delay.set()
        await caught_up(api, view)
        assert view.items["shop/one"].labels == {"team": "b"}
        assert view.by("team", "a") == ()


async def test_a_deletion_is_remembered_until_the_watch_shows_it() -> None:
    async with viewing() as (api, _, view, told):
        made = await view.create(body("one"), "shop")
        api.delay.clear()
        await view.delete(made)
        assert view.is_leaving(view.items["shop/one"])
        await view.delete(made)
        api.delay.set()
        await caught_up(api, view)
        assert "shop/one" not in view.items
        assert view.leaving == set()
        assert "-shop/one" in told


async def test_what_came_and_went_unseen_is_no_ghost() -> None:
    """Made by us, deleted by somebody, and both before the watch went on with a fresh list."""
    async with viewing() as (api, client, view, _told):
        api.delay.clear()
        await view.create(body("ghost"), "shop")
        assert "shop/ghost" in view.items
        await client.delete(ConfigMap, "ghost", "shop")
        api.history.clear()
        api.forget()
        api.delay.set()
        await caught_up(api, view)
        assert "shop/ghost" not in view.items


async def test_who_subscribes_late_is_shown_what_is_there_and_can_leave() -> None:
    async with viewing() as (_, _client, view, _told):
        await view.create(body("one"), "shop")
        late: list[str] = []

        def listen(changes: Any) -> None:
            late.extend(c.ref for c in changes)

        view.subscribe(listen)
        view.unsubscribe(listen)
        await view.create(body("two"), "shop")
        assert late == ["shop/one"]


async def test_events_are_counted_not_repeated() -> None:
    async with fake_api() as (api, client):
        recorder = Recorder(client, FakeClock(), pause=0)
        task = asyncio.create_task(recorder.run())
        for _ in range(3):
            recorder.event(deployment(), "Scaled", "up", component="test")
        recorder.event(deployment(), "Scaled", "down", component="test", warning=True)
        await asyncio.wait_for(recorder.flush(), 5)
        found = {e["message"]: e for e in api.named("events")}
        assert {m: (e["count"], e["type"]) for m, e in found.items()} == {"up": (3, "Normal"), "down": (1, "Warning")}
        assert found["up"]["involvedObject"] == {
            "kind": "Deployment",
            "apiVersion": "apps/v1",
            "namespace": "shop",
            "name": "web",
            "uid": "uid-web",
        }
        task.cancel()


async def test_events_leave_a_moment_to_the_writes_that_matter() -> None:
    async with fake_api() as (api, client):
        clock = FakeClock()
        recorder = Recorder(client, clock)
        task = asyncio.create_task(recorder.run())
        for message in ("one", "two"):
            recorder.event(deployment(), "Said", message, component="test")
        await clock.advance(0.04)
        assert api.requests == []
        await clock.advance(0.02)
        await asyncio.wait_for(recorder.flush(), 5)
        assert {e["message"] for e in api.named("events")} == {"one", "two"}
        task.cancel()


async def test_an_event_that_cannot_be_written_is_lost_and_one_that_expired_is_made_again() -> None:
    async with fake_api() as (api, client):
        recorder = Recorder(client, FakeClock(), pause=0)
        task = asyncio.create_task(recorder.run())
        api.fail_next.append(("POST", 403, "Forbidden"))
        recorder.event(deployment(), "Lost", "gone", component="test")
        recorder.event(deployment(), "Scaled", "up", component="test")
        await asyncio.wait_for(recorder.flush(), 5)
        assert [e["reason"] for e in api.named("events")] == ["Scaled"]
        api.objects.clear()
        recorder.event(deployment(), "Scaled", "up", component="test")
        await asyncio.wait_for(recorder.flush(), 5)
        assert [e["count"] for e in api.named("events")] == [1]
        task.cancel()


def owners(*uids: str) -> tuple[OwnerReference, ...]:
    return tuple(OwnerReference(uid=u) for u in uids)


@pytest.mark.parametrize(
    ("have", "gone", "waiting", "verdict"),
    [
        ("a", "", "", Verdict()),
        ("a", "a", "", Verdict(delete=True)),
        ("ab", "a", "", Verdict(drop=frozenset("a"))),
        ("ab", "ab", "", Verdict(delete=True)),
        ("a", "", "a", Verdict(delete=True, foreground=True)),
        ("ab", "b", "a", Verdict(delete=True, foreground=True)),
        ("ab", "", "a", Verdict(drop=frozenset("a"))),
    ],
)
def test_one_living_owner_keeps_a_dependent(have: str, gone: str, waiting: str, verdict: Verdict) -> None:
    assert judge(owners(*have), frozenset(gone), frozenset(waiting)) == verdict


async def test_a_refusal_concerns_one_key_and_a_bug_goes_up_after_the_others() -> None:
    done: list[str] = []

    async def work(key: str) -> None:
        if key == "refused":
            raise ApiError(422, "Invalid", "no")
        if key == "bug":
            raise KeyError(key)
        await asyncio.sleep(0)
        done.append(key)

    assert await each(("a", "refused", "b"), work) == {"refused"}
    with pytest.raises(KeyError):
        await each(("bug", "c"), work)
    assert done == ["a", "b", "c"]


async def test_a_controller_that_fails_is_started_again(caplog: pytest.LogCaptureFixture) -> None:
    clock, starts = FakeClock(), list[float]()

    async def work() -> None:
        starts.append(clock.monotonic())
        raise ValueError("broken")

    with caplog.at_level(logging.ERROR):
        task = asyncio.create_task(supervise("test", work, clock, Backoff(0.1, 30.0, random.Random(3))))
        await clock.advance(60)
    assert 3 <= len(starts) < 40
    assert "the controller test failed and is started again" in caplog.text
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_one_watch_a_kind() -> None:
    async with fake_api() as (_, client):
        kinds = [v.kind.KIND for v in World(client, FakeClock(), Settings()).views]
        assert len(kinds) == len(set(kinds))
        assert set(kinds) == {k.kind for k in KINDS} - {"Event"}


def test_metadata_structs_are_one_per_kind() -> None:
    assert metadata_of(SECRET) is metadata_of(SECRET)
    assert metadata_of(SECRET).KIND == "Secret"
