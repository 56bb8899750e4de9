"""The lab's hosts as open network namespaces: made, wired, switched off and on. The effects behind `topology`.

Used by the supervisor alone. All namespaces hang below descriptors of this process, so its end is their end. Calls block
for milliseconds (they are netlink requests), so they run on the event loop directly.
"""

from __future__ import annotations

from collections.abc import Iterable

from portway.lab import topology
from portway.lab.topology import CLIENT, EDGE, OUTER, Host
from portway.netns.kernel import Namespace


class Hosts:
    """The outer namespace, client, edge and the nodes that are switched on."""

    def __init__(self) -> None:
        self._namespaces: dict[str, Namespace] = {}
        self._nodes: dict[str, Host] = {}

    def build(self, nodes: Iterable[Host]) -> None:
        """Make everything. NetworkError names what the kernel refused."""
        for name in (OUTER, CLIENT, EDGE):
            self._namespaces[name] = Namespace.new(name)
        for node in nodes:
            self._nodes[node.name] = node
            self._namespaces[node.name] = Namespace.new(node.name)
        self._wire_outer()
        self[EDGE].apply(topology.edge_plan(), self._namespaces)
        self[CLIENT].apply(topology.client_plan())
        for node in self._nodes.values():
            self[node.name].apply(topology.node_plan(node))

    def __getitem__(self, name: str) -> Namespace:
        return self._namespaces[name]

    def get(self, name: str) -> Namespace | None:
        return self._namespaces.get(name)

    def switch_on(self, node: Host) -> Namespace:
        """A new namespace for `node`, wired to the bridge. The pods that it had are not in it."""
        if node.name in self._namespaces:
            raise ValueError(f"{node.name} is on")
        namespace = self._namespaces[node.name] = Namespace.new(node.name)
        self._nodes[node.name] = node
        self._wire_outer()
        namespace.apply(topology.node_plan(node))
        return namespace

    def unplug(self, name: str) -> None:
        """Take the cable: from this moment nothing of the node is heard, whoever still holds its namespace."""
        if self._nodes.pop(name, None) is not None:
            self._wire_outer()

    def switch_off(self, name: str) -> None:
        """Unplug and let go of the namespace; it ends with the last process in it. Twice is fine."""
        self.unplug(name)
        namespace = self._namespaces.pop(name, None)
        if namespace is not None:
            namespace.close()

    def close(self) -> None:
        for namespace in self._namespaces.values():
            namespace.close()
        self._namespaces.clear()
        self._nodes.clear()

    def _wire_outer(self) -> None:
        nodes = sorted(self._nodes.values(), key=lambda n: n.number)
        self[OUTER].apply(topology.outer_plan(nodes), self._namespaces)
