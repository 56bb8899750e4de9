"""The real kubectl over TLS with a client certificate: the commands that people type, and what they read."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from build_apiserver import Kubectl, Served, kubectl_serving
from build_streams import FakeStreams

pytestmark = pytest.mark.kubectl

DEMO = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: c, image: "python:3.11", ports: [{name: http, containerPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, labels: {a: b}}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: http}]
"""

POD = """
apiVersion: v1
kind: Pod
metadata: {name: p, labels: {app: web}}
spec:
  nodeName: node-1
  containers: [{name: c, image: nginx}]
"""


@pytest.fixture
def streams() -> FakeStreams:
    return FakeStreams([b"one\n", b"two\n", b"three\n"])


@pytest.fixture
async def kube(tmp_path: Path, streams: FakeStreams) -> AsyncIterator[tuple[Served, Kubectl]]:
    async with kubectl_serving(tmp_path, streams=streams) as (served, kubectl):
        yield served, kubectl


async def status(served: Served, path: str, **fields: Any) -> None:
    answer = await served.patch(f"{path}/status", {"status": fields})
    if answer.code != 200:
        raise RuntimeError(str(answer.body))


PODS = "/api/v1/namespaces/default/pods"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"


async def test_apply_get_change_delete(kube: tuple[Served, Kubectl], tmp_path: Path) -> None:
    _, kubectl = kube
    file = tmp_path / "demo.yaml"
    file.write_text(DEMO)
    assert (await kubectl("apply", "-f", str(file))).out == "deployment.apps/web created\nservice/web created\n"
    assert (await kubectl("apply", "-f", str(file))).out == "deployment.apps/web unchanged\nservice/web unchanged\n"
    file.write_text(DEMO.replace("replicas: 2", "replicas: 3").replace("port: 80,", "port: 81,"))
    diff = await kubectl("diff", "-f", str(file), code=1)
    assert "+  replicas: 3" in diff.out and "-  replicas: 2" in diff.out
    assert (await kubectl("apply", "-f", str(file))).out == "deployment.apps/web configured\nservice/web configured\n"
    assert (await kubectl("get", "deploy", "web")).lines[1][:4] == ["web", "0/3", "0", "0"]
    service = (await kubectl("get", "svc", "web", "-o", "wide")).lines
    assert service[0] == ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE", "SELECTOR"]
    assert service[1][1] == "ClusterIP" and service[1][3:5] == ["<none>", "81/TCP"] and service[1][6] == "app=web"
    replaced = await kubectl("replace", "-f", str(file))
    assert "service/web replaced" in replaced.out
    deleted = await kubectl("delete", "-f", str(file))
    assert 'deployment.apps "web" deleted' in deleted.out and 'service "web" deleted' in deleted.out
    assert "NotFound" in (await kubectl("get", "svc", "web", code=1)).err


async def test_server_side_apply(kube: tuple[Served, Kubectl], tmp_path: Path) -> None:
    _, kubectl = kube
    file = tmp_path / "demo.yaml"
    file.write_text(DEMO)
    await kubectl("apply", "--server-side", "-f", str(file))
    await kubectl("scale", "deploy", "web", "--replicas=5")
    conflict = await kubectl("apply", "--server-side", "--field-manager=other", "-f", str(file), code=1)
    assert ".spec.replicas" in conflict.err
    await kubectl("apply", "--server-side", "--force-conflicts", "-f", str(file))
    assert (await kubectl("get", "deploy", "web", "-o", "jsonpath={.spec.replicas}")).out == "2"


