"""Upstream's HostPort case, by its name, on a real cluster. Images: `portway/echo` stands for agnhost's netexec."""

from __future__ import annotations

import json

import pytest

from build_manifests import Object
from lab_driver import Lab

pytestmark = pytest.mark.lab

NODE, NODE_ADDRESS, LOOPBACK = "node-1", "10.100.0.2", "127.0.0.1"
PORT = 54323

# A program on the node's network: asks ADDRESS PORT by PROTOCOL, from SOURCE if given, and prints who answered.
ASK = """
import json, socket, sys
protocol, address, port, source = sys.argv[1:]
kind = socket.SOCK_STREAM if protocol == "TCP" else socket.SOCK_DGRAM
with socket.socket(socket.AF_INET, kind) as s:
    s.settimeout(5)
    s.bind((source, 0))
    s.connect((address, int(port)))
    s.sendall(b"hostname\\n")
    print(json.loads(s.recv(65536))["pod"])
"""


def hostport_pod(name: str, host_ip: str, protocol: str) -> Object:
    port = {"hostPort": PORT, "containerPort": 8080, "protocol": protocol, "hostIP": host_ip}
    probe = {"httpGet": {"path": "/hostname", "port": 8080, "scheme": "HTTP"}, "periodSeconds": 1}
    container = {"name": "agnhost", "image": "portway/echo", "ports": [port], "readinessProbe": probe}
    return pod(name, container)


def pod(name: str, container: Object, **spec: object) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "containers": [container],
            "nodeSelector": {"kubernetes.io/hostname": NODE},
            "terminationGracePeriodSeconds": 1,
            **spec,
        },
    }


def create_and_wait(lab: Lab, namespace: str, body: Object) -> None:
    lab.apply(namespace, body)
    name = body["metadata"]["name"]
    lab.kubectl("wait", "-n", namespace, f"pod/{name}", "--for=condition=Ready", "--timeout=30s")
    assert lab.get("pod", name, "-n", namespace)["spec"]["nodeName"] == NODE


def test_validates_that_there_is_no_conflict_between_pods_with_same_hostport_but_different_hostip_and_protocol(
    lab: Lab, namespace: str
) -> None:
    """[sig-network] HostPort validates that there is no conflict between pods with same hostPort but different hostIP and
    protocol [LinuxOnly] [Conformance]"""
    create_and_wait(lab, namespace, hostport_pod("pod1", LOOPBACK, "TCP"))
    create_and_wait(lab, namespace, hostport_pod("pod2", NODE_ADDRESS, "TCP"))
    create_and_wait(lab, namespace, hostport_pod("pod3", NODE_ADDRESS, "UDP"))
    sleeper = {"name": "e2e-host-exec", "image": "agnhost", "command": ["sleep", "1000"]}
    create_and_wait(lab, namespace, pod("e2e-host-exec", sleeper, hostNetwork=True))

    def reaches(expected: str, protocol: str, address: str, source: str = "0.0.0.0") -> None:
        command = ("python3", "-c", ASK, protocol, address, str(PORT), source)
        said = ""

        def right() -> bool:
            nonlocal said
            done = lab.kubectl_run("exec", "-n", namespace, "e2e-host-exec", "--", *command)
            said = done.stdout.strip() or done.stderr
            return said == expected

        try:
            lab.eventually(f"{protocol} {address}:{PORT} is {expected}", right, seconds=30)
        except AssertionError as e:
            raise AssertionError(f"{e}; the last answer was {said}") from e

    # Upstream binds the first request to the node's address (curl --interface), so both sources are asked for.
    reaches("pod1", "TCP", LOOPBACK, source=NODE_ADDRESS)
    reaches("pod1", "TCP", LOOPBACK)
    reaches("pod2", "TCP", NODE_ADDRESS)
    reaches("pod3", "UDP", NODE_ADDRESS)


def test_the_case_turned_round_each_of_the_three_conflicts_with_its_like(lab: Lab, namespace: str) -> None:
    """What the case above must not be passed by: a scheduler that never sees a conflict."""
    for name, address, protocol in (
        ("pod1", LOOPBACK, "TCP"),
        ("pod2", NODE_ADDRESS, "TCP"),
        ("pod3", NODE_ADDRESS, "UDP"),
    ):
        create_and_wait(lab, namespace, hostport_pod(name, address, protocol))
    words = "didn't have free ports for the requested pod ports"
    for name, address, protocol in (("same", NODE_ADDRESS, "UDP"), ("any", "0.0.0.0", "TCP")):
        lab.apply(namespace, hostport_pod(name, address, protocol))

        def told(name: str = name) -> bool:
            found = lab.get("pod", name, "-n", namespace)["status"].get("conditions") or []
            return words in json.dumps(found)

        lab.eventually(f"{name} finds no free port", told)
