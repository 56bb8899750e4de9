"""Real sockets on loopback: both transports, many at once, broken streams, and servers that are asked on our behalf."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast

import dns.asyncquery
import dns.message
import dns.rcode
import dns.rrset
import pytest

from build_dns import DB, OUTSIDE, SHOP, WEB, endpoint, lines, query, slice_of, zone
from portway.dns import server as serving
from portway.dns.compile import Zone
from portway.dns.config import DnsConfig
from portway.dns.server import Server, Sockets, listen
from portway.dns.upstream import Upstream, is_answer

LOOPBACK = "127.0.0.1"
NAME = "web.shop.svc.cluster.local"
Answering = Callable[[bytes], bytes | None]


@dataclass
class Names:
    """A running server; what `zone` is can be replaced."""

    zone: Zone
    port: int = 0

    async def udp(self, name: str, type_: str = "A") -> dns.message.Message:
        return await dns.asyncquery.udp(query(name, type_), LOOPBACK, port=self.port, timeout=5)

    async def tcp(self, name: str, type_: str = "A") -> dns.message.Message:
        return await dns.asyncquery.tcp(query(name, type_), LOOPBACK, port=self.port, timeout=5)


def plain(kind: int) -> socket.socket:
    return socket.socket(socket.AF_INET, kind)


@asynccontextmanager
async def running(zone: Zone, timeout: float = 5.0) -> AsyncIterator[Names]:
    sockets = listen(LOOPBACK, 0)
    names = Names(zone, sockets.udp.getsockname()[1])
    server = Server(sockets, lambda: names.zone, Upstream(zone.config.upstream, plain, timeout=timeout))
    await server.start()
    try:
        yield names
    finally:
        await server.close()
        sockets.close()


async def test_both_transports() -> None:
    async with running(SHOP) as names:
        for ask in (names.udp, names.tcp):
            assert lines((await ask(NAME)).answer) == [f"{NAME} A 10.3.240.9"]
            assert (await ask("nobody.shop.svc.cluster.local")).rcode() == dns.rcode.NXDOMAIN


async def test_the_zone_of_the_moment_answers() -> None:
    async with running(zone()) as names:
        assert (await names.udp(NAME)).rcode() == dns.rcode.NXDOMAIN
        names.zone = zone(WEB)
        assert (await names.udp(NAME)).rcode() == dns.rcode.NOERROR


async def test_a_cut_answer_is_whole_over_tcp() -> None:
    many = zone(DB, slice_of("shop/db", *(endpoint(f"10.0.1.{n}") for n in range(200))))
    async with running(many) as names:
        asked = query("db.shop.svc.cluster.local")
        answer, by_tcp = await dns.asyncquery.udp_with_fallback(asked, LOOPBACK, port=names.port, timeout=5)
        assert by_tcp
        assert len(answer.answer[0]) == 200


async def test_more_datagrams_than_a_batch() -> None:
    async with running(SHOP) as names:
        answers = await asyncio.gather(*(names.udp(NAME) for _ in range(serving._BATCH * 2)))
        assert {a.rcode() for a in answers} == {dns.rcode.NOERROR}


async def test_broken_datagrams_do_not_stop_it() -> None:
    async with running(SHOP) as names:
        with plain(socket.SOCK_DGRAM) as link:
            for packet in (b"", b"\0", b"\xff" * 40, query(NAME).to_wire()[:-3]):
                link.sendto(packet, (LOOPBACK, names.port))
        assert (await names.udp(NAME)).rcode() == dns.rcode.NOERROR


async def test_several_queries_on_one_connection() -> None:
    async with running(SHOP) as names:
        reader, writer = await asyncio.open_connection(LOOPBACK, names.port)
        asked = [query(NAME), query("db-0.db.shop.svc.cluster.local")]
        writer.writelines(len(w).to_bytes(2, "big") + w for w in (q.to_wire() for q in asked))
        for one in asked:
            length = int.from_bytes(await reader.readexactly(2), "big")
            assert one.is_response(dns.message.from_wire(await reader.readexactly(length)))
        writer.close()


@pytest.mark.parametrize("sent", [b"\0\0", b"\0\5hello", b"\0\x0c" + b"\xff" * 12, b"\1\0short", b"\0"])
async def test_a_connection_that_talks_nonsense_is_closed(sent: bytes) -> None:
    async with running(SHOP) as names:
        reader, writer = await asyncio.open_connection(LOOPBACK, names.port)
        writer.write(sent)
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
        assert (await names.tcp(NAME)).rcode() == dns.rcode.NOERROR


async def test_a_silent_connection_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_IDLE_SECONDS", 0.05)
    async with running(SHOP) as names:
        reader, writer = await asyncio.open_connection(LOOPBACK, names.port)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


async def test_connections_beyond_the_limit_are_closed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_CONNECTIONS", 1)
    async with running(SHOP) as names:
        reader, writer = await asyncio.open_connection(LOOPBACK, names.port)
        asked = query(NAME).to_wire()
        writer.write(len(asked).to_bytes(2, "big") + asked)
        await reader.readexactly(2)
        other, closing = await asyncio.open_connection(LOOPBACK, names.port)
        assert await asyncio.wait_for(other.read(), 5) == b""
        for one in (writer, closing):
            one.close()


def test_an_address_that_is_taken_is_an_error_and_leaks_nothing() -> None:
    sockets = listen(LOOPBACK, 0)
    try:
        with pytest.raises(OSError, match="in use"):
            listen(LOOPBACK, sockets.tcp.getsockname()[1])
    finally:
        sockets.close()


# Upstream


@dataclass
class Elsewhere:
    """A server of other names, which answers as the test says and keeps what it was asked."""

    answer: Answering
    asked: list[dns.message.Message]
    port: int = 0

    def said(self, packet: bytes) -> bytes | None:
        self.asked.append(dns.message.from_wire(packet))
        return self.answer(packet)


def address(packet: bytes) -> bytes:
    """An A record for whatever is asked."""
    said = dns.message.make_response(dns.message.from_wire(packet), recursion_available=True)
    said.answer = [dns.rrset.from_text(said.question[0].name, 60, "IN", "A", "192.0.2.80")]
    return said.to_wire()


@asynccontextmanager
async def elsewhere(answer: Answering) -> AsyncIterator[Elsewhere]:
    sockets: Sockets = listen(LOOPBACK, 0)
    other = Elsewhere(answer, [], sockets.udp.getsockname()[1])

    class Datagrams(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast(asyncio.DatagramTransport, transport)

        def datagram_received(self, data: bytes, peer: tuple[str, int]) -> None:
            if (said := other.said(data)) is not None:
                self.transport.sendto(said, peer)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        packet = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        if (said := other.said(packet)) is not None:
            writer.write(len(said).to_bytes(2, "big") + said)
        writer.close()

    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Datagrams, sock=sockets.udp)
    listener = await asyncio.start_server(connected, sock=sockets.tcp)
    try:
        yield other
    finally:
        transport.close()
        listener.close()


def served(*ports: int) -> Zone:
    return zone(WEB, OUTSIDE, config=DnsConfig(upstream=tuple((LOOPBACK, p) for p in ports)))


async def test_other_names_are_asked_elsewhere_over_the_same_transport() -> None:
    async with elsewhere(address) as other, running(served(other.port)) as names:
        for ask in (names.udp, names.tcp):
            assert lines((await ask("www.example.com")).answer) == ["www.example.com A 192.0.2.80"]
        assert lines((await names.udp(NAME)).answer) == [f"{NAME} A 10.3.240.9"]
        assert len(other.asked) == 2, "our own names are asked nowhere"


async def test_an_alias_is_followed_to_the_outside() -> None:
    async with elsewhere(address) as other, running(served(other.port)) as names:
        for ask in (names.udp, names.tcp):
            answer = await ask("outside.shop.svc.cluster.local")
            assert lines(answer.answer) == [
                "outside.shop.svc.cluster.local CNAME shop.example.com",
                "shop.example.com A 192.0.2.80",
            ]


async def test_a_server_that_is_silent_is_passed_over() -> None:
    async with elsewhere(lambda _: None) as silent, elsewhere(address) as other:
        async with running(served(silent.port, other.port), timeout=0.1) as names:
            assert (await names.udp("www.example.com")).rcode() == dns.rcode.NOERROR
            assert (await names.tcp("www.example.com")).rcode() == dns.rcode.NOERROR
            assert len(silent.asked) == 2


async def test_nobody_answers() -> None:
    free = listen(LOOPBACK, 0)
    port = free.udp.getsockname()[1]
    free.close()
    async with elsewhere(lambda _: None) as silent:
        async with running(served(port, silent.port), timeout=0.1) as names:
            assert (await names.udp("www.example.com")).rcode() == dns.rcode.SERVFAIL
            assert (await names.udp(NAME)).rcode() == dns.rcode.NOERROR


async def test_an_answer_to_another_question_is_not_taken() -> None:
    def forged(packet: bytes) -> bytes:
        return address(dns.message.make_query("evil.example", "A", id=int.from_bytes(packet[:2], "big")).to_wire())

    async with elsewhere(forged) as other, running(served(other.port), timeout=0.1) as names:
        assert (await names.udp("www.example.com")).rcode() == dns.rcode.SERVFAIL
        assert (await names.tcp("www.example.com")).rcode() == dns.rcode.SERVFAIL


async def test_too_many_questions_at_once_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portway.dns.upstream._AT_ONCE", 0)
    async with elsewhere(address) as other, running(served(other.port)) as names:
        assert (await names.udp("www.example.com")).rcode() == dns.rcode.SERVFAIL
        assert other.asked == []


def test_what_counts_as_an_answer() -> None:
    asked = query("Www.example.com").to_wire()
    said = address(asked)
    assert is_answer(asked, said)
    assert not is_answer(asked, asked), "a query is no answer"
    assert not is_answer(asked, bytes((said[0] ^ 1,)) + said[1:]), "another identifier"
    assert not is_answer(asked, said[:13] + said[13:14].lower() + said[14:]), "another case"
    assert not is_answer(asked, said[:11])
    assert not is_answer(said, said)
