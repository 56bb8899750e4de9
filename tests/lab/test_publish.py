"""The lab from the user's own machine: published addresses by TCP and UDP, after a restart too, and nodes in zones."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from build_manifests import Object, deployment, echo_deployment, service
from build_publish import free_port
from lab_driver import Lab

pytestmark = pytest.mark.lab

NODE_PORT = 30080


def ask(port: int, path: str = "/") -> dict[str, Any]:
    """One request of a program of the user: no namespace, no root."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        return dict(json.loads(connection.getresponse().read()))
    finally:
        connection.close()


def reached(port: int) -> bool:
    try:
        return bool(ask(port))
    except (OSError, http.client.HTTPException):
        return False


def ask_udp(port: int, words: bytes) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.settimeout(5)
        sender.connect(("127.0.0.1", port))
        sender.send(words)
        return sender.recv(65536)


def udp_service() -> Object:
    port = {"name": "udp", "port": 8080, "targetPort": 8080, "protocol": "UDP", "nodePort": 30053}
    return service("udp", "web", type="NodePort", ports=[port])


def web() -> tuple[Object, Object, Object]:
    port = {"name": "http", "port": 80, "targetPort": "http", "nodePort": NODE_PORT}
    return echo_deployment("web"), service("web", type="NodePort", ports=[port]), udp_service()


def published(lab: Lab) -> dict[int, dict[str, Any]]:
    return {p["port"]: p for p in lab.status()["published"]}


@pytest.mark.parametrize("userns", [False, True], ids=["this user", "in a user namespace"])
def test_a_published_service_answers_the_user_by_tcp_and_udp_and_after_a_restart(home: Path, userns: bool) -> None:
    tcp, udp = free_port(), free_port(socket.SOCK_DGRAM)
    lab = Lab(home, userns=userns)
    lab.up(
        "--nodes", "2", "--publish", f"{tcp}:10.100.0.2:{NODE_PORT}", "--publish", f"{udp}:10.100.0.3:30053/udp"
    )  # fmt: skip
    try:
        assert {p["port"]: p["listening"] for p in lab.status()["published"]} == {tcp: True, udp: True}
        lab.apply("default", *web())
        lab.rolled_out("default", "web")
        lab.eventually("a node answers", lambda: reached(tcp))
        said = ask(tcp, "/cart")
        assert said["path"] == "/cart"
        assert said["host"] == f"127.0.0.1:{tcp}"
        assert json.loads(ask_udp(udp, b"hello"))["pod"].startswith("web-")
        shown = published(lab)
        assert shown[udp]["connections"] == 1, "the session of a moment ago"
        assert shown[udp]["error"] == shown[tcp]["error"] == ""

        os.kill(int(lab.status()["supervisor"]["pid"]), signal.SIGKILL)
        lab.eventually("nobody listens any more", lambda: not reached(tcp))
        lab.up()
        lab.rolled_out("default", "web")
        lab.eventually("it answers again", lambda: reached(tcp))
        assert set(published(lab)) == {tcp, udp}
    finally:
        lab.portway("down")
    assert not reached(tcp)


def test_published_and_taken_back_while_it_runs(lab: Lab, namespace: str) -> None:
    lab.apply(namespace, echo_deployment("web"), service("web", type="NodePort"))
    lab.rolled_out(namespace, "web")
    node_port = lab.get("service", "web", "-n", namespace)["spec"]["ports"][0]["nodePort"]
    port = free_port()
    lab.portway("publish", "add", f"{port}:10.100.0.3:{node_port}")
    lab.eventually("it answers", lambda: reached(port))
    lab.kubectl("delete", "service", "web", "-n", namespace)
    lab.eventually("a refusal inside is a reset outside", lambda: not reached(port))
    lab.eventually("and says why", lambda: published(lab)[port]["error"].endswith("Connection refused"))
    lab.portway("publish", "remove", str(port))
    with pytest.raises(ConnectionRefusedError):
        ask(port)
    assert port not in published(lab)


def test_a_taken_port_stops_up_and_nothing_is_left(home: Path) -> None:
    lab = Lab(home)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = int(other.getsockname()[1])
        done = lab.portway("up", "--publish", f"{port}:10.100.0.2:80", check=False)
    assert done.returncode == 1
    assert f"127.0.0.1:{port}/tcp: somebody listens there already" in done.stderr
    assert f"--publish {port + 1}:10.100.0.2:80" in done.stderr
    assert [p.name for p in home.rglob("*") if p.is_file()] == ["supervisor.log"]
    assert "no cluster is up" in lab.portway("status", check=False).stderr


def test_nodes_are_spread_over_zones_and_slices_say_where_an_endpoint_is(home: Path) -> None:
    lab = Lab(home)
    lab.up("--nodes", "2", "--zones", "2")
    try:
        lab.portway("node", "add", "node-3")
        zones = {h["name"]: h["zone"] for h in lab.status()["hosts"] if h["role"] == "node"}
        assert zones == {"node-1": "zone-a", "node-2": "zone-b", "node-3": "zone-a"}
        labels = {
            n["metadata"]["name"]: n["metadata"]["labels"]["topology.kubernetes.io/zone"]
            for n in lab.get("nodes")["items"]
        }
        assert labels == zones
        lab.apply("default", deployment("idle", {"name": "echo", "image": "portway/echo"}, replicas=4), service("idle"))
        lab.rolled_out("default", "idle")
        slices = lab.get("endpointslices", "-l", "kubernetes.io/service-name=idle")["items"]
        found = {(e["nodeName"], e["zone"]) for s in slices for e in s["endpoints"]}
        assert found == {(node, zone) for node, zone in zones.items() if node in {n for n, _ in found}}
        assert {zone for _, zone in found} == {"zone-a", "zone-b"}
        os.kill(int(lab.status()["supervisor"]["pid"]), signal.SIGKILL)
        lab.up()
        assert {h["name"]: h["zone"] for h in lab.status()["hosts"] if h["role"] == "node"} == zones
    finally:
        lab.portway("down")
