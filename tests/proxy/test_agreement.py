"""The walker and the kernel get the same random tables and the same packets, and must agree on every one.

This holds everything to the truth at once: the compiler's elements, the bytes that go to the kernel, and the walker that the
other tests (and explanations) believe. A failure prints its seed and the rules that the walker went by.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Iterator

import msgspec
import pytest

from build_journey import host, packet
from build_proxy import NOT_READY, READY, endpoint, port, ruleset, service, slice_of
from build_road import CLIENT, GATEWAY, NODE, PODS, Road, Silence, road
from portway.nft.tables import Ruleset
from portway.nft.transaction import diff
from portway.nft.walk import End, Outcome, outcomes
from portway.objects.core import LoadBalancerIngress, LoadBalancerStatus, Service, ServiceStatus
from portway.objects.discovery import EndpointSlice

pytestmark = pytest.mark.lab

CLUSTERS = 12
KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
SENDERS = {"client": CLIENT, "node": NODE, "a": PODS["a"]}
NAMES = {address: name for name, address in PODS.items()}


RANGES = ("198.51.100.0/24", "10.0.1.0/31", "10.0.1.2/32", "10.100.0.0/24")


def cluster(chance: random.Random) -> Iterator[Service | EndpointSlice]:
    """Up to four Services, some with a load balancer's address. Pods listen on 8080 only: who is sent to 8081 is refused by
    the pod. Both are behind this node, but some slices say that pod b is the other's (so b sends nothing itself)."""
    for n in range(chance.randint(0, 4)):
        ref, protocol = f"shop/s{n}", chance.choice(["TCP", "UDP"])
        node_port = chance.choice([0, 30000 + n])
        made = service(ref, f"10.3.240.{n + 9}", port(80, protocol=protocol, node_port=node_port))
        yield balanced(made, f"203.0.113.{n + 9}", chance) if node_port and chance.random() < 0.7 else made
        pods = chance.sample(sorted(PODS.values()), chance.randint(0, 2))
        yield slice_of(
            ref,
            *(
                endpoint(
                    pod,
                    chance.choice([READY, READY, NOT_READY]),
                    chance.choice(["node-1", "node-2"]) if pod == PODS["b"] else "node-1",
                )
                for pod in pods
            ),
            ports={"": chance.choice([8080, 8080, 8081])},
            protocol=protocol,
        )


def balanced(made: Service, address: str, chance: random.Random) -> Service:
    """The Service as a load balancer's, with some policy and some source ranges."""
    spec = msgspec.structs.replace(
        made.spec,
        type="LoadBalancer",
        external_traffic_policy=chance.choice(["Cluster", "Local"]),
        load_balancer_source_ranges=tuple(chance.sample(RANGES, chance.choice([0, 0, 1, 2]))) or None,
    )
    ingress = (LoadBalancerIngress(ip=address, ip_mode="VIP"),)
    status = ServiceStatus(load_balancer=LoadBalancerStatus(ingress=ingress))
    return msgspec.structs.replace(made, spec=spec, status=status)


def requests(
    chance: random.Random, objects: tuple[Service | EndpointSlice, ...]
) -> Iterator[tuple[str, str, int, str]]:
    """(who, to which address, port, protocol): Service addresses that may or may not be there, node ports, and load
    balancers' addresses that are there (the node has no route for others)."""
    for found in objects:
        if isinstance(found, Service):
            for ingress in found.status.load_balancer.ingress or ():
                for sender in sorted(SENDERS):
                    yield sender, ingress.ip, 80, (found.spec.ports or ())[0].protocol.lower()
    for _ in range(12):
        front = (f"10.3.240.{chance.randint(9, 13)}", chance.choice([80, 80, 80, 81]))
        back = (NODE, chance.randint(30000, 30004))
        yield (chance.choice(sorted(SENDERS)), *chance.choice([front, front, back]), chance.choice(["tcp", "udp"]))


def answer(outcome: Outcome, sender: str) -> str:
    """What the sender hears when the walker is right. Nobody listens on the node itself."""
    if outcome.end is End.DROPPED:
        return Silence.NOTHING
    if outcome.end is End.FORWARDED and outcome.dnat and outcome.dnat[1] == 8080:
        return f"{NAMES[str(outcome.dnat[0])]} {GATEWAY if outcome.masqueraded else SENDERS[sender]}"
    return Silence.REFUSED


async def compare(net: Road, table: Ruleset, request: tuple[str, str, int, str], seed: int) -> None:
    sender, address, number, proto = request
    walked = outcomes(table, packet(SENDERS[sender], address, number, proto), host())
    expected = {answer(o, sender) for o in walked}
    asks = 1 if Silence.NOTHING in expected else 4
    patience = 0.2 if Silence.NOTHING in expected else 2
    heard = {await net.ask(sender, address, number, KINDS[proto], patience=patience) for _ in range(asks)}
    if not heard <= expected:
        trace = "\n".join(map(str, walked))
        pytest.fail(f"seed {seed}: {request}: the kernel says {heard}, the walker {expected}\n{trace}", pytrace=False)


async def test_the_walker_and_the_kernel_agree() -> None:
    async with road() as net:
        before: Ruleset | None = None
        for seed in range(CLUSTERS):
            chance = random.Random(seed)
            objects = tuple(cluster(chance))
            table = ruleset(*objects)
            with net.nft() as nft:
                nft.apply(diff(before, table))
            before = table
            await asyncio.gather(*(compare(net, table, request, seed) for request in requests(chance, objects)))
