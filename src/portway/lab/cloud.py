"""The provider's network: the edge knows the way to every node's pods. `edge_plan` decides (pure), `run` follows the Nodes.

In a provider's network the routes to the pod CIDRs are made by its cloud controller; here the supervisor runs this beside the
other agents. A route stays while its Node object does: a node that is switched off swallows packets, as it would there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from portway.client import ApiError, Client, Reflector
from portway.controllers.nodes import silent_conditions
from portway.loop.clock import Clock
from portway.loop.generation import Generation
from portway.loop.reconcile import reconcile
from portway.loop.wake import Wake
from portway.netns.kernel import Namespace
from portway.netns.plan import Owner, Plan, PlanError, Route
from portway.objects.core import Node

log = logging.getLogger("portway.lab")


def edge_plan(nodes: Iterable[Node]) -> Plan:
    """A route per pod CIDR through its node's internal address; a node that lacks either has none yet."""
    routes: dict[str, Route] = {}
    for node in sorted(nodes, key=lambda n: n.name):
        address = internal_address(node)
        for cidr in node.spec.pod_cidrs or (node.spec.pod_cidr,):
            if address and cidr and ":" not in cidr:
                try:
                    routes.setdefault(cidr, Route(cidr, via=address))
                except PlanError:  # somebody wrote nonsense into spec.podCIDR: the other nodes keep their routes
                    continue
    return Plan(routes=tuple(routes.values()), owner=Owner.CLOUD_ROUTES)


def internal_address(node: Node) -> str:
    return next((a.address for a in node.status.addresses or () if a.type == "InternalIP"), "")


def is_ready(node: Node) -> bool:
    return any(c.type == "Ready" and c.status == "True" for c in node.status.conditions or ())


async def instance_stopped(client: Client, name: str, clock: Clock) -> None:
    """Say that nobody knows how the node is, as a provider's node controller does for an instance that does not run.

    The control plane would find out by itself when the node's Lease runs out; its pods would get connections until then."""
    try:
        node = await client.get(Node, name)
        conditions = silent_conditions(node, clock.now())
        if conditions is not None:
            await client.patch_status(Node, name, {"status": {"conditions": conditions}})
    except ApiError as e:
        log.info("the stopped node %s was not marked, its Lease will run out: %s", name, e)


async def run(nodes: Reflector[Node], edge: Namespace, clock: Clock, generation: Generation | None = None) -> None:
    """Keep the edge's routes as the Nodes say, until cancelled."""
    wake = Wake()
    nodes.subscribe(lambda _: wake.mark("edge"))
    wake.mark("edge")

    async def one_pass(_: frozenset[str]) -> None:
        edge.apply(edge_plan(nodes.items.values()))
        await asyncio.sleep(0)

    await reconcile("cloud routes", one_pass, wake, clock, inputs=(nodes.synced,), generation=generation)
