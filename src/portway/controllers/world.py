"""What the controllers see of the cluster: one shared view per kind, and the helpers that start and feed them.

`run` makes one `World`; each controller reads its views and writes through them. A kind is watched once however many
controllers read it. ConfigMaps and Secrets are decoded down to their metadata: only the garbage collector looks at
them.
"""

from __future__ import annotations

import asyncio
import logging
import types
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from ipaddress import IPv4Network
from typing import Any

from portway.client import ApiError, Change, Client
from portway.controllers.events import Recorder
from portway.controllers.view import View
from portway.loop import Clock, Wake
from portway.objects.apps import Deployment, ReplicaSet
from portway.objects.core import Endpoints, Lease, Namespace, Node, Pod, Service
from portway.objects.discovery import EndpointSlice
from portway.objects.kinds import CONFIG_MAP, SECRET, Kind
from portway.objects.meta import Object

log = logging.getLogger("portway.controllers")
OWNER = "owner"
NAMESPACE = "namespace"
NODE = "node"
ORPHAN = "orphan"
"""Index of the objects without a controlling owner, by namespace: whoever matches them may adopt them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Times in seconds. `node_grace`: how old a node's lease may be before the node counts as unreachable."""

    cluster_cidr: IPv4Network = field(default=IPv4Network("10.0.0.0/16"))
    node_prefix: int = 24
    node_grace: float = 40.0
    default_toleration: int = 300
    endpoints_per_slice: int = 100
    writes_at_once: int = 16


class World:
    def __init__(self, client: Client, clock: Clock, settings: Settings) -> None:
        self.client, self.clock, self.settings = client, clock, settings
        self.recorder = Recorder(client, clock)
        owned: dict[str, Callable[[Any], Iterable[str]]] = {OWNER: owner_uids, NAMESPACE: _namespaces}
        self.pods = View(client, Pod, owned | {NODE: _node_name, ORPHAN: _unowned})
        self.nodes = View(client, Node)
        self.services = View(client, Service, {NAMESPACE: _namespaces})
        self.deployments = View(client, Deployment, {NAMESPACE: _namespaces})
        self.replica_sets = View(client, ReplicaSet, owned)
        self.slices = View(client, EndpointSlice, owned)
        self.endpoints = View(client, Endpoints)
        self.leases = View(client, Lease)
        self.namespaces = View(client, Namespace)
        self.config_maps = View(client, metadata_of(CONFIG_MAP))
        self.secrets = View(client, metadata_of(SECRET))

    @property
    def views(self) -> tuple[View[Any], ...]:
        return tuple(v for v in vars(self).values() if isinstance(v, View))


@cache
def metadata_of(kind: Kind) -> type[Object]:
    """A struct that decodes the metadata of the kind and skips everything else."""
    options = {"frozen": True, "kw_only": True, "omit_defaults": True, "rename": "camel", "gc": False}
    made: type[Object] = types.new_class(
        f"{kind.kind}Metadata", (Object,), options, lambda ns: ns.update(KIND=kind.kind)
    )
    return made


def owner_uids(item: Object) -> Iterable[str]:
    return (o.uid for o in item.metadata.owner_references or ())


def controller_uid(item: Object) -> str:
    return next((o.uid for o in item.metadata.owner_references or () if o.controller), "")


def _node_name(pod: Pod) -> Iterable[str]:
    return (pod.spec.node_name,)


def _unowned(item: Object) -> Iterable[str]:
    return () if controller_uid(item) else (item.namespace,)


def _namespaces(item: Object) -> Iterable[str]:
    return (item.namespace,)


def mark_changes(wake: Wake, keys: Callable[[Any], Iterable[str]]) -> Callable[[Sequence[Change[Any]]], None]:
    """A subscriber that marks what `keys` says of the old and of the new object."""

    def changed(changes: Sequence[Change[Any]]) -> None:
        for change in changes:
            for item in (change.old, change.new):
                if item is not None and (found := tuple(keys(item))):
                    wake.mark(*found)

    return changed


async def each(keys: Iterable[str], work: Callable[[str], Awaitable[None]], *, at_once: int = 16) -> frozenset[str]:
    """Run `work` for every key, several at once. Returns the keys that the API server refused, to be tried again.

    A refusal concerns one object, so it never stops the others; anything but an ApiError is a bug and goes up at the end.
    """
    again: set[str] = set()

    async def one(key: str) -> None:
        try:
            await work(key)
        except ApiError as e:
            level = logging.DEBUG if e.retryable or e.not_found else logging.WARNING
            log.log(level, "%s: %s; trying again", key, e)
            again.add(key)

    await all_of((one(key) for key in keys), at_once=at_once)
    return frozenset(again)


async def all_of(work: Iterable[Awaitable[None]], *, at_once: int = 16) -> None:
    """Await all to their end; then the first error, if there was one, is raised as it is.

    `at_once` bounds the connections: each of them costs the API server a TLS handshake and memory.
    """
    gate = asyncio.Semaphore(at_once)

    async def one(item: Awaitable[None]) -> None:
        async with gate:
            await item

    for result in await asyncio.gather(*map(one, work), return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
