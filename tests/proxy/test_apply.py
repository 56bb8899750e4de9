"""The agent keeps the table as the objects say: first lists, changes, restarts, refusals, cleaning up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from build_proxy import CONFIG, NODE_1, NOT_READY, Store, endpoint, plain, port, ruleset, service, slice_of
from portway.loop import FakeClock, Generation, SystemClock
from portway.nft.canonical import canonical
from portway.nft.fake import FakeNft
from portway.nft.operations import AddElements, DeleteElements, DeleteTable
from portway.nft.protocol import NftError
from portway.nft.tables import Family, Ruleset
from portway.nft.transaction import Transaction, diff
from portway.objects.core import Service
from portway.objects.discovery import EndpointSlice
from portway.proxy.apply import RESYNC, Agent, Inputs, cleanup, serve

WEB, API = service("shop/web", "10.3.240.9", port(80, node_port=30080)), service("shop/api", "10.3.240.10")
WEB_SLICE, API_SLICE = slice_of("shop/web", endpoint("10.0.1.2")), slice_of("shop/api", endpoint("10.0.1.3"))


class Refusing(FakeNft):
    """Refuses as many transactions, or reads, as it is told to."""

    refusals = 0
    reads = 0
    unreadable = False

    def apply(self, transaction: Transaction) -> None:
        if self.refusals:
            self.refusals -= 1
            raise NftError("add chain pick-1: Device or resource busy")
        super().apply(transaction)

    def read(self, family: Family, name: str) -> Ruleset | None:
        self.reads += 1
        if self.unreadable:
            raise NftError("a statement of another version")
        return super().read(family, name)


@dataclass(slots=True)
class World:
    """The agent's surroundings."""

    services: Store[Service] = field(default_factory=lambda: Store(WEB))
    slices: Store[EndpointSlice] = field(default_factory=lambda: Store(WEB_SLICE))
    nft: Refusing = field(default_factory=Refusing)
    generation: Generation = field(default_factory=Generation)
    clock: FakeClock | SystemClock = field(default_factory=SystemClock)

    def sync(self) -> None:
        self.services.synced.set()
        self.slices.synced.set()

    async def passes(self, count: int = 1) -> None:
        await asyncio.wait_for(self.generation.at_least(self.generation.value + count), 5)

    def table(self) -> Ruleset | None:
        return self.nft.read(CONFIG.family, CONFIG.table)

    def wanted(self) -> Ruleset:
        return canonical(plain(ruleset(*self.services.items.values(), *self.slices.items.values())))


@asynccontextmanager
async def running(world: World) -> AsyncIterator[World]:
    agent = Agent(Inputs(world.services, world.slices), world.nft, NODE_1)
    task = asyncio.create_task(serve(agent, world.clock, world.generation))
    try:
        yield world
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_first_pass_makes_the_whole_table() -> None:
    async with running(World()) as world:
        world.sync()
        await world.passes()
        assert world.table() == world.wanted()


async def test_nothing_is_touched_before_both_lists_are_complete() -> None:
    clock = FakeClock()
    async with running(World(clock=clock)) as world:
        world.nft.apply(diff(None, ruleset(API, API_SLICE)))
        before = world.table()
        world.services.synced.set()
        await clock.advance(10)
        assert world.table() == before, "an empty list of endpoints would refuse everybody"
        world.slices.synced.set()
        await clock.advance(10)
        assert world.table() == world.wanted()


async def test_changes_become_small_transactions() -> None:
    async with running(World()) as world:
        world.sync()
        await world.passes()
        reads = world.nft.reads
        world.slices.put(slice_of("shop/web", endpoint("10.0.1.3")))
        await world.passes()
        assert world.nft.reads == reads, "what was loaded is known"
        assert world.table() == world.wanted()
        kinds = {type(op) for op in world.nft.applied[-1].operations}
        assert kinds == {DeleteElements, AddElements}
        assert sum(len(op.keys) for op in world.nft.applied[-1].operations if isinstance(op, DeleteElements)) == 3


async def test_services_come_change_and_go() -> None:
    async with running(World()) as world:
        world.sync()
        await world.passes()
        steps: tuple[Callable[[], None], ...] = (
            lambda: world.services.put(API),
            lambda: world.slices.put(API_SLICE),
            lambda: world.slices.put(slice_of("shop/api", endpoint("10.0.1.3", NOT_READY))),
            lambda: world.services.put(service("shop/api", "10.3.240.10", port(81))),
            lambda: world.slices.remove("shop/web-abc"),
            lambda: world.services.remove("shop/web"),
        )
        for happens in steps:
            happens()
            await world.passes()
            assert world.table() == world.wanted()


async def test_what_changes_nothing_gives_the_kernel_nothing() -> None:
    async with running(World()) as world:
        world.sync()
        await world.passes()
        count = len(world.nft.applied)
        world.services.put(service("shop/db", "None"))
        await world.passes()
        assert len(world.nft.applied) == count


async def test_many_changes_in_one_moment_are_one_transaction() -> None:
    async with running(World()) as world:
        world.sync()
        await world.passes()
        count = len(world.nft.applied)
        for n in range(50):
            world.services.put(service(f"shop/s{n}", f"10.3.241.{n}"))
        await world.passes()
        assert len(world.nft.applied) == count + 1
        assert world.table() == world.wanted()


async def test_a_restart_finds_its_table_and_changes_only_what_differs() -> None:
    world = World()
    world.nft.apply(diff(None, ruleset(WEB, WEB_SLICE, API, API_SLICE)))
    async with running(world):
        world.sync()
        await world.passes()
        assert world.table() == world.wanted()
    assert not any(isinstance(op, DeleteTable) for op in world.nft.applied[-1].operations)
    count = len(world.nft.applied)
    world.generation = Generation()
    async with running(world):
        await world.passes()
    assert len(world.nft.applied) == count, "the same objects: nothing to do"


async def test_a_table_that_cannot_be_read_is_replaced_in_one_transaction(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.nft.apply(diff(None, ruleset(API, API_SLICE)))
    world.nft.unreadable = True
    async with running(world):
        world.sync()
        await world.passes()
        world.nft.unreadable = False
        assert world.table() == world.wanted()
    assert isinstance(world.nft.applied[-1].operations[0], DeleteTable)
    assert "a statement of another version" in caplog.text


async def test_a_refusal_is_logged_and_everything_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    async with running(World()) as world:
        world.sync()
        await world.passes()
        world.nft.refusals = 2
        with caplog.at_level(logging.WARNING, "portway.proxy"):
            world.services.put(API)
            await world.passes(3)
        assert world.table() == world.wanted()
        assert "Device or resource busy" in caplog.text


async def test_what_somebody_else_changed_is_put_right_at_the_next_look() -> None:
    clock = FakeClock()
    async with running(World(clock=clock)) as world:
        world.sync()
        await clock.advance(1)
        world.nft.apply(diff(world.table(), ruleset(API)))
        await clock.advance(RESYNC / 2)
        assert world.table() != world.wanted()
        await clock.advance(RESYNC)
        assert world.table() == world.wanted()


async def test_the_table_stays_when_the_agent_ends() -> None:
    async with running(World()) as world:
        world.sync()
        await world.passes()
    assert world.table() == world.wanted()


@pytest.mark.parametrize("unreadable", [False, True])
def test_cleanup_removes_the_table(unreadable: bool) -> None:
    nft = Refusing()
    nft.apply(diff(None, ruleset(WEB, WEB_SLICE)))
    nft.unreadable = unreadable
    cleanup(nft)
    nft.unreadable = False
    assert nft.read(CONFIG.family, CONFIG.table) is None
    cleanup(nft)
