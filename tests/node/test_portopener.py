"""The keeper of the node's table: adopts, opens, closes, and what it does when the kernel refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from build_hostports import pod, port, table
from portway.loop.clock import FakeClock
from portway.nft.canonical import canonical
from portway.nft.fake import FakeNft
from portway.nft.protocol import NftError
from portway.nft.tables import Family, Ruleset
from portway.nft.transaction import Transaction, diff
from portway.node.flows import Flow
from portway.node.hostports import ANY_ADDRESS, TABLE, PodPorts, ports_of
from portway.node.portopener import PortOpener, cleanup


class Nft(FakeNft):
    """Refuses as many transactions, or reads, as told."""

    def __init__(self) -> None:
        super().__init__()
        self.refuses = 0
        self.hides = 0
        self.closed = False

    def apply(self, transaction: Transaction) -> None:
        if self.refuses:
            self.refuses -= 1
            raise NftError("no")
        super().apply(transaction)

    def read(self, family: Family, name: str) -> Ruleset | None:
        if self.hides:
            self.hides -= 1
            raise NftError("strange")
        return super().read(family, name)

    def close(self) -> None:
        self.closed = True

    @property
    def open(self) -> dict[tuple[object, ...], str]:
        """Port → the address behind it, of those for any address."""
        found = self.read(Family.IP, TABLE)
        assert found is not None, "there is no table"
        values = {key: e.value for key, e in found.elements.get(ANY_ADDRESS, {}).items()}
        return {key: str(v[0]) for key, v in values.items() if isinstance(v, tuple)}


class Remembered:
    """Flows in memory."""

    def __init__(self, *flows: Flow) -> None:
        self.flows = list(flows)
        self.asked = 0
        self.closed = False

    def forget(self, stale: Callable[[Flow], bool]) -> None:
        self.asked += 1
        self.flows = [f for f in self.flows if not stale(f)]

    def close(self) -> None:
        self.closed = True


def ports(name: str, number: int, address: str = "10.0.1.2", protocol: str = "TCP") -> PodPorts:
    found = ports_of(pod(name, port(number, protocol=protocol)), address)
    assert found is not None
    return found


@pytest.fixture
def nft() -> Nft:
    return Nft()


@pytest.fixture
def flows() -> Remembered:
    return Remembered()


@pytest.fixture
def opener(nft: Nft, flows: Remembered) -> PortOpener:
    made = PortOpener(nft, flows)
    made.adopt()
    return made


def test_a_node_without_host_ports_has_the_empty_table(nft: Nft, opener: PortOpener) -> None:
    assert nft.read(Family.IP, TABLE) == canonical(table())


def test_what_an_earlier_agent_left_is_adopted_and_its_pods_ports_are_closed(nft: Nft) -> None:
    nft.apply(diff(None, table((pod("dead", port(80)), "10.0.1.9"))))
    PortOpener(nft, Remembered()).adopt()
    assert nft.open == {}
    assert not any("delete table" in str(t) for t in nft.applied), "the table itself stays"


def test_nothing_is_sent_when_nothing_changes(nft: Nft, opener: PortOpener) -> None:
    opener.open("uid-web", ports("web", 80))
    before = len(nft.applied)
    opener.open("uid-web", ports("web", 80))
    opener.close("uid-nobody")
    assert len(nft.applied) == before


def test_a_change_is_one_small_transaction(nft: Nft, opener: PortOpener) -> None:
    opener.open("uid-web", ports("web", 80))
    opener.open("uid-dns", ports("dns", 53, "10.0.1.3"))
    assert nft.open == {("tcp", 80): "10.0.1.2", ("tcp", 53): "10.0.1.3"}
    opener.close("uid-web")
    assert nft.open == {("tcp", 53): "10.0.1.3"}
    assert len(nft.applied) == 4
    assert str(nft.applied[-1]).count("\n") == 2, "the port and the hairpin"


def test_the_next_in_line_gets_a_port_in_the_moment_in_which_it_is_free(nft: Nft, opener: PortOpener) -> None:
    opener.open("uid-old", ports("old", 80))
    opener.open("uid-new", ports("new", 80, "10.0.1.3"))
    assert nft.open == {("tcp", 80): "10.0.1.2"}
    opener.close("uid-old")
    assert nft.open == {("tcp", 80): "10.0.1.3"}


def test_a_refused_port_is_not_remembered(nft: Nft, opener: PortOpener) -> None:
    nft.refuses = 1
    with pytest.raises(NftError):
        opener.open("uid-web", ports("web", 80))
    opener.open("uid-dns", ports("dns", 53))
    assert nft.open == {("tcp", 53): "10.0.1.2"}


async def test_a_port_that_could_not_be_closed_is_closed_later(nft: Nft, opener: PortOpener) -> None:
    clock = FakeClock()
    opener.open("uid-web", ports("web", 80))
    nft.refuses = 3
    running = asyncio.create_task(opener.run(clock))
    try:
        opener.close("uid-web")
        assert nft.open == {("tcp", 80): "10.0.1.2"}
        await clock.advance(10)
        assert nft.open == {}
        assert nft.refuses == 0
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_a_table_that_could_not_be_made_at_the_start_is_made_later(nft: Nft) -> None:
    clock = FakeClock()
    nft.refuses = 1
    opener = PortOpener(nft, Remembered())
    opener.adopt()
    running = asyncio.create_task(opener.run(clock))
    try:
        await clock.advance(10)
        assert nft.open == {}
    finally:
        running.cancel()
        await asyncio.wait([running])


def test_after_a_refusal_the_table_is_read_again(nft: Nft, opener: PortOpener) -> None:
    """Somebody removed it: the difference to what we remember fails, the difference to what is there does not."""
    nft.apply(diff(table(), None))
    with pytest.raises(NftError):
        opener.open("uid-web", ports("web", 80))
    opener.open("uid-web", ports("web", 80))
    assert nft.open == {("tcp", 80): "10.0.1.2"}


def test_a_table_that_cannot_be_read_is_replaced(nft: Nft) -> None:
    nft.apply(diff(None, replace(table((pod("dead", port(80)), "10.0.1.9")), comment="another version")))
    nft.hides = 1
    opener = PortOpener(nft, Remembered())
    opener.adopt()
    opener.open("uid-web", ports("web", 81))
    assert nft.open == {("tcp", 81): "10.0.1.2"}


NODE, POD, OTHER = IPv4Address("10.100.0.2"), IPv4Address("10.0.1.2"), IPv4Address("10.0.1.3")
TO_NODE = Flow((NODE, 53), (NODE, 53))
TO_POD = Flow((NODE, 53), (POD, 8080))
TO_OTHER_POD = Flow((NODE, 53), (OTHER, 8080))
TO_OTHER_PORT = Flow((NODE, 54), (NODE, 54))
STRAIGHT = Flow((POD, 8080), (POD, 8080))


def test_a_udp_port_that_opens_makes_senders_who_were_too_early_ask_anew(
    nft: Nft, opener: PortOpener, flows: Remembered
) -> None:
    flows.flows = [TO_NODE, TO_OTHER_POD, TO_OTHER_PORT, STRAIGHT]
    opener.open("uid-dns", ports("dns", 53, protocol="UDP"))
    assert flows.flows == [TO_OTHER_POD, TO_OTHER_PORT, STRAIGHT]


def test_a_udp_port_that_closes_is_forgotten(nft: Nft, opener: PortOpener, flows: Remembered) -> None:
    opener.open("uid-dns", ports("dns", 53, protocol="UDP"))
    flows.flows = [TO_POD, TO_OTHER_POD, TO_OTHER_PORT, STRAIGHT]
    opener.close("uid-dns")
    assert flows.flows == [TO_OTHER_POD, TO_OTHER_PORT, STRAIGHT]


def test_tcp_and_what_was_refused_leave_the_flows_alone(nft: Nft, opener: PortOpener, flows: Remembered) -> None:
    opener.open("uid-web", ports("web", 80))
    opener.close("uid-web")
    nft.refuses = 1
    with pytest.raises(NftError):
        opener.open("uid-dns", ports("dns", 53, protocol="UDP"))
    assert flows.asked == 0


def test_stop_leaves_the_table(nft: Nft, opener: PortOpener, flows: Remembered) -> None:
    opener.stop()
    assert nft.closed
    assert flows.closed
    assert nft.open == {}


def test_cleanup_removes_the_table_whatever_is_in_it(nft: Nft, opener: PortOpener) -> None:
    nft.hides = 1
    cleanup(nft)
    assert nft.read(Family.IP, TABLE) is None
    cleanup(nft)
    assert nft.read(Family.IP, TABLE) is None
