"""LoadBalancer Services with real packets: client → edge → node port → pod, and what happens when nodes come and go."""

from __future__ import annotations

import json
import time

import pytest

from build_balancer_lab import (
    CLIENT,
    NODES,
    address_of,
    answered,
    balanced,
    condition,
    datagram,
    found,
    nodes_of,
    pods,
    ready,
    reason,
    sources,
)
from lab_driver import Lab

pytestmark = pytest.mark.lab


def test_a_service_is_pending_until_it_has_an_address_and_keeps_the_other_two(lab: Lab, namespace: str) -> None:
    pods(lab, namespace)
    lab.apply(namespace, balanced("web"))
    address = ready(lab, namespace)
    spec = found(lab, namespace)["spec"]
    _, row = lab.kubectl("get", "service", "web", "-n", namespace).splitlines()
    node_port = spec["ports"][0]["nodePort"]
    assert row.split()[:5] == ["web", "LoadBalancer", spec["clusterIP"], address, f"80:{node_port}/TCP"]
    assert address.startswith("203.0.113.") and not address.endswith((".0", ".255"))

    through_edge = answered(lab, "client", f"http://{address}/", count=60)
    assert (through_edge.failed, nodes_of(through_edge)) == ({}, set(NODES))
    assert sources(through_edge) <= set(NODES.values()), "the Cluster policy hides the client behind a node"
    assert lab.request("client", f"http://{NODES['node-1']}:{node_port}/").ok == 1
    assert lab.request("node-1", f"http://{spec['clusterIP']}/").ok == 1
    assert lab.request("client", f"http://{address}:81/").failed == {"ECONNREFUSED": 1}
    for host in ("client", "edge", *NODES):
        assert address not in lab.portway("exec", host, "--", "cat", "/proc/net/fib_trie").stdout, (
            "it is on no interface"
        )


def test_the_local_policy_keeps_the_clients_address_and_asks_only_nodes_with_a_pod(lab: Lab, namespace: str) -> None:
    pods(lab, namespace, replicas=1)
    lab.apply(namespace, balanced("web", externalTrafficPolicy="Local"))
    address = ready(lab, namespace)
    (pod,) = lab.pods(namespace)
    home = pod["spec"]["nodeName"]
    away = next(n for n in NODES if n != home)
    seen = answered(lab, "client", f"http://{address}/", count=40)
    assert (seen.failed, sources(seen), nodes_of(seen)) == ({}, {CLIENT}, {home})

    spec = found(lab, namespace)["spec"]
    node_port, health = spec["ports"][0]["nodePort"], spec["healthCheckNodePort"]
    direct = lab.request("client", f"http://{NODES[home]}:{node_port}/")
    assert sources(direct) == {CLIENT}
    assert lab.request("client", f"http://{NODES[away]}:{node_port}/", timeout=0.5).ok == 0, "no pod there: no answer"
    (said,) = lab.request("client", f"http://{NODES[home]}:{health}/healthz").bodies
    assert json.loads(said)["localEndpoints"] == 1
    assert lab.request("client", f"http://{NODES[away]}:{health}/healthz").ok == 0

    inside = lab.request(away, f"http://{address}/", count=5)
    assert inside.failed == {}, "in the cluster the address leads to every pod"


def test_pods_and_nodes_use_the_address_without_leaving_the_cluster(lab: Lab, namespace: str) -> None:
    pods(lab, namespace)
    lab.apply(namespace, balanced("web"))
    address = ready(lab, namespace)
    answered(lab, "client", f"http://{address}/")
    for pod in lab.pods(namespace):
        me = f"pod/{namespace}/{pod['metadata']['name']}"
        seen = answered(lab, me, f"http://{address}/", count=30)
        assert seen.failed == {}
        itself = {pod["status"]["podIP"], NODES[pod["spec"]["nodeName"]]}
        assert sources(seen) <= itself, "a pod meets itself by its node's address; nobody else is between them"
    assert answered(lab, "node-1", f"http://{address}/", count=20).failed == {}


