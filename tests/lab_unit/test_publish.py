"""What may be published, who wins a port, and what the next `up` finds."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from build_publish import free_port
from portway.lab import publish
from portway.lab.ask import Refused
from portway.lab.publish import NoSuchPublish, PortTaken, Published, parse, parse_all
from portway.lab.sockets import listen
from portway.lab.state import PublishRecord
from portway.loop.clock import FakeClock


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("8080:10.100.0.2:30080", PublishRecord(8080, "10.100.0.2", 30080, "tcp")),
        ("8080:10.100.0.2:30080/tcp", PublishRecord(8080, "10.100.0.2", 30080, "tcp")),
        ("5353:10.3.240.10:53/udp", PublishRecord(5353, "10.3.240.10", 53, "udp")),
        ("1:203.0.113.7:65535", PublishRecord(1, "203.0.113.7", 65535, "tcp")),
    ],
)
def test_the_words(text: str, want: PublishRecord) -> None:
    assert parse(text) == want
    assert parse(want.text) == want, "and back"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "write --publish PORT:ADDRESS:PORT"),
        ("8080", "write --publish PORT:ADDRESS:PORT"),
        ("8080:80", "for example 8080:10.100.0.2:30080"),
        ("127.0.0.1:8080:10.100.0.2:80", "write --publish"),
        ("8080:10.100.0.2:80/sctp", "write --publish"),
        ("8080:10.100.0.2:80/", "write --publish"),
        ("0:10.100.0.2:80", "'0' in '0:10.100.0.2:80' is no port: use a number from 1 to 65535"),
        ("65536:10.100.0.2:80", "is no port"),
        ("80:10.100.0.2:99999999999999999999", "is no port"),
        ("80:10.100.0.2:-1", "is no port"),
        ("²:10.100.0.2:80", "is no port"),
        ("http:10.100.0.2:80", "'http'"),
        ("80:node-1:80", "is no IPv4 address of the lab"),
        ("80:10.100.0:80", "is no IPv4 address of the lab"),
        ("80:127.0.0.1:80", "nobody's address in the lab"),
        ("80:0.0.0.0:80", "nobody's address in the lab"),
        ("80:224.0.0.1:80", "nobody's address in the lab"),
    ],
)
def test_words_that_publish_nothing(text: str, says: str) -> None:
    with pytest.raises(NoSuchPublish) as caught:
        parse(text)
    assert says in str(caught.value)


def test_one_port_for_tcp_and_one_for_udp_is_two() -> None:
    both = ["53:10.3.240.10:53", "53:10.3.240.10:53/udp"]
    assert [r.text for r in parse_all(both)] == both
    assert parse_all(["80:10.0.1.2:80", "80:10.0.1.2:80"]) == (PublishRecord(80, "10.0.1.2", 80),)


def test_two_that_want_one_port() -> None:
    with pytest.raises(NoSuchPublish, match=r"80:10\.0\.1\.2:80 and 80:10\.0\.1\.3:80 want one port"):
        parse_all(["80:10.0.1.2:80", "81:10.0.1.2:80", "80:10.0.1.3:80"])


class Book:
    """A `Published` and what it saved."""

    def __init__(self) -> None:
        self.saves: list[tuple[PublishRecord, ...]] = []
        self.published = Published(FakeClock(), lambda: None, self.save)

    def save(self, kept: tuple[PublishRecord, ...]) -> None:
        self.saves.append(kept)

    def shown(self) -> dict[int, tuple[bool, str]]:
        return {w["port"]: (w["listening"], w["error"]) for w in self.published.words()}


@pytest.fixture
async def book() -> AsyncIterator[Book]:
    book = Book()
    yield book
    book.published.close()
    await asyncio.sleep(0)


def to(port: int, address: str = "10.100.0.2", protocol: str = "tcp") -> PublishRecord:
    return PublishRecord(port, address, 80, protocol)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def test_up_listens_for_what_is_asked_and_what_there_was(book: Book) -> None:
    one, two = to(free_port()), to(free_port())
    assert set(book.published.open([one], [two])) == {one, two}
    assert answers(one.port) and answers(two.port)
    assert book.saves == [], "the start saves, once it has gone well"


async def test_what_is_asked_replaces_what_there_was_on_its_port(book: Book) -> None:
    port = free_port()
    assert book.published.open([to(port, "10.100.0.3")], [to(port)]) == (to(port, "10.100.0.3"),)


async def test_a_taken_port_stops_up_before_anything_is_open(book: Book) -> None:
    with listen("127.0.0.1", 0) as other:
        taken, free = int(other.getsockname()[1]), free_port()
        with pytest.raises(PortTaken) as caught:
            book.published.open([to(free), to(taken)], [])
    assert f"127.0.0.1:{taken}/tcp: somebody listens there already" in str(caught.value)
    assert ":10.100.0.2:80)" in str(caught.value), "with what to write instead"
    assert not answers(free)
    assert book.published.words() == []


async def test_a_port_that_was_taken_since_the_last_up_is_told_and_kept(book: Book) -> None:
    with listen("127.0.0.1", 0) as other:
        taken, free = int(other.getsockname()[1]), free_port()
        assert set(book.published.open([], [to(taken), to(free)])) == {to(taken), to(free)}
        (problem,) = book.published.problems()
        assert book.shown() == {taken: (False, problem), free: (True, "")}
        with pytest.raises(Refused, match="somebody listens there already"):
            await book.published.add({"publish": to(taken).text})
    await book.published.add({"publish": to(taken).text})
    assert book.shown()[taken] == (True, "")
    assert book.published.problems() == ()


async def test_add_and_remove_are_saved(book: Book) -> None:
    record = to(free_port())
    assert await book.published.add({"publish": record.text}) == {"published": record.text}
    assert book.saves == [(record,)]
    assert answers(record.port)
    assert await book.published.remove({"publish": str(record.port)}) == {"published": record.text}
    assert book.saves == [(record,), ()]
    assert not answers(record.port)


async def test_list_is_sorted_and_says_where_each_leads(book: Book) -> None:
    high, low = sorted((free_port(), free_port()), reverse=True)
    book.published.open([to(high), to(low, protocol="udp")], [])
    assert await book.published.list({}) == [
        {
            "port": low, "protocol": "udp", "address": "10.100.0.2", "target": 80,
            "listening": True, "connections": 0, "error": "",
        },
        {
            "port": high, "protocol": "tcp", "address": "10.100.0.2", "target": 80,
            "listening": True, "connections": 0, "error": "",
        },
    ]  # fmt: skip


async def test_remove_finds_udp_too_and_tcp_first(book: Book) -> None:
    port = free_port(socket.SOCK_DGRAM)
    book.published.open([to(port), to(port, protocol="udp")], [])
    assert (await book.published.remove({"publish": str(port)}))["published"] == to(port).text
    assert (await book.published.remove({"publish": f"{port}"}))["published"] == to(port, protocol="udp").text
    book.published.open([to(port), to(port, protocol="udp")], [])
    assert (await book.published.remove({"publish": f"{port}/udp"}))["published"] == to(port, protocol="udp").text
    assert [w["protocol"] for w in book.published.words()] == ["tcp"]


@pytest.mark.parametrize(
    ("operation", "words", "says"),
    [
        ("add", "nonsense", "write --publish"),
        ("remove", "8080", "nothing is published at 8080: portway publish list"),
        ("remove", "nonsense", "nothing is published at nonsense"),
        ("remove", "²", "nothing is published"),
        ("remove", "9" * 5000, "nothing is published"),
        ("remove", "8080/sctp", "nothing is published"),
    ],
)
async def test_what_is_refused(book: Book, operation: str, words: str, says: str) -> None:
    with pytest.raises(Refused, match=says):
        await getattr(book.published, operation)({"publish": words})
    assert book.saves == []


async def test_a_port_leads_to_one_address(book: Book) -> None:
    record = to(free_port())
    await book.published.add({"publish": record.text})
    with pytest.raises(Refused, match=f"is 10.100.0.2:80 already: portway publish remove {record.port}/tcp"):
        await book.published.add({"publish": to(record.port, "10.100.0.3").text})
    assert book.saves == [(record,)]


@pytest.mark.parametrize(
    ("number", "record", "says"),
    [
        (errno.EACCES, to(80), "use a port from 1024 on (--publish 8080:10.100.0.2:80)"),
        (errno.EADDRINUSE, to(65535), "--publish 65534:10.100.0.2:80"),
        (errno.EMFILE, to(8080), "Too many open files: choose another port"),
    ],
)
async def test_why_a_port_is_not_to_be_had(
    book: Book, monkeypatch: pytest.MonkeyPatch, number: int, record: PublishRecord, says: str
) -> None:
    def refuse(*_: Any) -> socket.socket:
        raise OSError(number, "Too many open files")

    monkeypatch.setattr(publish, "listen", refuse)
    with pytest.raises(PortTaken) as caught:
        book.published.open([record], [])
    assert says in str(caught.value)
