"""The health ports of one node over HTTP: one for each Service with the Local policy, and the proxy's own at 10256.

`apply` tells `sync` what to answer after every pass; `listen` makes a listening socket in the node's namespace. Hand-made
HTTP/1.1, one answer to a connection: a balancer sends one short request each time, and there may be thousands of ports.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

from portway.proxy.health import HealthAnswer

log = logging.getLogger("portway.proxy")

Listen = Callable[[int], socket.socket]

PROXY_PORT = 10256
_PATIENCE = 5.0
_LONGEST = 8192


class HealthServers:
    """Ports that are open, and what each answers."""

    def __init__(self, listen: Listen) -> None:
        self._listen = listen
        self._answers: dict[int, HealthAnswer | None] = {}
        self._open: dict[int, asyncio.AbstractServer] = {}

    async def sync(self, answers: Iterable[HealthAnswer]) -> bool:
        """Open and close ports as `answers` say. False when a port was busy: it should be tried again."""
        self._answers = {PROXY_PORT: None, **{a.port: a for a in answers}}
        for port in self._open.keys() - self._answers.keys():
            self._open.pop(port).close()
        done = True
        for port in sorted(self._answers.keys() - self._open.keys()):
            try:
                listener = self._listen(port)
                self._open[port] = await asyncio.start_server(self._handler(port), sock=listener, limit=_LONGEST)
            except OSError as e:
                log.warning("health port %s cannot be opened: %s", port, e.strerror or e)
                done = False
        return done

    def close(self) -> None:
        for server in self._open.values():
            server.close()
        self._open.clear()

    def _handler(self, port: int) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                async with asyncio.timeout(_PATIENCE):
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(self.answer(port, head))
                    await writer.drain()
            except (ConnectionError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                pass  # who does not ask in time or properly gets no answer
            finally:
                writer.close()
                with suppress(ConnectionError):
                    await writer.wait_closed()

        return handle

    def answer(self, port: int, head: bytes) -> bytes:
        """The whole HTTP answer to one request."""
        path = head.split(b" ", 2)[1:2]
        found = self._answers.get(port)
        if port == PROXY_PORT:
            known = path in ([b"/healthz"], [b"/livez"])
            return _http(200 if known else 404, json.dumps({"nodeEligible": True}).encode() if known else b"")
        if found is None:
            return _http(503, b"")
        weight = f"X-Load-Balancing-Endpoint-Weight: {found.local_endpoints}\r\n"
        return _http(found.status, found.body, weight)


_WORDS = {200: "OK", 404: "Not Found", 503: "Service Unavailable"}


def _http(status: int, body: bytes, more: str = "") -> bytes:
    head = (
        f"HTTP/1.1 {status} {_WORDS[status]}\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n"
        f"{more}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
