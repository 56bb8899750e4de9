"""The cells that `kubectl get` prints: the stories of pods first, then each kind's row."""

from __future__ import annotations

from typing import Any

import pytest

from portway.apiserver import podcells, tables
from portway.apiserver.cells import listed, selector_text, since
from portway.apiserver.times import age, parse, rfc3339
from portway.objects import kinds
from portway.objects.kinds import KINDS, Kind

NOW = 1_800_000_000.0
Value = dict[str, Any]


def ago(seconds: float) -> str:
    return rfc3339(NOW - seconds)


def container(
    state: Value, *, ready: bool = False, restarts: int = 0, last: Value | None = None, name: str = "c"
) -> Value:
    return {"name": name, "ready": ready, "restartCount": restarts, "state": state, "lastState": last or {}}


def pod(
    phase: str, *containers: Value, spec: Value | None = None, metadata: Value | None = None, **status: Any
) -> Value:
    names = [{"name": c["name"]} for c in containers] or [{"name": "c"}]
    return {
        "metadata": {"name": "p", "creationTimestamp": ago(60), **(metadata or {})},
        "spec": {"containers": names, **(spec or {})},
        "status": {"phase": phase, "containerStatuses": list(containers), **status},
    }


RUNNING: Value = {"running": {"startedAt": ago(10)}}
READY: Value = {"conditions": [{"type": "Ready", "status": "True"}]}
DONE = {"terminated": {"exitCode": 0, "reason": "Completed"}}
GONE = {"deletionTimestamp": ago(0)}
INIT = {"initContainers": [{"name": "a"}, {"name": "b"}]}


def waiting(reason: str) -> Value:
    return {"waiting": {"reason": reason}}


@pytest.mark.parametrize(
    ("story", "value", "status", "ready"),
    [
        ("it waits for a node", pod("Pending"), "Pending", "0/1"),
        (
            "its container is being made",
            pod("Pending", container(waiting("ContainerCreating"))),
            "ContainerCreating",
            "0/1",
        ),
        ("its image is not known", pod("Pending", container(waiting("ErrImagePull"))), "ErrImagePull", "0/1"),
        ("it runs and is ready", pod("Running", container(RUNNING, ready=True)), "Running", "1/1"),
        ("it runs and is not ready", pod("Running", container(RUNNING)), "Running", "0/1"),
        (
            "it fails again and again",
            pod("Running", container(waiting("CrashLoopBackOff"), restarts=3)),
            "CrashLoopBackOff",
            "0/1",
        ),
        ("it ended well", pod("Succeeded", container(DONE)), "Completed", "0/1"),
        (
            "it ended badly",
            pod("Failed", container({"terminated": {"exitCode": 1, "reason": "Error"}})),
            "Error",
            "0/1",
        ),
        ("it was killed", pod("Failed", container({"terminated": {"exitCode": 137, "signal": 9}})), "Signal:9", "0/1"),
        ("it left no reason", pod("Failed", container({"terminated": {"exitCode": 4}})), "ExitCode:4", "0/1"),
        (
            "one of two has ended, and it is ready",
            pod("Running", container(RUNNING, ready=True), container(DONE, name="d"), **READY),
            "Running",
            "1/2",
        ),
        (
            "one of two has ended, and it is not ready",
            pod("Running", container(DONE), container(RUNNING, ready=True, name="d")),
            "NotReady",
            "1/2",
        ),
        ("it is being deleted", pod("Running", container(RUNNING, ready=True), metadata=GONE), "Terminating", "1/1"),
        ("it ended before it was deleted", pod("Succeeded", container(DONE), metadata=GONE), "Completed", "0/1"),
        ("its node is lost", pod("Running", metadata=GONE, reason="NodeLost"), "Unknown", "0/1"),
        ("it was evicted", pod("Failed", reason="Evicted"), "Evicted", "0/1"),
        (
            "its first init container runs",
            pod("Pending", spec=INIT, initContainerStatuses=[container(RUNNING, name="a")]),
            "Init:0/2",
            "0/1",
        ),
        (
            "its second init container failed",
            pod(
                "Pending",
                spec=INIT,
                initContainerStatuses=[
                    container(DONE, name="a"),
                    container({"terminated": {"exitCode": 2, "reason": "Error"}}, name="b"),
                ],
            ),
            "Init:Error",
            "0/1",
        ),
        (
            "its init container's image is not known",
            pod("Pending", spec=INIT, initContainerStatuses=[container(waiting("ImagePullBackOff"), name="a")]),
            "Init:ImagePullBackOff",
            "0/1",
        ),
        (
            "a sidecar counts as a container",
            pod(
                "Running",
                container(RUNNING, ready=True),
                spec={"initContainers": [{"name": "s", "restartPolicy": "Always"}]},
                initContainerStatuses=[{**container(RUNNING, ready=True, name="s"), "started": True}],
            ),
            "Running",
            "2/2",
        ),
    ],
)
def test_the_status_of_a_pod(story: str, value: Value, status: str, ready: str) -> None:
    assert (podcells.status(value, NOW), podcells.ready(value, NOW)) == (status, ready), story


