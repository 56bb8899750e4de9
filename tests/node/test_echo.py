"""The echo server over real sockets on 127.0.0.1."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from portway.node.echo import looks_like_http, parse, respond
from portway.node.images import Images, Launch

LAUNCH = Images().launch("portway/echo", (), ())


@contextmanager
def echo() -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """A running server: its port and process."""
    assert isinstance(LAUNCH, Launch)
    env = {**os.environ, "PORT": "0", "POD_NAME": "echo-1", "POD_NAMESPACE": "shop", "NODE_NAME": "node-1"}
    process = subprocess.Popen(LAUNCH.argv, env=env, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline().split()[-1]), process
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def ask(port: int, text: bytes, *, half_close: bool = False, address: str = "127.0.0.1") -> Any:
    with socket.create_connection((address, port), timeout=5) as sock:
        sock.sendall(text)
        if half_close:
            sock.shutdown(socket.SHUT_WR)
        return json.loads(sock.makefile().readline())


def test_http_says_what_it_saw() -> None:
    with echo() as (port, _):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.connect()
        mine = connection.sock.getsockname()[1]
        connection.request("POST", "/cart?x=1", body=b"data", headers={"Host": "shop.example.com", "X-Trace": "7"})
        answer = connection.getresponse()
        seen = json.loads(answer.read())
        assert answer.status == 200
        assert (seen["pod"], seen["namespace"], seen["node"], seen["method"]) == ("echo-1", "shop", "node-1", "POST")
        assert (seen["path"], seen["host"], seen["headers"]["x-trace"]) == ("/cart?x=1", "shop.example.com", "7")
        assert seen["source"] == {"address": "127.0.0.1", "port": mine}
        connection.request("GET", "/again")
        assert json.loads(connection.getresponse().read())["source"]["port"] == mine, "one connection, two requests"
        connection.close()


def test_two_requests_sent_at_once_are_answered_in_order() -> None:
    with echo() as (port, _), socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
        sock.sendall(
            b"GET /one?delay=50 HTTP/1.1\r\nHost: a\r\n\r\nGET /two HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        )
        text = sock.makefile().read()
    assert text.index("/one") < text.index("/two")


def test_status_delay_and_size() -> None:
    with echo() as (port, _):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        for path, status, size in (
            ("/?status=503", 503, None),
            ("/?size=10", 200, 10),
            ("/?delay=30&status=404", 404, None),
        ):
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == status
            assert size is None or len(body) == size
        connection.close()


def test_tcp_answers_every_line_and_a_half_close() -> None:
    with echo() as (port, _):
        assert ask(port, b"hello\n")["data"] == "hello"
        assert ask(port, b"no newline", half_close=True)["data"] == "no newline"
        assert ask(port, b"GET lost\n")["protocol"] == "TCP", "a first line without a version is no HTTP request"
        with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
            lines = sock.makefile()
            for text in ("one", "two"):
                sock.sendall(text.encode() + b"\n")
                assert json.loads(lines.readline())["data"] == text


def test_udp() -> None:
    with echo() as (port, _), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.bind(("127.0.0.1", 0))
        sock.sendto(b"ping", ("127.0.0.1", port))
        seen = json.loads(sock.recv(4096))
        assert (seen["protocol"], seen["data"], seen["pod"]) == ("UDP", "ping", "echo-1")
        assert seen["source"]["port"] == sock.getsockname()[1]


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 on this machine")
def test_ipv6() -> None:
    with echo() as (port, _):
        try:
            seen = ask(port, b"six\n", address="::1")
        except OSError as e:
            pytest.skip(f"no IPv6 loopback here: {e}")
        assert seen["source"]["address"] == "::1"


def test_sigterm_finishes_what_is_in_flight_and_takes_nothing_new() -> None:
    with echo() as (port, process):
        idle = socket.create_connection(("127.0.0.1", port), timeout=5)
        busy = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        busy.request("GET", "/?delay=400")
        assert ask(port, b"both are accepted by now\n")["protocol"] == "TCP"
        process.send_signal(signal.SIGTERM)
        assert idle.recv(1) == b"", "an idle connection is closed"
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        answer = busy.getresponse()
        assert answer.status == 200
        answer.read()
        assert process.wait(timeout=5) == 0
        idle.close()
        busy.close()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"G", None),
        (b"GET /", None),
        (b"GET / HTTP/1.1\r\n", True),
        (b"get / HTTP/1.1\r\n", False),
        (b"hello", False),
        (b"\n", False),
        (b"POST", None),
        (b"GET /\n", False),
    ],
)
def test_what_looks_like_http(data: bytes, expected: bool | None) -> None:
    assert looks_like_http(data) is expected


def test_a_request_is_whole_when_its_body_is() -> None:
    head = b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n"
    assert parse(head + b"1234") is None
    request = parse(head + b"12345next")
    assert request is not None and request.size == len(head) + 5
    chunks = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert parse(chunks + b"3\r\nabc\r\n0\r\n") is None
    request = parse(chunks + b"3\r\nabc\r\n0\r\n\r\nnext")
    assert request is not None and request.size == len(chunks) + 13


def test_connections_are_kept_as_the_version_says() -> None:
    rows = (
        (b"1.1", b"", True),
        (b"1.1", b"Connection: close\r\n", False),
        (b"1.0", b"", False),
        (b"1.0", b"Connection: keep-alive\r\n", True),
    )
    for version, header, kept in rows:
        request = parse(b"GET / HTTP/" + version + b"\r\n" + header + b"\r\n")
        assert request is not None and request.keep is kept
        assert (b"Connection: keep-alive" in respond(request, ("10.0.0.1", 1))[0]) is kept


def test_a_taken_port_is_named() -> None:
    assert isinstance(LAUNCH, Launch)
    with echo() as (port, _):
        done = subprocess.run(
            LAUNCH.argv, env={**os.environ, "PORT": str(port)}, capture_output=True, text=True, timeout=10
        )
    assert done.returncode == 1
    assert f"port {port} is taken" in done.stderr
    assert sys.executable == LAUNCH.argv[0]
