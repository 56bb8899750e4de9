"""A client, a node and two pods as real network namespaces, wired as the lab wires them: routed, one veth for each.

    client 198.51.100.10 ── 10.100.0.2 node ── 10.0.1.1 ── pod a 10.0.1.2, pod b 10.0.1.3

Pods answer TCP and UDP on port 8080 with "NAME CLIENT-ADDRESS". All sockets live in this process and its event loop;
nothing touches the machine's own network namespace, and closing the descriptors removes everything.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum

import pytest

from portway.netlink.namespace import run_in
from portway.netlink.socket import NETLINK_NETFILTER, open_netlink
from portway.netns.kernel import Namespace, NetworkError
from portway.netns.plan import Address, Link, Plan, Route, Sysctl
from portway.nft.kernel import KernelNft

CLIENT, NODE, GATEWAY = "198.51.100.10", "10.100.0.2", "10.0.1.1"
PODS = {"a": "10.0.1.2", "b": "10.0.1.3"}


class Silence(StrEnum):
    """What came instead of an answer."""

    REFUSED = "refused"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Road:
    hosts: dict[str, Namespace] = field(default_factory=dict)

    @contextmanager
    def nft(self) -> Iterator[KernelNft]:
        """The node's nf_tables."""
        nft = KernelNft(run_in(self.hosts["node"].fd, lambda: open_netlink(NETLINK_NETFILTER)))
        try:
            yield nft
        finally:
            nft.close()

    async def ask(
        self, host: str, address: str, port: int, kind: int = socket.SOCK_STREAM, *, patience: float = 1
    ) -> str:
        """The answer of whoever gets the connection from `host` ("a 198.51.100.10"), or a `Silence`.

        `patience` in seconds is how long no answer is waited for."""
        loop = asyncio.get_running_loop()
        with self.hosts[host].socket(socket.AF_INET, kind) as sock:
            sock.setblocking(False)
            try:
                async with asyncio.timeout(patience):
                    await loop.sock_connect(sock, (address, port))
                    with suppress(PermissionError):  # the sender's own netfilter took it; the refusal, if any, follows
                        await loop.sock_sendall(sock, b"?")
                    return (await loop.sock_recv(sock, 100)).decode()
            except ConnectionRefusedError:
                return Silence.REFUSED
            except TimeoutError:
                return Silence.NOTHING

    async def all_answers(self, host: str, address: str, port: int, expected: set[str]) -> set[str]:
        """Ask until all of `expected` answered. A hundred times is enough for two by chance, but for one in 2^99."""
        seen: set[str] = set()
        for _ in range(100):
            seen.add(await self.ask(host, address, port))
            if seen >= expected:
                break
        return seen


@asynccontextmanager
async def road() -> AsyncIterator[Road]:
    """The whole network with its pods' servers. Skips, with the reason, where namespaces cannot be made."""
    with ExitStack() as stack:
        hosts: dict[str, Namespace] = {}
        try:
            for name in ("client", "node", *PODS):
                hosts[name] = stack.enter_context(Namespace.new(name))
        except NetworkError as e:
            pytest.skip(str(e))
        _wire(hosts)
        async with AsyncExitStack() as servers:
            for name in PODS:
                await _serve(hosts[name], name, servers)
            yield Road(hosts)


def _wire(hosts: dict[str, Namespace]) -> None:
    node = hosts["node"]
    # A host sends few ICMP errors to one destination in a second, but a test wants each refused datagram's.
    for host in hosts.values():
        host.apply(Plan(links=(Link("lo"),), sysctls=(Sysctl("net.ipv4.icmp_ratelimit", "0"),)))
    node.sysctl("net.ipv4.ip_forward", "1")
    _connect(node, hosts["client"], "client", CLIENT, NODE)
    for name, address in PODS.items():
        _connect(node, hosts[name], f"pod-{name}", address, GATEWAY)
    # Without a default route the kernel answers "network unreachable" before a packet meets the forward hook.
    node.add(Plan(routes=(Route("default", via=CLIENT, link="client", onlink=True),)))


def _connect(node: Namespace, host: Namespace, link: str, address: str, gateway: str) -> None:
    node.veth(link, "eth0", host)
    node.add(Plan(addresses=(Address(link, f"{gateway}/32"),), routes=(Route(f"{address}/32", link=link),)))
    host.add(
        Plan(
            addresses=(Address("eth0", f"{address}/32"),),
            routes=(Route(f"{gateway}/32", link="eth0"), Route("default", via=gateway)),
        )
    )


async def _serve(host: Namespace, name: str, servers: AsyncExitStack) -> None:
    loop = asyncio.get_running_loop()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read(1)
            writer.write(f"{name} {writer.get_extra_info('peername')[0]}".encode())
            await writer.drain()
        finally:
            writer.close()

    tcp = host.socket(socket.AF_INET, socket.SOCK_STREAM)
    tcp.bind(("0.0.0.0", 8080))
    await servers.enter_async_context(await asyncio.start_server(answer, sock=tcp))
    udp = host.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("0.0.0.0", 8080))
    udp.setblocking(False)
    transport, _ = await loop.create_datagram_endpoint(lambda: _Echo(name, udp), sock=udp)
    servers.callback(transport.close)


class _Echo(asyncio.DatagramProtocol):
    def __init__(self, name: str, sock: socket.socket) -> None:
        self._name = name
        self._sock = sock

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._sock.sendto(f"{self._name} {addr[0]}".encode(), addr)
