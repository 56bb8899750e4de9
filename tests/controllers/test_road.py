"""The control plane as a whole, over HTTP, with a stand-in for the node agents: deploy, scale, roll, heal, and what
the Service sees of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from build_controllers import template
from fake_api import FakeApi, fake_api
from fake_kubelet import FakeKubelet, join
from portway.client import Client
from portway.controllers import Settings, World, run_world
from portway.loop import SystemClock
from portway.objects.apps import Deployment, ReplicaSet
from portway.objects.core import Namespace, Node, Pod, Service


@dataclass
class Cluster:
    api: FakeApi
    client: Client
    kubelet: FakeKubelet

    def pods(self) -> list[Any]:
        return [p for p in self.api.named("pods") if not p["metadata"].get("deletionTimestamp")]

    def ready(self) -> set[str]:
        """The addresses that the Service's slices call ready."""
        found = (e for s in self.api.named("endpointslices") for e in s.get("endpoints") or ())
        return {a for e in found if e["conditions"]["ready"] for a in e["addresses"]}

    def endpoints(self) -> set[str]:
        """The addresses of the older Endpoints."""
        subsets = (s for e in self.api.named("endpoints") for s in e.get("subsets") or ())
        return {a["ip"] for s in subsets for a in s.get("addresses") or ()}

    def running(self, image: str) -> int:
        up = (p for p in self.pods() if p.get("status", {}).get("podIP"))
        return sum(p["spec"]["containers"][0]["image"] == image for p in up)

    async def deploy(self, replicas: int = 2, **spec: Any) -> None:
        full = {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template(), **spec}
        await self.client.create(Deployment, {"metadata": {"name": "web"}, "spec": full}, "shop")

    async def expose(self) -> None:
        spec = {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}], "clusterIP": "10.3.240.9"}
        await self.client.create(Service, {"metadata": {"name": "web"}, "spec": spec}, "shop")


@asynccontextmanager
async def cluster(settings: Settings | None = None) -> AsyncIterator[Cluster]:
    async with fake_api() as (api, client):
        world = World(client, SystemClock(), settings or Settings())
        kubelet = FakeKubelet(client)
        tasks = [asyncio.create_task(run_world(world)), asyncio.create_task(kubelet.run())]
        try:
            await join(client, "node-1")
            await join(client, "node-2")
            yield Cluster(api, client, kubelet)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def lab() -> AsyncIterator[Cluster]:
    async with cluster() as made:
        yield made


async def test_a_deployment_becomes_pods_on_both_nodes_and_endpoints(lab: Cluster) -> None:
    await lab.expose()
    await lab.deploy(2)
    await lab.api.until(lambda: len(lab.ready()) == 2)
    assert {p["spec"]["nodeName"] for p in lab.pods()} == {"node-1", "node-2"}
    await lab.api.until(lambda: lab.endpoints() == lab.ready())
    await lab.api.until(lambda: lab.api.named("deployments")[0].get("status", {}).get("availableReplicas") == 2)


async def test_the_nodes_get_their_blocks_in_order(lab: Cluster) -> None:
    await lab.api.until(lambda: all(n["spec"].get("podCIDR") for n in lab.api.named("nodes")))
    assert {n["metadata"]["name"]: n["spec"]["podCIDR"] for n in lab.api.named("nodes")} == {
        "node-1": "10.0.1.0/24",
        "node-2": "10.0.2.0/24",
    }


async def test_scaling_up_and_down_to_nothing(lab: Cluster) -> None:
    await lab.expose()
    await lab.deploy(1)
    await lab.api.until(lambda: len(lab.ready()) == 1)
    await lab.client.patch(Deployment, "web", {"spec": {"replicas": 5}}, "shop")
    await lab.api.until(lambda: len(lab.ready()) == 5)
    await lab.client.patch(Deployment, "web", {"spec": {"replicas": 0}}, "shop")
    await lab.api.until(lambda: not lab.ready() and not lab.api.named("pods"))
    assert len(lab.api.named("endpointslices")) == 1, "one empty slice stays"


