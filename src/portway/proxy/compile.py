"""Intents → one nftables table, and the next table from the last one when a few Services change.

`Compiled` is a frozen value: `advance` returns the next one and shares with its predecessor all that did not change, so
a change costs what it touches. `delta` cuts two of them down to their difference, which `transaction.diff` turns into
what `apply` gives the kernel.

A Service's intents become a *fragment*: claims, each with the elements that it stands for. A claim is what only one
Service can have, such as an address with protocol and port. When two Services claim the same (an API server would not
allow it, a stale list may), the first by name has it until it lets go; so the table depends on the intents alone, never
on the order in which they came.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import TypeAlias

from portway.cluster.endpoints import Address
from portway.cluster.shards import Edit, ShardMap
from portway.nft.tables import Chain, Element, Key, Ruleset, Verdict, VerdictKind, goto
from portway.proxy import layout
from portway.proxy.config import ProxyConfig
from portway.proxy.intent import ServicePortIntent, Target

Entry: TypeAlias = tuple[str, Key, Element]
Claim: TypeAlias = tuple[str, Key]
Elements: TypeAlias = Mapping[str, ShardMap[Key, Element]]

_COMMENT_BYTES = 128
_PLAIN = Element()
_NOBODY = (layout.REFUSE, layout.DROP_NO_LOCAL)


@dataclass(frozen=True, slots=True)
class Fragment:
    """What one Service puts into the table: its claims with their elements, and the local pods that may meet themselves.

    The latter are shared: any number of Services may lead to one pod, and the element is the same for all of them."""

    claims: Mapping[Claim, tuple[Entry, ...]] = field(default_factory=dict)
    hairpins: frozenset[Key] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.claims)


_NOTHING = Fragment()


@dataclass(frozen=True, slots=True)
class Compiled:
    """A table and what the next one is made from.

    `claims`: who wants what, the holder first. `hairpins`: how many Services lead to a local pod. `uses`: how many
    elements go to a chain."""

    config: ProxyConfig
    ruleset: Ruleset
    elements: Elements
    fragments: ShardMap[str, Fragment] = field(default_factory=ShardMap)
    claims: ShardMap[Claim, tuple[str, ...]] = field(default_factory=ShardMap)
    hairpins: ShardMap[Key, int] = field(default_factory=ShardMap)
    uses: Mapping[str, int] = field(default_factory=dict)


def empty(config: ProxyConfig) -> Compiled:
    """The table of a cluster without Services."""
    elements: Elements = {s.name: ShardMap() for s in layout.SETS}
    return Compiled(config, _ruleset(config, elements, {}), elements)


def compile_all(intents: Iterable[ServicePortIntent], config: ProxyConfig) -> Ruleset:
    """The whole table for `intents`, whatever their order."""
    by_service: dict[str, tuple[ServicePortIntent, ...]] = {}
    for intent in intents:
        by_service[intent.service] = (*by_service.get(intent.service, ()), intent)
    return advance(empty(config), by_service).ruleset


def advance(before: Compiled, changes: Mapping[str, tuple[ServicePortIntent, ...]]) -> Compiled:
    """The table after `changes`: a Service's intents as they are now, none when it is gone."""
    new = {service: fragment(intents) for service, intents in changes.items()}
    new = {service: made for service, made in new.items() if before.fragments.get(service, _NOTHING) != made}
    if not new:
        return before
    fragments = before.fragments.changed({service: made or None for service, made in new.items()})
    merge = _Merge(before, fragments)
    merge.services(new)
    return merge.done()


def delta(before: Compiled, after: Compiled) -> tuple[Ruleset, Ruleset]:
    """The two tables without the elements that both have, found in the time that the difference takes."""
    old: dict[str, dict[Key, Element]] = {}
    new: dict[str, dict[Key, Element]] = {}
    for name, elements in after.elements.items():
        previous = before.elements[name]
        keys = tuple(elements.changed_since(previous))
        old[name] = {key: previous[key] for key in keys if key in previous}
        new[name] = {key: elements[key] for key in keys if key in elements}
    return replace(before.ruleset, elements=old), replace(after.ruleset, elements=new)


