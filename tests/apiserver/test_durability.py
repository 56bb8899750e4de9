"""The store: what was acknowledged survives a kill, nothing else is seen, and a broken file is reported and left alone."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest

from build_apiserver import TOKEN, serving
from portway.apiserver.database import Database, StoreFailed, StoreUnreadable
from portway.apiserver.store import Change, Event, Store, TooOld
from portway.objects.kinds import CONFIG_MAP, KINDS, SECRET

MAPS = "/api/v1/namespaces/default/configmaps"

SERVER = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from build_apiserver import serving
async def main():
    async with serving(Path(sys.argv[1])) as api:
        print(api.url, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


def value(name: str, data: str = "") -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "default"}, "data": {"d": data}}


async def test_every_acknowledged_write_survives_kill_nine(tmp_path: Path) -> None:
    import aiohttp

    command = (sys.executable, "-c", SERVER, str(tmp_path), str(Path(__file__).parent.parent))
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, env={**os.environ})
    acknowledged: list[str] = []
    enough = asyncio.Event()
    try:
        assert process.stdout is not None
        url = (await asyncio.wait_for(process.stdout.readline(), 30)).decode().strip()
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session:

            async def write(worker: int) -> None:
                for i in range(1000):
                    name = f"m-{worker}-{i}"
                    try:
                        async with session.post(url + MAPS, json={"metadata": {"name": name}}) as response:
                            if response.status == 201:
                                acknowledged.append(name)
                            if len(acknowledged) >= 200:
                                enough.set()
                    except aiohttp.ClientError:
                        return

            writing = [asyncio.create_task(write(w)) for w in range(8)]
            await asyncio.wait_for(enough.wait(), 60)
            process.send_signal(signal.SIGKILL)
            await process.wait()
            await asyncio.gather(*writing)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    async with serving(tmp_path) as api:
        found = {i["metadata"]["name"] for i in (await api.get(MAPS)).body["items"]}
    assert len(acknowledged) >= 200 and set(acknowledged) <= found


async def test_revisions_go_on_after_a_restart(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.db", KINDS)
    first = store.put(CONFIG_MAP, value("a"))
    store.put(CONFIG_MAP, value("b"))
    gone = store.remove(CONFIG_MAP, "default", "b")
    await store.close()
    again = Store(tmp_path / "s.db", KINDS)
    assert again.revision == gone.revision
    found = again.get(CONFIG_MAP, "default", "a")
    assert found is not None and (found.data, found.revision) == (first.data, first.revision)
    assert again.get(CONFIG_MAP, "default", "b") is None
    assert again.put(CONFIG_MAP, value("c")).revision == gone.revision + 1
    await again.close()


async def test_lists_are_in_order_and_can_go_on_after_a_key(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.db", KINDS)
    for namespace, name in (("b", "x"), ("a", "z"), ("a", "y"), ("ab", "q")):
        store.put(CONFIG_MAP, {"metadata": {"name": name, "namespace": namespace}})
    store.put(SECRET, value("other"))
    assert [(s.namespace, s.name) for s in store.items(CONFIG_MAP)] == [("a", "y"), ("a", "z"), ("ab", "q"), ("b", "x")]
    assert [s.name for s in store.items(CONFIG_MAP, "a")] == ["y", "z"]
    assert [s.name for s in store.items(CONFIG_MAP, "a", after=("a", "y"))] == ["z"]
    assert store.count(CONFIG_MAP) == 4
    await store.close()


async def test_listeners_hear_of_a_change_only_when_it_is_on_disk(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.db", KINDS)
    heard: list[Event] = []
    store.subscribe(heard.extend)
    store.put(CONFIG_MAP, value("a", "1"))
    store.put(CONFIG_MAP, value("a", "2"))
    assert store.get(CONFIG_MAP, "default", "a") is not None and heard == []
    await store.durable()
    await asyncio.sleep(0)
    assert [e.type for e in heard] == [Change.ADDED, Change.MODIFIED]
    with sqlite3.connect(tmp_path / "s.db") as reader:
        assert json.loads(reader.execute("SELECT data FROM objects").fetchone()[0])["data"] == {"d": "2"}
    await store.close()


async def test_a_write_that_the_disk_refuses_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "s.db", KINDS)
    store.put(CONFIG_MAP, value("kept"))
    await store.durable()
    revision = store.revision

    def full(_: Database) -> None:
        _.rollback()
        raise StoreFailed("the disk is full")

    heard: list[Event] = []
    store.subscribe(heard.extend)
    with monkeypatch.context() as patch:
        patch.setattr(Database, "commit", full)
        store.put(CONFIG_MAP, value("lost"))
        with pytest.raises(StoreFailed, match="disk is full"):
            await store.durable()
    assert store.get(CONFIG_MAP, "default", "lost") is None and store.revision == revision and heard == []
    store.put(CONFIG_MAP, value("later"))
    await store.durable()
    assert [s.name for s in store.items(CONFIG_MAP)] == ["kept", "later"]
    await store.close()


async def test_history_is_bounded_and_says_so(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.db", KINDS, history=5)
    for i in range(20):
        store.put(CONFIG_MAP, value("a", str(i)))
        await store.durable()
    assert [e.revision for e in store.since(store.revision - 3)] == [
        store.revision - 2,
        store.revision - 1,
        store.revision,
    ]
    with pytest.raises(TooOld, match="too old resource version"):
        list(store.since(2))
    await store.close()
    with sqlite3.connect(tmp_path / "s.db") as reader:
        assert reader.execute("SELECT count(*) FROM events").fetchone()[0] <= 6


async def test_the_past_can_be_listed_while_it_is_remembered(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.db", KINDS)
    store.put(CONFIG_MAP, value("a", "1"))
    store.put(CONFIG_MAP, value("b", "1"))
    then = store.revision
    store.put(CONFIG_MAP, value("a", "2"))
    store.remove(CONFIG_MAP, "default", "b")
    store.put(CONFIG_MAP, value("c", "1"))
    past = {key[1]: stored.value["data"]["d"] for key, stored in store.as_of(CONFIG_MAP, then).items()}
    assert past == {"a": "1", "b": "1"}
    await store.close()


async def test_what_was_read_does_not_change(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.db", KINDS)
    store.put(CONFIG_MAP, value("a", "1"))
    before = store.get(CONFIG_MAP, "default", "a")
    assert before is not None
    copied = before.copy()
    copied["data"]["d"] = "2"
    store.put(CONFIG_MAP, copied)
    await store.durable()
    assert before.value["data"] == {"d": "1"} and b'"1"' in before.data
    await store.close()


def test_a_file_that_is_no_store_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    path.write_bytes(b"these are somebody's notes, not a database\n" * 50)
    with pytest.raises(StoreUnreadable, match="move the file away"):
        Database(path)
    assert path.read_bytes().startswith(b"these are somebody's notes")


def test_a_file_of_another_format_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    Database(path).close()
    with sqlite3.connect(path) as writer:
        writer.execute("UPDATE meta SET value = '99' WHERE key = 'format'")
    with pytest.raises(StoreUnreadable, match="store format 99"):
        Database(path)
