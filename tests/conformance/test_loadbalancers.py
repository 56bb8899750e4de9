"""Upstream's LoadBalancer cases, by their names, where one machine allows them. `portway/echo` stands for agnhost's netexec.

Not here: the internal load balancer and the cases of single providers; the clean-up finalizer (an address is given back by the
Service's going alone); no load balancer without node ports (this provider forwards to node ports and says `NoNodePorts`).
"""

from __future__ import annotations

import json
from typing import Any

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
from build_manifests import echo_deployment
from lab_driver import Lab

pytestmark = pytest.mark.lab


def change(lab: Lab, namespace: str, **spec: Any) -> None:
    body = json.dumps({"spec": spec})
    lab.kubectl("patch", "service", "web", "-n", namespace, "--type=merge", "-p", body)


def reaches(lab: Lab, protocol: str, address: str, port: int) -> bool:
    if protocol == "UDP":
        return isinstance(datagram(lab, "client", address, port), dict)
    return lab.request("client", f"http://{address}:{port}/", timeout=1).ok == 1


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
def test_should_be_able_to_change_the_type_and_ports_of_a_service(lab: Lab, namespace: str, protocol: str) -> None:
    """[sig-network] LoadBalancers should be able to change the type and ports of a TCP (and: of a UDP) service"""
    port = {"name": "main", "port": 80, "targetPort": 8080, "protocol": protocol}
    pods(lab, namespace)
    lab.apply(namespace, balanced("web", ports=[port]))
    change(lab, namespace, type="ClusterIP")
    change(lab, namespace, type="NodePort")
    first = found(lab, namespace)["spec"]["ports"][0]["nodePort"]
    lab.eventually("the node port answers", lambda: reaches(lab, protocol, NODES["node-1"], first))

    change(lab, namespace, type="LoadBalancer")
    address = ready(lab, namespace)
    assert found(lab, namespace)["spec"]["ports"][0]["nodePort"] == first
    lab.eventually("the load balancer answers", lambda: reaches(lab, protocol, address, 80))
    assert reaches(lab, protocol, NODES["node-1"], first)

    second = first + 1 if first < 32767 else first - 1
    change(lab, namespace, ports=[port | {"nodePort": second}])
    lab.eventually("the new node port answers", lambda: reaches(lab, protocol, NODES["node-1"], second))
    lab.eventually("the old one does not", lambda: not reaches(lab, protocol, NODES["node-1"], first))
    lab.eventually("the load balancer follows", lambda: reaches(lab, protocol, address, 80))

    change(lab, namespace, ports=[port | {"nodePort": second, "port": 81}])
    lab.eventually("the new port answers", lambda: reaches(lab, protocol, address, 81))
    assert not reaches(lab, protocol, address, 80)
    assert address_of(lab, namespace) == address

    lab.kubectl("scale", "deployment/web", "-n", namespace, "--replicas=0")
    lab.eventually("nobody is there: refused", lambda: not reaches(lab, protocol, address, 81))
    lab.kubectl("scale", "deployment/web", "-n", namespace, "--replicas=1")
    lab.eventually("somebody is there again", lambda: reaches(lab, protocol, address, 81))

    change(lab, namespace, type="ClusterIP")
    assert "nodePort" not in found(lab, namespace)["spec"]["ports"][0]
    lab.eventually("the load balancer is gone", lambda: not reaches(lab, protocol, address, 81))
    assert not reaches(lab, protocol, NODES["node-1"], second)


