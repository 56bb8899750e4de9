"""One immutable view of the cluster: Services, the EndpointSlices of each, and Nodes.

An agent's loop collects what its reflectors report and calls `Picture.changed`, which answers with the next picture and
the names of the Services whose traffic may have changed: everything downstream (`proxy.intent`, `proxy.compile`) looks
at those only. Unchanged parts are shared between pictures, so a change costs what it touches, not what the cluster
holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from portway.cluster.shards import ShardMap
from portway.objects.core import Node, Service
from portway.objects.discovery import SERVICE_NAME_LABEL, EndpointSlice

Slices = Mapping[str, EndpointSlice]
NO_SLICES: Slices = {}


@dataclass(frozen=True, slots=True)
class Changes:
    """What happened since the last picture: the object as it is now, or None when it is gone, by "namespace/name"."""

    services: Mapping[str, Service | None] = field(default_factory=dict)
    slices: Mapping[str, EndpointSlice | None] = field(default_factory=dict)
    nodes: Mapping[str, Node | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """The next picture, and the Services ("namespace/name") that changed or whose slices did."""

    picture: Picture
    touched: frozenset[str]


@dataclass(frozen=True, slots=True)
class Picture:
    """`slices` is grouped by the Service that a slice's label names, whether that Service exists or not."""

    services: ShardMap[str, Service] = field(default_factory=ShardMap)
    slices: ShardMap[str, Slices] = field(default_factory=ShardMap)
    nodes: ShardMap[str, Node] = field(default_factory=ShardMap)
    # Which Service a slice belonged to: an event of a deleted slice, or of one whose label moved, does not say.
    owners: ShardMap[str, str] = field(default_factory=ShardMap)

    def slices_of(self, service: str) -> Slices:
        return self.slices.get(service, NO_SLICES)

    def changed(self, changes: Changes) -> Step:
        """The picture after `changes`. Objects that are equal to what was there touch nothing."""
        services = {ref: new for ref, new in changes.services.items() if self.services.get(ref) != new}
        groups, owners = self._regrouped(changes.slices)
        picture = Picture(
            self.services.changed(services),
            self.slices.changed({ref: group or None for ref, group in groups.items()}),
            self.nodes.changed({ref: new for ref, new in changes.nodes.items() if self.nodes.get(ref) != new}),
            self.owners.changed(owners),
        )
        return Step(picture, frozenset(services) | frozenset(groups))

    def _regrouped(
        self, slices: Mapping[str, EndpointSlice | None]
    ) -> tuple[dict[str, dict[str, EndpointSlice]], dict[str, str | None]]:
        """The groups that change, each in its new state, and each changed slice's new Service."""
        groups: dict[str, dict[str, EndpointSlice]] = {}
        owners: dict[str, str | None] = {}
        for ref, new in slices.items():
            before = self.owners.get(ref)
            after = service_of(new) if new is not None else None
            if before is not None and before == after and self.slices[before][ref] == new:
                continue
            if before is not None:
                self._open(groups, before).pop(ref, None)
            if after is not None and new is not None:
                self._open(groups, after)[ref] = new
            owners[ref] = after
        return groups, owners

    def _open(self, groups: dict[str, dict[str, EndpointSlice]], service: str) -> dict[str, EndpointSlice]:
        if service not in groups:
            groups[service] = dict(self.slices_of(service))
        return groups[service]


def service_of(item: EndpointSlice) -> str | None:
    """The Service ("namespace/name") that a slice belongs to, by its label; None when it has none."""
    name = item.labels.get(SERVICE_NAME_LABEL)
    return f"{item.namespace}/{name}" if name else None
