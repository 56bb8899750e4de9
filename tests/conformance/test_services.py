"""Upstream's [sig-network] cases for Services and endpoints, by upstream's names, on a real cluster.

The names are those of the Kubernetes 1.35 conformance suite; each test does what the case of that name does, with
`portway/echo` in place of agnhost. Cases that need what is not there yet (session affinity, ExternalName by DNS, the
proxy subresources, service accounts) are absent here and named in README.md.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from build_manifests import Object, deployment, echo_deployment, service
from lab_driver import Lab, cluster_ip

pytestmark = pytest.mark.lab

NODES = {"node-1": "10.100.0.2", "node-2": "10.100.0.3"}

UDP = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.settimeout(0.5)
    for _ in range(20):
        s.sendto(b"hello", (sys.argv[1], int(sys.argv[2])))
        try:
            print(s.recv(65536).decode())
            break
        except (TimeoutError, ConnectionRefusedError):
            continue
"""


def case(name: str) -> pytest.MarkDecorator:
    """The test's id is upstream's name."""
    return pytest.mark.parametrize("upstream", [name], ids=[name])


def ask_udp(lab: Lab, source: str, address: str, port: int) -> dict[str, Any]:
    """What a UDP echo at `address` saw, asked from inside `source`."""
    done = lab.portway("exec", source, "--", sys.executable, "-c", UDP, address, str(port))
    return dict(json.loads(done.stdout))


def addresses(lab: Lab, namespace: str, name: str) -> set[str]:
    items = lab.get("endpointslices", "-n", namespace, "-l", f"kubernetes.io/service-name={name}")["items"]
    return {a for s in items for e in s.get("endpoints") or () for a in e["addresses"]}


def refuses(lab: Lab, source: str, url: str) -> Callable[[], bool]:
    return lambda: lab.request(source, url).failed == {"ECONNREFUSED": 1}


@case("[sig-network] Services should serve a basic endpoint from pods [Conformance]")
def test_basic_endpoint(lab: Lab, namespace: str, upstream: str) -> None:
    lab.apply(namespace, service("endpoint-test"))
    assert addresses(lab, namespace, "endpoint-test") == set()
    lab.apply(namespace, echo_deployment("endpoint-test", replicas=1))
    lab.rolled_out(namespace, "endpoint-test")
    (pod,) = lab.pods(namespace)
    assert addresses(lab, namespace, "endpoint-test") == {pod["status"]["podIP"]}
    url = f"http://{cluster_ip(lab.get('service', 'endpoint-test', '-n', namespace))}/"
    assert {e["pod"] for e in lab.request("node-1", url, count=5).echoes()} == {pod["metadata"]["name"]}
    lab.kubectl("scale", "deployment/endpoint-test", "-n", namespace, "--replicas=0")
    lab.kubectl("wait", "-n", namespace, f"pod/{pod['metadata']['name']}", "--for=delete", "--timeout=30s")
    lab.eventually("no endpoint is left", lambda: addresses(lab, namespace, "endpoint-test") == set())
    lab.eventually("refused", lambda: lab.request("node-1", url).failed == {"ECONNREFUSED": 1})


def two_ports(name: str) -> Object:
    """One pod, two containers of `portway/echo` on two named ports."""
    first: Object = {"name": "first", "image": "portway/echo", "ports": [{"name": "portname1", "containerPort": 100}]}
    second: Object = {"name": "second", "image": "portway/echo", "ports": [{"name": "portname2", "containerPort": 101}]}
    for container, port in ((first, "100"), (second, "101")):
        container["env"] = [{"name": "PORT", "value": port}]
        container["readinessProbe"] = {"tcpSocket": {"port": int(port)}, "periodSeconds": 1}
    made = deployment(name, first, replicas=1)
    made["spec"]["template"]["spec"]["containers"].append(second)
    return made


