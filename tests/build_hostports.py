"""Pods with host ports for tests, in a line each, with the lab's addresses."""

from __future__ import annotations

from typing import Any

import msgspec

from portway.nft.tables import Ruleset
from portway.node.hostports import compile_ports, ports_of
from portway.objects.core import Pod

NODE_PORTS = range(30000, 32768)


def port(host: int, target: int = 8080, protocol: str = "TCP", ip: str = "") -> dict[str, Any]:
    return {"containerPort": target, "hostPort": host, "protocol": protocol, "hostIP": ip}


def pod(name: str, *ports: dict[str, Any], phase: str = "Running", **spec: Any) -> Pod:
    """A pod of the namespace shop with one container `main`, as a struct."""
    body = {
        "metadata": {"name": name, "namespace": "shop", "uid": f"uid-{name}"},
        "spec": {"containers": [{"name": "main", "ports": list(ports)}], **spec},
        "status": {"phase": phase},
    }
    return msgspec.convert(body, Pod)


def table(*pods: tuple[Pod, str]) -> Ruleset:
    """The node's table for pods and their addresses."""
    return compile_ports(found for who, address in pods if (found := ports_of(who, address)))
