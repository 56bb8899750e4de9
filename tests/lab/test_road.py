"""The road of the first example, step by step, with real packets: what `make demo` shows is tested here.

The numbers are the demo's. Each test works in an API namespace of its own, on a cluster that all share.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from build_manifests import echo_deployment, gated_deployment, service
from lab_driver import EXAMPLE, Lab, cluster_ip, hello

pytestmark = pytest.mark.lab

DEPLOYMENT = EXAMPLE / "10-deployment.yaml"
SERVICE = EXAMPLE / "20-service.yaml"
NODEPORT = EXAMPLE / "30-nodeport.yaml"
WEB = "app=service_demo_pod"
NODES = {"node-1": "10.100.0.2", "node-2": "10.100.0.3"}


@pytest.fixture
def web(lab: Lab, namespace: str) -> list[dict[str, Any]]:
    """The two pods of step 1, listening."""
    lab.apply(namespace, DEPLOYMENT)
    lab.rolled_out(namespace, "service-demo")
    pods = lab.pods(namespace, WEB)
    for pod in pods:
        listening = lab.request(
            "client", f"http://{pod['status']['podIP']}:8080/", count=500, interval=0.02, until_ok=True
        )
        assert listening.ok == 1
    return pods


def answers(lab: Lab, url: str) -> Callable[[], bool]:
    """Whether one request from `client` is answered."""
    return lambda: lab.request("client", url).ok == 1


def node_port(lab: Lab, namespace: str, name: str) -> int:
    return int(lab.get("service", name, "-n", namespace)["spec"]["ports"][0]["nodePort"])


def test_step_1_pods_reach_the_pods_of_the_other_node_and_the_nodes(lab: Lab, namespace: str, web: Any) -> None:
    one, two = web
    assert {one["spec"]["nodeName"], two["spec"]["nodeName"]} == set(NODES), "spread over the nodes"
    for pod in web:
        cidr = lab.get("node", pod["spec"]["nodeName"])["spec"]["podCIDR"]
        assert pod["status"]["podIP"].startswith(cidr.removesuffix("0/24"))

    for source, target in ((one, two), (two, one)):
        me = f"pod/{namespace}/{source['metadata']['name']}"
        there = lab.request(me, f"http://{target['status']['podIP']}:8080/")
        assert there.bodies == {f"<p>Hello from {target['metadata']['name']}</p>": 1}
        for address in NODES.values():
            # Refused is an answer: the packet reached the node, where nobody listens.
            assert lab.request(me, f"http://{address}:81/").failed == {"ECONNREFUSED": 1}
    for node in NODES:
        assert lab.request(node, f"http://{one['status']['podIP']}:8080/").ok == 1


def test_step_2_a_cluster_ip_reaches_both_pods_from_a_pod_and_from_a_node(lab: Lab, namespace: str, web: Any) -> None:
    lab.apply(namespace, SERVICE)
    address = cluster_ip(lab.get("service", "service-demo", "-n", namespace))
    assert address.startswith(("10.3.24", "10.3.25"))

    slices = lab.get("endpointslices", "-n", namespace, "-l", "kubernetes.io/service-name=service-demo")["items"]
    endpoints = lab.get("endpoints", "service-demo", "-n", namespace)
    want = {p["status"]["podIP"] for p in web}
    assert {a for s in slices for e in s["endpoints"] for a in e["addresses"]} == want
    assert {a["ip"] for s in endpoints["subsets"] for a in s["addresses"]} == want

    header, row = lab.kubectl("get", "service", "service-demo", "-n", namespace).splitlines()
    assert header.split() == ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"]
    assert row.split()[:5] == ["service-demo", "ClusterIP", address, "<none>", "80/TCP"]

    sources = [f"pod/{namespace}/{web[0]['metadata']['name']}", *NODES]
    for source in sources:
        seen = lab.request(source, f"http://{address}/", count=40)
        assert seen.failed == {}
        assert set(seen.bodies) == hello(web), f"both pods answer {source}"

    for host in ("client", "edge", *NODES):
        table = lab.portway("exec", host, "--", "cat", "/proc/net/fib_trie").stdout
        assert address not in table, "the address is on no interface"


def test_step_3_a_pod_that_is_not_ready_leaves_the_service_and_comes_back(lab: Lab, namespace: str) -> None:
    lab.apply(namespace, gated_deployment("web"), service("web"))
    lab.rolled_out(namespace, "web")
    pods = lab.pods(namespace)
    address = cluster_ip(lab.get("service", "web", "-n", namespace))
    sick, well = (p["metadata"]["name"] for p in pods)

    lab.kubectl("exec", "-n", namespace, sick, "--", "rm", "/ready")
    lab.kubectl("wait", "-n", namespace, f"pod/{sick}", "--for=condition=Ready=false", "--timeout=20s")
    only = {f"<p>Hello from {well}</p>"}
    lab.eventually(
        "only the ready pod answers",
        lambda: set(lab.request("node-1", f"http://{address}/", count=20).bodies) == only,
    )

    lab.kubectl("exec", "-n", namespace, sick, "--", "touch", "/ready")
    lab.kubectl("wait", "-n", namespace, f"pod/{sick}", "--for=condition=Ready", "--timeout=20s")
    lab.eventually(
        "both pods answer",
        lambda: set(lab.request("node-1", f"http://{address}/", count=30).bodies) == hello(pods),
    )


def test_step_3_a_deleted_pod_is_replaced(lab: Lab, namespace: str, web: Any) -> None:
    gone = web[0]["metadata"]["name"]
    lab.kubectl("delete", "pod", gone, "-n", namespace)
    lab.rolled_out(namespace, "service-demo")
    now = {p["metadata"]["name"] for p in lab.pods(namespace, WEB)}
    assert len(now) == 2
    assert gone not in now


def test_step_3_a_rolling_update_with_a_pre_stop_sleep_loses_no_request(lab: Lab, namespace: str) -> None:
    lab.apply(namespace, echo_deployment("web", pre_stop_seconds=1), service("web"))
    lab.rolled_out(namespace, "web")
    before = {p["metadata"]["name"] for p in lab.pods(namespace)}
    address = cluster_ip(lab.get("service", "web", "-n", namespace))

    with lab.load("node-1", f"http://{address}/", workers=2) as load:
        lab.apply(namespace, echo_deployment("web", version="2", pre_stop_seconds=1))
        lab.rolled_out(namespace, "web")
        for pod in before:
            lab.kubectl("wait", "-n", namespace, f"pod/{pod}", "--for=delete", "--timeout=30s")
        report = load.stop()
    assert report.failed == {}
    assert report.ok > 50
    assert {e["pod"] for e in report.echoes()} > before, "old and new pods answered"


def test_step_3_a_rolling_update_without_pre_stop_loses_only_what_was_in_flight(lab: Lab, namespace: str) -> None:
    lab.apply(namespace, echo_deployment("web"), service("web"))
    lab.rolled_out(namespace, "web")
    before = {p["metadata"]["name"] for p in lab.pods(namespace)}
    address = cluster_ip(lab.get("service", "web", "-n", namespace))
    workers = 2
    with lab.load("node-1", f"http://{address}/", workers=workers) as load:
        lab.apply(namespace, echo_deployment("web", version="2"))
        lab.rolled_out(namespace, "web")
        for pod in before:
            lab.kubectl("wait", "-n", namespace, f"pod/{pod}", "--for=delete", "--timeout=30s")
        report = load.stop()
    # Each worker has one request under way; a pod that ends can cut at most those.
    assert sum(report.failed.values()) <= workers * len(before), report
    assert report.ok > 50


def test_step_4_a_route_to_one_node_answers_until_that_node_stops(lab: Lab, namespace: str) -> None:
    lab.apply(namespace, echo_deployment("web"), service("web"))
    lab.rolled_out(namespace, "web")
    url = f"http://{cluster_ip(lab.get('service', 'web', '-n', namespace))}/"

    assert lab.request("client", url, timeout=0.5).ok == 0, "without a route the edge knows no such address"
    lab.portway("route", "add", "10.3.240.0/20", "--via", "node-1")
    try:
        through = lab.request("client", url, count=40)
        assert through.failed == {}
        assert {e["node"] for e in through.echoes()} == set(NODES), "node-1 forwards to the pods of both nodes"

        lab.portway("node", "stop", "node-1")
        try:
            assert lab.request("client", url, count=3, timeout=0.5).ok == 0, "node-2 is healthy; nobody is asked"
            lab.portway("route", "delete", "10.3.240.0/20")
            lab.portway("route", "add", "10.3.240.0/20", "--via", "node-2")
            lab.eventually("node-2 answers", lambda: lab.request("client", url, timeout=0.5).ok == 1)
        finally:
            lab.portway("node", "start", "node-1")
    finally:
        lab.portway("route", "delete", "10.3.240.0/20")
    lab.eventually("the cluster is whole again", lambda: bool(lab.status()["ready"]))


def test_step_5_port_80_of_a_node_is_refused(lab: Lab) -> None:
    assert lab.request("client", "http://10.100.0.2:80/").failed == {"ECONNREFUSED": 1}


def test_step_6_every_node_answers_on_the_node_port_whichever_has_the_pod(lab: Lab, namespace: str) -> None:
    lab.apply(namespace, echo_deployment("web", replicas=1), service("web", type="NodePort"))
    lab.rolled_out(namespace, "web")
    port = node_port(lab, namespace, "web")
    assert 30000 <= port <= 32767
    row = lab.kubectl("get", "service", "web", "-n", namespace, "--no-headers").split()
    assert row[4] == f"80:{port}/TCP"

    for node, address in NODES.items():
        lab.eventually(f"{node} answers", answers(lab, f"http://{address}:{port}/"))
        (seen,) = lab.request("client", f"http://{address}:{port}/").echoes()
        assert seen["source"]["address"] == address, "the pod sees the node that was asked, not the client"


def test_step_6_the_example_as_it_stands(lab: Lab, namespace: str, web: Any) -> None:
    lab.apply(namespace, NODEPORT)
    port = node_port(lab, namespace, "service-demo-nodeport")
    for address in NODES.values():
        url = f"http://{address}:{port}/"
        lab.eventually("the node port answers", answers(lab, url))
        assert set(lab.request("client", url, count=40).bodies) == hello(web)


def refused(lab: Lab, namespace: str, **spec: Any) -> str:
    """kubectl's words when this Service is created; the test fails when it is accepted."""
    done = lab.kubectl_run("create", "-n", namespace, "-f", "-", stdin=json.dumps(service("refused", **spec)))
    assert done.returncode != 0, done.stdout
    return done.stderr