async def test_create_by_generators(kube: tuple[Served, Kubectl]) -> None:
    _, kubectl = kube
    assert (await kubectl("create", "configmap", "cm", "--from-literal=a=b")).out == "configmap/cm created\n"
    assert (await kubectl("create", "secret", "generic", "s", "--from-literal=a=b")).out == "secret/s created\n"
    assert (await kubectl("create", "namespace", "shop")).out == "namespace/shop created\n"
    assert (
        await kubectl("create", "deployment", "d", "--image=nginx", "--replicas=2")
    ).out == "deployment.apps/d created\n"
    assert (await kubectl("create", "service", "nodeport", "np", "--tcp=80:8080")).out == "service/np created\n"
    assert re.fullmatch(r"80:3\d{4}/TCP", (await kubectl("get", "svc", "np")).lines[1][4])
    refused = await kubectl("create", "service", "nodeport", "n2", "--tcp=80:80", "--node-port=99", code=1)
    assert "provided port is not in the valid range. The range of valid ports is 30000-32767" in refused.err
    assert (await kubectl("get", "cm", "cm", "-o", "jsonpath={.data}")).out == '{"a":"b"}'


async def test_mistakes_get_kubernetes_answers(kube: tuple[Served, Kubectl]) -> None:
    _, kubectl = kube
    unknown = await kubectl("apply", "-f", "-", stdin=DEMO.replace("replicas:", "replica:"), code=1)
    assert 'unknown field "spec.replica"' in unknown.err
    invalid = await kubectl("apply", "-f", "-", stdin=DEMO.replace("port: 80,", "port: 99999,"), code=1)
    assert 'The Service "web" is invalid: spec.ports[0].port: Invalid value: 99999' in invalid.err
    broken = await kubectl("create", "--raw", PODS, "-f", "-", stdin="{", code=1)
    assert "BadRequest" in broken.err
    missing = await kubectl("get", "nosuch", code=1)
    assert 'the server doesn\'t have a resource type "nosuch"' in missing.err
    await kubectl("apply", "-f", "-", stdin=DEMO)
    taken = await kubectl("create", "-f", "-", stdin=DEMO, code=1)
    assert 'deployments.apps "web" already exists' in taken.err


async def test_get_pods_as_people_know_it(kube: tuple[Served, Kubectl]) -> None:
    served, kubectl = kube
    await kubectl("apply", "-f", "-", stdin=POD)
    running = {"name": "c", "ready": True, "restartCount": 0, "image": "nginx", "imageID": "", "state": {"running": {}}}
    await status(
        served, f"{PODS}/p", phase="Running", podIP="10.0.1.2", podIPs=[{"ip": "10.0.1.2"}], containerStatuses=[running]
    )
    lines = (await kubectl("get", "pods", "-o", "wide")).lines
    assert " ".join(lines[0]) == "NAME READY STATUS RESTARTS AGE IP NODE NOMINATED NODE READINESS GATES"
    assert lines[1][:4] == ["p", "1/1", "Running", "0"] and lines[1][5:] == ["10.0.1.2", "node-1", "<none>", "<none>"]
    assert (await kubectl("get", "pods", "-l", "app=web", "-o", "name")).out == "pod/p\n"
    assert (
        await kubectl("get", "pods", "-A", "--field-selector", "status.phase=Running", "--sort-by=.metadata.name")
    ).lines[1][1] == "p"
    assert (await kubectl("get", "pods", "--chunk-size=1", "-o", "name")).out == "pod/p\n"
    found = json.loads((await kubectl("get", "pods", "-o", "json")).out)
    assert found["items"][0]["metadata"]["name"] == "p"


async def test_describe(kube: tuple[Served, Kubectl]) -> None:
    _, kubectl = kube
    await kubectl("apply", "-f", "-", stdin=DEMO + "---" + POD)
    service = (await kubectl("describe", "svc", "web")).out
    assert "TargetPort:               http/TCP" in service and "Session Affinity:         None" in service
    assert "Node:             node-1/" in (await kubectl("describe", "pod", "p")).out
    assert "Replicas:               2 desired" in (await kubectl("describe", "deploy", "web")).out
    assert "Status:       Active" in (await kubectl("describe", "ns", "default")).out


