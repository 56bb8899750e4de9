"""The proxy's agent on one node: follows Services and EndpointSlices and keeps the node's table as they say.

`run` is what the lab and `portway run proxy` start. Reflectors mark what changed, `loop.reconcile` gathers it for a
moment, and one pass makes the next picture, compiles it and gives the kernel the difference. Nothing is touched before
both lists are complete, and a table that is there already is adopted: what it lacks is added, what is no longer wanted
goes, connections never see a gap.

Where it is given a way to listen, it answers health checks: for the node at port 10256, and for each Service with the
Local policy at its healthCheckNodePort.

A refused transaction changed nothing. It is logged, the table is read again and the whole difference is tried with
back-off.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from portway.client import Change, Client, Reflector
from portway.cluster.picture import Changes, Picture
from portway.loop import ALL, Clock, Generation, Settings, Wake, reconcile
from portway.nft.operations import DeleteTable
from portway.nft.protocol import Nft, NftError
from portway.nft.tables import Ruleset
from portway.nft.transaction import Transaction, diff
from portway.objects.core import Service
from portway.objects.discovery import EndpointSlice
from portway.objects.meta import Object
from portway.proxy import compile as tables
from portway.proxy.config import NodeFacts, ProxyConfig
from portway.proxy.health import HealthAnswer, answer_of
from portway.proxy.health_server import HealthServers, Listen
from portway.proxy.intent import intents_of

T = TypeVar("T", bound=Object)
log = logging.getLogger("portway.proxy")

# A pod's two objects (its slice, its Service) come a moment apart; a person does not notice 5 ms.
SETTLE = 0.005
# Somebody else may have changed the table; as often as kube-proxy looks.
RESYNC = 3600.0
DEFAULT_CONFIG = ProxyConfig()
_HEALTH = "health ports"


class Live(Protocol[T]):
    """A live copy of one kind, as `client.Reflector` is."""

    @property
    def items(self) -> Mapping[str, T]: ...
    @property
    def synced(self) -> asyncio.Event: ...
    def subscribe(self, callback: Callable[[Sequence[Change[T]]], None]) -> None: ...


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the agent follows."""

    services: Live[Service]
    slices: Live[EndpointSlice]


class Agent:
    """What the proxy knows between two passes. `one_pass` is for `loop.reconcile`; its keys name kind and object."""

    def __init__(
        self,
        inputs: Inputs,
        nft: Nft,
        node: NodeFacts,
        config: ProxyConfig = DEFAULT_CONFIG,
        health: HealthServers | None = None,
    ) -> None:
        self.inputs = inputs
        self.health = health
        self.answers: dict[str, HealthAnswer] = {}
        self._nft = nft
        self._node = node
        self.picture = Picture()
        self.wanted = tables.empty(config)
        self._loaded: tables.Compiled | None = None

    async def one_pass(self, keys: frozenset[str]) -> Collection[str]:
        """Make the table as it should be. Returns the keys to try again: everything, after a refusal."""
        self._look(keys)
        try:
            if transaction := self._transaction(reread=ALL in keys):
                self._nft.apply(transaction)
        except NftError as e:
            log.warning("the table %s was not changed: %s; reading it again", self.wanted.config.table, e)
            self._loaded = None
            return (ALL,)
        self._loaded = self.wanted
        if self.health is not None and not await self.health.sync(self.answers.values()):
            return (_HEALTH,)
        return ()

    def _look(self, keys: frozenset[str]) -> None:
        services, slices = self.inputs.services, self.inputs.slices
        if ALL in keys:
            changes = Changes(_everything(services, self.picture.services), _everything(slices, self.picture.owners))
        else:
            changes = Changes(_named(services, Service, keys), _named(slices, EndpointSlice, keys))
        step = self.picture.changed(changes)
        self.picture = step.picture
        self._answer(step.touched)
        family = self.wanted.config.family
        intents = {service: intents_of(step.picture, service, self._node, family) for service in step.touched}
        self.wanted = tables.advance(self.wanted, intents)

    def _answer(self, touched: Iterable[str]) -> None:
        """What the health ports of these Services say from now on."""
        for ref in touched:
            service = self.picture.services.get(ref)
            answer = answer_of(service, self.picture.slices_of(ref).values(), self._node) if service else None
            if answer is None:
                self.answers.pop(ref, None)
            else:
                self.answers[ref] = answer

    def _transaction(self, *, reread: bool) -> Transaction:
        config = self.wanted.config
        if self._loaded is not None and not reread:
            return diff(*tables.delta(self._loaded, self.wanted))
        try:
            return diff(self._nft.read(config.family, config.table), self.wanted.ruleset)
        except NftError as e:
            log.warning("the table %s is replaced as a whole, because it cannot be read: %s", config.table, e)
            return _replacement(self.wanted.ruleset)