def test_source_ranges_are_kept_at_the_edge_and_on_the_nodes(lab: Lab, namespace: str) -> None:
    pods(lab, namespace)
    lab.apply(namespace, balanced("web", loadBalancerSourceRanges=["192.0.2.0/24"]))
    address = ready(lab, namespace)
    assert lab.request("client", f"http://{address}/", timeout=0.5).ok == 0
    assert lab.request("node-1", f"http://{address}/", timeout=0.5).ok == 0
    lab.apply(namespace, balanced("web", loadBalancerSourceRanges=["192.0.2.0/24", f"{CLIENT}/32"]))
    assert answered(lab, "client", f"http://{address}/", count=10).failed == {}
    assert lab.request("node-1", f"http://{address}/", timeout=0.5).ok == 0


def test_several_ports_and_both_protocols_with_one_address(lab: Lab, namespace: str) -> None:
    pods(lab, namespace)
    ports = [
        {"name": "http", "port": 80, "targetPort": 8080},
        {"name": "more", "port": 8000, "targetPort": 8080},
        {"name": "udp", "port": 80, "targetPort": 8080, "protocol": "UDP"},
    ]
    lab.apply(namespace, balanced("web", ports=ports))
    address = ready(lab, namespace)
    assert answered(lab, "client", f"http://{address}/", count=5).failed == {}
    assert answered(lab, "client", f"http://{address}:8000/", count=5).failed == {}
    said = datagram(lab, "client", address, 80)
    assert isinstance(said, dict) and said["protocol"] == "UDP"
    assert datagram(lab, "client", address, 8000) == "ECONNREFUSED"

    # Not by apply: its merge key is the port number alone, so removing 80/UDP would remove 80/TCP as well.
    fewer = json.dumps({"spec": {"ports": ports[:1]}})
    lab.kubectl("patch", "service", "web", "-n", namespace, "--type=merge", "-p", fewer)
    lab.eventually("port 8000 is closed", lambda: lab.request("client", f"http://{address}:8000/").ok == 0)
    assert lab.request("client", f"http://{address}/").ok == 1


def test_every_change_of_type_gives_everything_back(lab: Lab, namespace: str) -> None:
    pods(lab, namespace)
    lab.apply(namespace, balanced("web", externalTrafficPolicy="Local"))
    address = ready(lab, namespace)
    node_port = found(lab, namespace)["spec"]["ports"][0]["nodePort"]
    lab.kubectl("patch", "service", "web", "-n", namespace, "-p", '{"spec": {"type": "ClusterIP"}}')
    spec = found(lab, namespace)["spec"]
    gone = {"externalTrafficPolicy", "healthCheckNodePort", "allocateLoadBalancerNodePorts"} & spec.keys()
    assert not gone and "nodePort" not in spec["ports"][0]
    assert found(lab, namespace)["status"]["loadBalancer"] == {}
    lab.eventually("nobody answers there", lambda: lab.request("client", f"http://{address}/", timeout=0.5).ok == 0)
    lab.eventually("the condition goes too", lambda: condition(lab, namespace) == {})
    assert lab.request("client", f"http://{NODES['node-1']}:{node_port}/").failed == {"ECONNREFUSED": 1}
    lab.apply(namespace, balanced("next", "web", annotations={"portway.dev/address": address}))
    assert address_of(lab, namespace, "next") == address, "the address is free again"


def test_an_address_that_cannot_be_had_says_why(lab: Lab, namespace: str) -> None:
    pods(lab, namespace)
    lab.apply(namespace, balanced("web"))
    address = ready(lab, namespace)
    lab.apply(namespace, balanced("taken", "web", loadBalancerIP=address))
    said = reason(lab, namespace, "taken", "AddressTaken")
    assert f"{namespace}/web" in said["message"] and said["status"] == "False"
    events = lab.get("events", "-n", namespace, "--field-selector=involvedObject.name=taken")["items"]
    assert {e["reason"] for e in events} == {"AddressTaken"}
    lab.apply(namespace, balanced("outside", "web", annotations={"portway.dev/address": "192.0.2.1"}))
    assert "192.0.2.1" in reason(lab, namespace, "outside", "OutsidePools")["message"]
    lab.apply(namespace, balanced("other", "web", loadBalancerClass="example.com/other"))
    reason(lab, namespace, "other", "OtherClass")
    row = lab.kubectl("get", "service", "other", "-n", namespace).splitlines()[1]
    assert row.split()[3] == "<pending>"

    lab.kubectl("delete", "service", "web", "-n", namespace)
    assert ready(lab, namespace, "taken") == address, "who asked gets it once it is free"


