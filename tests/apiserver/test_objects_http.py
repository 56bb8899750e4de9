"""Objects over HTTP: what create, get, list, update, patch and delete answer, in Kubernetes' codes and words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from build_apiserver import Served, serving
from portway.apiserver.expiry import forget_once
from portway.apiserver.times import rfc3339

NS = "/api/v1/namespaces/default"
MAPS = f"{NS}/configmaps"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as served:
        yield served


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def pod(name: str, **metadata: Any) -> dict[str, Any]:
    spec = {"containers": [{"name": "c", "image": "nginx"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, **metadata}, "spec": spec}


def deployment(name: str = "web", replicas: int = 2) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "nginx"}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


async def test_a_created_object_has_what_the_server_gives(api: Served) -> None:
    made = await api.create(MAPS, config_map("m", a="b"))
    metadata = made["metadata"]
    assert metadata["namespace"] == "default" and metadata["creationTimestamp"] == "2027-01-15T08:00:00Z"
    assert len(metadata["uid"]) == 36 and int(metadata["resourceVersion"]) > 1
    assert metadata["managedFields"][0]["operation"] == "Update"
    assert "generation" not in metadata
    assert (await api.get(f"{MAPS}/m")).body == made


async def test_a_deployment_counts_generations_by_its_spec(api: Served) -> None:
    made = await api.create(DEPLOYMENTS, deployment())
    assert made["metadata"]["generation"] == 1
    labelled = await api.patch(f"{DEPLOYMENTS}/web", {"metadata": {"labels": {"a": "b"}}})
    assert labelled.body["metadata"]["generation"] == 1
    scaled = await api.patch(f"{DEPLOYMENTS}/web", {"spec": {"replicas": 5}})
    assert scaled.body["metadata"]["generation"] == 2


async def test_the_second_of_a_name_is_refused(api: Served) -> None:
    await api.create(MAPS, config_map("m"))
    answer = await api.call("POST", MAPS, config_map("m"))
    assert answer.code == 409
    assert answer.body["reason"] == "AlreadyExists"
    assert answer.body["message"] == 'configmaps "m" already exists'


async def test_generated_names_differ(api: Served) -> None:
    body = {"metadata": {"generateName": "web-"}, "data": {}}
    names = {(await api.create(MAPS, body))["metadata"]["name"] for _ in range(20)}
    assert len(names) == 20
    assert all(n.startswith("web-") and len(n) == 9 for n in names)


@pytest.mark.parametrize(
    ("what", "path", "body", "code", "words"),
    [
        (
            "a namespace that is not there",
            "/api/v1/namespaces/no/configmaps",
            config_map("m"),
            404,
            'namespaces "no" not found',
        ),
        (
            "a namespace of its own",
            MAPS,
            {"metadata": {"name": "m", "namespace": "other"}},
            400,
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        ("no name", MAPS, {"metadata": {}}, 422, "name or generateName is required"),
        (
            "a revision",
            MAPS,
            {"metadata": {"name": "m", "resourceVersion": "5"}},
            400,
            "resourceVersion should not be set",
        ),
        ("another kind", MAPS, {**config_map("m"), "kind": "Secret"}, 400, "Secret"),
        ("no JSON", MAPS, b"{", 400, "unexpected end of JSON input"),
        ("a collection of all namespaces", "/api/v1/configmaps", config_map("m"), 405, "does not allow this method"),
    ],
)
async def test_a_create_that_is_refused(api: Served, what: str, path: str, body: Any, code: int, words: str) -> None:
    answer = await api.call("POST", path, body)
    assert (answer.code, words in answer.body["message"]) == (code, True), f"{what}: {answer.body}"
    assert answer.body["kind"] == "Status"


async def test_unknown_fields_are_refused_warned_of_or_ignored(api: Served) -> None:
    body = {**config_map("m"), "wrong": 1}
    strict = await api.call("POST", f"{MAPS}?fieldValidation=Strict", body)
    assert strict.code == 400 and 'unknown field "wrong"' in strict.body["message"]
    warned = await api.call("POST", MAPS, body)
    assert warned.code == 201 and warned.warnings == ['299 - "unknown field \\"wrong\\""']
    assert "wrong" not in warned.body


async def test_a_dry_run_answers_and_leaves_nothing(api: Served) -> None:
    before = api.server.store.revision
    answer = await api.call("POST", f"{MAPS}?dryRun=All", config_map("m"))
    assert answer.code == 201 and answer.body["metadata"]["uid"]
    assert (await api.get(f"{MAPS}/m")).code == 404
    assert api.server.store.revision == before
    assert (await api.call("POST", f"{MAPS}?dryRun=Some", config_map("m"))).code == 400


async def test_an_update_needs_the_newest_revision(api: Served) -> None:
    made = await api.create(MAPS, config_map("m", a="1"))
    first = await api.call("PUT", f"{MAPS}/m", {**made, "data": {"a": "2"}})
    assert first.code == 200 and int(first.body["metadata"]["resourceVersion"]) > int(
        made["metadata"]["resourceVersion"]
    )
    stale = await api.call("PUT", f"{MAPS}/m", {**made, "data": {"a": "3"}})
    assert stale.code == 409
    assert stale.body["message"] == (
        'Operation cannot be fulfilled on configmaps "m": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )
    unconditional = await api.call("PUT", f"{MAPS}/m", config_map("m", a="4"))
    assert unconditional.code == 200 and unconditional.body["data"] == {"a": "4"}
    assert unconditional.body["metadata"]["uid"] == made["metadata"]["uid"]


async def test_an_update_that_changes_nothing_keeps_the_revision(api: Served) -> None:
    made = await api.create(MAPS, config_map("m", a="1"))
    api.clock.advance(100)
    again = await api.call("PUT", f"{MAPS}/m", made)
    assert again.body["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


async def test_an_update_of_another_object_of_that_name(api: Served) -> None:
    made = await api.create(MAPS, config_map("m"))
    made["metadata"]["uid"] = "0000"
    answer = await api.call("PUT", f"{MAPS}/m", made)
    assert answer.code == 409 and "UID in precondition: 0000" in answer.body["message"]
    renamed = await api.call("PUT", f"{MAPS}/m", config_map("n"))
    assert renamed.code == 400 and "does not match the name on the URL (m)" in renamed.body["message"]
    assert (await api.call("PUT", f"{MAPS}/nosuch", config_map("nosuch"))).code == 404


async def test_a_lease_may_be_created_by_an_update_and_needs_a_revision(api: Served) -> None:
    path = "/apis/coordination.k8s.io/v1/namespaces/default/leases/l"
    lease = {"metadata": {"name": "l"}, "spec": {"holderIdentity": "a"}}
    assert (await api.call("PUT", path, lease)).code == 201
    answer = await api.call("PUT", path, lease)
    assert answer.code == 422 and "must be specified for an update" in answer.body["message"]


async def test_the_status_is_written_by_its_subresource_alone(api: Served) -> None:
    made = await api.create(DEPLOYMENTS, {**deployment(), "status": {"replicas": 9}})
    assert made["status"] == {}
    made["status"] = {"replicas": 1}
    made["spec"]["replicas"] = 7
    by_status = await api.call("PUT", f"{DEPLOYMENTS}/web/status", made)
    assert by_status.body["status"] == {"replicas": 1} and by_status.body["spec"]["replicas"] == 2
    body = by_status.body
    body["status"] = {"replicas": 5}
    body["spec"]["replicas"] = 3
    by_main = await api.call("PUT", f"{DEPLOYMENTS}/web", body)
    assert by_main.body["status"] == {"replicas": 1} and by_main.body["spec"]["replicas"] == 3
    patched = await api.patch(f"{DEPLOYMENTS}/web/status", {"status": {"readyReplicas": 1}, "spec": {"replicas": 9}})
    assert patched.body["status"] == {"replicas": 1, "readyReplicas": 1} and patched.body["spec"]["replicas"] == 3
    assert patched.body["metadata"]["generation"] == 2


async def test_the_four_patch_types(api: Served) -> None:
    await api.create(DEPLOYMENTS, deployment())
    json_patch = [{"op": "add", "path": "/metadata/labels", "value": {"q": "1"}}]
    assert (await api.patch(f"{DEPLOYMENTS}/web", json_patch, "json-patch+json")).body["metadata"]["labels"] == {
        "q": "1"
    }
    merged = await api.patch(f"{DEPLOYMENTS}/web", {"metadata": {"labels": {"q": None, "r": "2"}}})
    assert merged.body["metadata"]["labels"] == {"r": "2"}
    containers = {"spec": {"template": {"spec": {"containers": [{"name": "d", "image": "sidecar"}]}}}}
    strategic = await api.patch(f"{DEPLOYMENTS}/web", containers, "strategic-merge-patch+json")
    assert {c["name"] for c in strategic.body["spec"]["template"]["spec"]["containers"]} == {"c", "d"}
    applied = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "annotations": {"by": "apply"}},
    }
    answer = await api.patch(f"{DEPLOYMENTS}/web?fieldManager=me", applied, "apply-patch+yaml")
    assert answer.code == 200 and answer.body["metadata"]["annotations"] == {"by": "apply"}
    assert [m["manager"] for m in answer.body["metadata"]["managedFields"] if m["operation"] == "Apply"] == ["me"]


async def test_patches_at_the_same_time_are_all_kept(api: Served) -> None:
    await api.create(MAPS, config_map("m"))
    answers = await asyncio.gather(*(api.patch(f"{MAPS}/m", {"data": {f"k{i}": str(i)}}) for i in range(100)))
    assert {a.code for a in answers} == {200}
    assert len((await api.get(f"{MAPS}/m")).body["data"]) == 100
    assert len({a.body["metadata"]["resourceVersion"] for a in answers}) == 100


async def test_of_many_updates_of_one_revision_one_wins(api: Served) -> None:
    made = await api.create(MAPS, config_map("m"))
    bodies = ({**made, "data": {"winner": str(i)}} for i in range(20))
    answers = await asyncio.gather(*(api.call("PUT", f"{MAPS}/m", body) for body in bodies))
    assert sorted(a.code for a in answers) == [200] + [409] * 19


async def test_a_patch_of_another_type_or_of_nothing(api: Served) -> None:
    await api.create(MAPS, config_map("m"))
    other = await api.patch(f"{MAPS}/m", {}, "json")
    assert other.code == 415 and "application/apply-patch+yaml" in other.body["message"]
    broken = await api.patch(f"{MAPS}/m", b"{")
    assert broken.code == 400 and "error decoding patch" in broken.body["message"]
    assert (await api.patch(f"{MAPS}/nosuch", {})).code == 404


async def test_a_patch_can_demand_a_revision(api: Served) -> None:
    await api.create(MAPS, config_map("m"))
    answer = await api.patch(f"{MAPS}/m", {"metadata": {"resourceVersion": "1"}, "data": {"a": "b"}})
    assert answer.code == 409


async def test_server_side_apply_creates_and_conflicts(api: Served) -> None:
    body = config_map("m", a="1")
    first = await api.patch(f"{MAPS}/m?fieldManager=one", body, "apply-patch+yaml")
    assert first.code == 201
    conflict = await api.patch(f"{MAPS}/m?fieldManager=two", config_map("m", a="2"), "apply-patch+yaml")
    assert conflict.code == 409 and conflict.body["details"]["causes"][0]["field"] == ".data.a"
    forced = await api.patch(f"{MAPS}/m?fieldManager=two&force=true", config_map("m", a="2"), "apply-patch+yaml")
    assert forced.code == 200 and forced.body["data"] == {"a": "2"}
    again = await api.patch(f"{MAPS}/m?fieldManager=two", config_map("m", a="2"), "apply-patch+yaml")
    assert again.body["metadata"]["resourceVersion"] == forced.body["metadata"]["resourceVersion"]


async def test_an_apply_says_who_applies_and_only_an_apply_is_forced(api: Served) -> None:
    anonymous = await api.patch(f"{MAPS}/m", config_map("m"), "apply-patch+yaml")
    assert anonymous.code == 422
    assert anonymous.body["message"] == (
        'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch'
    )
    forced = await api.patch(f"{MAPS}/m?force=true", {})
    assert forced.code == 422 and "may not be specified for non-apply patch" in forced.body["message"]


async def test_yaml_may_be_applied(api: Served) -> None:
    body = b"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: m\ndata:\n  a: b\n"
    assert (await api.patch(f"{MAPS}/m?fieldManager=one", body, "apply-patch+yaml")).body["data"] == {"a": "b"}


async def test_scale_reads_and_writes_the_number_of_replicas(api: Served) -> None:
    made = await api.create(DEPLOYMENTS, deployment())
    scale = (await api.get(f"{DEPLOYMENTS}/web/scale")).body
    assert (scale["kind"], scale["spec"], scale["status"]) == (
        "Scale",
        {"replicas": 2},
        {"replicas": 0, "selector": "app=web"},
    )
    scale["spec"]["replicas"] = 4
    assert (await api.call("PUT", f"{DEPLOYMENTS}/web/scale", scale)).body["spec"] == {"replicas": 4}
    assert (await api.call("PUT", f"{DEPLOYMENTS}/web/scale", scale)).code == 409, "the revision is old now"
    assert (await api.patch(f"{DEPLOYMENTS}/web/scale", {"spec": {"replicas": 0}})).body["spec"] == {"replicas": 0}
    live = (await api.get(f"{DEPLOYMENTS}/web")).body
    assert live["spec"]["replicas"] == 0 and live["metadata"]["generation"] == made["metadata"]["generation"] + 2
    assert (await api.patch(f"{DEPLOYMENTS}/web/scale", {"spec": {"replicas": -1}})).code == 422


async def test_a_pod_is_bound_once(api: Served) -> None:
    made = await api.create(f"{NS}/pods", pod("p"))
    assert made["status"]["phase"] == "Pending" and made["status"]["qosClass"] == "BestEffort"
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": "p"},
        "target": {"kind": "Node", "name": "node-1"},
    }
    other = {**binding, "metadata": {"name": "p", "uid": "0000"}}
    assert (await api.call("POST", f"{NS}/pods/p/binding", other)).code == 409
    assert (await api.call("POST", f"{NS}/pods/p/binding", {**binding, "target": {}})).code == 400
    assert (await api.call("POST", f"{NS}/pods/p/binding", binding)).code == 201
    bound = (await api.get(f"{NS}/pods/p")).body
    assert bound["spec"]["nodeName"] == "node-1"
    assert [c["status"] for c in bound["status"]["conditions"] if c["type"] == "PodScheduled"] == ["True"]
    again = await api.call("POST", f"{NS}/pods/p/binding", binding)
    assert again.code == 409 and 'already assigned to node "node-1"' in again.body["message"]


async def test_selectors_choose_what_a_list_shows(api: Served) -> None:
    for name, labels in (("a", {"tier": "web"}), ("b", {"tier": "db"}), ("c", {})):
        await api.create(f"{NS}/pods", pod(name, labels=labels))

    async def names(query: str) -> list[str]:
        answer = await api.get(f"{NS}/pods?{query}")
        return [i["metadata"]["name"] for i in answer.body["items"]]

    assert await names("labelSelector=tier%3Dweb") == ["a"]
    assert await names("labelSelector=tier%20in%20(web,db)") == ["a", "b"]
    assert await names("labelSelector=%21tier") == ["c"]
    assert await names("fieldSelector=metadata.name%3Db") == ["b"]
    assert await names("fieldSelector=spec.nodeName%3D") == ["a", "b", "c"]
    assert await names("fieldSelector=status.phase%21%3DPending") == []
    bad = await api.get(f"{NS}/pods?fieldSelector=spec.nope%3D1")
    assert (bad.code, bad.body["message"]) == (400, "field label not supported: spec.nope")
    assert (await api.get(f"{NS}/pods?labelSelector=a%20b")).code == 400


async def test_pages_show_one_revision(api: Served) -> None:
    for name in "abcde":
        await api.create(MAPS, config_map(name, v="old"))
    first = (await api.get(f"{MAPS}?limit=2")).body
    assert [i["metadata"]["name"] for i in first["items"]] == ["a", "b"]
    assert first["metadata"]["remainingItemCount"] == 3
    await api.call("DELETE", f"{MAPS}/d")
    await api.patch(f"{MAPS}/e", {"data": {"v": "new"}})
    await api.create(MAPS, config_map("cc"))
    token = first["metadata"]["continue"]
    second = (await api.get(f"{MAPS}?limit=2&continue={token}")).body
    assert [i["metadata"]["name"] for i in second["items"]] == ["c", "d"]
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    third = (await api.get(f"{MAPS}?limit=2&continue={second['metadata']['continue']}")).body
    assert [(i["metadata"]["name"], i["data"]) for i in third["items"]] == [("e", {"v": "old"})]
    assert "continue" not in third["metadata"]
    assert (await api.get(f"{MAPS}?continue=!!")).code == 400


async def test_a_page_that_waited_too_long_is_gone(tmp_path: Path) -> None:
    async with serving(tmp_path, history=3) as api:
        for name in "abc":
            await api.create(MAPS, config_map(name))
        token = (await api.get(f"{MAPS}?limit=1")).body["metadata"]["continue"]
        for name in "defgh":
            await api.create(MAPS, config_map(name))
        answer = await api.get(f"{MAPS}?limit=1&continue={token}")
        assert (answer.code, answer.body["reason"]) == (410, "Expired")


async def test_a_list_can_be_asked_for_a_revision(api: Served) -> None:
    await api.create(MAPS, config_map("a"))
    revision = (await api.get(MAPS)).body["metadata"]["resourceVersion"]
    await api.create(MAPS, config_map("b"))
    exact = (await api.get(f"{MAPS}?resourceVersion={revision}&resourceVersionMatch=Exact")).body
    assert [i["metadata"]["name"] for i in exact["items"]] == ["a"] and exact["metadata"]["resourceVersion"] == revision
    newer = (await api.get(f"{MAPS}?resourceVersion={revision}&resourceVersionMatch=NotOlderThan")).body
    assert len(newer["items"]) == 2
    late = await api.get(f"{MAPS}?resourceVersion=999999")
    assert late.code == 504 and late.body["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"
    assert (await api.get(f"{MAPS}?resourceVersion=x")).code == 400


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/api/v1/nosuch", 404),
        ("GET", "/apis/apps/v1/namespaces/default/statefulsets", 404),
        ("GET", "/apis/batch/v1", 404),
        ("GET", "/nosuch", 404),
        ("GET", f"{NS}/pods/p/nosuch", 404),
        ("GET", "/api/v1/pods/p", 404),
        ("GET", "/api/v1/namespaces/default/nodes", 404),
        ("PUT", MAPS, 405),
        ("POST", f"{MAPS}/m", 405),
        ("POST", "/healthz", 405),
        ("PATCH", f"{DEPLOYMENTS}/web/nosuch", 404),
        ("GET", f"{NS}/pods/p/portforward", 501),
        ("PATCH", f"{NS}/pods/p/ephemeralcontainers", 501),
        ("GET", f"{NS}/services/s/proxy", 501),
    ],
)
async def test_what_is_not_served(api: Served, method: str, path: str, code: int) -> None:
    answer = await api.call(method, path)
    assert (answer.code, answer.body["kind"]) == (code, "Status")


async def test_a_body_that_is_too_large(api: Served) -> None:
    answer = await api.call("POST", MAPS, b" " * (3 * 1024 * 1024 + 1))
    assert (answer.code, answer.body["reason"]) == (413, "RequestEntityTooLarge")


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("application/json", "ConfigMapList"),
        ("*/*", "ConfigMapList"),
        ("application/vnd.kubernetes.protobuf,application/json", "ConfigMapList"),
        ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", "Table"),
        ("application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", "PartialObjectMetadataList"),
        ("application/json;as=Strange;v=v1;g=meta.k8s.io,application/json", "ConfigMapList"),
    ],
)
async def test_the_shape_follows_accept(api: Served, accept: str, kind: str) -> None:
    await api.create(MAPS, config_map("m", secret="x" * 50))
    answer = await api.get(MAPS, headers={"Accept": accept})
    assert answer.body["kind"] == kind
    if kind == "PartialObjectMetadataList":
        assert "data" not in answer.body["items"][0]


async def test_a_shape_that_nobody_makes(api: Served) -> None:
    answer = await api.get(MAPS, headers={"Accept": "application/vnd.kubernetes.protobuf"})
    assert (answer.code, answer.body["reason"]) == (406, "NotAcceptable")


async def test_what_a_table_row_carries(api: Served) -> None:
    await api.create(MAPS, config_map("m", a="b"))
    table = "application/json;as=Table;v=v1;g=meta.k8s.io"

    async def row(include: str) -> dict[str, Any]:
        answer = await api.get(f"{MAPS}{include}", headers={"Accept": table})
        found: dict[str, Any] = answer.body["rows"][0]
        return found

    assert (await row(""))["object"]["kind"] == "PartialObjectMetadata"
    assert (await row("?includeObject=Object"))["object"]["data"] == {"a": "b"}
    assert "object" not in await row("?includeObject=None")


async def test_an_event_lists_by_its_involved_object(api: Served) -> None:
    event = {
        "metadata": {"name": "e1"},
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
        "reason": "Started",
        "type": "Normal",
        "message": "it started",
    }
    await api.create(f"{NS}/events", event)
    found = await api.get(f"{NS}/events?fieldSelector=involvedObject.kind%3DPod,involvedObject.name%3Dp")
    assert [i["reason"] for i in found.body["items"]] == ["Started"]
    other = await api.get(f"{NS}/events?fieldSelector=involvedObject.name%3Dq")
    assert other.body["items"] == []


async def test_events_are_forgotten_after_an_hour(api: Served) -> None:
    involved = {"kind": "Pod", "name": "p", "namespace": "default"}
    for name in ("old", "repeated"):
        await api.create(
            f"{NS}/events", {"metadata": {"name": name}, "involvedObject": involved, "reason": "R", "type": "Normal"}
        )
    api.clock.advance(3000)
    await api.patch(f"{NS}/events/repeated", {"lastTimestamp": rfc3339(api.clock()), "count": 2})
    assert forget_once(api.server.rest, api.clock()) == 0
    api.clock.advance(601)
    assert forget_once(api.server.rest, api.clock()) == 1
    assert [i["metadata"]["name"] for i in (await api.get(f"{NS}/events")).body["items"]] == ["repeated"]


async def test_a_secrets_string_data_becomes_data(api: Served) -> None:
    body = {"metadata": {"name": "s"}, "data": {"a": "MQ=="}, "stringData": {"b": "2"}}
    made = await api.create(f"{NS}/secrets", body)
    assert made["data"] == {"a": "MQ==", "b": "Mg=="} and "stringData" not in made and made["type"] == "Opaque"
    patched = await api.patch(f"{NS}/secrets/s", {"stringData": {"a": "3"}})
    assert patched.body["data"] == {"a": "Mw==", "b": "Mg=="}


async def test_a_namespace_is_labelled_with_its_name(api: Served) -> None:
    made = await api.create("/api/v1/namespaces", {"metadata": {"name": "shop"}})
    assert made["metadata"]["labels"] == {"kubernetes.io/metadata.name": "shop"}
