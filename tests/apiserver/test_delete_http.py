"""Deletion over HTTP: at once, with grace, held by finalizers, of a whole collection, of a namespace."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from build_apiserver import NOON, Served, serving
from portway.apiserver.times import rfc3339

NS = "/api/v1/namespaces/default"
PODS = f"{NS}/pods"
MAPS = f"{NS}/configmaps"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as served:
        yield served


async def make_pod(
    api: Served, name: str = "p", *, node: str = "node-1", phase: str = "Running", **spec: Any
) -> dict[str, Any]:
    containers = [{"name": "c", "image": "nginx"}]
    body = {
        "metadata": {"name": name},
        "spec": {"containers": containers, **({"nodeName": node} if node else {}), **spec},
    }
    await api.create(PODS, body)
    answer = await api.patch(f"{PODS}/{name}/status", {"status": {"phase": phase}})
    made: dict[str, Any] = answer.body
    return made


async def test_an_object_that_nobody_holds_is_gone_and_a_status_says_so(api: Served) -> None:
    made = await api.create(MAPS, {"metadata": {"name": "m"}})
    answer = await api.call("DELETE", f"{MAPS}/m", {"propagationPolicy": "Background"})
    assert (answer.code, answer.body["status"]) == (200, "Success")
    assert answer.body["details"] == {"name": "m", "kind": "configmaps", "uid": made["metadata"]["uid"]}
    assert (await api.call("DELETE", f"{MAPS}/m")).code == 404


async def test_a_running_pod_is_given_its_grace_period(api: Served) -> None:
    await make_pod(api)
    answer = await api.call("DELETE", f"{PODS}/p")
    metadata = answer.body["metadata"]
    assert metadata["deletionTimestamp"] == rfc3339(NOON + 30) and metadata["deletionGracePeriodSeconds"] == 30
    assert (await api.get(f"{PODS}/p")).code == 200
    final = await api.call("DELETE", f"{PODS}/p", {"gracePeriodSeconds": 0, "preconditions": {"uid": metadata["uid"]}})
    assert final.body["status"] == "Success"
    assert (await api.get(f"{PODS}/p")).code == 404


async def test_a_second_delete_can_only_bring_it_forward(api: Served) -> None:
    await make_pod(api, terminationGracePeriodSeconds=60)
    first = (await api.call("DELETE", f"{PODS}/p")).body["metadata"]
    longer = (await api.call("DELETE", f"{PODS}/p", {"gracePeriodSeconds": 90})).body["metadata"]
    assert longer == first
    shorter = (await api.call("DELETE", f"{PODS}/p", {"gracePeriodSeconds": 5})).body["metadata"]
    assert shorter["deletionGracePeriodSeconds"] == 5 and shorter["deletionTimestamp"] == rfc3339(NOON + 5)


@pytest.mark.parametrize(
    ("why", "options"),
    [
        ("it has no node", {"node": ""}),
        ("it has ended", {"phase": "Succeeded"}),
        ("it has failed", {"phase": "Failed"}),
    ],
)
async def test_a_pod_that_nobody_runs_goes_at_once(api: Served, why: str, options: dict[str, Any]) -> None:
    await make_pod(api, **options)
    assert (await api.call("DELETE", f"{PODS}/p")).body["status"] == "Success", why
    assert (await api.get(f"{PODS}/p")).code == 404


async def test_an_eviction_is_a_graceful_delete(api: Served) -> None:
    await make_pod(api)
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": "p"},
        "deleteOptions": {"gracePeriodSeconds": 7},
    }
    answer = await api.call("POST", f"{PODS}/p/eviction", eviction)
    assert (answer.code, answer.body["status"]) == (201, "Success")
    assert (await api.get(f"{PODS}/p")).body["metadata"]["deletionGracePeriodSeconds"] == 7


async def test_a_finalizer_holds_the_object_until_it_is_taken_off(api: Served) -> None:
    await api.create(MAPS, {"metadata": {"name": "m", "finalizers": ["example.com/hold"]}})
    held = await api.call("DELETE", f"{MAPS}/m")
    assert held.code == 200 and held.body["metadata"]["deletionTimestamp"] == rfc3339(NOON)
    assert (await api.get(f"{MAPS}/m")).code == 200
    released = await api.patch(f"{MAPS}/m", {"metadata": {"finalizers": None}})
    assert released.code == 200
    assert (await api.get(f"{MAPS}/m")).code == 404


@pytest.mark.parametrize(("policy", "finalizer"), [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")])
async def test_the_policy_is_left_to_the_collector_as_a_finalizer(api: Served, policy: str, finalizer: str) -> None:
    await api.create(MAPS, {"metadata": {"name": "m"}})
    answer = await api.call("DELETE", f"{MAPS}/m", {"propagationPolicy": policy})
    assert answer.body["metadata"]["finalizers"] == [finalizer]
    background = await api.call("DELETE", f"{MAPS}/m", {"propagationPolicy": "Background"})
    assert background.body["status"] == "Success"


async def test_an_unknown_policy(api: Served) -> None:
    await api.create(MAPS, {"metadata": {"name": "m"}})
    assert (await api.call("DELETE", f"{MAPS}/m", {"propagationPolicy": "Never"})).code == 400


@pytest.mark.parametrize("precondition", [{"uid": "0000"}, {"resourceVersion": "1"}])
async def test_a_precondition_that_does_not_hold(api: Served, precondition: dict[str, str]) -> None:
    await api.create(MAPS, {"metadata": {"name": "m"}})
    answer = await api.call("DELETE", f"{MAPS}/m", {"preconditions": precondition})
    assert answer.code == 409 and "Precondition failed" in answer.body["message"]
    assert (await api.get(f"{MAPS}/m")).code == 200


async def test_a_dry_run_deletes_nothing(api: Served) -> None:
    await api.create(MAPS, {"metadata": {"name": "m"}})
    assert (await api.call("DELETE", f"{MAPS}/m?dryRun=All")).code == 200
    assert (await api.get(f"{MAPS}/m")).code == 200


async def test_a_collection_is_deleted_by_its_selector(api: Served) -> None:
    for name, labels in (("a", {"x": "1"}), ("b", {"x": "1"}), ("c", {})):
        await api.create(MAPS, {"metadata": {"name": name, "labels": labels}})
    answer = await api.call("DELETE", f"{MAPS}?labelSelector=x%3D1")
    assert [i["metadata"]["name"] for i in answer.body["items"]] == ["a", "b"]
    left = (await api.get(MAPS)).body["items"]
    assert [i["metadata"]["name"] for i in left] == ["c"]


async def test_a_namespace_ends_when_its_finalizer_is_taken_off(api: Served) -> None:
    path = "/api/v1/namespaces/shop"
    made = await api.create("/api/v1/namespaces", {"metadata": {"name": "shop"}})
    assert made["spec"]["finalizers"] == ["kubernetes"] and made["status"]["phase"] == "Active"
    deleted = (await api.call("DELETE", path)).body
    assert deleted["status"]["phase"] == "Terminating"
    refused = await api.call("POST", f"{path}/configmaps", {"metadata": {"name": "m"}})
    assert refused.code == 403
    assert refused.body["details"]["causes"][0]["reason"] == "NamespaceTerminating"
    assert refused.body["message"] == (
        'configmaps "m" is forbidden: unable to create new content in namespace shop because it is being terminated'
    )
    deleted["spec"]["finalizers"] = []
    assert (await api.call("PUT", f"{path}/finalize", deleted)).code == 200
    assert (await api.get(path)).code == 404


@pytest.mark.parametrize("name", ["default", "kube-system"])
async def test_some_namespaces_stay(api: Served, name: str) -> None:
    answer = await api.call("DELETE", f"/api/v1/namespaces/{name}")
    assert (answer.code, answer.body["message"]) == (
        403,
        f'namespaces "{name}" is forbidden: this namespace may not be deleted',
    )