async def run(
    client: Client,
    nft: Nft,
    *,
    node_name: str,
    clock: Clock,
    config: ProxyConfig = DEFAULT_CONFIG,
    generation: Generation | None = None,
    listen: Listen | None = None,
) -> None:
    """Keep the table of this node until cancelled; `generation` grows with every pass. The table stays when this ends.

    `listen(port)` gives a listening socket of the node; without it no health check is answered."""
    services, slices = Reflector(client, Service), Reflector(client, EndpointSlice)
    health = HealthServers(listen) if listen is not None else None
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(services.run())
            tasks.create_task(slices.run())
            agent = Agent(Inputs(services, slices), nft, NodeFacts(name=node_name), config, health)
            await serve(agent, clock, generation)
    finally:
        if health is not None:
            health.close()


async def serve(agent: Agent, clock: Clock, generation: Generation | None = None) -> None:
    """The agent's loop over inputs that somebody else keeps live."""
    services, slices = agent.inputs.services, agent.inputs.slices
    wake = Wake()
    services.subscribe(_marker(Service, wake))
    slices.subscribe(_marker(EndpointSlice, wake))

    async def one_pass(keys: frozenset[str]) -> Collection[str]:
        if ALL in keys:
            wake.mark_later(clock.monotonic() + RESYNC)
        return await agent.one_pass(keys)

    wake.mark(ALL)
    await reconcile(
        "proxy",
        one_pass,
        wake,
        clock,
        inputs=(services.synced, slices.synced),
        generation=generation,
        settings=Settings(settle=SETTLE),
    )


def cleanup(nft: Nft, config: ProxyConfig = DEFAULT_CONFIG) -> None:
    """Remove the table, whatever is in it; nothing happens when there is none. Raises NftError when that is refused."""
    try:
        transaction = diff(nft.read(config.family, config.table), None)
    except NftError:
        transaction = Transaction(config.family, config.table, (DeleteTable(),))
    if transaction:
        nft.apply(transaction)


def _replacement(wanted: Ruleset) -> Transaction:
    """The table is ours by its name: what an older or a newer version left there goes, in the same moment."""
    return Transaction(wanted.family, wanted.name, (DeleteTable(), *diff(None, wanted).operations))


def _key(kind: type[Object], ref: str) -> str:
    return f"{kind.KIND} {ref}"


def _marker(kind: type[T], wake: Wake) -> Callable[[Sequence[Change[T]]], None]:
    def mark(changes: Sequence[Change[T]]) -> None:
        if changes:
            wake.mark(*(_key(kind, change.ref) for change in changes))

    return mark


def _named(live: Live[T], kind: type[T], keys: Iterable[str]) -> dict[str, T | None]:
    """The objects of `kind` that the keys name, as they are now."""
    start = _key(kind, "")
    refs = (key.removeprefix(start) for key in keys if key.startswith(start))
    return {ref: live.items.get(ref) for ref in refs}


def _everything(live: Live[T], known: Iterable[str]) -> dict[str, T | None]:
    """All objects as they are now, and None for those known ones that are gone."""
    return dict.fromkeys(known) | dict(live.items)