@case("[sig-network] Services should serve multiport endpoints from pods [Conformance]")
def test_multiport(lab: Lab, namespace: str, upstream: str) -> None:
    ports = [{"name": f"portname{i}", "port": 79 + i, "targetPort": f"portname{i}"} for i in (1, 2)]
    lab.apply(namespace, two_ports("multi-endpoint-test"), service("multi-endpoint-test", ports=ports))
    lab.rolled_out(namespace, "multi-endpoint-test")
    (slice_,) = lab.get("endpointslices", "-n", namespace)["items"]
    assert {p["name"]: p["port"] for p in slice_["ports"]} == {"portname1": 100, "portname2": 101}
    address = cluster_ip(lab.get("service", "multi-endpoint-test", "-n", namespace))
    for port in (80, 81):
        assert lab.request("node-2", f"http://{address}:{port}/").ok == 1
    assert lab.request("node-2", f"http://{address}:82/").failed == {"ECONNREFUSED": 1}, "no such port"


@case("[sig-network] Services should be able to create a functioning NodePort service [Conformance]")
def test_node_port(lab: Lab, namespace: str, upstream: str) -> None:
    lab.apply(namespace, echo_deployment("nodeport-test"), service("nodeport-test", type="NodePort"))
    lab.rolled_out(namespace, "nodeport-test")
    found = lab.get("service", "nodeport-test", "-n", namespace)
    port = found["spec"]["ports"][0]["nodePort"]
    pods = {p["metadata"]["name"] for p in lab.pods(namespace)}
    inside = f"pod/{namespace}/{min(pods)}"
    for url in (f"http://{cluster_ip(found)}/", *(f"http://{a}:{port}/" for a in NODES.values())):
        assert {e["pod"] for e in lab.request(inside, url, count=30).echoes()} == pods, url


def test_a_type_that_changes_gives_back_its_port_and_address(lab: Lab, namespace: str) -> None:
    """The part without DNS of upstream's cases that change the type to ExternalName and back."""
    lab.apply(namespace, service("shift", type="NodePort"))
    first = lab.get("service", "shift", "-n", namespace)["spec"]
    lab.kubectl("patch", "service/shift", "-n", namespace, "-p", '{"spec":{"type":"ClusterIP"}}')
    assert "nodePort" not in lab.get("service", "shift", "-n", namespace)["spec"]["ports"][0]
    lab.apply(
        namespace, service("other", type="NodePort", ports=[{"port": 80, "nodePort": first["ports"][0]["nodePort"]}])
    )
    patch = {"spec": {"type": "ExternalName", "externalName": "example.com", "clusterIP": "", "clusterIPs": None}}
    lab.kubectl("patch", "service/shift", "-n", namespace, "--type=merge", "-p", json.dumps(patch))
    assert "clusterIP" not in lab.get("service", "shift", "-n", namespace)["spec"]
    lab.apply(namespace, service("heir", clusterIP=first["clusterIP"]))


SAME_NUMBER = "should be able to update service type to NodePort listening on same port number but different protocols"


@case(f"[sig-network] Services {SAME_NUMBER} [Conformance]")
def test_same_port_two_protocols(lab: Lab, namespace: str, upstream: str) -> None:
    ports = [
        {"name": "tcp-port", "port": 80, "protocol": "TCP", "targetPort": 8080},
        {"name": "udp-port", "port": 80, "protocol": "UDP", "targetPort": 8080},
    ]
    lab.apply(namespace, echo_deployment("both"), service("both", ports=ports))
    lab.rolled_out(namespace, "both")
    lab.kubectl("patch", "service/both", "-n", namespace, "-p", '{"spec":{"type":"NodePort"}}')
    found = lab.get("service", "both", "-n", namespace)
    tcp, udp = (p["nodePort"] for p in found["spec"]["ports"])
    assert lab.request("client", f"http://10.100.0.2:{tcp}/").ok == 1
    assert ask_udp(lab, "client", "10.100.0.2", udp)["source"]["address"] == "10.100.0.2"
    assert lab.request("node-1", f"http://{cluster_ip(found)}/").ok == 1
    assert ask_udp(lab, "node-1", cluster_ip(found), 80)["protocol"] == "UDP"


