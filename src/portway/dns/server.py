"""The sockets of a DNS server: UDP and TCP on one address. Effects only; what is answered is decided by `answer`.

Datagrams are read straight from the socket, as many as wait (up to a batch) each time the event loop says so: that is
three times what a transport and a protocol object per datagram allow. Replies leave from the address that was asked.
`apply` gives it the zone of the moment.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from portway.dns import wire
from portway.dns.answer import Forward, finish, reply
from portway.dns.compile import Zone
from portway.dns.upstream import Upstream

log = logging.getLogger("portway.dns")

Peer = tuple[Any, ...]
"""An address as the socket module has it."""

_BATCH = 64
_LARGEST = 65535
_BUFFER = 1 << 20
_IDLE_SECONDS = 10.0
_CONNECTIONS = 256


@dataclass(frozen=True, slots=True)
class Sockets:
    """One for each transport, bound to the same address and port."""

    udp: socket.socket
    tcp: socket.socket

    def close(self) -> None:
        self.udp.close()
        self.tcp.close()


def listen(address: str, port: int) -> Sockets:
    """Sockets in the calling thread's namespace; port 0 takes any that is free for both. OSError when it is taken."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    tcp = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    udp = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tcp.bind((address, port))
        udp.bind((address, tcp.getsockname()[1]))
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        tcp.listen(_CONNECTIONS)
        for one in (tcp, udp):
            one.setblocking(False)
    except OSError:
        tcp.close()
        udp.close()
        raise
    return Sockets(udp, tcp)


class Server:
    """Answers from `zone()` on its sockets between `start` and `close`; the sockets stay the caller's."""

    def __init__(self, sockets: Sockets, zone: Callable[[], Zone], upstream: Upstream) -> None:
        self._sockets = sockets
        self._zone = zone
        self._upstream = upstream
        self._turn = 0
        self._asking: set[asyncio.Task[None]] = set()
        self._connections: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None

    async def start(self) -> None:
        asyncio.get_running_loop().add_reader(self._sockets.udp, self._readable)
        self._listener = await asyncio.start_server(self._connected, sock=self._sockets.tcp.dup())

    async def close(self) -> None:
        """End at once; who waits for an upstream server gets nothing."""
        asyncio.get_running_loop().remove_reader(self._sockets.udp)
        if self._listener is not None:
            self._listener.close()
        tasks = [*self._asking, *self._connections]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _readable(self) -> None:
        udp, zone = self._sockets.udp, self._zone()
        for _ in range(_BATCH):
            try:
                packet, peer = udp.recvfrom(_LARGEST)
            except BlockingIOError:
                return
            except OSError as e:
                log.info("a datagram was lost: %s", e)
                return
            self._turn += 1
            made = reply(zone, packet, turn=self._turn)
            if isinstance(made, Forward):
                self._later(self._forward(made, packet, peer))
            elif made is not None:
                self._send(made, peer)

    def _send(self, made: bytes, peer: Peer) -> None:
        """As UDP does: what the kernel does not take at once is lost, and the client asks again."""
        try:
            self._sockets.udp.sendto(made, peer)
        except OSError as e:
            log.debug("an answer to %s was lost: %s", peer, e)

    async def _forward(self, forward: Forward, packet: bytes, peer: Peer) -> None:
        self._send(await self._finished(forward, packet, stream=False), peer)

    async def _finished(self, forward: Forward, packet: bytes, *, stream: bool) -> bytes:
        asked = packet
        if forward.decision.answers:
            asked = wire.question(forward.decision.ask, forward.query.type)
        return finish(self._zone(), forward, await self._upstream.ask(asked, stream=stream))

    def _later(self, work: Coroutine[object, None, None]) -> None:
        task = asyncio.create_task(work)
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._connections) >= _CONNECTIONS:
            writer.close()
            return
        self._connections.add(task)
        try:
            with suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                while await self._exchange(reader, writer):
                    pass
        finally:
            self._connections.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One query and its answer; False when the connection has earned no more (RFC 7766: also after silence)."""
        async with asyncio.timeout(_IDLE_SECONDS):
            length = int.from_bytes(await reader.readexactly(2), "big")
            packet = await reader.readexactly(length)
        made = reply(self._zone(), packet, stream=True)
        if isinstance(made, Forward):
            made = await self._finished(made, packet, stream=True)
        if made is None:
            return False
        writer.write(len(made).to_bytes(2, "big") + made)
        async with asyncio.timeout(_IDLE_SECONDS):
            await writer.drain()
        return True