def test_should_only_allow_access_from_service_loadbalancer_source_ranges(lab: Lab, namespace: str) -> None:
    """[sig-network] LoadBalancers should only allow access from service loadbalancer source ranges"""
    pods(lab, namespace)
    lab.apply(namespace, balanced("web"))
    address = ready(lab, namespace)
    allowed, other = lab.pods(namespace)
    url = f"http://{address}/"

    def may(pod: dict[str, Any]) -> bool:
        return lab.request(f"pod/{namespace}/{pod['metadata']['name']}", url, timeout=0.5).ok == 1

    change(lab, namespace, loadBalancerSourceRanges=[f"{allowed['status']['podIP']}/32"])
    lab.eventually("the other pod is kept out", lambda: not may(other))
    assert may(allowed)
    change(lab, namespace, loadBalancerSourceRanges=[f"{other['status']['podIP']}/32"])
    lab.eventually("now it is the other way round", lambda: may(other) and not may(allowed))
    change(lab, namespace, loadBalancerSourceRanges=None)
    lab.eventually("everybody may", lambda: may(other) and may(allowed))


def test_should_have_session_affinity_work_with_esipp_on(lab: Lab, namespace: str) -> None:
    """[sig-network] LoadBalancers should have session affinity work for LoadBalancer service with ESIPP on

    And: should be able to switch session affinity for LoadBalancer service with ESIPP on."""
    pods(lab, namespace)
    lab.apply(namespace, balanced("web", externalTrafficPolicy="Local", sessionAffinity="ClientIP"))
    url = f"http://{ready(lab, namespace)}/"
    assert len(nodes_of(answered(lab, "client", url, count=30))) == 1
    change(lab, namespace, sessionAffinity="None")
    lab.eventually("both answer", lambda: len(nodes_of(lab.request("client", url, count=40))) == 2)
    change(lab, namespace, sessionAffinity="ClientIP")
    lab.eventually("one answers", lambda: len(nodes_of(lab.request("client", url, count=40))) == 1)


@pytest.mark.parametrize("policy", ["Cluster", "Local"])
def test_should_not_have_connectivity_disruption_during_rolling_update(lab: Lab, namespace: str, policy: str) -> None:
    """[sig-network] LoadBalancers should not have connectivity disruption during rolling update with
    externalTrafficPolicy=Cluster (and: =Local)

    Upstream's pods keep to their nodes (a DaemonSet); here two stand on each node, and one at a time goes."""
    pods(lab, namespace, replicas=4)
    lab.apply(namespace, balanced("web", externalTrafficPolicy=policy))
    url = f"http://{ready(lab, namespace)}/"
    answered(lab, "client", url)
    with lab.load("client", url, workers=2) as load:
        lab.apply(namespace, echo_deployment("web", replicas=4, version="2", pre_stop_seconds=2))
        lab.rolled_out(namespace, "web")
        report = load.stop()
    assert report.failed == {} and report.ok > 50


def test_esipp_should_work_for_type_load_balancer(lab: Lab, namespace: str) -> None:
    """[sig-network] LoadBalancers ExternalTrafficPolicy: Local should work for type=LoadBalancer"""
    pods(lab, namespace)
    lab.apply(namespace, balanced("web", externalTrafficPolicy="Local"))
    address = ready(lab, namespace)
    assert sources(answered(lab, "client", f"http://{address}/", count=20)) == {CLIENT}
    health = found(lab, namespace)["spec"]["healthCheckNodePort"]
    lab.kubectl("delete", "service", "web", "-n", namespace)

    def closed() -> bool:
        return lab.request("client", f"http://{NODES['node-1']}:{health}/healthz").failed == {"ECONNREFUSED": 1}

    lab.eventually("the health port is closed", closed)


def test_esipp_should_work_for_type_node_port(lab: Lab, namespace: str) -> None:
    """[sig-network] LoadBalancers ExternalTrafficPolicy: Local should work for type=NodePort"""
    pods(lab, namespace)
    service = balanced("web", externalTrafficPolicy="Local")
    service["spec"]["type"] = "NodePort"
    lab.apply(namespace, service)
    number = found(lab, namespace)["spec"]["ports"][0]["nodePort"]
    for pod in lab.pods(namespace):
        node = pod["spec"]["nodeName"]
        seen = answered(lab, "client", f"http://{NODES[node]}:{number}/", count=5)
        assert (sources(seen), nodes_of(seen)) == ({CLIENT}, {node})