def test_restarts_say_when() -> None:
    last = {"terminated": {"exitCode": 1, "finishedAt": ago(5)}}
    assert podcells.restarts(pod("Running", container(RUNNING, restarts=1, last=last)), NOW) == "1 (5s ago)"
    assert podcells.restarts(pod("Running", container(RUNNING, restarts=2)), NOW) == "2"


def test_a_pods_wide_cells() -> None:
    value = pod(
        "Running", podIPs=[{"ip": "10.0.1.2"}], spec={"nodeName": "node-1", "readinessGates": [{"conditionType": "x"}]}
    )
    assert tables.cells(kinds.POD, value, NOW)[4:] == ["60s", "10.0.1.2", "node-1", "<none>", "0/1"]


METADATA = {"name": "x", "creationTimestamp": ago(90)}
TEMPLATE = {"spec": {"containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "j"}]}}
SELECTOR = {"matchLabels": {"app": "web"}}


def service(**spec: Any) -> Value:
    return {"metadata": METADATA, "spec": spec}


PORT = {"port": 80, "protocol": "TCP", "nodePort": 30080}

ROWS: list[tuple[str, Kind, Value, list[Any]]] = [
    (
        "a node port",
        kinds.SERVICE,
        service(
            type="NodePort",
            clusterIPs=["10.3.240.9"],
            ports=[PORT, {"port": 53, "protocol": "UDP"}],
            selector={"b": "2", "a": "1"},
        ),
        ["x", "NodePort", "10.3.240.9", "<none>", "80:30080/TCP,53/UDP", "90s", "a=1,b=2"],
    ),
    (
        "a name elsewhere",
        kinds.SERVICE,
        service(type="ExternalName", externalName="example.com"),
        ["x", "ExternalName", "<none>", "example.com", "<none>", "90s", "<none>"],
    ),
    (
        "a headless service",
        kinds.SERVICE,
        service(type="ClusterIP", clusterIP="None", clusterIPs=["None"]),
        ["x", "ClusterIP", "None", "<none>", "<none>", "90s", "<none>"],
    ),
    (
        "a load balancer that waits",
        kinds.SERVICE,
        service(type="LoadBalancer", clusterIP="10.3.240.9"),
        ["x", "LoadBalancer", "10.3.240.9", "<pending>", "<none>", "90s", "<none>"],
    ),
    (
        "a load balancer with an address",
        kinds.SERVICE,
        {
            **service(type="LoadBalancer", clusterIP="1.2.3.4", externalIPs=["5.6.7.8"]),
            "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}},
        },
        ["x", "LoadBalancer", "1.2.3.4", "203.0.113.1,5.6.7.8", "<none>", "90s", "<none>"],
    ),
    (
        "a deployment",
        kinds.DEPLOYMENT,
        {
            "metadata": METADATA,
            "spec": {"replicas": 3, "template": TEMPLATE, "selector": SELECTOR},
            "status": {"readyReplicas": 1, "updatedReplicas": 2},
        },
        ["x", "1/3", 2, 0, "90s", "a,b", "i,j", "app=web"],
    ),
    (
        "a replica set",
        kinds.REPLICA_SET,
        {
            "metadata": METADATA,
            "spec": {"replicas": 3, "template": TEMPLATE, "selector": SELECTOR},
            "status": {"replicas": 2},
        },
        ["x", 3, 2, 0, "90s", "a,b", "i,j", "app=web"],
    ),
    (
        "a node that is ready and cordoned",
        kinds.NODE,
        {
            "metadata": {**METADATA, "labels": {"node-role.kubernetes.io/worker": ""}},
            "spec": {"unschedulable": True},
            "status": {
                "conditions": [{"type": "Ready", "status": "True"}],
                "addresses": [{"type": "InternalIP", "address": "10.100.0.2"}],
                "nodeInfo": {"kubeletVersion": "v1.37.0"},
            },
        },
        [
            "x",
            "Ready,SchedulingDisabled",
            "worker",
            "90s",
            "v1.37.0",
            "10.100.0.2",
            "<none>",
            "<unknown>",
            "<unknown>",
            "<unknown>",
        ],
    ),
    (
        "a node that never reported",
        kinds.NODE,
        {"metadata": METADATA},
        ["x", "Unknown", "<none>", "90s", "", "<none>", "<none>"],
    ),
    (
        "endpoints, more than are shown",
        kinds.ENDPOINTS,
        {
            "metadata": METADATA,
            "subsets": [{"addresses": [{"ip": f"10.0.1.{n}"} for n in (1, 2, 3, 4)], "ports": [{"port": 80}]}],
        },
        ["x", "10.0.1.1:80,10.0.1.2:80,10.0.1.3:80 + 1 more...", "90s"],
    ),
    ("no endpoints", kinds.ENDPOINTS, {"metadata": METADATA}, ["x", "<none>", "90s"]),
    (
        "a slice",
        kinds.ENDPOINT_SLICE,
        {
            "metadata": METADATA,
            "addressType": "IPv4",
            "ports": [{"port": 80}],
            "endpoints": [{"addresses": ["10.0.1.1"]}],
        },
        ["x", "IPv4", "80", "10.0.1.1", "90s"],
    ),
    (
        "an empty slice",
        kinds.ENDPOINT_SLICE,
        {"metadata": METADATA, "addressType": "IPv4"},
        ["x", "IPv4", "<unset>", "<unset>", "90s"],
    ),
    ("a namespace", kinds.NAMESPACE, {"metadata": METADATA, "status": {"phase": "Active"}}, ["x", "Active", "90s"]),
    (
        "a config map",
        kinds.CONFIG_MAP,
        {"metadata": METADATA, "data": {"a": "1"}, "binaryData": {"b": ""}},
        ["x", 2, "90s"],
    ),
    ("a secret", kinds.SECRET, {"metadata": METADATA, "type": "Opaque", "data": {"a": ""}}, ["x", "Opaque", 1, "90s"]),
    ("a lease", kinds.LEASE, {"metadata": METADATA, "spec": {"holderIdentity": "node-1"}}, ["x", "node-1", "90s"]),
    (
        "an event",
        kinds.EVENT,
        {
            "metadata": METADATA,
            "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec"},
            "type": "Normal",
            "reason": "Started",
            "message": "it started\n",
            "source": {"component": "node", "host": "node-1"},
            "firstTimestamp": ago(300),
            "lastTimestamp": ago(20),
            "count": 3,
        },
        ["20s", "Normal", "Started", "pod/p", "spec", "node, node-1", "it started", "5m", 3, "x"],
    ),
]


@pytest.mark.parametrize(("what", "kind", "value", "cells"), ROWS, ids=[r[0] for r in ROWS])
def test_a_row(what: str, kind: Kind, value: Value, cells: list[Any]) -> None:
    assert tables.cells(kind, value, NOW)[: len(cells)] == cells


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.plural)
def test_every_kind_has_a_table_and_an_empty_object_a_row(kind: Kind) -> None:
    definitions = tables.definitions(kind)
    cells = tables.cells(kind, {"metadata": {"name": "x"}}, NOW)
    assert len(cells) == len(definitions) > 1
    assert [d["format"] for d in definitions if d["name"] == "Name"] == ["name"]
    numbers = [isinstance(c, int) for c in cells]
    assert numbers == [d["type"] == "integer" for d in definitions]


