"""Bytes through a published address: whole, in order, both ways, with ends that are ends and resets that are resets."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from build_publish import Inside, SameNetwork, inside, record
from portway.lab import relay
from portway.lab.relay import Relay, TcpRelay, UdpRelay
from portway.lab.sockets import listen
from portway.lab.state import PublishRecord
from portway.loop.clock import FakeClock

PATIENCE = 10


@pytest.fixture(params=["same network", "another network"])
def place(request: pytest.FixtureRequest) -> Iterator[Inside]:
    with inside(request.param) as found:
        yield found


@pytest.fixture
def here() -> Iterator[Inside]:
    with inside("same network") as found:
        yield found


class Road:
    """A relay, the server behind it, and connections through it."""

    def __init__(self, place: Inside, protocol: str) -> None:
        self.loop = asyncio.get_running_loop()
        self.clock = FakeClock()
        self.place = place
        self.server = place.server(socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)
        listener = listen("127.0.0.1", 0, protocol)
        self.port = int(listener.getsockname()[1])
        self.relay = Relay.of(record(self.server, protocol), listener, lambda: place.namespace, self.clock)
        self._open: list[socket.socket] = []

    async def call(self) -> socket.socket:
        """A program of the user that has connected."""
        outer = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._open.append(outer)
        await self.loop.sock_connect(outer, ("127.0.0.1", self.port))
        return outer

    async def accept(self) -> socket.socket:
        async with asyncio.timeout(PATIENCE):
            inner, _ = await self.loop.sock_accept(self.server)
        self._open.append(inner)
        return inner

    async def pair(self) -> tuple[socket.socket, socket.socket]:
        return await self.call(), await self.accept()

    async def hear(self, connection: socket.socket, size: int = 65536) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self.loop.sock_recv(connection, size)

    def sender(self) -> socket.socket:
        outer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._open.append(outer)
        outer.connect(("127.0.0.1", self.port))
        return outer

    async def datagram(self) -> tuple[bytes, tuple[str, int]]:
        async with asyncio.timeout(PATIENCE):
            return await self.loop.sock_recvfrom(self.server, 65536)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let the loop turn: what it waits for are sockets of this machine."""
        async with asyncio.timeout(PATIENCE):
            while not condition():  # noqa: ASYNC110 - sockets have no event to wait for
                await asyncio.sleep(0)

    async def connections(self, count: int) -> None:
        await self.until(lambda: self.relay.connections == count)

    def close(self) -> None:
        for connection in self._open:
            connection.close()
        self.relay.close()


@pytest.fixture
async def tcp(place: Inside) -> AsyncIterator[Road]:
    road = Road(place, "tcp")
    yield road
    road.close()


@pytest.fixture
async def udp(place: Inside) -> AsyncIterator[Road]:
    road = Road(place, "udp")
    yield road
    road.close()


async def test_words_go_both_ways(tcp: Road) -> None:
    outer, inner = await tcp.pair()
    outer.send(b"question")
    assert await tcp.hear(inner) == b"question"
    inner.send(b"answer")
    assert await tcp.hear(outer) == b"answer"


async def test_who_has_said_all_still_hears_the_answer(tcp: Road) -> None:
    outer, inner = await tcp.pair()
    outer.send(b"all of it")
    outer.shutdown(socket.SHUT_WR)
    assert await tcp.hear(inner) == b"all of it"
    assert await tcp.hear(inner) == b"", "the end has arrived"
    inner.send(b"and the answer after it")
    assert await tcp.hear(outer) == b"and the answer after it"
    inner.close()
    assert await tcp.hear(outer) == b""
    await tcp.connections(0)


@pytest.mark.parametrize("who", ["outside", "inside"])
async def test_a_reset_is_a_reset_on_the_other_side(tcp: Road, who: str) -> None:
    outer, inner = await tcp.pair()
    outer.send(b"x")
    await tcp.hear(inner)
    breaks, feels = (outer, inner) if who == "outside" else (inner, outer)
    relay._reset(breaks)
    breaks.close()
    with pytest.raises(ConnectionResetError):
        await tcp.hear(feels)
    await tcp.connections(0)


