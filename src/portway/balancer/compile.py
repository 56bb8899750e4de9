"""A plan and the health of its nodes → the edge's nftables table.

The whole table is made anew each time, a few map elements for each forwarding rule and a table of slots for each group
of nodes; `transaction.diff` finds what changed. Backends with the same nodes share a group, so there are as many groups
as there are different sets of nodes. `lab.edge` gives the result to the kernel; `walk` steps packets through it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from ipaddress import collapse_addresses
from typing import TypeAlias

from portway.balancer import layout
from portway.balancer.intent import BackendService, ForwardingRule, Health, Instance, Plan, eligible
from portway.balancer.layout import EdgeConfig
from portway.balancer.slots import table
from portway.nft.tables import Element, Key, Network, Ruleset

Nodes: TypeAlias = tuple[Instance, ...]

EVERYONE = 1
"""The group behind the Cluster policy. It keeps its number whatever happens to its nodes: a change moves slots only."""
_FIRST_LOCAL = 2
_GROUPS = 1 << 31


@dataclass(slots=True)
class _Making:
    config: EdgeConfig
    groups: dict[str, tuple[int, Nodes]]
    elements: dict[str, dict[Key, Element]] = field(default_factory=lambda: {s.name: {} for s in layout.SETS})

    def put(self, name: str, key: Key, element: Element) -> None:
        """The first one has the key: of two Services that claim a port of an address, the first by name."""
        self.elements[name].setdefault(key, element)

    def rule(self, rule: ForwardingRule) -> None:
        key: Key = (rule.address, rule.protocol, rule.port)
        if key in self.elements[layout.FORWARDING] or key in self.elements[layout.UNHEALTHY]:
            return
        comment = _comment(rule)
        self.put(layout.ADDRESSES, (rule.address,), Element(comment=_fit(rule.service)))
        group, nodes = self.groups[rule.backend]
        if not nodes:
            self.put(layout.UNHEALTHY, key, Element(layout.REFUSE_UNHEALTHY, comment))
        else:
            self.put(layout.FORWARDING, key, Element(layout.STICKY if rule.sticky else layout.SPREAD, comment))
            self.put(layout.GROUPS, key, Element((group,)))
            self.put(layout.DOORS, key, Element((rule.node_port,)))
        if rule.sources:
            self.put(layout.RESTRICTED, key, Element(comment=comment))
            for source in _collapsed(rule.sources, rule.address.version):
                self.put(layout.SOURCES, (*key, source), Element())

    def slots(self) -> None:
        for group, nodes in set(self.groups.values()):
            addresses = {n.name: n.address for n in nodes}
            for slot, name in enumerate(table(tuple(addresses), self.config.slots)):
                self.elements[layout.SLOT_MAP][(group, slot)] = Element((addresses[name],))


def compile_edge(plan: Plan, health: Health, config: EdgeConfig) -> Ruleset:
    """The edge's whole table; equal for equal input whatever its order."""
    making = _Making(config, _groups(plan, health))
    for rule in sorted(plan.rules, key=_order):
        making.rule(rule)
    making.slots()
    return Ruleset(
        config.family,
        config.table,
        layout.SETS,
        layout.chains(config),
        {name: elements for name, elements in making.elements.items() if elements},
        comment="LoadBalancer Services, kept by portway: changes by others are undone",
    )


def _order(rule: ForwardingRule) -> tuple[str, int, str, int]:
    return rule.service, int(rule.address), rule.protocol, rule.port


def _groups(plan: Plan, health: Health) -> dict[str, tuple[int, Nodes]]:
    """Each backend's group number and nodes."""
    backends: Iterable[BackendService] = plan.backends.values()
    nodes = {b.name: eligible(plan, health, b) for b in backends}
    numbers = _numbers({nodes[b.name] for b in plan.backends.values() if b.local})
    return {b.name: (numbers[nodes[b.name]] if b.local else EVERYONE, nodes[b.name]) for b in plan.backends.values()}


def _numbers(sets: set[Nodes]) -> dict[Nodes, int]:
    """A number for each set of nodes that depends on their names: it stays when other sets come and go."""
    numbers: dict[Nodes, int] = {}
    taken: set[int] = set()
    for nodes in sorted(sets):
        digest = sha256(",".join(n.name for n in nodes).encode()).digest()
        number = _FIRST_LOCAL + int.from_bytes(digest[:4], "big") % (_GROUPS - _FIRST_LOCAL)
        while number in taken:
            number += 1
        taken.add(number)
        numbers[nodes] = number
    return numbers


def _collapsed(sources: Iterable[Network], version: int) -> Iterator[Network]:
    """Elements of an interval set must not overlap."""
    if version == 4:
        yield from collapse_addresses(s for s in sources if s.version == 4)
    else:
        yield from collapse_addresses(s for s in sources if s.version == 6)


def _comment(rule: ForwardingRule) -> str:
    return _fit(f"{rule.service}:{rule.port_name or rule.port}")


def _fit(text: str) -> str:
    """Comments hold 127 bytes; the longest namespace, name and port have 143: those end in a digest."""
    raw = text.encode()
    return text if len(raw) <= 127 else f"{raw[:114].decode(errors='ignore')}~{sha256(raw).hexdigest()[:12]}"