def test_step_7_a_port_or_address_that_cannot_be_had_is_refused_at_the_request(lab: Lab, namespace: str) -> None:
    def ports(port: int) -> dict[str, Any]:
        return {"type": "NodePort", "ports": [{"port": 80, "targetPort": "http", "nodePort": port}]}

    lab.apply(namespace, service("holder", **ports(30123)))
    taken = cluster_ip(lab.get("service", "holder", "-n", namespace))
    try:
        assert "The range of valid ports is 30000-32767" in refused(lab, namespace, **ports(99))
        assert "provided port is already allocated" in refused(lab, namespace, **ports(30123))
        assert "provided IP is already allocated" in refused(lab, namespace, clusterIP=taken)
        assert "not in the valid range" in refused(lab, namespace, clusterIP="192.0.2.1")
        # Nothing half-allocated: the address that came with a refused port is free.
        free = "10.3.240.77"
        assert "already allocated" in refused(lab, namespace, clusterIP=free, **ports(30123))
        lab.apply(namespace, service("later", clusterIP=free))
        assert cluster_ip(lab.get("service", "later", "-n", namespace)) == free
    finally:
        lab.kubectl("delete", "service", "--all", "-n", namespace)


def test_step_7_node_ports_used_up(lab: Lab, namespace: str) -> None:
    def many(count: int) -> dict[str, Any]:
        return {"type": "NodePort", "ports": [{"name": f"p{i}", "port": 1000 + i} for i in range(count)]}

    left = 2768
    while left > 0:
        batch = min(left, 350)
        done = lab.kubectl_run(
            "create", "-n", namespace, "-f", "-", stdin=json.dumps(service(f"s{left}", **many(batch)))
        )
        if done.returncode != 0:  # the remaining ports are fewer: other Services of the cluster hold some
            assert "range is full" in done.stderr
            break
        left -= batch
    while lab.kubectl_run(
        "create", "-n", namespace, "-f", "-", stdin=json.dumps(service(f"one-{left}", **many(1)))
    ).returncode == 0:  # fmt: skip
        left -= 1
    assert "range is full" in refused(lab, namespace, **many(1))
    lab.kubectl("delete", "service", "--all", "-n", namespace)
    lab.apply(namespace, service("again", **many(1)))


