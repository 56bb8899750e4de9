"""Who holds a busy port: a program's words, the socket tables, and a real listener in a namespace."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from build_hostports import pod
from portway.cluster.hostports import HostPort
from portway.netns.kernel import Namespace, NetworkError
from portway.netns.plan import Link, Plan
from portway.node.busyports import Holder, complaint, explanation, holders, listening, wanted
from portway.node.sandbox_logs import entries
from portway.objects.core import Container, ContainerPort

WHEN = "2026-01-01T00:00:00.000000000Z"
PLAIN = Container(name="main")
DECLARED = Container(
    name="main",
    ports=(ContainerPort(container_port=80, host_port=80), ContainerPort(container_port=53, protocol="UDP")),
)


def log(*lines: str) -> bytes:
    return entries(WHEN, "stderr", [line.encode() for line in lines], partial=False)


@pytest.mark.parametrize(
    "line",
    [
        "OSError: [Errno 98] Address already in use",
        "nginx: [emerg] bind() to 0.0.0.0:80 failed (98: Address already in use)",
        "listen tcp :8080: bind: address already in use",
        "Error: listen EADDRINUSE: address already in use :::3000",
        "echo: port 8080 is taken, or there is no IP here; choose another with PORT",
        "Web server failed to start. Port 8080 is already in use.",
    ],
)
def test_programs_complain_in_many_words(line: str) -> None:
    assert complaint(log("starting", line, "bye")) == line


@pytest.mark.parametrize("text", [b"", b"no log line", log("connection refused"), log("port 80 is open")])
def test_other_words_are_no_complaint(text: bytes) -> None:
    assert complaint(text) == ""


def test_the_last_complaint_counts_and_is_cut() -> None:
    found = complaint(log("EADDRINUSE first", "EADDRINUSE " + "x" * 1000))
    assert found.startswith("EADDRINUSE x")
    assert len(found) == 300


def test_declared_ports_are_asked_for_and_else_those_of_the_words() -> None:
    assert wanted(DECLARED, ":99 in use") == (HostPort(80, "tcp"), HostPort(53, "udp"))
    assert wanted(PLAIN, "listen tcp 0.0.0.0:8080: address already in use") == (HostPort(8080, "tcp"),)
    assert wanted(PLAIN, "bind :99999: address already in use") == ()


TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0
   1: 0100007F:1F91 0100007F:C000 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0
   2: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 4713 1 0 100
"""


def test_the_sockets_that_listen() -> None:
    assert list(listening(TABLE, "tcp")) == [(8080, "4711"), (80, "4713")]
    assert list(listening(TABLE, "udp")) == []


@pytest.fixture
def network() -> Iterator[Namespace]:
    try:
        made = Namespace.new("busy")
    except NetworkError as e:
        pytest.skip(str(e))
    with made:
        made.apply(Plan(links=(Link("lo"),)))
        yield made


@pytest.mark.lab
def test_a_listener_that_no_process_of_the_namespace_has_is_not_found(network: Namespace) -> None:
    """This process holds the socket, but lives in another namespace, as the supervisor does."""
    with network.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.bind(("127.0.0.1", 8080))
        sock.listen()
        assert holders(network, [HostPort(8080, "tcp")]) == {}


@pytest.mark.lab
def test_a_process_of_the_node_is_named(network: Namespace, tmp_path: Path) -> None:
    script = "import socket, sys; s = socket.create_server(('127.0.0.1', 8080)); print('ready', flush=True); sys.stdin.read()"
    process = network.run(
        lambda: subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        found = holders(network, [HostPort(8080, "tcp"), HostPort(81, "tcp")])
        assert found == {HostPort(8080, "tcp"): Holder(pid=process.pid, program=found[HostPort(8080, "tcp")].program)}
        path = tmp_path / "0.log"
        path.write_bytes(log("bind :8080: address already in use"))
        said = explanation(PLAIN, path, network, "node-1", {"uid": pod("web")})
        assert said.startswith("bind :8080: address already in use; port 8080/TCP of node node-1 is held by process ")
        assert said.endswith("which is of no pod")
        assert process.stdin is not None
        process.stdin.close()


@pytest.mark.lab
def test_a_process_below_one_that_writes_a_pods_log_is_the_pods(network: Namespace, tmp_path: Path) -> None:
    folder = tmp_path / "pods" / "uid-web" / "logs" / "main"
    folder.mkdir(parents=True)
    script = (
        "import socket, subprocess, sys\n"
        f"log = open({str(folder / '0.log')!r}, 'w')\n"
        "child = 'import socket, sys; s = socket.create_server((\"127.0.0.1\", 8080)); print(1, flush=True); sys.stdin.read()'\n"
        "subprocess.run([sys.executable, '-c', child])\n"
    )
    process = network.run(
        lambda: subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        path = tmp_path / "complaint.log"
        path.write_bytes(log("bind :8080: address already in use"))
        said = explanation(PLAIN, path, network, "node-1", {"uid-web": pod("web")})
        assert said.endswith("port 8080/TCP of node node-1 is held by pod shop/web (container main)")
        assert process.stdin is not None
        process.stdin.close()


def test_nothing_is_said_without_a_complaint_or_a_log(tmp_path: Path) -> None:
    closed = Namespace(os.open("/dev/null", os.O_RDONLY), "none")
    with closed:
        assert explanation(PLAIN, None, closed, "node-1", {}) == ""
        assert explanation(PLAIN, tmp_path / "absent", closed, "node-1", {}) == ""
        path = tmp_path / "0.log"
        path.write_bytes(log("EADDRINUSE :80"))
        assert explanation(PLAIN, path, closed, "node-1", {}) == "EADDRINUSE :80", "no namespace to look into"
