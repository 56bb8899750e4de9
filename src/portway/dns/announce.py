"""Who answers for the Service `kube-dns`: one EndpointSlice with an endpoint for each node, ready while the node is.

On a real cluster the agents are the pods of a DaemonSet on the nodes' own network, and the cluster's controller writes this
slice from the Service's selector; in the lab the agents are no pods, so the Service has no selector and `run` writes it.
Either way each endpoint names its node, and `internalTrafficPolicy: Local` keeps every query on the node where it was asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import msgspec

from portway.client import ApiError, Client, Reflector, Select
from portway.dns.config import LISTEN_PORT, SERVICE_NAME, SERVICE_NAMESPACE, TCP_PORT_NAME, UDP_PORT_NAME
from portway.loop import Clock, Generation, Wake, reconcile
from portway.objects.core import Node
from portway.objects.discovery import MANAGED_BY_LABEL, SERVICE_NAME_LABEL, EndpointSlice
from portway.objects.meta import RawObject

MANAGER = "portway-dns"


def slice_of(nodes: Iterable[Node], port: int = LISTEN_PORT) -> RawObject:
    """The whole slice. A node without an internal address is left out."""
    endpoints = [
        _endpoint(node, address) for node in sorted(nodes, key=lambda n: n.name) if (address := _address(node))
    ]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": SERVICE_NAME,
            "namespace": SERVICE_NAMESPACE,
            "labels": {SERVICE_NAME_LABEL: SERVICE_NAME, MANAGED_BY_LABEL: MANAGER},
        },
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [
            {"name": UDP_PORT_NAME, "protocol": "UDP", "port": port},
            {"name": TCP_PORT_NAME, "protocol": "TCP", "port": port},
        ],
    }


def _endpoint(node: Node, address: str) -> RawObject:
    ready = any(c.type == "Ready" and c.status == "True" for c in node.status.conditions or ())
    conditions = {"ready": ready, "serving": ready, "terminating": False}
    return {"addresses": [address], "conditions": conditions, "nodeName": node.name}


def _address(node: Node) -> str:
    found = (a.address for a in node.status.addresses or () if a.type == "InternalIP" and ":" not in a.address)
    return next(found, "")


async def run(client: Client, nodes: Reflector[Node], clock: Clock, generation: Generation | None = None) -> None:
    """Keep the slice as the Nodes say, until cancelled; who changes or deletes it finds it restored."""
    found = Reflector(client, EndpointSlice, Select(SERVICE_NAMESPACE, fields=f"metadata.name={SERVICE_NAME}"))
    wake = Wake()
    nodes.subscribe(lambda _: wake.mark("slice"))
    found.subscribe(lambda _: wake.mark("slice"))
    wake.mark("slice")

    async def one_pass(keys: frozenset[str]) -> frozenset[str]:
        try:
            await _write(client, slice_of(nodes.items.values()), found.items.get(f"{SERVICE_NAMESPACE}/{SERVICE_NAME}"))
        except ApiError as e:
            if e.already_exists or e.not_found:  # our copy of the slice is a moment old
                return keys
            raise
        return frozenset()

    inputs = (nodes.synced, found.synced)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(found.run())
        await reconcile("dns endpoints", one_pass, wake, clock, inputs=inputs, generation=generation)


async def _write(client: Client, wanted: RawObject, live: EndpointSlice | None) -> None:
    if live is None:
        await client.create(EndpointSlice, wanted, SERVICE_NAMESPACE)
    elif not says(live, wanted):
        fields = {name: wanted[name] for name in ("metadata", "endpoints", "ports")}
        await client.patch(EndpointSlice, SERVICE_NAME, fields, SERVICE_NAMESPACE)


def says(live: EndpointSlice, wanted: RawObject) -> bool:
    """Whether a slice has the endpoints, ports and labels of `wanted`."""
    meant = msgspec.convert(wanted, EndpointSlice)
    same = (live.endpoints or (), live.ports) == (meant.endpoints, meant.ports)
    return same and meant.labels.items() <= live.labels.items()