def test_esipp_should_only_target_nodes_with_endpoints(lab: Lab, namespace: str) -> None:
    """[sig-network] LoadBalancers ExternalTrafficPolicy: Local should only target nodes with endpoints

    And: should target all nodes with endpoints."""
    pods(lab, namespace, replicas=1)
    lab.apply(namespace, balanced("web", externalTrafficPolicy="Local"))
    url = f"http://{ready(lab, namespace)}/"
    (pod,) = lab.pods(namespace)
    assert nodes_of(answered(lab, "client", url, count=30)) == {pod["spec"]["nodeName"]}
    lab.kubectl("scale", "deployment/web", "-n", namespace, "--replicas=2")
    lab.rolled_out(namespace, "web")
    lab.eventually("both nodes", lambda: nodes_of(lab.request("client", url, count=40, timeout=1)) == set(NODES))


def test_esipp_should_work_from_pods(lab: Lab, namespace: str) -> None:
    """[sig-network] LoadBalancers ExternalTrafficPolicy: Local should work from pods"""
    pods(lab, namespace, replicas=1)
    lab.apply(namespace, balanced("web", externalTrafficPolicy="Local"), echo_deployment("pause", replicas=2))
    lab.rolled_out(namespace, "pause")
    url = f"http://{ready(lab, namespace)}/"
    for pod in lab.pods(namespace, "app=pause"):
        seen = answered(lab, f"pod/{namespace}/{pod['metadata']['name']}", url, count=5)
        assert sources(seen) == {pod["status"]["podIP"]}


def test_esipp_should_handle_updates_to_external_traffic_policy_field(lab: Lab, namespace: str) -> None:
    """[sig-network] LoadBalancers ExternalTrafficPolicy: Local should handle updates to ExternalTrafficPolicy field"""
    pods(lab, namespace, replicas=1)
    lab.apply(namespace, balanced("web", externalTrafficPolicy="Local"))
    address = ready(lab, namespace)
    url = f"http://{address}/"
    number = found(lab, namespace)["spec"]["ports"][0]["nodePort"]
    (pod,) = lab.pods(namespace)
    away = NODES[next(n for n in NODES if n != pod["spec"]["nodeName"])]

    change(lab, namespace, externalTrafficPolicy="Cluster")
    assert "healthCheckNodePort" not in found(lab, namespace)["spec"]
    lab.eventually("every node answers", lambda: lab.request("client", f"http://{away}:{number}/", timeout=0.5).ok == 1)
    lab.eventually("behind a node's address", lambda: CLIENT not in sources(lab.request("client", url, count=10)))

    change(lab, namespace, externalTrafficPolicy="Local")
    lab.eventually("the client is seen", lambda: sources(lab.request("client", url, count=5, timeout=1)) == {CLIENT})
    assert lab.request("client", f"http://{away}:{number}/", timeout=0.5).ok == 0


def test_should_be_able_to_create_a_service_without_node_port_and_change_it(lab: Lab, namespace: str) -> None:
    """[sig-network] LoadBalancers should be able to create LoadBalancer Service without NodePort and change it

    Half of it: without node ports this provider names the reason; with them the Service answers."""
    pods(lab, namespace)
    lab.apply(namespace, balanced("web", allocateLoadBalancerNodePorts=False))
    assert "allocateLoadBalancerNodePorts" in reason(lab, namespace, "web", "NoNodePorts")["message"]
    assert "nodePort" not in found(lab, namespace)["spec"]["ports"][0]
    change(lab, namespace, allocateLoadBalancerNodePorts=True)
    assert answered(lab, "client", f"http://{ready(lab, namespace)}/", count=5).failed == {}
    assert condition(lab, namespace)["reason"] == "Ready"
