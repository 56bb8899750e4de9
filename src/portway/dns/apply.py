"""The agent of names on one node: follows Services and EndpointSlices (and Pods, when their names are verified) and
answers for them.

`run` is what the lab and `portway run dns` start. Reflectors mark what changed, `loop.reconcile` gathers it for a moment,
and one pass makes the next picture and the next zone, which the server reads from then on. No query is read before the
first lists are complete: it waits in the socket, because "there is no such name" would be a lie. When the API server is
away, the last zone goes on answering.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from portway.client import Change, Client, Reflector
from portway.cluster.picture import Changes, Picture
from portway.dns import compile as zones
from portway.dns.config import DnsConfig, PodNames
from portway.dns.intent import pod_records, records_of
from portway.dns.records import Record
from portway.dns.server import Server, Sockets
from portway.dns.upstream import Upstream
from portway.loop import ALL, Clock, Generation, Settings, Wake, reconcile
from portway.objects.core import Pod, Service
from portway.objects.discovery import EndpointSlice
from portway.objects.meta import Object

T = TypeVar("T", bound=Object)

SETTLE = 0.002
DEFAULT_CONFIG = DnsConfig()


class Live(Protocol[T]):
    """A live copy of one kind, as `client.Reflector` is."""

    @property
    def items(self) -> Mapping[str, T]: ...
    @property
    def synced(self) -> asyncio.Event: ...
    def subscribe(self, callback: Callable[[Sequence[Change[T]]], None]) -> None: ...


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the agent follows; pods only when their names are verified."""

    services: Live[Service]
    slices: Live[EndpointSlice]
    pods: Live[Pod] | None = None


class Agent:
    """What the agent knows between two passes. `zone` is what it answers from."""

    def __init__(self, inputs: Inputs, config: DnsConfig = DEFAULT_CONFIG) -> None:
        self.inputs = inputs
        self.config = config
        self.picture = Picture()
        self.zone = zones.empty(config)
        self._pods: frozenset[str] = frozenset()

    async def one_pass(self, keys: frozenset[str]) -> None:
        services, slices = self.inputs.services, self.inputs.slices
        if ALL in keys:
            changes = Changes(_everything(services, self.picture.services), _everything(slices, self.picture.owners))
        else:
            changes = Changes(_named(services, Service, keys), _named(slices, EndpointSlice, keys))
        step = self.picture.changed(changes)
        self.picture = step.picture
        wanted = {service: records_of(step.picture, service, self.config) for service in step.touched}
        self.zone = zones.advance(self.zone, wanted | self._pod_records(keys))

    def _pod_records(self, keys: frozenset[str]) -> dict[str, tuple[Record, ...]]:
        pods = self.inputs.pods
        if pods is None:
            return {}
        found = _everything(pods, self._pods) if ALL in keys else _named(pods, Pod, keys)
        self._pods = frozenset(pods.items)
        return {_key(Pod, ref): pod_records(pod, self.config) if pod else () for ref, pod in found.items()}


async def run(
    client: Client,
    sockets: Sockets,
    upstream: Upstream,
    *,
    clock: Clock,
    config: DnsConfig = DEFAULT_CONFIG,
    generation: Generation | None = None,
) -> None:
    """Answer on `sockets` until cancelled; `generation` grows with every pass. The sockets stay open when this ends."""
    services, slices = Reflector(client, Service), Reflector(client, EndpointSlice)
    pods = Reflector(client, Pod) if config.pods is PodNames.VERIFIED else None
    async with asyncio.TaskGroup() as tasks:
        for reflector in (services, slices, pods):
            if reflector is not None:
                tasks.create_task(reflector.run())
        await serve(
            Agent(Inputs(services, slices, pods), config), sockets, upstream, clock=clock, generation=generation
        )


async def serve(
    agent: Agent, sockets: Sockets, upstream: Upstream, *, clock: Clock, generation: Generation | None = None
) -> None:
    """The agent's loop and its server, over inputs that somebody else keeps live."""
    server = Server(sockets, lambda: agent.zone, upstream)
    passed = generation or Generation()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_follow(agent, clock, passed))
        await passed.at_least(passed.value + 1)
        try:
            await server.start()
            await asyncio.Event().wait()
        finally:
            await server.close()


async def _follow(agent: Agent, clock: Clock, generation: Generation) -> None:
    inputs = agent.inputs
    wake = Wake()
    inputs.services.subscribe(_marker(Service, wake))
    inputs.slices.subscribe(_marker(EndpointSlice, wake))
    synced = [inputs.services.synced, inputs.slices.synced]
    if inputs.pods is not None:
        inputs.pods.subscribe(_marker(Pod, wake))
        synced.append(inputs.pods.synced)
    wake.mark(ALL)
    settings = Settings(settle=SETTLE)
    await reconcile("dns", agent.one_pass, wake, clock, inputs=synced, generation=generation, settings=settings)


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