def test_step_8_a_node_joins_answers_and_leaves(lab: Lab, namespace: str) -> None:
    lab.apply(namespace, echo_deployment("web", pre_stop_seconds=1), service("web", type="NodePort"))
    lab.rolled_out(namespace, "web")
    port = node_port(lab, namespace, "web")
    lab.portway("node", "add", "node-3")
    try:
        joined = lab.request(
            "client", f"http://10.100.0.4:{port}/", seconds=10, interval=0.02, count=1000, until_ok=True
        )
        assert joined.ok == 1
        assert lab.get("node", "node-3")["spec"]["podCIDR"] == "10.0.3.0/24"
        lab.kubectl("scale", "deployment/web", "-n", namespace, "--replicas=6")
        lab.rolled_out(namespace, "web")
        assert "node-3" in {p["spec"]["nodeName"] for p in lab.pods(namespace)}

        with lab.load("client", f"http://10.100.0.2:{port}/") as load:
            lab.portway("node", "remove", "node-3")
            lab.rolled_out(namespace, "web")
            report = load.stop()
        assert report.failed == {}
        assert {p["spec"]["nodeName"] for p in lab.pods(namespace)} == set(NODES)
    finally:
        if any(h["name"] == "node-3" for h in lab.status()["hosts"]):
            lab.portway("node", "remove", "node-3")


def test_a_node_that_died_is_not_asked_by_the_others(lab: Lab, namespace: str) -> None:
    lab.apply(namespace, echo_deployment("web"), service("web", type="NodePort"))
    lab.rolled_out(namespace, "web")
    url = f"http://10.100.0.2:{node_port(lab, namespace, 'web')}/"
    lab.portway("node", "stop", "node-2")
    try:
        lab.eventually("only node-1's pod is asked", lambda: lab.request("client", url, count=10, timeout=0.5).ok == 10)
    finally:
        lab.portway("node", "start", "node-2")
    lab.eventually("the cluster is whole again", lambda: bool(lab.status()["ready"]))


def test_the_shell_of_the_example_runs_in_a_pod(lab: Lab, namespace: str, web: Any) -> None:
    name = web[0]["metadata"]["name"]
    assert lab.kubectl("exec", "-n", namespace, name, "--", "hostname").strip() == name
    inside = lab.portway(
        "exec", f"pod/{namespace}/{name}", "--", sys.executable, "-c", "import socket; print(socket.gethostname())"
    )
    assert inside.stdout.strip() == name
