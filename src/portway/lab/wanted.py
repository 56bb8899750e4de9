"""What `up` asks for, and the cluster that comes of it and of what was there before. Pure.

`supervisor` makes a `Wanted` of the order that `launch` wrote; `running` starts from `first_state`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from portway.lab import topology
from portway.lab.state import NodeRecord, PublishRecord, State

_FIRST_NODES = 2


@dataclass(frozen=True, slots=True)
class Wanted:
    """The supervisor's half of `launch.Order`. None: as it was."""

    nodes: int | None = None
    images: Mapping[str, str] = field(default_factory=dict)
    zones: int | None = None
    publish: tuple[PublishRecord, ...] = ()


def first_state(found: State | None, wanted: Wanted) -> State:
    """The recorded nodes, all switched on, and new ones until there are as many as `up` asks for. NoSuchPlan for too many."""
    base = found or State()
    count = wanted.nodes if wanted.nodes is not None else (0 if base.nodes else _FIRST_NODES)
    nodes = [topology.node(n.name, n.number) for n in base.nodes]
    names = (f"node-{k}" for k in itertools.count(1))
    while len(nodes) < count:
        name = next(names)
        if all(n.name != name for n in nodes):
            nodes.append(topology.next_node(name, nodes))
    return msgspec.structs.replace(
        base,
        nodes=tuple(NodeRecord(n.name, n.number) for n in nodes),
        images=dict(base.images) | dict(wanted.images),
        zones=base.zones if wanted.zones is None else wanted.zones,
    )