def test_events_are_shown_in_the_order_of_time() -> None:
    late, early = ({"metadata": {"name": n}, "lastTimestamp": ago(s)} for n, s in (("late", 1), ("early", 9)))
    assert tables.in_order(kinds.EVENT, [late, early]) == [early, late]
    assert tables.in_order(kinds.POD, [late, early]) == [late, early]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"),
        (-0.5, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (599, "9m59s"),
        (600, "10m"),
        (10_799, "179m"),
        (10_800, "3h"),
        (12_000, "3h20m"),
        (8 * 3600, "8h"),
        (47 * 3600 + 3599, "47h"),
        (48 * 3600, "2d"),
        (49 * 3600, "2d1h"),
        (8 * 86400, "8d"),
        (700 * 86400, "700d"),
        (730 * 86400, "2y"),
        (740 * 86400, "2y10d"),
        (3000 * 86400, "8y"),
    ],
)
def test_ages(seconds: float, text: str) -> None:
    assert age(seconds) == text


def test_times() -> None:
    assert parse(rfc3339(NOW)) == NOW
    assert parse("2027-01-15T08:00:00.500000Z") == NOW + 0.5
    assert since(None, NOW) == since("nonsense", NOW) == "<unknown>"
    with pytest.raises(ValueError, match="no time zone"):
        parse("2027-01-15T08:00:00")


def test_small_texts() -> None:
    assert listed(["a", "b", "c", "d", "e"], 3, "-") == "a,b,c + 2 more..."
    expressions = [
        {"key": "t", "operator": "In", "values": ["y", "x"]},
        {"key": "u", "operator": "NotIn", "values": ["z"]},
        {"key": "v", "operator": "Exists"},
        {"key": "w", "operator": "DoesNotExist"},
    ]
    assert (
        selector_text({"matchLabels": {"a": "b"}, "matchExpressions": expressions}) == "a=b,t in (x,y),u notin (z),v,!w"
    )
    assert selector_text({}) == "<none>"
