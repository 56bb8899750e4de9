"""Builders for the tests of the node agent: an API server on a socket, a node in a network namespace, pods as short manifests.

`node_road` is the whole of it: agent, API, namespace, and helpers that wait for what the API shows.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from portway.apiserver.auth import User
from portway.apiserver.server import ApiServer
from portway.apiserver.store import Store
from portway.client import ApiError, Client, Config
from portway.loop import Clock, SystemClock
from portway.netlink.namespace import new_namespace
from portway.netns.kernel import Namespace
from portway.netns.plan import Address, Kind, Link, Plan
from portway.node.agent import NodeAgent
from portway.node.context import AgentConfig
from portway.node.lifecycle import RestartDelay
from portway.node.runtime import PodHost, RuntimeRefused
from portway.objects.core import Container, Event, Node, Pod, PodSpec
from portway.objects.kinds import KINDS
from portway.objects.meta import ObjectMeta

TOKEN = "a-token-of-the-node-tests"
NODE_ADDRESS = "10.100.0.2"
POD_CIDR = "10.0.1.0/24"
SHELL = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}


async def _no_pods() -> str:
    host = PodHost()
    try:
        new = new_namespace()
        try:
            await host.start()
            sandbox = host.pod("probe", new)
            await sandbox.ready()
        finally:
            os.close(new)
    except (RuntimeRefused, OSError) as e:
        return str(e)
    finally:
        await host.close()
    return ""


WHY_NO_PODS = asyncio.run(_no_pods())
needs_pods = pytest.mark.skipif(bool(WHY_NO_PODS), reason=f"pods cannot be made here: {WHY_NO_PODS}")


def pod(name: str = "web", *containers: Container, uid: str = "uid-1", **spec: Any) -> Pod:
    """A Pod as a struct, bound to node-1."""
    made = containers or (Container(name="main", image="busy", command=("/bin/sleep", "1000")),)
    meta = ObjectMeta(name=name, namespace="default", uid=uid)
    return Pod(metadata=meta, spec=PodSpec(containers=tuple(made), node_name="node-1", **spec))


def manifest(name: str, *containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """A Pod as one would send it, already bound."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"nodeName": "node-1", "terminationGracePeriodSeconds": 5, "containers": list(containers), **spec},
    }


def shell(script: str, name: str = "main", **more: Any) -> dict[str, Any]:
    """A container that runs a line of shell."""
    return {"name": name, "image": "shell", "command": ["/bin/sh", "-c", script], **more}


@dataclass
class NodeRoad:
    """A node agent at work."""

    agent: NodeAgent
    client: Client
    namespace: Namespace
    state: Path
    task: asyncio.Task[None]
    server: ApiServer
    finished: list[str] = field(default_factory=list)

    async def apply(self, body: dict[str, Any]) -> Pod:
        return await self.client.create(Pod, body, "default")

    async def get(self, name: str) -> Pod | None:
        try:
            return await self.client.get(Pod, name, "default")
        except ApiError as e:
            if e.not_found:
                return None
            raise

    async def until(self, name: str, condition: Callable[[Pod], bool], seconds: float = 15.0) -> Pod:
        """The pod, once the API shows that `condition` holds; says what it shows instead when that does not come."""
        shown: Pod | None = None
        try:
            async with asyncio.timeout(seconds):
                while True:
                    shown = await self.get(name)
                    if shown is not None and condition(shown):
                        return shown
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise AssertionError(f"pod {name} never came so far; the API shows {shown and shown.status}") from None

    async def until_gone(self, name: str, seconds: float = 15.0) -> None:
        async with asyncio.timeout(seconds):
            while await self.get(name) is not None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def events(self, reason: str, seconds: float = 5.0) -> list[Event]:
        """The events of a reason, once there are any."""
        async with asyncio.timeout(seconds):
            while True:
                found = [e for e in (await self.client.list(Event)).items if e.reason == reason]
                if found:
                    return found
                await asyncio.sleep(0.01)


def is_ready(shown: Pod) -> bool:
    return any(c.type == "Ready" and c.status == "True" for c in shown.status.conditions or ())


def not_ready(shown: Pod) -> bool:
    return any(c.type == "Ready" and c.status == "False" for c in shown.status.conditions or ())


@asynccontextmanager
async def api_server(folder: Path) -> AsyncIterator[tuple[ApiServer, Client]]:
    store = Store(folder / "store.db", KINDS)
    server = ApiServer(store, users={TOKEN: User("admin", ("system:masters",))})
    await server.bootstrap()
    runner = server.runner()
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    client = Client(Config(f"http://127.0.0.1:{port}", token=TOKEN))
    try:
        yield server, client
    finally:
        await client.close()
        await runner.cleanup()


def node_namespace() -> Namespace:
    """A node without neighbours: its address on a dummy-like veth, so that pods and routes have something to hold on to."""
    namespace = Namespace.new("node-1")
    namespace.apply(
        Plan(
            links=(Link("lo"), Link("eth0", Kind.BRIDGE)),
            addresses=(Address("eth0", f"{NODE_ADDRESS}/24"),),
        )
    )
    return namespace


@asynccontextmanager
async def node_road(clock: Clock | None = None, **settings: Any) -> AsyncIterator[NodeRoad]:
    """An agent that is Ready. Ends it, and fails when it left a process or a link behind."""
    folder = Path(tempfile.mkdtemp(prefix="node-test-"))
    namespace = node_namespace()
    try:
        async with api_server(folder) as (server, client):
            config = AgentConfig(state=folder / "node-1", **{"restart": RestartDelay(0.2, 1.0), **settings})
            agent = NodeAgent(
                "node-1",
                client=client,
                namespace=namespace,
                address=NODE_ADDRESS,
                config=config,
                clock=clock or SystemClock(),
            )
            task = asyncio.create_task(agent.run())
            await give_cidr(client, task)
            await asyncio.wait_for(agent.ready.wait(), 10)
            try:
                yield NodeRoad(agent, client, namespace, config.state, task, server)
            finally:
                await agent.crash()
    finally:
        namespace.close()
        shutil.rmtree(folder)


async def give_cidr(client: Client, agent: asyncio.Task[None], name: str = "node-1", cidr: str = POD_CIDR) -> None:
    """What the node controller does."""
    async with asyncio.timeout(10):
        while not agent.done():
            try:
                await client.patch(Node, name, {"spec": {"podCIDR": cidr, "podCIDRs": [cidr]}})
                return
            except ApiError as e:
                if not e.not_found:
                    raise
            await asyncio.sleep(0.01)
    await agent