def test_two_services_share_an_address(lab: Lab, namespace: str) -> None:
    pods(lab, namespace)
    key = {"portway.dev/share": f"{namespace}-both"}
    lab.apply(namespace, balanced("web", annotations=key))
    lab.apply(namespace, balanced("api", "web", annotations=key, ports=[{"port": 81, "targetPort": "http"}]))
    address = ready(lab, namespace)
    assert ready(lab, namespace, "api") == address
    assert answered(lab, "client", f"http://{address}:81/", count=5).failed == {}
    lab.kubectl("delete", "service", "web", "-n", namespace)
    lab.eventually("port 80 is closed", lambda: lab.request("client", f"http://{address}/").ok == 0)
    assert lab.request("client", f"http://{address}:81/", count=5).failed == {}


def test_a_client_with_affinity_stays_on_one_node(lab: Lab, namespace: str) -> None:
    pods(lab, namespace)
    lab.apply(namespace, balanced("web", sessionAffinity="ClientIP", externalTrafficPolicy="Local"))
    address = ready(lab, namespace)
    seen = answered(lab, "client", f"http://{address}/", count=40)
    assert seen.failed == {} and len(nodes_of(seen)) == 1


def test_a_node_that_dies_costs_what_is_under_way_on_it_and_nothing_after_two_seconds(lab: Lab, namespace: str) -> None:
    pods(lab, namespace)
    lab.apply(namespace, balanced("web"))
    address = ready(lab, namespace)
    answered(lab, "client", f"http://{address}/")
    workers = 2
    try:
        with lab.load("client", f"http://{address}/", workers=workers) as load:
            lab.portway("node", "stop", "node-2")
            stopped = time.monotonic()
            lab.eventually("two seconds are over", lambda: time.monotonic() - stopped > 2)
            after = lab.request("client", f"http://{address}/", count=50, timeout=1)
            report = load.stop()
        print(f"load over a dying node: {report.sent} sent, {report.failed or 'none'} failed; then {after.ok} of 50")
        assert after.failed == {} and nodes_of(after) == {"node-1"}
        assert sum(report.failed.values()) <= workers, report.failed
        group = next(b for b in lab.status()["loadBalancers"] if b["service"] == f"{namespace}/web")["instanceGroup"]
        assert {i["node"]: i["healthy"] for i in group} == {"node-1": True, "node-2": False}
    finally:
        lab.portway("node", "start", "node-2")
    lab.eventually("both nodes serve again", lambda: _healthy(lab, f"{namespace}/web") == set(NODES))


def _healthy(lab: Lab, service: str) -> set[str]:
    found_ = [b for b in lab.status()["loadBalancers"] if b["service"] == service]
    return {i["node"] for b in found_ for i in b["instanceGroup"] if i["healthy"]}


def test_a_node_that_is_removed_costs_no_request(lab: Lab, namespace: str) -> None:
    lab.portway("node", "add", "node-3")
    pods(lab, namespace, replicas=3)
    lab.apply(namespace, balanced("web"))
    address = ready(lab, namespace)
    lab.eventually("three nodes serve", lambda: _healthy(lab, f"{namespace}/web") == {*NODES, "node-3"})
    answered(lab, "client", f"http://{address}/")
    with lab.load("client", f"http://{address}/", workers=2) as load:
        lab.portway("node", "remove", "node-3")
        report = load.stop()
    print(f"load over a node that leaves: {report.sent} sent, {report.failed or 'none'} failed")
    assert report.failed == {} and report.ok > 50
    assert "node-3" in nodes_of(report)


def test_a_cordoned_node_gets_no_new_connections(lab: Lab, namespace: str) -> None:
    pods(lab, namespace)
    lab.apply(namespace, balanced("web"))
    address = ready(lab, namespace)
    answered(lab, "client", f"http://{address}/")
    try:
        lab.kubectl("cordon", "node-1")
        url = f"http://{address}/"
        only = {NODES["node-2"]}
        lab.eventually("all come by node-2", lambda: sources(lab.request("client", url, count=30)) == only)
        group = next(b for b in lab.status()["loadBalancers"] if b["service"] == f"{namespace}/web")["instanceGroup"]
        assert {i["node"]: i["state"] for i in group} == {"node-1": "draining", "node-2": "serving"}
    finally:
        lab.kubectl("uncordon", "node-1")
