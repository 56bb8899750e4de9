"""Carries the bytes of one published address: a socket on 127.0.0.1 outside, sockets of the host `client` inside.

TCP both ways with half-close and back-pressure; a reset or a refusal inside is a reset outside, so that a program sees what a
client of the lab would see. UDP by sessions: the sender's port is one session, and an idle one ends. Nothing runs while nobody
speaks: the event loop waits for the sockets, and the only timer is that of open UDP sessions. `publish` makes and closes relays.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import struct
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from portway.lab.state import PublishRecord
from portway.lab.topology import SERVICE_CIDR
from portway.loop.clock import Clock
from portway.netns.kernel import Namespace

log = logging.getLogger("portway.lab")

MOST_CONNECTIONS = 256
"""Of one published address at a time. The next one waits in the kernel's backlog: nobody is refused for it."""
MOST_SESSIONS = 256
UDP_IDLE_SECONDS = 60.0
CONNECT_SECONDS = 15.0
_CHUNK = 65536
_BURST = 32
"""Datagrams taken from one socket before the others have their turn."""
_NO_WAY = f"no route of the edge leads there (for Services: portway route add {SERVICE_CIDR} --via node-1)"
_RESET = struct.pack("ii", 1, 0)


class Relay(ABC):
    """One published address. `error` is why the last connection failed inside; empty once one has succeeded."""

    def __init__(
        self, record: PublishRecord, listener: socket.socket, namespace: Callable[[], Namespace | None], clock: Clock
    ) -> None:
        self.record = record
        self.error = ""
        self._listener = listener
        self._namespace = namespace
        self._clock = clock

    @staticmethod
    def of(
        record: PublishRecord, listener: socket.socket, namespace: Callable[[], Namespace | None], clock: Clock
    ) -> Relay:
        """The relay for the record's protocol, at work. It takes over `listener`."""
        kind = TcpRelay if record.protocol == "tcp" else UdpRelay
        return kind(record, listener, namespace, clock)

    @property
    @abstractmethod
    def connections(self) -> int:
        """TCP connections, or UDP sessions, that are open."""

    def close(self) -> None:
        """Stop listening and end what is open. Twice is fine."""
        if self._listener.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._end_all()

    @abstractmethod
    def _end_all(self) -> None: ...

    def _inside(self, kind: int) -> socket.socket:
        namespace = self._namespace()
        if namespace is None:
            raise OSError(errno.ENETDOWN, "the cluster is not up yet")
        return namespace.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK)

    @property
    def _target(self) -> tuple[str, int]:
        return (self.record.address, self.record.target)

    def _failed(self, e: OSError) -> None:
        words = f"{self.record.address}:{self.record.target}: {os.strerror(e.errno) if e.errno else e}"
        if e.errno == errno.ENETUNREACH:
            words += f": {_NO_WAY}"
        if words != self.error:  # once, not for every datagram
            log.info("published 127.0.0.1:%s/%s: %s", self.record.port, self.record.protocol, words)
        self.error = words


