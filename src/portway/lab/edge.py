"""The lab's cloud in front of the nodes: the edge's kernel forwards public addresses to healthy nodes.

`Edge` lives as long as the cluster, `run` is its agent: it follows Services and Nodes, keeps the health checks and the
table `portway-edge` as they say, and tells the balancer's controller (it is a `balancer.provider.Announcer`) what stands in
the way of a Service. The table stays when the agent ends, and connections follow the kernel's memory: a restart cuts none.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable
from typing import Any

from portway.balancer import layout
from portway.balancer.compile import compile_edge
from portway.balancer.health import Timing
from portway.balancer.intent import Check, Door, InstanceState, Plan, keepers, obstacle, plan
from portway.balancer.layout import EdgeConfig
from portway.balancer.pools import Address
from portway.balancer.provider import Listener
from portway.balancer.reasons import Refused
from portway.client import Change, Client, Reflector
from portway.lab import conntrack, edge_report
from portway.lab.edge_health import Checkers
from portway.loop import ALL, Clock, Generation, Settings, Wake, reconcile
from portway.netlink.socket import NETLINK_NETFILTER, Netlink, NetlinkError, open_netlink
from portway.netns.kernel import Namespace
from portway.nft.kernel import KernelNft
from portway.nft.protocol import NftError
from portway.nft.tables import Ruleset
from portway.nft.transaction import diff
from portway.objects.core import Node, Service

log = logging.getLogger("portway.edge")

_SETTLE = 0.002
_LOOK_AGAIN = 0.05
DEFAULT_TIMING = Timing()
DEFAULT_CONFIG = EdgeConfig()


class Edge:
    """What the edge knows. `generation` grows with every table that the kernel took."""

    def __init__(
        self,
        namespace: Namespace,
        clock: Clock,
        *,
        timing: Timing = DEFAULT_TIMING,
        config: EdgeConfig = DEFAULT_CONFIG,
    ) -> None:
        self.namespace = namespace
        self.clock = clock
        self.config = config
        self.generation = Generation()
        self.plan = Plan()
        self._wake = Wake()
        self.checkers = Checkers(namespace, clock, timing, self._wake.mark)
        self._listeners: list[Listener] = []
        self._nft: KernelNft | None = None
        self._flows: Netlink | None = None
        self._loaded: Ruleset | None = None
        self._receiving: frozenset[str] = frozenset()
        self._keepers: dict[Door, frozenset[Address]] = {}

    # For the balancer's controller

    def refuses(self, service: Service) -> Refused | None:
        """The edge answers for every address; it is there as long as the cluster is."""
        return None

    def obstacle(self, service: Service) -> Refused | None:
        return obstacle(service, self.plan, self.checkers.health)

    def subscribe(self, listener: Listener) -> None:
        self._listeners.append(listener)

    # For the supervisor

    def report(self) -> list[dict[str, Any]]:
        return edge_report.report(self.plan, self.checkers)

    def passes(self, node: str) -> bool:
        """Whether the node passes the check of its proxy."""
        return bool(self.checkers.condition(node, Check()).healthy)

    async def until_silent(self, node: str, seconds: float) -> bool:
        """Whether the node failed its check within `seconds`."""
        return await self._until(lambda: not self.passes(node), seconds)

    async def released(self, node: str, seconds: float) -> bool:
        """Whether, within `seconds`, the node got no new connections any more and those that it had were over."""
        found = next((i for i in self.plan.instances if i.name == node), None)
        if found is None:
            return True
        address = found.address
        end = self.clock.monotonic() + seconds
        if not await self._until(lambda: str(address) not in self._receiving, min(seconds, 2.0)):
            return False
        while any(not f.over and f.protocol != "udp" for f in self._connections({address})):
            if self.clock.monotonic() > end:
                return False
            await self.clock.sleep(_LOOK_AGAIN)
        return True

    async def _until(self, condition: Callable[[], bool], seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self.generation.until(condition)
        except TimeoutError:
            return bool(condition())
        return True

    # The agent

    async def run(self, client: Client) -> None:
        """Until cancelled."""
        services, nodes = Reflector(client, Service), Reflector(client, Node)
        services.subscribe(lambda _: self._wake.mark())
        nodes.subscribe(self._nodes_changed)
        self.open()
        self._wake.mark()

        async def one_pass(_: frozenset[str]) -> Collection[str]:
            return self.one_pass(services.items.values(), nodes.items.values())

        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(services.run())
                tasks.create_task(nodes.run())
                await reconcile(
                    "edge",
                    one_pass,
                    self._wake,
                    self.clock,
                    inputs=(services.synced, nodes.synced),
                    generation=self.generation,
                    settings=Settings(settle=_SETTLE),
                )
        finally:
            await self.close()

    def _nodes_changed(self, changes: Iterable[Change[Node]]) -> None:
        self.checkers.look_now({change.ref for change in changes})
        self._wake.mark()

    def open(self) -> None:
        """The sockets to the kernel of the edge. `run` calls it; `close` ends what it began."""
        self._drop_sockets()
        self._nft = KernelNft(self.namespace.run(lambda: open_netlink(NETLINK_NETFILTER)))
        self._flows = Netlink(self.namespace.run(lambda: open_netlink(NETLINK_NETFILTER)))

    async def close(self) -> None:
        """End the checks. The table and the connections stay."""
        await self.checkers.stop()
        self._drop_sockets()

    def _drop_sockets(self) -> None:
        for held in (self._nft, self._flows):
            if held is not None:
                held.close()
        self._nft = self._flows = self._loaded = None

    def one_pass(self, services: Iterable[Service], nodes: Iterable[Node]) -> Collection[str]:
        """Checks, then the table, then what connections must be forgotten. The key to try again after a refusal."""
        self.plan = plan(services, nodes)
        usable = [i for i in self.plan.instances if i.state is not InstanceState.EXCLUDED]
        self.checkers.sync(usable, self.plan.checks | {Check()})
        try:
            self._program(compile_edge(self.plan, self.checkers.health, self.config))
        except NftError as e:
            log.warning("the table %s was not changed: %s; reading it again", self.config.table, e)
            self._loaded = None
            return (ALL,)
        self._forget_stuck()
        for listener in self._listeners:
            listener()
        return ()

    def _program(self, wanted: Ruleset) -> None:
        nft = self._nft
        if nft is None:
            return
        if self._loaded is None:
            self._loaded = nft.read(self.config.family, self.config.table)
        if transaction := diff(self._loaded, wanted):
            nft.apply(transaction)
        self._loaded = wanted
        slots = wanted.elements.get(layout.SLOT_MAP, {}).values()
        before = self._receiving
        self._receiving = frozenset(str(e.value[0]) for e in slots if isinstance(e.value, tuple))
        if before != self._receiving:
            log.info("new connections go to %s", ", ".join(sorted(self._receiving)) or "nobody")

    def _forget_stuck(self) -> None:
        """What would go on to a node that does not answer any more: the client sends again, and then it finds another."""
        before, now = self._keepers, keepers(self.plan, self.checkers.health)
        self._keepers = now
        gone = {door: lost for door, nodes in before.items() if (lost := nodes - now.get(door, frozenset()))}
        for flow in self._connections(frozenset().union(*gone.values())) if gone else ():
            if flow.stuck and flow.node in gone.get(flow.door, ()):
                self._forget(flow)

    def _forget(self, flow: conntrack.Flow) -> None:
        if self._flows is None:
            return
        try:
            conntrack.forget(self._flows, flow)
        except NetlinkError as e:
            log.info("a connection to %s was not forgotten: %s", flow.node, e)

    def _connections(self, nodes: Collection[object]) -> list[conntrack.Flow]:
        """None where the kernel cannot list them: then nothing is waited for and nothing forgotten."""
        try:
            return conntrack.flows(self._flows, nodes) if self._flows is not None else []
        except NetlinkError as e:
            log.info("connections cannot be listed: %s", e)
            return []
