"""A drain against the API server itself: the node is closed, its pods go, their replacements are waited for, with a bound."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from build_apiserver import TOKEN, Served, serving
from build_lab import until
from portway.client import Client, Config
from portway.lab import drain
from portway.loop.clock import FakeClock

PODS = "/api/v1/namespaces/default/pods"
SETS = "/apis/apps/v1/namespaces/default/replicasets"
SPEC = {"containers": [{"name": "c", "image": "web"}]}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as api:
        for name in ("node-1", "node-2"):
            await api.create("/api/v1/nodes", {"metadata": {"name": name}})
        yield api


@pytest.fixture
async def client(api: Served) -> AsyncIterator[Client]:
    async with Client(Config(server=api.url, token=TOKEN)) as client:
        yield client


async def pod(api: Served, name: str, node: str, owner: dict[str, Any] | None = None) -> None:
    metadata: dict[str, Any] = {"name": name}
    if owner is not None:
        reference = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner["metadata"]["name"]}
        metadata["ownerReferences"] = [reference | {"uid": owner["metadata"]["uid"], "controller": True}]
    await api.create(PODS, {"metadata": metadata, "spec": SPEC | {"nodeName": node}})


async def replica_set(api: Served, ready: int) -> dict[str, Any]:
    labels = {"app": "web"}
    template = {"metadata": {"labels": labels}, "spec": SPEC}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    made = await api.create(SETS, {"metadata": {"name": "web"}, "spec": spec})
    await is_ready(api, ready)
    return dict(made)


async def is_ready(api: Served, count: int) -> None:
    status = {"status": {"replicas": 1, "readyReplicas": count, "availableReplicas": count}}
    assert (await api.patch(f"{SETS}/web/status", status)).code == 200


async def names(api: Served) -> dict[str, bool]:
    """The pods, and whether each is on its way out."""
    items = (await api.get(PODS)).body["items"]
    return {p["metadata"]["name"]: "deletionTimestamp" in p["metadata"] for p in items}


async def gone(api: Served, name: str) -> None:
    """What a node's agent does when the pod's processes have ended."""
    body = {"gracePeriodSeconds": 0}
    assert (await api.call("DELETE", f"{PODS}/{name}", body)).code == 200


async def test_an_empty_node_is_closed_and_that_is_all(api: Served, client: Client) -> None:
    await pod(api, "elsewhere", "node-2")
    assert await drain.drain(client, "node-1", FakeClock(), 5) == []
    assert (await api.get("/api/v1/nodes/node-1")).body["spec"]["unschedulable"] is True
    assert "unschedulable" not in (await api.get("/api/v1/nodes/node-2")).body.get("spec", {})
    assert await names(api) == {"elsewhere": False}


async def test_it_waits_until_the_pods_are_gone_and_replaced(api: Served, client: Client) -> None:
    owner = await replica_set(api, ready=0)
    await pod(api, "web-1", "node-1", owner)
    clock = FakeClock()
    draining = asyncio.create_task(drain.drain(client, "node-1", clock, 60))
    await until(lambda: clock.sleepers > 0)
    assert await names(api) == {"web-1": True}
    await gone(api, "web-1")
    for _ in range(3):
        await look_again(clock)
    assert not draining.done(), "nobody stands in for it yet"
    await is_ready(api, 1)
    await look_again(clock)
    await asyncio.wait_for(asyncio.shield(draining), 10)
    assert draining.result() == []


async def look_again(clock: FakeClock) -> None:
    """Once the drain waits, its time comes."""
    await until(lambda: clock.sleepers > 0)
    await clock.advance(drain._LOOK_AGAIN_SECONDS)


async def test_what_does_not_move_in_time_is_named(api: Served, client: Client) -> None:
    owner = await replica_set(api, ready=0)
    await pod(api, "web-1", "node-1", owner)
    assert await drain.drain(client, "node-1", FakeClock(), -1) == ["default/web", "default/web-1"]


async def test_a_node_that_the_api_does_not_know_has_no_pods(api: Served, client: Client) -> None:
    assert await drain.drain(client, "node-9", FakeClock(), 5) == []


async def test_forgetting_takes_the_node_and_what_is_bound_to_it_at_once(api: Served, client: Client) -> None:
    await pod(api, "here", "node-1")
    await pod(api, "elsewhere", "node-2")
    await drain.forget(client, "node-1")
    assert await names(api) == {"elsewhere": False}
    assert (await api.get("/api/v1/nodes/node-1")).code == 404
    await drain.forget(client, "node-1")