class TcpRelay(Relay):
    def __init__(
        self, record: PublishRecord, listener: socket.socket, namespace: Callable[[], Namespace | None], clock: Clock
    ) -> None:
        super().__init__(record, listener, namespace, clock)
        self._room = asyncio.Semaphore(MOST_CONNECTIONS)
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepting = asyncio.create_task(self._accept(), name=f"publish {record.text}")

    @property
    def connections(self) -> int:
        return len(self._tasks)

    def _end_all(self) -> None:
        self._accepting.cancel()
        for task in self._tasks:
            task.cancel()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._room.acquire()
            try:
                outer, _ = await loop.sock_accept(self._listener)
            except OSError as e:  # no descriptor left (EMFILE), or the caller has hung up already: the next one may do
                self._room.release()
                log.warning("published %s: accept: %s", self.record.text, e.strerror)
                await self._clock.sleep(0.1)
                continue
            task = asyncio.create_task(self._serve(outer))
            self._tasks.add(task)
            task.add_done_callback(self._served)

    def _served(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._room.release()

    async def _serve(self, outer: socket.socket) -> None:
        with outer:
            try:
                inner = await self._connect()
            except OSError as e:
                self._failed(e)
                _reset(outer)
                return
            with inner:
                self.error = ""
                try:
                    async with asyncio.TaskGroup() as both:
                        both.create_task(_copy(outer, inner))
                        both.create_task(_copy(inner, outer))
                except* OSError:
                    _reset(outer)
                    _reset(inner)

    async def _connect(self) -> socket.socket:
        inner = self._inside(socket.SOCK_STREAM)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await asyncio.get_running_loop().sock_connect(inner, self._target)
        except BaseException as e:
            inner.close()
            if isinstance(e, TimeoutError) and e.errno is None:
                raise OSError(errno.ETIMEDOUT, f"no answer within {CONNECT_SECONDS:g} s") from e
            raise
        return inner


async def _copy(source: socket.socket, sink: socket.socket) -> None:
    """Until the source has said all; then the sink is told so. What the sink does not take yet is not read either."""
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(source, _CHUNK):
        await loop.sock_sendall(sink, data)
    with suppress(OSError):  # the other end is gone already: the other direction will say so
        sink.shutdown(socket.SHUT_WR)


def _reset(connection: socket.socket) -> None:
    """Closing it will be a RST: what was lost must not look like an end."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


@dataclass(slots=True)
class _Session:
    """One sender outside and its socket inside. `used` is when a datagram went through last."""

    socket: socket.socket
    used: float


class UdpRelay(Relay):
    def __init__(
        self, record: PublishRecord, listener: socket.socket, namespace: Callable[[], Namespace | None], clock: Clock
    ) -> None:
        super().__init__(record, listener, namespace, clock)
        self._sessions: OrderedDict[tuple[str, int], _Session] = OrderedDict()
        self._expiring: asyncio.Task[None] | None = None
        asyncio.get_running_loop().add_reader(listener, self._from_outside)

    @property
    def connections(self) -> int:
        return len(self._sessions)

    def _end_all(self) -> None:
        if self._expiring is not None:
            self._expiring.cancel()
        for source in list(self._sessions):
            self._end(source)

    def _from_outside(self) -> None:
        for _ in range(_BURST):
            try:
                data, source = self._listener.recvfrom(_CHUNK)
            except BlockingIOError:
                return
            except OSError:  # an earlier answer found nobody (ICMP): that sender is gone, the others are not
                continue
            try:
                self._session(source).socket.send(data)
            except BlockingIOError:  # full: a datagram may be lost
                continue
            except OSError as e:
                self._failed(e)

    def _session(self, source: tuple[str, int]) -> _Session:
        now, found = self._clock.monotonic(), self._sessions.get(source)
        if found is None:
            while len(self._sessions) >= MOST_SESSIONS:
                self._end(next(iter(self._sessions)))
            inner = self._inside(socket.SOCK_DGRAM)
            try:
                inner.connect(self._target)
            except OSError:
                inner.close()
                raise
            found = self._sessions[source] = _Session(inner, now)
            asyncio.get_running_loop().add_reader(inner, self._from_inside, source, found)
            if self._expiring is None or self._expiring.done():
                self._expiring = asyncio.create_task(self._expire(), name=f"publish {self.record.text}")
        self._used(source, found)
        return found

    def _used(self, source: tuple[str, int], session: _Session) -> None:
        session.used = self._clock.monotonic()
        self._sessions.move_to_end(source)

    def _from_inside(self, source: tuple[str, int], session: _Session) -> None:
        for _ in range(_BURST):
            try:
                data = session.socket.recv(_CHUNK)
            except BlockingIOError:
                return
            except OSError as e:  # refused (ICMP): nobody is there now, but the next datagram may find somebody
                self._failed(e)
                return
            self.error = ""
            self._used(source, session)
            with suppress(OSError):
                self._listener.sendto(data, source)

    async def _expire(self) -> None:
        """Lives while there are sessions. The first in the order is the one that was used longest ago."""
        while self._sessions:
            source, session = next(iter(self._sessions.items()))
            left = session.used + UDP_IDLE_SECONDS - self._clock.monotonic()
            if left <= 0:
                self._end(source)
            else:
                await self._clock.sleep(left)

    def _end(self, source: tuple[str, int]) -> None:
        session = self._sessions.pop(source)
        asyncio.get_running_loop().remove_reader(session.socket)
        session.socket.close()
