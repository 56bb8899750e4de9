"""A running cluster without a kernel: hosts, API server and agents are stand-ins that write down what was done to them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from portway.client import Reflector
from portway.lab import cloud, drain, parts, readiness, running, state, topology
from portway.lab.running import Running
from portway.lab.topology import CLIENT, EDGE, Host
from portway.loop.clock import FakeClock
from portway.netns.kernel import NetworkError
from portway.netns.plan import Owner, Plan, Route


class FakeNamespace:
    """A host's namespace as `Running` uses it: it keeps the user's routes."""

    fd = 7

    def __init__(self) -> None:
        self.table: dict[Route, int] = {}

    def run(self, work: Callable[[], Any]) -> Any:
        return work()

    def add(self, plan: Plan) -> None:
        self.table |= dict.fromkeys(plan.routes, int(plan.owner))

    def route_add(self, route: Route, *, owner: int) -> None:
        self.table[route] = int(owner)

    def route_delete(self, route: Route, *, owner: int) -> None:
        del self.table[route]

    def routes(self) -> dict[Route, int]:
        return dict(self.table)


class FakeHosts:
    """`done` is the story; `refuse` is what the next switching on gets."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.refuse: NetworkError | None = None
        self.on: dict[str, FakeNamespace] = {}

    def build(self, nodes: Iterable[Host]) -> None:
        self.on |= {name: FakeNamespace() for name in (CLIENT, EDGE, *(n.name for n in nodes))}

    def __getitem__(self, name: str) -> FakeNamespace:
        return self.on[name]

    def get(self, name: str) -> FakeNamespace | None:
        return self.on.get(name)

    def switch_on(self, node: Host) -> FakeNamespace:
        self.done.append(f"on {node.name}")
        if self.refuse is not None:
            raise self.refuse
        return self.on.setdefault(node.name, FakeNamespace())

    def unplug(self, name: str) -> None:
        self.done.append(f"unplug {name}")

    def switch_off(self, name: str) -> None:
        self.done.append(f"off {name}")
        self.on.pop(name, None)

    def close(self) -> None:
        self.on.clear()


class FakeEdge:
    """The edge host's table: nobody has a connection through any node, and a node that is off is silent at once."""

    def __init__(self, *_: object) -> None:
        self.asked: list[str] = []

    def report(self) -> list[dict[str, Any]]:
        return []

    async def released(self, node: str, _: float) -> bool:
        self.asked.append(node)
        return True

    async def until_silent(self, node: str, _: float) -> bool:
        self.asked.append(node)
        return True


class FakeApi:
    failure = ""

    async def close(self) -> None:
        return None


@dataclass
class Stage:
    """What the stand-ins do, for a test to change, and what they saw."""

    missing: tuple[str, ...] = ()
    problems: list[str] = field(default_factory=list)
    silent: set[str] = field(default_factory=set)
    left: list[str] = field(default_factory=list)
    zones: dict[str, str] = field(default_factory=dict)
    drained: list[tuple[str, float]] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def node_handle(self, *words: Any, zone: str = "") -> FakeNode:
        self.zones[words[2].name] = zone
        return FakeNode(words[2].name, self)


class FakeNode:
    """A node's agent that is ready as soon as it runs, unless the stage says that this one stays silent."""

    def __init__(self, name: str, stage: Stage) -> None:
        self.name = name
        self.stage = stage
        self.ready = asyncio.Event()

    async def run(self, _: object) -> None:
        if self.name not in self.stage.silent:
            self.ready.set()
        await asyncio.Event().wait()


async def _for_ever(*_: object, **__: object) -> None:
    await asyncio.Event().wait()


def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Put the stand-ins where `Running` looks for the real ones."""
    made = Stage()

    async def start_api(_: object, listeners: Sequence[socket.socket], __: object) -> FakeApi:
        for listener in listeners:
            listener.close()
        return FakeApi()

    async def answers(*_: object) -> str:
        return made.problems.pop(0) if made.problems else ""

    async def no_problem(_: object) -> str:
        return ""

    async def move(_: object, node: str, __: object, seconds: float) -> list[str]:
        made.drained.append((node, seconds))
        return made.left

    async def forget(_: object, node: str) -> None:
        made.forgotten.append(node)

    monkeypatch.setattr(parts, "start_api", start_api)
    monkeypatch.setattr(parts, "missing_in_netfilter", lambda _: made.missing)
    monkeypatch.setattr(parts, "run_controllers", _for_ever)
    for agent in ("run_proxy", "run_dns", "run_dns_endpoints", "run_edge", "run_balancer"):
        monkeypatch.setattr(parts, agent, _for_ever)
    monkeypatch.setattr(parts, "names_problem", no_problem)
    monkeypatch.setattr(running, "Edge", FakeEdge)
    monkeypatch.setattr(parts, "NodeHandle", made.node_handle)
    monkeypatch.setattr(Reflector, "run", _for_ever)
    monkeypatch.setattr(cloud, "run", _for_ever)
    monkeypatch.setattr(readiness, "kubernetes_answers", answers)
    monkeypatch.setattr(drain, "drain", move)
    monkeypatch.setattr(drain, "forget", forget)
    monkeypatch.setattr(running, "Hosts", FakeHosts)
    monkeypatch.setattr(topology, "EDGE_ADDRESS", "127.0.0.1")
    monkeypatch.setattr(topology, "EDGE_API_PORT", 0)
    return made


def cluster(home: Path, made: Stage) -> tuple[Running, FakeClock]:
    """A `Running` in a folder of its own, not started."""
    place = state.folder(home, "portway")
    state.prepare(place)
    clock = FakeClock()
    return Running(place, clock, made.said.append), clock


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until something outside of it (a socket, a file, a thread) has come about."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0)


USER = int(Owner.USER_ROUTES)
__all__ = ["USER", "FakeHosts", "FakeNamespace", "Stage", "cluster", "stage", "until"]
