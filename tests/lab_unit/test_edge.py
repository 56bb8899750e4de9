"""The edge in private namespaces: real health checks, a real table, real connections, and what it forgets and waits for.

    client 198.51.100.10 ── edge 10.100.0.1 ── node-1 10.100.0.2, node-2 10.100.0.3

A node answers health checks at 10256 and says its name at the node port 30080; no Kubernetes runs here.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address

import pytest

from build_balancer import VIP, node, port, service
from build_balancer import edge as edge_host
from portway.balancer.compile import compile_edge
from portway.balancer.health import Timing
from portway.balancer.reasons import Reason
from portway.lab.edge import Edge
from portway.loop import SystemClock
from portway.netns.kernel import Namespace, NetworkError
from portway.netns.plan import Address, Kind, Link, Peer, Plan, Route, Sysctl
from portway.nft.packet import Packet
from portway.nft.walk import walk
from portway.objects.core import Node, Service

pytestmark = pytest.mark.lab

FAST = Timing(interval=0.02, timeout=0.2, first_retry=0.01)
NAMES = ("node-1", "node-2")


@dataclass
class Net:
    """The hosts, and the edge's agent with its inputs in the test's hand."""

    hosts: dict[str, Namespace]
    edge: Edge
    services: list[Service] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    servers: dict[str, list[asyncio.AbstractServer]] = field(default_factory=dict)
    taken: list[asyncio.StreamWriter] = field(default_factory=list)

    def look(self) -> None:
        assert self.edge.one_pass(self.services, self.nodes) == ()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Look again until it holds; the checks run meanwhile."""
        async with asyncio.timeout(5):
            self.look()
            while not condition():
                await asyncio.sleep(0.005)
                self.look()

    async def serve(self, name: str) -> None:
        """The node's health port and node port."""

        async def health(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            writer.close()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.taken.append(writer)
            while line := await reader.readline():
                writer.write(f"{name} {writer.get_extra_info('peername')[0]} {line.decode()}".encode())

        for handler, number in ((health, 10256), (answer, 30080)):
            server = await asyncio.start_server(handler, sock=self._listen(name, number))
            self.servers.setdefault(name, []).append(server)

    def _listen(self, name: str, number: int) -> socket.socket:
        def listening() -> socket.socket:
            listener = socket.create_server(("0.0.0.0", number))
            listener.setblocking(False)
            return listener

        return self.hosts[name].run(listening)

    def stop(self, name: str) -> None:
        for server in self.servers.pop(name, ()):
            server.close()

    async def connect(self, number: int = 80) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        sock = self.hosts["client"].socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        async with asyncio.timeout(3):
            await asyncio.get_running_loop().sock_connect(sock, (VIP, number))
            return await asyncio.open_connection(sock=sock)

    async def ask(self) -> str:
        """ "node-1 198.51.100.10": who answered and whom it saw; "refused"."""
        try:
            reader, writer = await self.connect()
        except ConnectionRefusedError:
            return "refused"
        try:
            return await say(reader, writer)
        finally:
            writer.close()

    async def who(self, count: int = 40) -> set[str]:
        return {await self.ask() for _ in range(count)}


async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    writer.write(b"hello\n")
    return (await asyncio.wait_for(reader.readline(), 3)).decode().removesuffix(" hello\n")


def _wire(hosts: dict[str, Namespace]) -> None:
    links = [Link("lo"), Link("inside", Kind.BRIDGE)]
    links += [Link(f"port-{n}", Kind.VETH, Peer("eth0", n), master="inside") for n in NAMES]
    links.append(Link("eth1", Kind.VETH, Peer("eth0", "client")))
    addresses = (Address("inside", "10.100.0.1/24"), Address("eth1", "198.51.100.1/24"))
    hosts["edge"].apply(
        Plan(links=tuple(links), addresses=addresses, sysctls=(Sysctl("net.ipv4.ip_forward", "1"),)), hosts
    )
    for name, own, gateway in (
        ("client", "198.51.100.10/24", "198.51.100.1"),
        ("node-1", "10.100.0.2/24", "10.100.0.1"),
        ("node-2", "10.100.0.3/24", "10.100.0.1"),
    ):
        route = Route("default", via=gateway, link="eth0")
        hosts[name].apply(
            Plan(links=(Link("lo"), Link("eth0")), addresses=(Address("eth0", own),), routes=(route,))
        )  # fmt: skip


@asynccontextmanager
async def network(serving: Iterable[str] = NAMES) -> AsyncIterator[Net]:
    with ExitStack() as stack:
        hosts: dict[str, Namespace] = {}
        try:
            for name in ("client", "edge", *NAMES):
                hosts[name] = stack.enter_context(Namespace.new(name))
        except NetworkError as e:
            pytest.skip(str(e))
        _wire(hosts)
        net = Net(hosts, Edge(hosts["edge"], SystemClock(), timing=FAST), [service()], [node(1), node(2)])
        for name in serving:
            await net.serve(name)
        net.edge.open()
        try:
            yield net
        finally:
            await net.edge.close()
            for name in tuple(net.servers):
                net.stop(name)
            for writer in net.taken:
                writer.close()


async def test_connections_reach_both_nodes_with_the_clients_address() -> None:
    async with network() as net:
        await net.until(lambda: net.edge.passes("node-1") and net.edge.passes("node-2"))
        assert await net.who() == {"node-1 198.51.100.10", "node-2 198.51.100.10"}
        assert net.edge.obstacle(service()) is None


async def test_a_node_that_does_not_pass_gets_nothing_until_it_does() -> None:
    async with network(["node-1"]) as net:
        await net.until(lambda: net.edge.passes("node-1"))
        assert await net.who() == {"node-1 198.51.100.10"}
        await net.serve("node-2")
        await net.until(lambda: net.edge.passes("node-2"))
        assert len(await net.who()) == 2
        net.stop("node-1")
        await net.until(lambda: not net.edge.passes("node-1"))
        assert await net.who() == {"node-2 198.51.100.10"}


async def test_nobody_passes_and_the_client_is_refused_with_a_reason() -> None:
    async with network([]) as net:
        await net.until(lambda: net.edge.checkers.health != {})
        assert await net.ask() == "refused"
        found = net.edge.obstacle(service())
        assert found is not None and found.reason is Reason.ALL_UNHEALTHY


async def test_a_draining_node_keeps_its_connections_and_is_released_when_they_end() -> None:
    async with network(["node-1"]) as net:
        await net.until(lambda: net.edge.passes("node-1"))
        reader, writer = await net.connect()
        assert await say(reader, writer) == "node-1 198.51.100.10"
        await net.serve("node-2")
        net.nodes = [node(1, cordoned=True), node(2)]
        await net.until(lambda: net.edge.passes("node-2"))
        assert await net.who() == {"node-2 198.51.100.10"}
        assert await say(reader, writer) == "node-1 198.51.100.10", "what is established stays"
        assert not await net.edge.released("node-1", 0.2), "it still has a connection"
        waiting = asyncio.create_task(net.edge.released("node-1", 5))
        writer.close()
        for taken in net.taken:
            taken.close()
        assert await waiting


async def test_a_restart_of_the_edge_cuts_nothing() -> None:
    async with network() as net:
        await net.until(lambda: net.edge.passes("node-1") and net.edge.passes("node-2"))
        reader, writer = await net.connect()
        first = await say(reader, writer)
        await net.edge.close()
        assert await say(reader, writer) == first
        assert await net.ask() != "refused", "the table stays, new connections too"
        net.edge = Edge(net.hosts["edge"], SystemClock(), timing=FAST)
        net.edge.open()
        await net.until(lambda: net.edge.passes("node-1") and net.edge.passes("node-2"))
        assert await say(reader, writer) == first
        writer.close()


async def test_an_attempt_that_a_dead_node_never_answered_finds_another() -> None:
    """The client repeats its SYN after a second. By then the kernel has forgotten which node the first one went to."""
    async with network() as net:
        await net.until(lambda: net.edge.passes("node-1") and net.edge.passes("node-2"))
        net.hosts["edge"].apply(_without("node-1"), net.hosts)
        attempts = [asyncio.create_task(net.ask()) for _ in range(12)]
        await net.until(lambda: not net.edge.passes("node-1"))
        assert set(await asyncio.gather(*attempts)) == {"node-2 198.51.100.10"}


async def test_datagrams_follow_when_their_node_fails() -> None:
    """A client that sends again and again from one port has one connection for ever, as far as the kernel is concerned."""
    async with network() as net:
        net.services = [service("shop/web", VIP, port(80, 30080, "UDP"))]
        await net.until(lambda: net.edge.passes("node-1") and net.edge.passes("node-2"))
        loop = asyncio.get_running_loop()
        with ExitStack() as stack:
            listeners = {}
            for name in NAMES:
                listeners[name] = sock = stack.enter_context(net.hosts[name].socket(socket.AF_INET, socket.SOCK_DGRAM))
                sock.setblocking(False)
                sock.bind(("0.0.0.0", 30080))
            client = stack.enter_context(net.hosts["client"].socket(socket.AF_INET, socket.SOCK_DGRAM))
            client.setblocking(False)
            client.connect((VIP, 80))

            async def arrives() -> str:
                waiting = {asyncio.create_task(loop.sock_recv(s, 99), name=n) for n, s in listeners.items()}
                client.send(b"hello")
                done, rest = await asyncio.wait(waiting, timeout=3, return_when=asyncio.FIRST_COMPLETED)
                for task in rest:
                    task.cancel()
                await asyncio.gather(*rest, return_exceptions=True)
                return next((t.get_name() for t in done), "nobody")

            first = await arrives()
            assert await arrives() == first
            net.stop(first)
            await net.until(lambda: not net.edge.passes(first))
            assert {await arrives(), first} == set(NAMES)


def _without(gone: str) -> Plan:
    """The edge's wiring when the cable to one node is out."""
    links = [Link("lo"), Link("inside", Kind.BRIDGE)]
    links += [Link(f"port-{n}", Kind.VETH, Peer("eth0", n), master="inside") for n in NAMES if n != gone]
    links.append(Link("eth1", Kind.VETH, Peer("eth0", "client")))
    addresses = (Address("inside", "10.100.0.1/24"), Address("eth1", "198.51.100.1/24"))
    return Plan(links=tuple(links), addresses=addresses, sysctls=(Sysctl("net.ipv4.ip_forward", "1"),))


async def test_the_report_shows_the_providers_pieces() -> None:
    async with network(["node-1"]) as net:
        net.services = [service(load_balancer_source_ranges=("198.51.100.0/24",)), service("shop/none", "")]
        await net.until(lambda: net.edge.passes("node-1") and net.edge.checkers.health.keys() != set())
        (found,) = net.edge.report()
        assert (found["service"], found["addresses"]) == ("shop/web", [VIP])
        assert found["forwardingRules"] == [
            {"address": VIP, "protocol": "TCP", "port": 80, "nodePort": 30080,
             "sourceRanges": ["198.51.100.0/24"], "sessionAffinity": "None"}
        ]  # fmt: skip
        assert found["backendService"]["healthCheck"] == {"protocol": "HTTP", "port": 10256, "path": "/healthz"}
        assert [(i["node"], i["state"], i["healthy"]) for i in found["instanceGroup"]] == [
            ("node-1", "serving", True), ("node-2", "serving", False),
        ]  # fmt: skip


async def test_the_walker_and_the_kernel_send_each_connection_to_the_same_node() -> None:
    """Hash and slots, bit by bit: the walker says which node, the kernel must agree for every source port."""
    async with network() as net:
        net.services = [service("shop/web", VIP, port(80, 30080))]
        await net.until(lambda: net.edge.passes("node-1") and net.edge.passes("node-2"))
        table = compile_edge(net.edge.plan, net.edge.checkers.health, net.edge.config)
        for _ in range(40):
            reader, writer = await net.connect()
            sport = writer.get_extra_info("sockname")[1]
            packet = Packet(IPv4Address("198.51.100.10"), IPv4Address(VIP), 80, sport=sport, iif="eth1")
            walked = walk(table, packet, edge_host()).dnat
            answered = (await say(reader, writer)).split()[0]
            writer.close()
            assert walked is not None and f"node-{int(walked[0]) - int(IPv4Address('10.100.0.1'))}" == answered