async def test_nobody_inside_is_a_reset_and_the_reason_is_kept(tcp: Road) -> None:
    target = f"127.0.0.1:{tcp.server.getsockname()[1]}"
    tcp.server.close()
    outer = await tcp.call()
    with pytest.raises(ConnectionResetError):
        await tcp.hear(outer)
    await tcp.connections(0)
    assert tcp.relay.error == f"{target}: {os.strerror(errno.ECONNREFUSED)}"


async def test_an_answer_clears_the_reason(here: Inside) -> None:
    road, network = Road(here, "tcp"), here.network
    assert isinstance(network, SameNetwork)
    try:
        network.refuse = OSError(errno.EMFILE, "too many")
        with pytest.raises(ConnectionResetError):
            await road.hear(await road.call())
        assert os.strerror(errno.EMFILE) in road.relay.error
        network.refuse = None
        outer, inner = await road.pair()
        inner.send(b"here")
        assert await road.hear(outer) == b"here"
        assert road.relay.error == ""
    finally:
        road.close()


async def test_a_service_that_the_edge_has_no_way_to_comes_with_the_cure(here: Inside) -> None:
    road, network = Road(here, "tcp"), here.network
    assert isinstance(network, SameNetwork)
    try:
        network.refuse = OSError(errno.ENETUNREACH, "unreachable")
        with pytest.raises(ConnectionResetError):
            await road.hear(await road.call())
        assert "portway route add 10.3.240.0/20 --via node-1" in road.relay.error
    finally:
        road.close()


async def test_a_lack_of_descriptors_passes(here: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    road = Road(here, "tcp")
    accept = road.loop.sock_accept
    failures = [OSError(errno.EMFILE, "too many open files")]

    async def scarce(listener: socket.socket) -> tuple[socket.socket, object]:
        if failures and listener is not road.server:
            raise failures.pop()
        return await accept(listener)

    monkeypatch.setattr(road.loop, "sock_accept", scarce)
    try:
        outer = await road.call()
        outer.send(b"patient")
        await road.until(lambda: road.clock.sleepers == 1)
        assert road.relay.connections == 0
        await road.clock.advance(1)
        assert await road.hear(await road.accept()) == b"patient"
    finally:
        road.close()


async def test_before_the_hosts_are_there_a_connection_is_reset() -> None:
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    made = TcpRelay(PublishRecord(port, "10.100.0.2", 80), listener, lambda: None, FakeClock())
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), PATIENCE)
        writer.close()
        assert made.error == f"10.100.0.2:80: {os.strerror(errno.ENETDOWN)}"
    finally:
        made.close()


async def test_much_arrives_whole_and_in_order(tcp: Road) -> None:
    outer, inner = await tcp.pair()
    sent = bytes(range(256)) * 16_384

    async def say() -> None:
        await tcp.loop.sock_sendall(outer, sent)
        outer.shutdown(socket.SHUT_WR)

    saying = asyncio.create_task(say())
    heard = bytearray()
    while data := await tcp.hear(inner):
        heard += data
    await saying
    assert bytes(heard) == sent


async def test_what_nobody_reads_is_not_piled_up(tcp: Road) -> None:
    """Only the kernel's buffers fill: the relay stops reading, so the writer is held back."""
    outer, _ = await tcp.pair()
    chunk, taken = bytes(65536), 0
    for _ in range(2000):
        try:
            taken += outer.send(chunk)
        except BlockingIOError:
            pass
        await asyncio.sleep(0)
    assert 0 < taken < 40_000_000, "a relay that reads on would have taken 130 MB"


async def test_at_the_limit_the_next_one_waits_and_then_has_its_turn(
    here: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "MOST_CONNECTIONS", 2)
    road = Road(here, "tcp")
    try:
        first = await road.pair()
        await road.pair()
        third = await road.call()
        third.send(b"me too")
        await road.connections(2)
        for _ in range(50):
            await asyncio.sleep(0)
        assert road.relay.connections == 2
        with pytest.raises(BlockingIOError):
            road.server.accept()
        for connection in first:
            connection.close()
        assert await road.hear(await road.accept()) == b"me too"
    finally:
        road.close()


async def test_closing_ends_what_is_open(tcp: Road) -> None:
    outer, inner = await tcp.pair()
    tcp.relay.close()
    assert await tcp.hear(outer) == b""
    assert await tcp.hear(inner) == b""
    with pytest.raises(ConnectionRefusedError):
        await tcp.call()


