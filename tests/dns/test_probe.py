"""Whoever waits for names learns what is wrong with them."""

from __future__ import annotations

import socket

import pytest

from build_dns import SHOP
from portway.dns import probe
from portway.dns.server import Server, listen
from portway.dns.upstream import Upstream

NAME = "web.shop.svc.cluster.local"


def plain(kind: int) -> socket.socket:
    return socket.socket(socket.AF_INET, kind)


async def test_a_server_that_answers() -> None:
    sockets = listen("127.0.0.1", 0)
    server = Server(sockets, lambda: SHOP, Upstream((), plain))
    await server.start()
    try:
        address = ("127.0.0.1", sockets.udp.getsockname()[1])
        assert await probe.problem(plain, address, NAME) == ""
        nobody = "nobody.shop.svc.cluster.local"
        assert await probe.problem(plain, address, nobody) == f"it does not know {nobody} (code 3)"
    finally:
        await server.close()
        sockets.close()


async def test_nobody_reads_the_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "ATTEMPT_SECONDS", 0.05)
    sockets = listen("127.0.0.1", 0)
    try:
        assert await probe.problem(plain, ("127.0.0.1", sockets.udp.getsockname()[1]), NAME) == "no answer"
    finally:
        sockets.close()


async def test_nobody_listens() -> None:
    sockets = listen("127.0.0.1", 0)
    port = sockets.udp.getsockname()[1]
    sockets.close()
    assert "refused" in await probe.problem(plain, ("127.0.0.1", port), NAME)