@case("[sig-network] Services should find a service from listing all namespaces [Conformance]")
def test_listing_all_namespaces(lab: Lab, namespace: str, upstream: str) -> None:
    lab.apply(namespace, service("findable"))
    everywhere = lab.get("services", "--all-namespaces")["items"]
    found = {(s["metadata"]["namespace"], s["metadata"]["name"]) for s in everywhere}
    assert {("default", "kubernetes"), (namespace, "findable")} <= found


@case("[sig-network] Services should provide secure master service [Conformance]")
def test_master_service(lab: Lab, upstream: str) -> None:
    (port,) = lab.get("service", "kubernetes", "-n", "default")["spec"]["ports"]
    assert (port["name"], port["port"], port["protocol"]) == ("https", 443, "TCP")


@case("[sig-network] EndpointSlice should have Endpoints and EndpointSlices pointing to API Server [Conformance]")
def test_master_endpoints(lab: Lab, upstream: str) -> None:
    endpoints = lab.get("endpoints", "kubernetes", "-n", "default")
    assert [a["ip"] for s in endpoints["subsets"] for a in s["addresses"]] == ["10.100.0.1"]
    assert addresses(lab, "default", "kubernetes") == {"10.100.0.1"}


@case(
    "[sig-network] EndpointSlice should create Endpoints and EndpointSlices for Pods matching a Service [Conformance]"
)
def test_slices_for_pods(lab: Lab, namespace: str, upstream: str) -> None:
    lab.apply(namespace, echo_deployment("matching"), service("matching"), service("nobody", app="no-such-pod"))
    lab.rolled_out(namespace, "matching")
    want = {p["status"]["podIP"] for p in lab.pods(namespace)}
    assert addresses(lab, namespace, "matching") == want
    subsets = lab.get("endpoints", "matching", "-n", namespace)["subsets"]
    assert {a["ip"] for s in subsets for a in s["addresses"]} == want
    assert addresses(lab, namespace, "nobody") == set()
    (slice_,) = (
        s
        for s in lab.get("endpointslices", "-n", namespace)["items"]
        if s["metadata"]["labels"]["kubernetes.io/service-name"] == "matching"
    )
    assert slice_["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] == "endpointslice-controller.k8s.io"
    assert [o["kind"] for o in slice_["metadata"]["ownerReferences"]] == ["Service"]


@case(
    "[sig-network] EndpointSlice should create and delete Endpoints and EndpointSlices for a Service with a selector specified"
)
def test_slices_go_with_their_service(lab: Lab, namespace: str, upstream: str) -> None:
    lab.apply(namespace, service("short"))
    lab.eventually("made", lambda: bool(lab.get("endpointslices", "-n", namespace)["items"]))
    lab.kubectl("delete", "service", "short", "-n", namespace)
    lab.eventually("gone", lambda: not lab.get("endpointslices,endpoints", "-n", namespace)["items"])


@case("[sig-network] Endpoints should test the lifecycle of an Endpoint [Conformance]")
def test_endpoints_lifecycle(lab: Lab, namespace: str, upstream: str) -> None:
    made = {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": "testservice", "labels": {"test-endpoint-static": "true"}},
        "subsets": [{"addresses": [{"ip": "10.0.0.24"}], "ports": [{"name": "http", "port": 80}]}],
    }
    lab.kubectl("create", "-n", namespace, "-f", "-", stdin=json.dumps(made))
    lab.kubectl("label", "endpoints/testservice", "-n", namespace, "test-service=updated")
    patch = {"subsets": [{"addresses": [{"ip": "10.0.0.25"}], "ports": [{"name": "http-test", "port": 8080}]}]}
    lab.kubectl("patch", "endpoints/testservice", "-n", namespace, "--type=strategic", "-p", json.dumps(patch))
    found = lab.get("endpoints", "testservice", "-n", namespace)
    assert found["subsets"][0]["addresses"] == [{"ip": "10.0.0.25"}]
    assert found["subsets"][0]["ports"][0] | {"protocol": "TCP"} == {
        "name": "http-test",
        "port": 8080,
        "protocol": "TCP",
    }
    lab.kubectl("delete", "endpoints", "-n", namespace, "-l", "test-endpoint-static=true")
    assert lab.kubectl("get", "endpoints", "-n", namespace, "-o", "name") == ""


@case("[sig-network] Services should complete a service status lifecycle [Conformance]")
def test_status_lifecycle(lab: Lab, namespace: str, upstream: str) -> None:
    lab.apply(namespace, service("status"))
    args = ("-n", namespace, "--subresource=status", "--type=merge", "-p")
    condition = {"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from e2e test"}
    condition["lastTransitionTime"] = "2026-01-01T00:00:00Z"
    lab.kubectl("patch", "service/status", *args, json.dumps({"status": {"conditions": [condition]}}))
    assert lab.get("service", "status", "-n", namespace)["status"]["conditions"][0]["reason"] == "E2E"
    lab.kubectl("delete", "service", "status", "-n", namespace)


@case("[sig-network] Services should delete a collection of services [Conformance]")
def test_delete_collection(lab: Lab, namespace: str, upstream: str) -> None:
    for name in ("one", "two", "three"):
        lab.apply(namespace, service(name))
    path = f"/api/v1/namespaces/{namespace}/services"
    lab.kubectl("label", "service", "-n", namespace, "one", "two", "e2e=yes")
    lab.kubectl("delete", "--raw", f"{path}?labelSelector=e2e%3Dyes")
    assert lab.kubectl("get", "services", "-n", namespace, "-o", "name").split() == ["service/three"]


@case(
    "[sig-network] Networking Granular Checks: Pods should function for intra-pod communication: http, udp [Conformance]"
)
def test_pods_reach_pods(lab: Lab, namespace: str, upstream: str) -> None:
    lab.apply(namespace, echo_deployment("netserver"))
    lab.rolled_out(namespace, "netserver")
    pods = lab.pods(namespace)
    for source in pods:
        me = f"pod/{namespace}/{source['metadata']['name']}"
        for target in pods:
            address, name = target["status"]["podIP"], target["metadata"]["name"]
            (seen,) = lab.request(me, f"http://{address}:8080/").echoes()
            assert (seen["pod"], seen["source"]["address"]) == (name, source["status"]["podIP"])
            assert ask_udp(lab, me, address, 8080)["pod"] == name


@case(
    "[sig-network] Networking Granular Checks: Pods should function for node-pod communication: http, udp [Conformance]"
)
def test_nodes_reach_pods(lab: Lab, namespace: str, upstream: str) -> None:
    lab.apply(namespace, echo_deployment("netserver"))
    lab.rolled_out(namespace, "netserver")
    for node in NODES:
        for target in lab.pods(namespace):
            address, name = target["status"]["podIP"], target["metadata"]["name"]
            assert [e["pod"] for e in lab.request(node, f"http://{address}:8080/").echoes()] == [name]
            assert ask_udp(lab, node, address, 8080)["pod"] == name


@case("[sig-network] Services should allow pods to hairpin back to themselves through services")
def test_hairpin(lab: Lab, namespace: str, upstream: str) -> None:
    lab.apply(namespace, echo_deployment("hairpin", replicas=1), service("hairpin"))
    lab.rolled_out(namespace, "hairpin")
    (pod,) = lab.pods(namespace)
    address = cluster_ip(lab.get("service", "hairpin", "-n", namespace))
    report = lab.request(f"pod/{namespace}/{pod['metadata']['name']}", f"http://{address}/", count=5)
    assert report.failed == {}


@case("[sig-network] Services should be rejected when no endpoints exist")
def test_rejected_without_endpoints(lab: Lab, namespace: str, upstream: str) -> None:
    lab.apply(namespace, service("no-pods", type="NodePort"))
    found = lab.get("service", "no-pods", "-n", namespace)
    port = found["spec"]["ports"][0]["nodePort"]
    for url in (f"http://{cluster_ip(found)}/", f"http://10.100.0.2:{port}/"):
        lab.eventually(f"{url} refuses", refuses(lab, "node-2", url))
    assert lab.request("client", f"http://10.100.0.2:{port}/").failed == {"ECONNREFUSED": 1}


@case("[sig-network] Services should release NodePorts on delete")
def test_node_port_released(lab: Lab, namespace: str, upstream: str) -> None:
    lab.apply(namespace, service("holder", type="NodePort"))
    port = lab.get("service", "holder", "-n", namespace)["spec"]["ports"][0]["nodePort"]
    lab.kubectl("delete", "service", "holder", "-n", namespace)
    lab.apply(namespace, service("next", type="NodePort", ports=[{"port": 80, "nodePort": port}]))


@case("[sig-network] Services should be able to up and down services")
def test_up_and_down(lab: Lab, namespace: str, upstream: str) -> None:
    for name in ("up-down-1", "up-down-2"):
        lab.apply(namespace, echo_deployment(name), service(name))
        lab.rolled_out(namespace, name)
    urls = {n: f"http://{cluster_ip(lab.get('service', n, '-n', namespace))}/" for n in ("up-down-1", "up-down-2")}
    assert all(lab.request("node-1", url).ok == 1 for url in urls.values())
    lab.kubectl("delete", "service", "up-down-1", "-n", namespace)
    lab.eventually("down", lambda: lab.request("node-1", urls["up-down-1"], timeout=0.3).ok == 0)
    assert lab.request("node-1", urls["up-down-2"]).ok == 1
    lab.apply(namespace, echo_deployment("up-down-3"), service("up-down-3"))
    lab.rolled_out(namespace, "up-down-3")
    third = cluster_ip(lab.get("service", "up-down-3", "-n", namespace))
    assert lab.request("node-1", f"http://{third}/").ok == 1


@pytest.mark.parametrize(
    "label",
    ["service.kubernetes.io/headless", "service.kubernetes.io/service-proxy-name"],
    ids=lambda label: f"[sig-network] Services should implement {label}",
)
def test_labels_that_the_proxy_must_ignore(lab: Lab, namespace: str, label: str) -> None:
    lab.apply(namespace, echo_deployment("web"), service("web"))
    lab.rolled_out(namespace, "web")
    url = f"http://{cluster_ip(lab.get('service', 'web', '-n', namespace))}/"
    lab.eventually("answers", lambda: lab.request("node-1", url).ok == 1)
    lab.kubectl("label", "service/web", "-n", namespace, f"{label}=foo")
    lab.eventually("left alone", lambda: lab.request("node-1", url, timeout=0.3).ok == 0)
    lab.kubectl("label", "service/web", "-n", namespace, f"{label}-")
    lab.eventually("answers again", lambda: lab.request("node-1", url).ok == 1)


@case("[sig-network] Services should create endpoints for unready pods")
def test_publish_not_ready(lab: Lab, namespace: str, upstream: str) -> None:
    made = echo_deployment("unready", replicas=1)
    made["spec"]["template"]["spec"]["containers"][0]["readinessProbe"] = {
        "exec": {"command": ["false"]},
        "periodSeconds": 1,
    }
    lab.apply(namespace, made, service("unready", publishNotReadyAddresses=True), service("strict", app="unready"))
    (pod,) = lab.pods(namespace)
    lab.kubectl("wait", "-n", namespace, f"pod/{pod['metadata']['name']}", "--for=jsonpath={.status.phase}=Running")
    loose = cluster_ip(lab.get("service", "unready", "-n", namespace))
    strict = cluster_ip(lab.get("service", "strict", "-n", namespace))
    lab.eventually("published though not ready", lambda: lab.request("node-1", f"http://{loose}/").ok == 1)
    assert lab.request("node-1", f"http://{strict}/").failed == {"ECONNREFUSED": 1}