async def test_edit_patch_label_annotate_set_image(kube: tuple[Served, Kubectl], tmp_path: Path) -> None:
    _, kubectl = kube
    await kubectl("apply", "-f", "-", stdin=DEMO)
    edited = await kubectl("edit", "svc", "web", KUBE_EDITOR="sed -i s/port:.80$/port:\\ 82/")
    assert edited.out == "service/web edited\n"
    assert (await kubectl("get", "svc", "web", "-o", "jsonpath={.spec.ports[*].port}")).out == "82"
    await kubectl("patch", "svc", "web", "-p", '{"metadata":{"labels":{"z":"y"}}}')
    await kubectl("patch", "svc", "web", "--type=json", "-p", '[{"op":"add","path":"/metadata/labels/q","value":"1"}]')
    await kubectl("patch", "svc", "web", "--type=merge", "-p", '{"metadata":{"labels":{"a":null}}}')
    await kubectl("label", "svc", "web", "k=v")
    await kubectl("annotate", "svc", "web", "note=hello")
    metadata = json.loads((await kubectl("get", "svc", "web", "-o", "json")).out)["metadata"]
    assert metadata["labels"] == {"z": "y", "q": "1", "k": "v"} and metadata["annotations"]["note"] == "hello"
    await kubectl("set", "image", "deploy/web", "c=nginx:2")
    assert (await kubectl("get", "deploy", "web", "-o", "wide")).lines[1][6] == "nginx:2"