async def test_datagrams_go_there_and_back(udp: Road) -> None:
    outer = udp.sender()
    outer.send(b"question")
    data, source = await udp.datagram()
    assert data == b"question"
    udp.server.sendto(b"answer", source)
    assert await udp.hear(outer) == b"answer"


async def test_each_sender_has_a_session_of_its_own_and_keeps_it(udp: Road) -> None:
    one, two = udp.sender(), udp.sender()
    one.send(b"one")
    _, first = await udp.datagram()
    two.send(b"two")
    _, second = await udp.datagram()
    one.send(b"one again")
    _, third = await udp.datagram()
    assert first == third != second
    udp.server.sendto(b"for two", second)
    udp.server.sendto(b"for one", first)
    assert [await udp.hear(one), await udp.hear(two)] == [b"for one", b"for two"]
    assert udp.relay.connections == 2


async def test_an_empty_datagram_is_one_too(udp: Road) -> None:
    udp.sender().send(b"")
    data, _ = await udp.datagram()
    assert data == b""


async def test_a_session_ends_after_it_was_idle_and_not_before(udp: Road) -> None:
    outer = udp.sender()
    outer.send(b"a")
    await udp.datagram()
    await udp.clock.advance(relay.UDP_IDLE_SECONDS - 1)
    outer.send(b"b")
    await udp.datagram()
    await udp.clock.advance(relay.UDP_IDLE_SECONDS - 1)
    assert udp.relay.connections == 1, "it was used in between"
    await udp.clock.advance(2)
    assert udp.relay.connections == 0
    assert udp.clock.sleepers == 0, "without sessions nothing wakes"
    outer.send(b"c")
    assert (await udp.datagram())[0] == b"c"
    assert udp.relay.connections == 1


async def test_an_answer_keeps_a_session_open(udp: Road) -> None:
    outer = udp.sender()
    outer.send(b"a")
    _, source = await udp.datagram()
    await udp.clock.advance(relay.UDP_IDLE_SECONDS - 1)
    udp.server.sendto(b"still here", source)
    await udp.hear(outer)
    await udp.clock.advance(relay.UDP_IDLE_SECONDS - 1)
    assert udp.relay.connections == 1


async def test_the_session_that_was_idle_longest_makes_room(here: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "MOST_SESSIONS", 2)
    road = Road(here, "udp")
    try:
        one, two, three = road.sender(), road.sender(), road.sender()
        sources = []
        for sender in (one, two, one, three, one):
            sender.send(b"x")
            sources.append((await road.datagram())[1])
        assert road.relay.connections == 2
        assert sources[0] == sources[2] == sources[4], "one was used between: two had to go"
    finally:
        road.close()


async def test_nobody_inside_is_noted_and_the_session_lives_on(udp: Road) -> None:
    port = udp.server.getsockname()[1]
    udp.server.close()
    udp.sender().send(b"anybody?")
    await udp.until(lambda: bool(udp.relay.error))
    assert udp.relay.error == f"127.0.0.1:{port}: {os.strerror(errno.ECONNREFUSED)}"
    assert udp.relay.connections == 1


async def test_a_network_that_gives_no_socket_does_not_stop_the_relay(here: Inside) -> None:
    road, network = Road(here, "udp"), here.network
    assert isinstance(network, SameNetwork)
    try:
        network.refuse = OSError(errno.EMFILE, "too many")
        outer = road.sender()
        outer.send(b"lost")
        await road.until(lambda: bool(road.relay.error))
        network.refuse = None
        outer.send(b"heard")
        assert (await road.datagram())[0] == b"heard"
    finally:
        road.close()


async def test_closing_ends_the_sessions_and_the_timer(udp: Road) -> None:
    udp.sender().send(b"x")
    await udp.datagram()
    assert isinstance(udp.relay, UdpRelay)
    udp.relay.close()
    assert udp.relay.connections == 0
    await udp.clock.advance(0)
    assert udp.clock.sleepers == 0


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
async def test_nobody_else_of_the_network_may_connect(protocol: str) -> None:
    with listen("127.0.0.1", 0, protocol) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
async def test_a_taken_port_is_an_error_and_leaves_no_socket(protocol: str) -> None:
    with listen("127.0.0.1", 0, protocol) as listener:
        with pytest.raises(OSError) as caught:
            listen("127.0.0.1", listener.getsockname()[1], protocol)
        assert caught.value.errno == errno.EADDRINUSE
