"""The compiled table in a real kernel: real packets between a client, a node and two pods in private namespaces."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from build_proxy import NODE_1, NOT_READY, Store, endpoint, plain, port, ruleset, service, slice_of
from build_road import GATEWAY, NODE, PODS, Road, Silence, road
from portway.loop import Generation, SystemClock
from portway.nft.canonical import canonical
from portway.nft.kernel import KernelNft
from portway.nft.transaction import diff
from portway.objects.core import Service
from portway.objects.discovery import EndpointSlice
from portway.proxy.apply import Agent, Inputs, cleanup, serve

pytestmark = pytest.mark.lab

WEB = "10.3.240.9"
OBJECTS: tuple[Service | EndpointSlice, ...] = (
    service("shop/web", WEB, port(80, "http", node_port=30080), port(80, "udp", "UDP")),
    slice_of("shop/web", *(endpoint(a) for a in PODS.values()), ports={"http": 8080}),
    slice_of("shop/web", endpoint(PODS["b"]), ports={"udp": 8080}, protocol="UDP", suffix="udp"),
    service("shop/self", "10.3.240.10"),
    slice_of("shop/self", endpoint(PODS["a"])),
    service("shop/empty", "10.3.240.11", port(80, "t", node_port=30081), port(80, "u", "UDP", node_port=30081)),
    slice_of("shop/empty", endpoint(PODS["a"], NOT_READY), ports={"t": 8080}),
)


@pytest.fixture
async def net() -> AsyncIterator[Road]:
    async with road() as made:
        with made.nft() as nft:
            nft.apply(diff(None, ruleset(*OBJECTS)))
        yield made


@pytest.mark.parametrize(
    ("sentence", "host", "address", "number", "expected"),
    [
        ("a client reaches both pods and is masqueraded", "client", WEB, 80, {f"a {GATEWAY}", f"b {GATEWAY}"}),
        ("the node reaches both pods", "node", WEB, 80, {f"a {GATEWAY}", f"b {GATEWAY}"}),
        ("a node port leads to both pods", "client", NODE, 30080, {f"a {GATEWAY}", f"b {GATEWAY}"}),
        ("the node reaches its own node port", "node", NODE, 30080, {f"a {GATEWAY}", f"b {GATEWAY}"}),
        ("a pod keeps its address on the way to another pod, and reaches itself by the node's", "a", WEB, 80,
         {f"a {GATEWAY}", f"b {PODS['a']}"}),
        ("the only pod of a Service reaches itself", "a", "10.3.240.10", 80, {f"a {GATEWAY}"}),
        ("a pod uses a node port", "b", NODE, 30080, {f"a {GATEWAY}", f"b {GATEWAY}"}),
        ("nobody serves: refused, from outside", "client", "10.3.240.11", 80, {Silence.REFUSED}),
        ("nobody serves: refused, from a pod", "a", "10.3.240.11", 80, {Silence.REFUSED}),
        ("nobody serves: refused, from the node", "node", "10.3.240.11", 80, {Silence.REFUSED}),
        ("nobody serves the node port: refused", "client", NODE, 30081, {Silence.REFUSED}),
        ("the Service has no such port: refused", "client", WEB, 81, {Silence.REFUSED}),
        ("the node asks for a port that the Service has not: refused", "node", WEB, 81, {Silence.REFUSED}),
        ("a port of the node that no process has: refused", "client", NODE, 80, {Silence.REFUSED}),
        ("a node port on loopback is not served", "node", "127.0.0.1", 30080, {Silence.REFUSED}),
    ],
)  # fmt: skip
async def test_tcp(net: Road, sentence: str, host: str, address: str, number: int, expected: set[str]) -> None:
    assert await net.all_answers(host, address, number, expected) == expected, sentence


@pytest.mark.parametrize(
    ("sentence", "host", "address", "number", "expected"),
    [
        ("the UDP port of the same number has its own endpoint", "client", WEB, 80, f"b {GATEWAY}"),
        ("from a pod", "a", WEB, 80, f"b {PODS['a']}"),
        ("nobody serves: refused by ICMP", "client", "10.3.240.11", 80, Silence.REFUSED),
        ("nobody serves the node port: refused by ICMP", "client", NODE, 30081, Silence.REFUSED),
        ("the Service has no such port: refused by ICMP", "a", WEB, 81, Silence.REFUSED),
    ],
)
async def test_udp(net: Road, sentence: str, host: str, address: str, number: int, expected: str) -> None:
    assert await net.ask(host, address, number, socket.SOCK_DGRAM) == expected, sentence


async def test_an_unallocated_address_gets_no_answer_at_all(net: Road) -> None:
    assert await net.ask("client", "10.3.240.99", 80) == Silence.NOTHING


async def test_the_kernel_gives_back_what_was_compiled(net: Road) -> None:
    table = ruleset(*OBJECTS)
    with net.nft() as nft:
        assert nft.read(table.family, table.name) == canonical(plain(table))


async def test_a_service_loses_a_pod_and_then_goes_while_others_stay(net: Road) -> None:
    before = ruleset(*OBJECTS)
    fewer = ruleset(*OBJECTS[:1], slice_of("shop/web", endpoint(PODS["b"]), ports={"http": 8080}), *OBJECTS[3:])
    gone = ruleset(*OBJECTS[2:])
    with net.nft() as nft:
        nft.apply(diff(before, fewer))
        assert {await net.ask("client", WEB, 80) for _ in range(20)} == {f"b {GATEWAY}"}
        nft.apply(diff(fewer, gone))
        assert await net.ask("client", NODE, 30080) == Silence.REFUSED
        assert await net.ask("client", "10.3.240.10", 80) == f"a {GATEWAY}"


async def test_a_rolling_update_refuses_nobody(net: Road) -> None:
    """The agent replaces pod a by pod b and back while connections are made; each finds one of them."""
    generation = Generation()
    services = Store(service("shop/web", WEB, port(80, "http")))
    slices = Store(slice_of("shop/web", endpoint(PODS["a"]), ports={"http": 8080}))
    services.synced.set()
    slices.synced.set()
    with net.nft() as nft:
        agent = asyncio.create_task(serve(Agent(Inputs(services, slices), nft, NODE_1), SystemClock(), generation))
        try:
            await generation.at_least(1)
            answers: set[str] = set()
            for step in range(6):
                asking = asyncio.gather(*(net.ask("client", WEB, 80) for _ in range(30)))
                slices.put(slice_of("shop/web", endpoint(PODS["ba"[step % 2]]), ports={"http": 8080}))
                answers |= set(await asking)
                await generation.at_least(step + 2)
            assert answers == {f"a {GATEWAY}", f"b {GATEWAY}"}
        finally:
            agent.cancel()
            await asyncio.gather(agent, return_exceptions=True)


async def test_cleanup_removes_the_table_and_is_repeatable(net: Road) -> None:
    table = ruleset()
    with net.nft() as nft:
        cleanup(nft)
        assert _read(nft, table.name) is None
        cleanup(nft)
    assert await net.ask("client", NODE, 30080) == Silence.REFUSED


def _read(nft: KernelNft, name: str) -> object:
    return nft.read(ruleset().family, name)