def fragment(intents: Iterable[ServicePortIntent]) -> Fragment:
    """What one Service puts into the table. Of two ports with the same number and protocol the first counts."""
    claims: dict[Claim, tuple[Entry, ...]] = {}
    hairpins: set[Key] = set()
    for intent in intents:
        for claim, entries in _claims(intent):
            claims.setdefault(claim, entries)
        hairpins.update((t.address, t.address, intent.protocol, t.port) for t in intent.targets if t.local)
    return Fragment(claims, frozenset(hairpins))


def _claims(intent: ServicePortIntent) -> Iterator[tuple[Claim, tuple[Entry, ...]]]:
    name = comment(intent)
    for address in intent.cluster_addresses:
        own: Entry = (layout.CLUSTER_ADDRESSES, (address,), Element(comment=_fit(intent.service)))
        yield own[:2], (own,)
        key: Key = (address, intent.protocol, intent.port)
        yield (layout.SERVICES, key), _front(key, intent.targets, name, _CLUSTER)
    for address in intent.external_addresses:
        yield from _external(intent, address, name)
    if intent.node_port:
        key = (intent.protocol, intent.node_port)
        yield (layout.NODE_PORTS, key), _front(key, intent.targets, name, _NODE)
        if intent.external_local and intent.targets:
            yield (layout.LOCAL_NODE_PORTS, key), _front(key, intent.local_targets, name, _LOCAL_NODE)


def _external(intent: ServicePortIntent, address: Address, name: str) -> Iterator[tuple[Claim, tuple[Entry, ...]]]:
    """A load balancer's address on a node: pods and the node itself go straight to all endpoints; what comes from outside
    stays on the node by the Local policy. Nobody anywhere refuses, nobody here drops."""
    own: Entry = (layout.EXTERNAL_ADDRESSES, (address,), Element(comment=_fit(intent.service)))
    yield own[:2], (own,)
    key: Key = (address, intent.protocol, intent.port)
    yield (layout.SERVICES, key), _front(key, intent.targets, name, _CLUSTER)
    if intent.external_local and intent.targets:
        yield (layout.LOCAL_SERVICES, key), _front(key, intent.local_targets, name, _LOCAL)
    if intent.sources:
        allowed = ((layout.SOURCES, (*key, source), _PLAIN) for source in intent.sources)
        yield (layout.RESTRICTED, key), ((layout.RESTRICTED, key, Element(comment=name)), *allowed)


@dataclass(frozen=True, slots=True)
class _Maps:
    """Where the elements of one sort of front go."""

    front: str
    nobody: tuple[str, Verdict]
    endpoints: str
    chain: Callable[[int], str]


_CLUSTER = _Maps(layout.SERVICES, (layout.NO_ENDPOINTS, layout.REFUSE), layout.ENDPOINTS, layout.pick_chain)
_NODE = _Maps(
    layout.NODE_PORTS,
    (layout.NODE_PORTS_NO_ENDPOINTS, layout.REFUSE),
    layout.NODE_PORT_ENDPOINTS,
    layout.node_pick_chain,
)
_LOCAL = _Maps(
    layout.LOCAL_SERVICES,
    (layout.LOCAL_SERVICES, layout.DROP_NO_LOCAL),
    layout.LOCAL_ENDPOINTS,
    layout.local_pick_chain,
)
_LOCAL_NODE = _Maps(
    layout.LOCAL_NODE_PORTS,
    (layout.LOCAL_NODE_PORTS, layout.DROP_NO_LOCAL),
    layout.LOCAL_NODE_PORT_ENDPOINTS,
    layout.local_node_pick_chain,
)


def _front(key: Key, targets: tuple[Target, ...], name: str, maps: _Maps) -> tuple[Entry, ...]:
    """The elements of one address or node port: the choice and the numbered endpoints, or the refusal.

    Endpoints carry no comment: there may be hundreds of thousands, and their key says whose they are."""
    if not targets:
        refused, verdict = maps.nobody
        return ((refused, key, Element(verdict, name)),)
    chain = maps.chain(len(targets))
    slots = ((maps.endpoints, (*key, slot), Element((t.address, t.port))) for slot, t in enumerate(targets))
    return ((maps.front, key, Element(goto(chain), name)), *slots)


