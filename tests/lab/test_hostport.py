"""Host ports and host networks with real packets: what opens where, whose address the pod sees, and who is in the way."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from build_manifests import Object, echo_deployment
from lab_driver import Lab, cluster_ip

pytestmark = pytest.mark.lab

CLIENT = "198.51.100.10"
NODES = {"node-1": "10.100.0.2", "node-2": "10.100.0.3"}


def echo(
    name: str, node: str = "node-1", *, ports: list[Object] | None = None, listen: int = 8080, **spec: Any
) -> Object:
    """A pod of portway/echo, for a node, which listens on `listen`."""
    container = {
        "name": "echo",
        "image": "portway/echo",
        "env": [{"name": "PORT", "value": str(listen)}],
        "ports": ports or [],
        "readinessProbe": {"tcpSocket": {"port": listen}, "periodSeconds": 1},
    }
    where = {"nodeSelector": {"kubernetes.io/hostname": node}} if node else {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1, **where, **spec},
    }


def host_port(number: int, **more: Any) -> Object:
    return {"containerPort": 8080, "hostPort": number, **more}


def ready(lab: Lab, namespace: str, *pods: Object) -> None:
    lab.apply(namespace, *pods)
    names = [f"pod/{p['metadata']['name']}" for p in pods]
    lab.kubectl("wait", "-n", namespace, *names, "--for=condition=Ready", "--timeout=20s")


def answers(lab: Lab, host: str, url: str) -> Callable[[], bool]:
    return lambda: lab.request(host, url).ok == 1


def seen_by(lab: Lab, host: str, url: str) -> tuple[str, str]:
    """(pod, the client's address as the pod sees it)."""
    (answer,) = lab.request(host, url).echoes()
    return answer["pod"], answer["source"]["address"]


def refused(lab: Lab, host: str, url: str) -> bool:
    return lab.request(host, url).failed == {"ECONNREFUSED": 1}


def events(lab: Lab, namespace: str, name: str) -> dict[str, str]:
    """Reason → message."""
    found = lab.get("events", "-n", namespace, "--field-selector", f"involvedObject.name={name}")["items"]
    return {e["reason"]: e["message"] for e in found}


def test_a_host_port_is_opened_on_its_node_and_on_no_other(lab: Lab, namespace: str) -> None:
    pods = (echo("web", ports=[host_port(8088)]), echo("near"), echo("far", "node-2"))
    ready(lab, namespace, *pods)
    url = f"http://{NODES['node-1']}:8088/"
    ip = {p: lab.get("pod", p, "-n", namespace)["status"]["podIP"] for p in ("web", "near", "far")}

    assert seen_by(lab, "client", url) == ("web", CLIENT), "nothing stands between the client and the pod"
    assert seen_by(lab, f"pod/{namespace}/far", url) == ("web", ip["far"])
    assert seen_by(lab, f"pod/{namespace}/near", url) == ("web", ip["near"])
    assert seen_by(lab, "node-2", url) == ("web", NODES["node-2"])
    itself = ("web", NODES["node-1"])
    assert seen_by(lab, "node-1", url) == itself
    assert seen_by(lab, "node-1", "http://127.0.0.1:8088/") == itself
    assert seen_by(lab, f"pod/{namespace}/web", url) == itself, "a pod that reaches itself sees the node"
    for host in ("client", "node-1", "node-2"):
        assert refused(lab, host, f"http://{NODES['node-2']}:8088/"), f"node-2 is not its node, asked by {host}"

    lab.kubectl("delete", "pod", "web", "-n", namespace)
    assert refused(lab, "client", url), "gone with the pod"


ASK_BY_UDP = """
import json, socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.settimeout(5)
    s.connect((sys.argv[1], int(sys.argv[2])))
    s.send(b"hello")
    try:
        answer = json.loads(s.recv(65536))
        print(answer["pod"], answer["source"]["address"])
    except ConnectionRefusedError:
        print("refused")
"""


def test_a_host_port_of_udp_and_one_of_tcp_with_the_same_number(lab: Lab, namespace: str) -> None:
    def ask(address: str) -> str:
        command = (sys.executable, "-I", "-S", "-c", ASK_BY_UDP, address, "8087")
        return lab.portway("exec", "client", "--", *command).stdout.strip()

    ready(lab, namespace, echo("tcp", ports=[host_port(8087)]), echo("udp", ports=[host_port(8087, protocol="UDP")]))
    assert seen_by(lab, "client", f"http://{NODES['node-1']}:8087/") == ("tcp", CLIENT)
    assert ask(NODES["node-1"]) == f"udp {CLIENT}"
    assert ask(NODES["node-2"]) == "refused"
    lab.kubectl("delete", "pod", "udp", "-n", namespace)
    assert ask(NODES["node-1"]) == "refused"
    assert seen_by(lab, "client", f"http://{NODES['node-1']}:8087/") == ("tcp", CLIENT)


def test_a_deployment_with_a_host_port_rolls_node_by_node(lab: Lab, namespace: str) -> None:
    """A new pod finds no free port before an old one has gone, so there is nothing to surge with."""
    body = echo_deployment("web")
    body["spec"]["strategy"] = {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
    for version in "12":
        pod_spec = body["spec"]["template"]["spec"]
        pod_spec["containers"][0] |= {"ports": [host_port(8086, name="http")], "env": [{"name": "V", "value": version}]}
        lab.apply(namespace, body)
        lab.rolled_out(namespace, "web")
        for node, address in NODES.items():
            lab.eventually(f"the pod of {node} answers", answers(lab, "client", f"http://{address}:8086/"))
            (answer,) = lab.request("client", f"http://{address}:8086/").echoes()
            assert (answer["node"], answer["source"]["address"]) == (node, CLIENT)


def test_a_host_port_is_there_again_after_its_node_was_off(lab: Lab, namespace: str) -> None:
    ready(lab, namespace, echo("web", "node-2", ports=[host_port(8085)]))
    url = f"http://{NODES['node-2']}:8085/"
    lab.portway("node", "stop", "node-2")
    try:
        assert lab.request("client", url, timeout=0.5).ok == 0
    finally:
        lab.portway("node", "start", "node-2")
    lab.eventually("the pod is back", answers(lab, "client", url))
    assert seen_by(lab, "client", url) == ("web", CLIENT)
    lab.eventually("the cluster is whole again", lambda: bool(lab.status()["ready"]))


def test_a_host_port_moves_to_the_next_pod_at_once(lab: Lab, namespace: str) -> None:
    url = f"http://{NODES['node-1']}:8089/"
    ready(lab, namespace, echo("first", ports=[host_port(8089)]))
    lab.apply(namespace, echo("second", ports=[host_port(8089)]))
    lab.eventually("second is told why it waits", lambda: "FailedScheduling" in events(lab, namespace, "second"))
    words = events(lab, namespace, "second")["FailedScheduling"]
    assert "1 node(s) didn't have free ports for the requested pod ports" in words
    assert lab.get("pod", "second", "-n", namespace)["status"]["phase"] == "Pending"
    lab.kubectl("delete", "pod", "first", "-n", namespace, "--grace-period=0", "--force")
    lab.kubectl("wait", "-n", namespace, "pod/second", "--for=condition=Ready", "--timeout=20s")
    assert seen_by(lab, "client", url) == ("second", CLIENT)


def test_where_every_node_is_taken_the_pod_is_unschedulable_in_kubernetes_words(lab: Lab, namespace: str) -> None:
    ready(lab, namespace, *(echo(f"on-{n}", n, ports=[host_port(8090)]) for n in NODES))
    lab.apply(namespace, echo("third", "", ports=[host_port(8090, hostIP="127.0.0.1")]))
    lab.eventually("it is told", lambda: "FailedScheduling" in events(lab, namespace, "third"))
    assert events(lab, namespace, "third")["FailedScheduling"].startswith(
        "0/2 nodes are available: 2 node(s) didn't have free ports for the requested pod ports."
    )
    (condition,) = lab.get("pod", "third", "-n", namespace)["status"]["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == ("PodScheduled", "False", "Unschedulable")


def test_a_pod_that_was_sent_to_a_node_by_name_is_rejected_there(lab: Lab, namespace: str) -> None:
    ready(lab, namespace, echo("first", ports=[host_port(8091)]))
    lab.apply(namespace, {**echo("forced", "", ports=[host_port(8091)], nodeName="node-1")})
    lab.kubectl("wait", "-n", namespace, "pod/forced", "--for=jsonpath={.status.phase}=Failed", "--timeout=20s")
    status = lab.get("pod", "forced", "-n", namespace)["status"]
    assert status["reason"] == "NodePorts"
    assert f"host port 8091/TCP is held by pod {namespace}/first (container echo)" in status["message"]
    assert seen_by(lab, "client", f"http://{NODES['node-1']}:8091/") == ("first", CLIENT)


def test_a_host_port_among_the_node_ports_warns_and_a_service_takes_it(lab: Lab, namespace: str) -> None:
    ready(lab, namespace, echo("web", ports=[host_port(32001)]), echo("behind", "node-2"))
    url = f"http://{NODES['node-1']}:32001/"
    assert seen_by(lab, "client", url) == ("web", CLIENT)
    lab.eventually("a warning", lambda: "HostPortOverlapsNodePorts" in events(lab, namespace, "web"))
    ports = [{"port": 80, "targetPort": 8080, "nodePort": 32001}]
    lab.apply(namespace, service("taker", "behind", type="NodePort", ports=ports))
    lab.eventually("the Service has it", lambda: seen_by(lab, "client", url)[0] == "behind")
    lab.kubectl("delete", "service", "taker", "-n", namespace)
    lab.eventually("the pod has it back", lambda: seen_by(lab, "client", url)[0] == "web")


def service(name: str, app: str, **spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": app}, **spec},
    }


def test_a_host_network_pod_is_the_node(lab: Lab, namespace: str) -> None:
    ready(lab, namespace, echo("agent", listen=8092, ports=[{"containerPort": 8092}], hostNetwork=True))
    shown = lab.get("pod", "agent", "-n", namespace)
    assert shown["spec"]["containers"][0]["ports"] == [{"containerPort": 8092, "hostPort": 8092, "protocol": "TCP"}]
    assert shown["status"]["podIP"] == shown["status"]["hostIP"] == NODES["node-1"]
    assert lab.kubectl("exec", "-n", namespace, "agent", "--", "hostname").strip() == "node-1"
    interfaces = lab.kubectl("exec", "-n", namespace, "agent", "--", "cat", "/proc/net/dev")
    assert interfaces == "" or "eth0" in interfaces
    assert seen_by(lab, "client", f"http://{NODES['node-1']}:8092/")[1] == CLIENT
    assert refused(lab, "client", f"http://{NODES['node-2']}:8092/")
    lab.apply(namespace, echo("rival", listen=8092, ports=[host_port(8092)]))
    lab.eventually("its port is a host port", lambda: "FailedScheduling" in events(lab, namespace, "rival"))


def test_services_over_host_network_pods(lab: Lab, namespace: str) -> None:
    ports = [{"name": "http", "containerPort": 8093}]
    agents = [echo(f"agent-{n}", n, listen=8093, ports=ports, hostNetwork=True) for n in NODES]
    for agent in agents:
        agent["metadata"]["labels"] = {"app": "agent"}
    ready(lab, namespace, *agents, echo("asker"))
    lab.apply(namespace, service("agents", "agent", type="NodePort", ports=[{"port": 80, "targetPort": "http"}]))
    made = lab.get("service", "agents", "-n", namespace)
    front, node_port = cluster_ip(made), made["spec"]["ports"][0]["nodePort"]
    urls = {host: [f"http://{front}/"] for host in (f"pod/{namespace}/asker", *NODES)}
    for host in ("client", *urls):
        urls.setdefault(host, []).extend(f"http://{a}:{node_port}/" for a in NODES.values())
    for host, targets in urls.items():
        for url in targets:
            lab.eventually(f"{url} answers {host}", answers(lab, host, url))
            report = lab.request(host, url, count=30)
            assert report.failed == {}, (host, url)
            assert {e["pod"] for e in report.echoes()} == {"agent-node-1", "agent-node-2"}, (host, url)


def test_a_busy_port_names_the_pod_that_holds_it(lab: Lab, namespace: str) -> None:
    ready(lab, namespace, echo("silent", listen=8094, hostNetwork=True))
    lab.apply(namespace, echo("late", listen=8094, ports=[{"containerPort": 8094}], hostNetwork=True))
    lab.eventually("it is told", lambda: "HostPortInUse" in events(lab, namespace, "late"))
    words = events(lab, namespace, "late")["HostPortInUse"]
    assert "port 8094 is taken" in words, "the program's own words"
    assert f"port 8094/TCP of node node-1 is held by pod {namespace}/silent (container echo)" in words
    lab.eventually("the status says so, too", lambda: "is held by pod" in last_words(lab, namespace, "late"))
    assert "port 8094 is taken" in lab.kubectl("logs", "-n", namespace, "late", "--previous")


def last_words(lab: Lab, namespace: str, name: str) -> str:
    """The termination message of the run that ended last."""
    (container,) = lab.get("pod", name, "-n", namespace)["status"]["containerStatuses"]
    ended = container["lastState"].get("terminated") or container["state"].get("terminated") or {}
    return str(ended.get("message", ""))


@pytest.mark.parametrize(
    ("policy", "cluster"), [("ClusterFirst", False), ("Default", False), ("ClusterFirstWithHostNet", True)]
)
def test_names_of_a_host_network_pod(lab: Lab, namespace: str, policy: str, cluster: bool) -> None:
    ready(lab, namespace, echo("agent", listen=8095, hostNetwork=True, dnsPolicy=policy))
    text = lab.kubectl("exec", "-n", namespace, "agent", "--", "cat", "/etc/resolv.conf")
    assert ("10.3.240.10" in text) is cluster