async def test_a_rolling_update_keeps_enough_pods_ready_at_every_moment(lab: Cluster) -> None:
    await lab.expose()
    await lab.deploy(4, strategy={"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}})
    await lab.api.until(lambda: len(lab.ready()) == 4)
    await lab.client.patch(Deployment, "web", {"spec": {"template": template("2")}}, "shop")
    fewest, most = 4, 4

    def done() -> bool:
        nonlocal fewest, most
        fewest, most = min(fewest, len(lab.ready())), max(most, len(lab.pods()))
        old = [p for p in lab.pods() if p["spec"]["containers"][0]["image"] == "web:1"]
        return not old and lab.running("web:2") == 4 and len(lab.ready()) == 4

    await lab.api.until(done, 20)
    assert fewest >= 4
    assert most <= 5
    revisions = {
        rs["spec"]["template"]["spec"]["containers"][0]["image"]: rs["metadata"]["annotations"][
            "deployment.kubernetes.io/revision"
        ]
        for rs in lab.api.named("replicasets")
    }
    assert revisions == {"web:1": "1", "web:2": "2"}
    await lab.client.patch(Deployment, "web", {"spec": {"template": template("1")}}, "shop")
    await lab.api.until(lambda: lab.running("web:1") == 4)
    numbered = "deployment.kubernetes.io/revision"
    await lab.api.until(lambda: lab.api.named("deployments")[0]["metadata"]["annotations"][numbered] == "3")


async def test_recreate_waits_until_the_old_pods_are_gone(lab: Cluster) -> None:
    await lab.deploy(2, strategy={"type": "Recreate"})
    await lab.api.until(lambda: lab.running("web:1") == 2)
    lab.kubelet.keep = lambda pod: True
    await lab.client.patch(Deployment, "web", {"spec": {"template": template("2")}}, "shop")
    await lab.api.until(lambda: not lab.pods())
    assert len(lab.api.named("pods")) == 2, "they are ending"
    lab.kubelet.keep = lambda pod: False
    lab.kubelet.wake.mark(*lab.kubelet.pods.items)
    await lab.api.until(lambda: lab.running("web:2") == 2)


async def test_a_deleted_pod_is_replaced_before_it_has_ended(lab: Cluster) -> None:
    await lab.deploy(2)
    await lab.api.until(lambda: lab.running("web:1") == 2)
    lab.kubelet.keep = lambda pod: True
    victim = lab.pods()[0]["metadata"]["name"]
    await lab.client.delete(Pod, victim, "shop")
    await lab.api.until(lambda: lab.running("web:1") == 2 and victim not in {p["metadata"]["name"] for p in lab.pods()})
    assert len(lab.api.named("pods")) == 3


async def test_a_lagging_watch_makes_no_second_pod(lab: Cluster) -> None:
    """The API server answers writes while its watches are held back."""
    await lab.deploy(1)
    await lab.api.until(lambda: lab.running("web:1") == 1)
    await lab.api.until(lambda: lab.api.named("deployments")[0].get("status", {}).get("availableReplicas") == 1)
    lab.api.delay.clear()
    name = lab.api.named("replicasets")[0]["metadata"]["name"]

    await lab.client.patch(ReplicaSet, name, {"metadata": {"labels": {"touched": "yes"}}}, "shop")
    victim = lab.pods()[0]["metadata"]["name"]
    await lab.client.delete(Pod, victim, "shop", grace_seconds=0)
    lab.api.delay.set()
    await lab.api.until(lambda: lab.running("web:1") == 1)
    created = [r for r in lab.api.requests if r[0] == "POST" and r[1].endswith("/pods")]
    assert len(created) == 2


async def test_a_pod_that_is_not_ready_leaves_the_slice_and_comes_back(lab: Cluster) -> None:
    await lab.expose()
    await lab.deploy(2)
    await lab.api.until(lambda: len(lab.ready()) == 2)
    pod = next(iter(lab.kubelet.pods.items.values()))
    await lab.kubelet.set_ready(pod, False)
    await lab.api.until(lambda: len(lab.ready()) == 1)
    await lab.api.until(lambda: len(lab.endpoints()) == 1)
    await lab.kubelet.set_ready(pod, True)
    await lab.api.until(lambda: len(lab.ready()) == 2)


async def test_a_pod_that_fits_nowhere_says_why_and_is_placed_when_it_can_be(lab: Cluster) -> None:
    made = template()
    made["spec"]["nodeSelector"] = {"disk": "fast"}
    await lab.deploy(1, template=made)
    await lab.api.until(lambda: any(e["reason"] == "FailedScheduling" for e in lab.api.named("events")))
    said = next(e["message"] for e in lab.api.named("events") if e["reason"] == "FailedScheduling")
    assert said == "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector."
    await lab.client.patch(Node, "node-2", {"metadata": {"labels": {"disk": "fast"}}})
    await lab.api.until(lambda: bool(lab.pods()) and lab.pods()[0]["spec"].get("nodeName") == "node-2")


async def test_the_pods_of_a_removed_node_move(lab: Cluster) -> None:
    await lab.expose()
    await lab.deploy(2)
    await lab.api.until(lambda: len(lab.ready()) == 2)
    await lab.client.delete(Node, "node-2")
    await lab.api.until(lambda: len(lab.pods()) == 2 and {p["spec"].get("nodeName") for p in lab.pods()} == {"node-1"})
    await lab.api.until(lambda: len(lab.ready()) == 2)


async def test_a_silent_node_loses_its_endpoints() -> None:
    async with cluster(Settings(node_grace=0.3)) as lab:
        await lab.expose()
        await lab.deploy(2)
        await lab.api.until(lambda: bool(lab.api.named("endpointslices")))
        await lab.api.until(lambda: all(n["spec"].get("taints") for n in lab.api.named("nodes")))
        await lab.api.until(lambda: not lab.ready())
        statuses = {c["status"] for n in lab.api.named("nodes") for c in n["status"]["conditions"]}
        assert statuses == {"Unknown"}


async def test_deleting_a_deployment_deletes_what_it_owned(lab: Cluster) -> None:
    await lab.deploy(2)
    await lab.api.until(lambda: lab.running("web:1") == 2)
    await lab.client.delete(Deployment, "web", "shop", propagation="Background")
    await lab.api.until(lambda: not lab.api.named("pods") and not lab.api.named("replicasets"))


async def test_in_the_foreground_the_owner_goes_last(lab: Cluster) -> None:
    await lab.deploy(2)
    await lab.api.until(lambda: lab.running("web:1") == 2)
    await lab.client.delete(Deployment, "web", "shop", propagation="Foreground")
    await lab.api.until(lambda: not lab.api.named("deployments"))
    ended = [(kind, event) for _, kind, event, _ in lab.api.history if event == "DELETED"]
    assert [k for k, _ in ended if k in ("pods", "replicasets", "deployments")] == [
        "pods",
        "pods",
        "replicasets",
        "deployments",
    ]


async def test_orphaned_pods_live_and_are_adopted_by_the_next_owner(lab: Cluster) -> None:
    await lab.deploy(2)
    await lab.api.until(lambda: lab.running("web:1") == 2)
    before = {p["metadata"]["uid"] for p in lab.pods()}
    await lab.client.delete(Deployment, "web", "shop", propagation="Orphan")
    await lab.api.until(lambda: not lab.api.named("deployments"))
    assert len(lab.api.named("replicasets")) == 1
    await lab.deploy(2)
    await lab.api.until(lambda: lab.api.named("deployments")[0].get("status", {}).get("availableReplicas") == 2)
    assert {p["metadata"]["uid"] for p in lab.pods()} == before


async def test_a_namespace_is_emptied_and_then_goes(lab: Cluster) -> None:
    await lab.client.create(Namespace, {"metadata": {"name": "shop"}, "spec": {"finalizers": ["kubernetes"]}})
    await lab.expose()
    await lab.deploy(2)
    await lab.api.until(lambda: len(lab.ready()) == 2)
    await lab.client.delete(Namespace, "shop")
    await lab.api.until(lambda: "shop" not in {n["metadata"]["name"] for n in lab.api.named("namespaces")})
    left = [key for key in lab.api.objects if key[1] == "shop"]
    assert left == []


async def test_when_nothing_changes_nothing_is_written(lab: Cluster) -> None:
    await lab.expose()
    await lab.deploy(2)
    await lab.api.until(lambda: len(lab.ready()) == 2)
    await lab.api.until(lambda: lab.api.named("deployments")[0].get("status", {}).get("availableReplicas") == 2)
    await lab.client.patch(Service, "web", {"metadata": {"annotations": {"note": "hello"}}}, "shop")
    await lab.client.patch(Deployment, "web", {"metadata": {"annotations": {"note": "hello"}}}, "shop")
    await lab.api.until(lambda: lab.api.named("replicasets")[0]["metadata"]["annotations"].get("note") == "hello")
    await lab.api.until(lambda: lab.api.named("deployments")[0]["status"].get("observedGeneration", 0) >= 1)
    slices = [r for r in lab.api.requests if r[0] == "PATCH" and "endpointslices" in r[1]]
    before = len(slices)
    await lab.client.patch(Service, "web", {"metadata": {"annotations": {"note": "again"}}}, "shop")
    await lab.client.patch(Deployment, "web", {"metadata": {"annotations": {"note": "again"}}}, "shop")
    await lab.api.until(lambda: lab.api.named("replicasets")[0]["metadata"]["annotations"].get("note") == "again")
    assert len([r for r in lab.api.requests if r[0] == "PATCH" and "endpointslices" in r[1]]) == before
