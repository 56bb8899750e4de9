"""What the provider tells the API server of an instance that does not run."""

from __future__ import annotations

from typing import Any

from fake_api import FakeApi, fake_api
from portway.client import Client
from portway.lab.cloud import instance_stopped
from portway.loop import FakeClock
from portway.objects.core import Node


async def ready_node(client: Client) -> None:
    condition = {"type": "Ready", "status": "True", "reason": "R", "message": "m"}
    await client.create(Node, {"metadata": {"name": "node-1"}})
    await client.patch_status(Node, "node-1", {"status": {"conditions": [condition]}})


def ready(api: FakeApi) -> str:
    conditions: list[dict[str, Any]] = api.objects[("nodes", "", "node-1")]["status"]["conditions"]
    return str(conditions[0]["status"])


async def test_nobody_knows_how_the_node_is() -> None:
    async with fake_api() as (api, client):
        await ready_node(client)
        await instance_stopped(client, "node-1", FakeClock())
        assert ready(api) == "Unknown"
        written = len(api.history)
        await instance_stopped(client, "node-1", FakeClock())
        assert len(api.history) == written, "once is enough"


async def test_a_node_that_is_gone_and_a_server_that_is_busy_are_no_errors() -> None:
    async with fake_api() as (api, client):
        await instance_stopped(client, "node-9", FakeClock())
        await ready_node(client)
        api.fail_next = [("PATCH", 409, "Conflict")]
        await instance_stopped(client, "node-1", FakeClock())
        assert ready(api) == "True", "its Lease will run out"
