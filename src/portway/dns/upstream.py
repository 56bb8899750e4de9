"""Questions that are not the cluster's, put to the configured servers over UDP or TCP. An effect; used by `server`.

A question goes out from a socket of its own with an identifier by chance, so that nobody else's packet is taken for the
answer, and over the transport on which it came: an answer that was cut is passed on, and the client comes back over TCP.
Servers are asked in order. Nothing is cached: the TTLs are the upstream server's business.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from collections.abc import Callable, Sequence

from portway.dns import wire

log = logging.getLogger("portway.dns")

Sockets = Callable[[int], socket.socket]
"""Makes a socket of a kind (SOCK_DGRAM, SOCK_STREAM), in the namespace from which the servers are reached."""

_AT_ONCE = 512
_LARGEST = 65535


class Upstream:
    """`timeout` in seconds is for one server; after the last one `ask` gives up."""

    def __init__(self, servers: Sequence[tuple[str, int]], sockets: Sockets, *, timeout: float = 2.0) -> None:
        self._servers = tuple(servers)
        self._sockets = sockets
        self._timeout = timeout
        self._asking = 0

    async def ask(self, packet: bytes, *, stream: bool) -> bytes | None:
        """The first answer to the query `packet`, with an identifier of our own; None when nobody answers in time."""
        if self._asking >= _AT_ONCE:
            log.warning("%d questions wait for upstream servers: another one is refused", self._asking)
            return None
        self._asking += 1
        try:
            for server in self._servers:
                if (answer := await self._ask(server, packet, stream)) is not None:
                    return answer
        finally:
            self._asking -= 1
        return None

    async def _ask(self, server: tuple[str, int], packet: bytes, stream: bool) -> bytes | None:
        query = secrets.token_bytes(2) + packet[2:]
        try:
            with self._sockets(socket.SOCK_STREAM if stream else socket.SOCK_DGRAM) as link:
                link.setblocking(False)
                async with asyncio.timeout(self._timeout):
                    await asyncio.get_running_loop().sock_connect(link, server)
                    return await (_over_stream if stream else _over_datagrams)(link, query)
        except (OSError, TimeoutError, EOFError) as e:
            log.info("the upstream server %s:%d does not answer: %s", *server, str(e) or type(e).__name__)
            return None


async def _over_datagrams(link: socket.socket, query: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(link, query)
    while True:
        answer = await loop.sock_recv(link, _LARGEST)
        if is_answer(query, answer):
            return answer


async def _over_stream(link: socket.socket, query: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(link, len(query).to_bytes(2, "big") + query)
    length = int.from_bytes(await _exactly(link, 2), "big")
    answer = await _exactly(link, length)
    if not is_answer(query, answer):
        raise EOFError("it answered something else")
    return answer


async def _exactly(link: socket.socket, count: int) -> bytes:
    loop = asyncio.get_running_loop()
    made = bytearray()
    while len(made) < count:
        piece = await loop.sock_recv(link, count - len(made))
        if not piece:
            raise EOFError("it closed the connection")
        made += piece
    return bytes(made)


def is_answer(query: bytes, answer: bytes) -> bool:
    """Whether `answer` belongs to `query`: the identifier and the whole question, in its case, come back."""
    if len(answer) < wire.HEADER or answer[:2] != query[:2] or not answer[2] & 0x80:
        return False
    try:
        asked = wire.parse(query).question
    except (wire.Ignored, wire.Malformed):
        return False
    return answer[4:6] == b"\0\1" and answer[wire.HEADER : wire.HEADER + len(asked)] == asked