class _Merge:
    """One `advance` under way: copies of what changes, dropped when the next value is done."""

    def __init__(self, before: Compiled, fragments: ShardMap[str, Fragment]) -> None:
        self._before = before
        self._fragments = fragments
        self._claims = before.claims.edit()
        self._hairpins = before.hairpins.edit()
        self._elements: dict[str, Edit[Key, Element]] = {n: e.edit() for n, e in before.elements.items()}
        self._uses = dict(before.uses)

    def services(self, services: Collection[str]) -> None:
        """Everything old is removed before anything new is added: the holder of a claim may change within one step."""
        affected = {claim: None for service in services for claim in self._reclaim(service)}
        for claim in affected:
            if held := self._before.claims.get(claim):
                self._remove(self._before.fragments[held[0]].claims[claim])
        for claim in affected:
            if held := self._claims.get(claim):
                self._add(self._fragments[held[0]].claims[claim])
        for service in services:
            self._recount(service)

    def _reclaim(self, service: str) -> Iterator[Claim]:
        """Enter the service's claims as they are now; yields those that changed in any way."""
        old = self._before.fragments.get(service, _NOTHING).claims
        new = self._fragments.get(service, _NOTHING).claims
        for claim in old.keys() | new.keys():
            if old.get(claim) == new.get(claim):
                continue
            others = {name for name in self._claims.get(claim) or () if name != service}
            claimants = others | {service} if claim in new else others
            if claimants:
                self._claims.put(claim, tuple(sorted(claimants)))
            else:
                self._claims.remove(claim)
            yield claim

    def _recount(self, service: str) -> None:
        old = self._before.fragments.get(service, _NOTHING).hairpins
        new = self._fragments.get(service, _NOTHING).hairpins
        for key in old ^ new:
            count = (self._hairpins.get(key) or 0) + (1 if key in new else -1)
            if count:
                self._hairpins.put(key, count)
                self._elements[layout.HAIRPIN].put(key, _PLAIN)
            else:
                self._hairpins.remove(key)
                self._elements[layout.HAIRPIN].remove(key)

    def _remove(self, entries: Iterable[Entry]) -> None:
        for name, key, element in entries:
            self._elements[name].remove(key)
            self._count(element, -1)

    def _add(self, entries: Iterable[Entry]) -> None:
        for name, key, element in entries:
            self._elements[name].put(key, element)
            self._count(element, 1)

    def _count(self, element: Element, step: int) -> None:
        value = element.value
        if isinstance(value, Verdict) and value.kind is VerdictKind.GOTO and value not in _NOBODY:
            self._uses[value.chain] = self._uses.get(value.chain, 0) + step

    def done(self) -> Compiled:
        config = self._before.config
        elements: Elements = {name: edit.done() for name, edit in self._elements.items()}
        uses = {chain: count for chain, count in self._uses.items() if count}
        same = uses.keys() == self._before.uses.keys()
        chains = self._before.ruleset.chains if same else _chains(config, uses)
        ruleset = replace(self._before.ruleset, chains=chains, elements=_filled(elements))
        return Compiled(config, ruleset, elements, self._fragments, self._claims.done(), self._hairpins.done(), uses)


def _ruleset(config: ProxyConfig, elements: Elements, uses: Iterable[str]) -> Ruleset:
    return Ruleset(
        config.family,
        config.table,
        layout.SETS,
        _chains(config, uses),
        _filled(elements),
        comment="Kubernetes Services, kept by portway: changes by others are undone",
    )


def _filled(elements: Elements) -> Mapping[str, Mapping[Key, Element]]:
    return {name: entries for name, entries in elements.items() if entries}


def _chains(config: ProxyConfig, uses: Iterable[str]) -> tuple[Chain, ...]:
    """Sorted by name, as a table that was read back is."""
    chains = (*layout.static_chains(config), *(layout.pick(name, config) for name in uses))
    return tuple(sorted(chains, key=lambda c: c.name))


def comment(intent: ServicePortIntent) -> str:
    """ "namespace/name:port" of the Service, with the port's name or else its number."""
    return _fit(f"{intent.service}:{intent.port_name or intent.port}")


def _fit(text: str) -> str:
    """The kernel keeps 128 bytes of a comment; the longest namespace, name and port have 143: those end in a digest."""
    if len(text.encode()) <= _COMMENT_BYTES:
        return text
    digest = sha256(text.encode()).hexdigest()[:12]
    return text.encode()[: _COMMENT_BYTES - 14].decode(errors="ignore") + "~" + digest
