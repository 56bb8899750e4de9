"""The pure decisions of the lab: the edge's routes, what a drain waits for, which node a stream goes to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import cast

import pytest

from fake_api import fake_api
from portway.apiserver.streams import ExecRequest, ExecSession, LogRequest, PodContainer, StreamRefused
from portway.client import Reflector
from portway.lab import cloud, drain
from portway.lab.streams import NodeStreams
from portway.loop.clock import SystemClock
from portway.loop.generation import Generation
from portway.netns.kernel import Namespace
from portway.netns.plan import Owner, Plan, Route
from portway.objects.apps import ReplicaSet, ReplicaSetSpec, ReplicaSetStatus
from portway.objects.core import Node, NodeAddress, NodeSpec, NodeStatus, Pod
from portway.objects.meta import Condition, ObjectMeta, OwnerReference


def node(name: str, address: str = "", cidr: str = "", *, ready: str = "") -> Node:
    internal = (NodeAddress(type="InternalIP", address=address),) if address else ()
    addresses = (NodeAddress(type="Hostname", address=name), *internal)
    conditions = (Condition(type="Ready", status=ready),) if ready else None
    return Node(
        metadata=ObjectMeta(name=name),
        spec=NodeSpec(pod_cidr=cidr),
        status=NodeStatus(addresses=addresses, conditions=conditions),
    )


def test_the_edge_reaches_the_pods_of_every_node_through_it() -> None:
    plan = cloud.edge_plan([node("node-2", "10.100.0.3", "10.0.2.0/24"), node("node-1", "10.100.0.2", "10.0.1.0/24")])
    assert plan.routes == (Route("10.0.1.0/24", via="10.100.0.2"), Route("10.0.2.0/24", via="10.100.0.3"))
    assert plan.owner == Owner.CLOUD_ROUTES


@pytest.mark.parametrize(
    ("why", "half"),
    [
        ("it has no pod CIDR yet", node("node-2", "10.100.0.3")),
        ("it has no address yet", node("node-2", "", "10.0.2.0/24")),
        ("its pod CIDR is nonsense", node("node-2", "10.100.0.3", "10.0.2.7/24")),
        ("its pod CIDR is another family's", node("node-2", "10.100.0.3", "fd00::/64")),
        ("its address is nonsense", node("node-2", "nowhere", "10.0.2.0/24")),
    ],
)
def test_a_node_without_a_route_does_not_take_the_others_away(why: str, half: Node) -> None:
    plan = cloud.edge_plan([node("node-1", "10.100.0.2", "10.0.1.0/24"), half])
    assert [r.destination for r in plan.routes] == ["10.0.1.0/24"], why


def test_the_routes_do_not_depend_on_the_order_of_the_nodes() -> None:
    nodes = [node(f"node-{k}", f"10.100.0.{k + 1}", f"10.0.{k}.0/24") for k in range(1, 9)]
    assert cloud.edge_plan(nodes) == cloud.edge_plan(reversed(nodes))


async def test_the_edge_follows_the_nodes() -> None:
    planned: list[tuple[str, ...]] = []

    class Edge:
        def apply(self, plan: Plan) -> None:
            planned.append(tuple(r.destination for r in plan.routes))

    async with fake_api() as (_, client):
        nodes, generation = Reflector(client, Node), Generation()
        tasks = [
            asyncio.create_task(nodes.run()),
            asyncio.create_task(cloud.run(nodes, cast(Namespace, Edge()), SystemClock(), generation)),
        ]

        async def seen(condition: Callable[[], bool]) -> None:
            await asyncio.wait_for(generation.until(condition), 10)

        try:
            for number in (1, 2):
                address = {"type": "InternalIP", "address": f"10.100.0.{number + 1}"}
                spec, status = {"podCIDR": f"10.0.{number}.0/24"}, {"addresses": [address]}
                await client.create(Node, {"metadata": {"name": f"node-{number}"}, "spec": spec, "status": status})
            await seen(lambda: ("10.0.1.0/24", "10.0.2.0/24") in planned)
            await client.delete(Node, "node-1")
            await seen(lambda: planned[-1] == ("10.0.2.0/24",))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize(("status", "want"), [("True", True), ("False", False), ("Unknown", False), ("", False)])
def test_ready_is_a_condition_that_is_true(status: str, want: bool) -> None:
    assert cloud.is_ready(node("node-1", ready=status)) is want


def pod(uid: str, *owner: OwnerReference) -> Pod:
    return Pod(metadata=ObjectMeta(name=uid, namespace="default", uid=uid, owner_references=owner or None))


def replica_set(uid: str, replicas: int | None, ready: int) -> ReplicaSet:
    return ReplicaSet(
        metadata=ObjectMeta(name=uid, namespace="default", uid=uid),
        spec=ReplicaSetSpec(replicas=replicas),
        status=ReplicaSetStatus(ready_replicas=ready),
    )


def test_a_drain_waits_for_the_controllers_of_the_pods_that_went() -> None:
    controller = OwnerReference(kind="ReplicaSet", name="web", uid="rs-1", controller=True)
    friend = OwnerReference(kind="ConfigMap", name="x", uid="cm-1")
    assert drain.owners([pod("a", controller, friend), pod("b"), pod("c", controller)]) == {"rs-1"}


@pytest.mark.parametrize(
    ("replicas", "ready", "waits"),
    [(2, 1, True), (2, 2, False), (2, 3, False), (0, 0, False), (None, 0, True), (None, 1, False)],
)
def test_a_replica_set_is_complete_when_it_has_the_ready_pods_that_it_wants(
    replicas: int | None, ready: int, waits: bool
) -> None:
    short = drain.incomplete([replica_set("rs-1", replicas, ready), replica_set("rs-2", 9, 0)], frozenset({"rs-1"}))
    assert short == ({"default/rs-1"} if waits else frozenset())


class OneNode:
    """A node's streams that say who they are."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def logs(self, request: LogRequest) -> AsyncIterator[bytes]:
        yield f"{self.name}: {request.target.pod}\n".encode()

    async def exec(self, request: ExecRequest) -> ExecSession:
        raise StreamRefused(f"{self.name} runs {request.command[0]}")

    async def attach(self, request: ExecRequest) -> ExecSession:
        raise StreamRefused(f"{self.name} attaches")


def target(on: str) -> PodContainer:
    return PodContainer(namespace="default", pod="web", uid="u", node=on, container="c")


async def test_streams_go_to_the_node_of_the_pod() -> None:
    streams = NodeStreams()
    streams.connect("node-1", OneNode("node-1"))
    streams.connect("node-2", OneNode("node-2"))
    assert [c async for c in streams.logs(LogRequest(target=target("node-2")))] == [b"node-2: web\n"]
    with pytest.raises(StreamRefused, match="node-1 runs sh"):
        await streams.exec(ExecRequest(target=target("node-1"), command=("sh",)))
    with pytest.raises(StreamRefused, match="node-1 attaches"):
        await streams.attach(ExecRequest(target=target("node-1"), command=()))


async def test_a_node_that_is_off_answers_as_an_unreachable_kubelet() -> None:
    streams = NodeStreams()
    streams.connect("node-1", OneNode("node-1"))
    streams.disconnect("node-1")
    with pytest.raises(StreamRefused, match="node-1 does not answer") as caught:
        await anext(aiter(streams.logs(LogRequest(target=target("node-1")))))
    assert caught.value.code == 502