async def test_scale_rollout_and_wait(kube: tuple[Served, Kubectl]) -> None:
    served, kubectl = kube
    await kubectl("apply", "-f", "-", stdin=DEMO)
    await kubectl("scale", "deploy", "web", "--current-replicas=2", "--replicas=1")
    await kubectl("rollout", "restart", "deploy/web")
    waiting = asyncio.create_task(kubectl("rollout", "status", "deploy/web", "--timeout=20s"))
    available = asyncio.create_task(kubectl("wait", "--for=condition=Available", "deploy/web", "--timeout=20s"))
    generation = json.loads((await kubectl("get", "deploy", "web", "-o", "json")).out)["metadata"]["generation"]
    condition = {"type": "Available", "status": "True", "reason": "x", "message": "y"}
    numbers = {"replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1}
    await status(served, f"{DEPLOYMENTS}/web", observedGeneration=generation, conditions=[condition], **numbers)
    assert 'deployment "web" successfully rolled out' in (await waiting).out
    assert (await available).out == "deployment.apps/web condition met\n"


async def test_wait_for_a_field_and_for_deletion(kube: tuple[Served, Kubectl]) -> None:
    served, kubectl = kube
    await kubectl("apply", "-f", "-", stdin=POD)
    running = asyncio.create_task(kubectl("wait", "--for=jsonpath={.status.phase}=Running", "pod/p", "--timeout=20s"))
    await status(served, f"{PODS}/p", phase="Running")
    assert (await running).out == "pod/p condition met\n"
    gone = asyncio.create_task(kubectl("wait", "--for=delete", "pod/p", "--timeout=20s"))
    async with served.watch(f"{PODS}?watch=true") as watching:
        deleting = asyncio.create_task(kubectl("delete", "pod", "p"))
        event = await watching.next(20)
        while not event["object"]["metadata"].get("deletionTimestamp"):
            event = await watching.next(20)
    assert (await kubectl("get", "pod", "p")).lines[1][2] == "Terminating"
    await served.call("DELETE", f"{PODS}/p", {"gracePeriodSeconds": 0})
    assert 'pod "p" deleted' in (await deleting).out
    assert (await gone).code == 0


async def test_watching_prints_each_change_as_a_row(kube: tuple[Served, Kubectl]) -> None:
    served, kubectl = kube
    await kubectl("apply", "-f", "-", stdin=POD)
    process = await kubectl.start("get", "pods", "-w")
    try:
        assert process.stdout is not None

        async def row() -> list[str]:
            assert process.stdout is not None
            return (await asyncio.wait_for(process.stdout.readline(), 20)).decode().split()

        assert (await row())[:3] == ["NAME", "READY", "STATUS"]
        assert (await row())[:3] == ["p", "0/1", "Pending"]
        await status(served, f"{PODS}/p", phase="Running")
        assert (await row())[:3] == ["p", "0/1", "Running"]
        await served.call("DELETE", f"{PODS}/p", {"gracePeriodSeconds": 0})
        assert (await row())[0] == "p"
    finally:
        process.kill()
        await process.wait()


async def test_logs(kube: tuple[Served, Kubectl], streams: FakeStreams) -> None:
    _, kubectl = kube
    await kubectl("apply", "-f", "-", stdin=POD)
    assert (await kubectl("logs", "p")).out == "one\ntwo\nthree\n"
    assert (await kubectl("logs", "p", "--tail=1")).out == "three\n"
    assert (await kubectl("logs", "-l", "app=web", "--tail=2")).out == "two\nthree\n"
    following = asyncio.create_task(kubectl("logs", "-f", "p", "--since=1h"))
    await streams.more.put(b"four\n")
    await streams.more.put(None)
    assert (await following).out == "one\ntwo\nthree\nfour\n"


async def test_exec(kube: tuple[Served, Kubectl]) -> None:
    _, kubectl = kube
    await kubectl("apply", "-f", "-", stdin=POD)
    assert (await kubectl("exec", "p", "--", "echo", "hello", "there")).out == "hello there\n"
    failed = await kubectl("exec", "p", "--", "fail", "3", code=3)
    assert failed.out == "out\n" and failed.err.startswith("err\n")
    assert (await kubectl("exec", "-i", "p", "--", "cat", stdin="through and back\n")).out == "through and back\n"
    assert "container x is not valid" in (await kubectl("exec", "p", "-c", "x", "--", "ls", code=1)).err


async def test_run_expose_and_delete_by_label(kube: tuple[Served, Kubectl]) -> None:
    _, kubectl = kube
    assert (await kubectl("run", "px", "--image=nginx", "--port=80", "--labels=run=px")).out == "pod/px created\n"
    assert (await kubectl("expose", "pod", "px", "--name=px", "--port=80")).out == "service/px exposed\n"
    assert 'pod "px" deleted' in (await kubectl("delete", "pod", "-l", "run=px")).out
    assert 'service "px" deleted' in (await kubectl("delete", "svc", "--all", "--wait=false")).out


async def test_nodes_are_cordoned_tainted_and_drained(kube: tuple[Served, Kubectl]) -> None:
    _, kubectl = kube
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}}
    await kubectl("create", "-f", "-", stdin=json.dumps(node))
    await kubectl("cordon", "node-1")
    assert (await kubectl("get", "nodes")).lines[1][:2] == ["node-1", "Unknown,SchedulingDisabled"]
    await kubectl("taint", "nodes", "node-1", "a=b:NoSchedule")
    assert (await kubectl("drain", "node-1", "--ignore-daemonsets", "--timeout=5s")).code == 0
    assert "Name:               node-1" in (await kubectl("describe", "node", "node-1")).out


async def test_the_server_tells_what_it_is(kube: tuple[Served, Kubectl]) -> None:
    _, kubectl = kube
    assert "Server Version: v1.37.0+portway" in (await kubectl("version")).out
    assert (await kubectl("get", "--raw", "/readyz")).out == "ok"
    assert (await kubectl("auth", "can-i", "create", "pods")).out == "yes\n"
    assert ["Username", "alice"] in (await kubectl("auth", "whoami")).lines
    resources = (await kubectl("api-resources", "-o", "wide")).out
    assert "endpointslices" in resources and "deploy " in resources
    assert "apps/v1" in (await kubectl("api-versions")).out
    assert "FIELD: targetPort <IntOrString>" in (await kubectl("explain", "svc.spec.ports.targetPort")).out
    everything = await kubectl("get", "all", "-A")
    assert "service/kubernetes" in everything.out
