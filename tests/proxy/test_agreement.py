"""The walker and the kernel get the same random tables and the same packets, and must agree on every one.

This holds everything to the truth at once: the compiler's elements, the bytes that go to the kernel, and the walker that the
other tests (and explanations) believe. A failure prints its seed and the rules that the walker went by.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Iterator

import pytest

from build_journey import host, packet
from build_proxy import NOT_READY, READY, endpoint, port, ruleset, service, slice_of
from build_road import CLIENT, GATEWAY, NODE, PODS, Road, Silence, road
from portway.nft.tables import Ruleset
from portway.nft.transaction import diff
from portway.nft.walk import End, Outcome, outcomes
from portway.objects.core import Service
from portway.objects.discovery import EndpointSlice

pytestmark = pytest.mark.lab

CLUSTERS = 12
KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
SENDERS = {"client": CLIENT, "node": NODE, **PODS}
NAMES = {address: name for name, address in PODS.items()}


def cluster(chance: random.Random) -> Iterator[Service | EndpointSlice]:
    """Up to four Services. Pods listen on 8080 only: who is sent to 8081 is refused by the pod."""
    for n in range(chance.randint(0, 4)):
        ref, protocol = f"shop/s{n}", chance.choice(["TCP", "UDP"])
        node_port = chance.choice([0, 30000 + n])
        yield service(ref, f"10.3.240.{n + 9}", port(80, protocol=protocol, node_port=node_port))
        pods = chance.sample(sorted(PODS.values()), chance.randint(0, 2))
        yield slice_of(
            ref,
            *(endpoint(pod, chance.choice([READY, READY, NOT_READY])) for pod in pods),
            ports={"": chance.choice([8080, 8080, 8081])},
            protocol=protocol,
        )


def requests(chance: random.Random) -> Iterator[tuple[str, str, int, str]]:
    """(who, to which address, port, protocol): Service addresses that may or may not be there, and node ports."""
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
            table = ruleset(*cluster(chance))
            with net.nft() as nft:
                nft.apply(diff(before, table))
            before = table
            await asyncio.gather(*(compare(net, table, request, seed) for request in requests(chance)))
