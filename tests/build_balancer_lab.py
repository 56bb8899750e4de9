"""Helpers for tests of LoadBalancer Services in the lab: wait for an address, ask by TCP, HTTP and UDP, read the reasons."""

from __future__ import annotations

import json
import sys
from typing import Any

from build_manifests import echo_deployment, service
from lab_driver import Lab, Report

CLIENT = "198.51.100.10"
NODES = {"node-1": "10.100.0.2", "node-2": "10.100.0.3"}
# Sends one datagram and prints the answer, or the name of the error.
_DATAGRAM = """
import errno, socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.settimeout(2)
    try:
        s.connect((sys.argv[1], int(sys.argv[2])))
        s.send(b"hello")
        print(s.recv(65536).decode())
    except TimeoutError:
        print("ETIMEDOUT")
    except OSError as e:
        print(errno.errorcode[e.errno])
"""


def balanced(name: str, app: str = "", **spec: Any) -> dict[str, Any]:
    """A LoadBalancer Service on port 80 for the pods app=`app`; `annotations=` are its metadata's."""
    annotations = spec.pop("annotations", None)
    made = service(name, app, type="LoadBalancer", **spec)
    if annotations:
        made["metadata"]["annotations"] = annotations
    return made


def pods(lab: Lab, namespace: str, name: str = "web", *, replicas: int = 2) -> None:
    lab.apply(namespace, echo_deployment(name, replicas=replicas, pre_stop_seconds=1))
    lab.rolled_out(namespace, name)


def found(lab: Lab, namespace: str, name: str = "web") -> dict[str, Any]:
    return lab.get("service", name, "-n", namespace)


def address_of(lab: Lab, namespace: str, name: str = "web") -> str:
    """The Service's address, once it has one."""
    lab.kubectl(
        "wait",
        f"service/{name}",
        "-n",
        namespace,
        "--for=jsonpath={.status.loadBalancer.ingress[0].ip}",
        "--timeout=20s",
    )
    return str(found(lab, namespace, name)["status"]["loadBalancer"]["ingress"][0]["ip"])


def ready(lab: Lab, namespace: str, name: str = "web") -> str:
    """The Service's address, once somebody answers there."""
    lab.kubectl("wait", f"service/{name}", "-n", namespace, "--for=condition=LoadBalancerReady", "--timeout=20s")
    return address_of(lab, namespace, name)


def condition(lab: Lab, namespace: str, name: str = "web") -> dict[str, Any]:
    """The Service's own condition; empty while there is none."""
    known = found(lab, namespace, name).get("status", {}).get("conditions", ())
    return next((dict(c) for c in known if c["type"] == "LoadBalancerReady"), {})


def reason(lab: Lab, namespace: str, name: str, wanted: str) -> dict[str, Any]:
    """The condition, once it has the reason `wanted`."""
    lab.eventually(f"{name} says {wanted}", lambda: condition(lab, namespace, name).get("reason") == wanted)
    return condition(lab, namespace, name)


def sources(report: Report) -> set[str]:
    """The clients' addresses as the pods saw them."""
    return {e["source"]["address"] for e in report.echoes()}


def nodes_of(report: Report) -> set[str]:
    return {e["node"] for e in report.echoes()}


def answered(lab: Lab, host: str, url: str, **options: Any) -> Report:
    """Requests, the first of which is repeated until it is answered."""
    lab.request(host, url, count=100, interval=0.05, timeout=1, until_ok=True)
    return lab.request(host, url, **options)


def datagram(lab: Lab, host: str, address: str, port: int) -> dict[str, Any] | str:
    """What the pod answered to one datagram, or the name of the error."""
    out = lab.portway(
        "exec", host, "--", sys.executable, "-I", "-S", "-c", _DATAGRAM, address, str(port)
    ).stdout.strip()
    return dict(json.loads(out)) if out.startswith("{") else out
