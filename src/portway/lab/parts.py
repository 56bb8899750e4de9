"""The one module of the lab that knows how each of the other packages is started.

`running` decides what runs where and when; here stands what it calls for the API server, the controllers, a node's proxy and
a node's agent. When a package's way of starting changes, this file changes and no other.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network

from aiohttp import web

from portway.apiserver.auth import User
from portway.apiserver.database import StoreFailed
from portway.apiserver.server import ApiServer, ServerConfig
from portway.apiserver.store import Store
from portway.apiserver.streams import PodStreams
from portway.balancer import run as balancer
from portway.client import Client, Config, Reflector
from portway.controllers.run import run as run_control_plane
from portway.controllers.world import Settings
from portway.dns import announce, probe
from portway.dns import apply as dns
from portway.dns.config import LISTEN_PORT, PORT, DnsConfig
from portway.dns.server import listen as listen_for_names
from portway.dns.upstream import Upstream
from portway.lab import topology
from portway.lab.edge import Edge
from portway.lab.pki import Pki
from portway.lab.sockets import listen
from portway.lab.state import Folder
from portway.lab.streams import NodeStreams
from portway.loop.clock import Clock
from portway.netlink.socket import NETLINK_NETFILTER, open_netlink
from portway.netns.kernel import Namespace
from portway.nft.features import available
from portway.nft.kernel import KernelNft
from portway.node.agent import NodeAgent
from portway.node.context import AgentConfig
from portway.node.images import Images, parse_mapping
from portway.objects.core import Node
from portway.objects.kinds import KINDS
from portway.proxy import apply as proxy
from portway.proxy.config import ProxyConfig

NODE_GRACE_SECONDS = 4.0


@dataclass(frozen=True, slots=True)
class Shared:
    """What every agent is given."""

    folder: Folder
    pki: Pki
    server: str
    images: Mapping[str, str]

    def client(self, agent: str) -> Client:
        """A client of its own, as on a real cluster: agents share no connection."""
        config = Config(server=self.server, ca_file=str(self.pki.ca), token=self.pki.token)
        return Client(config, user_agent=f"portway-{agent}")


def missing_in_netfilter(namespace: Namespace) -> tuple[str, ...]:
    """What the kernel lacks for the proxy's tables, each with its cure. Loads and removes small tables in `namespace`."""
    with namespace.run(lambda: open_netlink(NETLINK_NETFILTER)) as probe:
        return tuple(str(missing) for missing in available(probe))


class WatchedStore(Store):
    """A store that remembers why it could not write: its clients hear only that a request failed, and try again."""

    failure: str = ""

    async def durable(self) -> None:
        try:
            await super().durable()
        except StoreFailed as e:
            self.failure = str(e)
            raise


class Api:
    """The API server with its store, serving on its sockets until `close`."""

    def __init__(self, store: WatchedStore, runner: web.AppRunner) -> None:
        self._store = store
        self._runner = runner

    @property
    def failure(self) -> str:
        """Why the store could not write, the last time that it could not; "" when it always could."""
        return self._store.failure

    async def close(self) -> None:
        await self._runner.cleanup()
        await self._store.close()


async def start_api(shared: Shared, listeners: Sequence[socket.socket], streams: PodStreams) -> Api:
    """Serve the objects of `shared.folder` over TLS on `listeners`. Raises StoreUnreadable for a file that is not ours."""
    store = WatchedStore(shared.folder.database, KINDS)
    users = {shared.pki.token: User("portway-admin", ("system:masters",))}
    config = ServerConfig(
        services=IPv4Network(topology.SERVICE_CIDR), advertise=(topology.EDGE_ADDRESS, topology.EDGE_API_PORT)
    )
    server = ApiServer(store, config=config, users=users, streams=streams)
    await server.bootstrap()
    runner = server.runner()
    await runner.setup()
    tls = _tls(shared.pki)
    for listener in listeners:
        await web.SockSite(runner, listener, ssl_context=tls).start()
    return Api(store, runner)


def _tls(pki: Pki) -> ssl.SSLContext:
    """The server's side: its certificate, and a client's when the client shows one that our authority signed."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(pki.ca))
    context.load_cert_chain(str(pki.server_cert), str(pki.server_key))
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


async def run_controllers(shared: Shared, clock: Clock) -> None:
    """The embedded control plane. A node that is switched off is noticed after seconds here, not after a provider's 40."""
    settings = Settings(cluster_cidr=IPv4Network(topology.CLUSTER_CIDR), node_grace=NODE_GRACE_SECONDS)
    async with shared.client("controllers") as client:
        await run_control_plane(client, settings, clock)


async def run_proxy(shared: Shared, namespace: Namespace, node: str, clock: Clock) -> None:
    """The service proxy of `node`, on the netfilter of its namespace."""
    config = ProxyConfig(
        cluster_cidr=IPv4Network(topology.CLUSTER_CIDR), service_cidr=IPv4Network(topology.SERVICE_CIDR)
    )
    nft = KernelNft(namespace.run(lambda: open_netlink(NETLINK_NETFILTER)))
    try:
        async with shared.client("proxy") as client:
            await proxy.run(
                client, nft, node_name=node, clock=clock, config=config,
                listen=lambda port: namespace.run(lambda: listen("0.0.0.0", port)),
            )  # fmt: skip
    finally:
        nft.close()


async def run_dns(shared: Shared, namespace: Namespace, host: topology.Host, clock: Clock) -> None:
    """The names of the cluster on one node, at its address. The lab has no way out, so there is no upstream server."""
    config = DnsConfig()
    sockets = namespace.run(lambda: listen_for_names(host.addresses[0], LISTEN_PORT))
    upstream = Upstream(config.upstream, lambda kind: namespace.socket(socket.AF_INET, kind))
    try:
        async with shared.client("dns") as client:
            await dns.run(client, sockets, upstream, clock=clock, config=config)
    finally:
        sockets.close()


async def names_problem(namespace: Namespace) -> str:
    """What keeps the Service `kube-dns` from answering inside `namespace`; "" when nothing does."""
    server = (topology.DNS_SERVICE, PORT)
    return await probe.problem(lambda kind: namespace.socket(socket.AF_INET, kind), server, topology.KUBERNETES_NAME)


async def run_dns_endpoints(client: Client, nodes: Reflector[Node], clock: Clock) -> None:
    """Which nodes answer for the Service `kube-dns`."""
    await announce.run(client, nodes, clock)


async def run_balancer(shared: Shared, edge: Edge, clock: Clock) -> None:
    """Addresses for LoadBalancer Services; the edge answers for them."""
    async with shared.client("balancer") as client:
        await balancer.run(client, edge, clock)


async def run_edge(shared: Shared, edge: Edge) -> None:
    """The provider's load balancer, on the netfilter of the edge."""
    async with shared.client("edge") as client:
        await edge.run(client)


class NodeHandle:
    """The node agent of one host. A `NodeAgent` lives once, so every `run` makes a new one; streams go to the newest."""

    def __init__(
        self, shared: Shared, namespace: Namespace, host: topology.Host, streams: NodeStreams, *, zone: str = ""
    ) -> None:
        self._shared = shared
        self._namespace = namespace
        self._host = host
        self._streams = streams
        self._labels = {topology.ZONE_LABEL: zone} if zone else {}
        self._agent: NodeAgent | None = None
        self.ready = asyncio.Event()

    async def run(self, clock: Clock) -> None:
        """Until cancelled; then every pod of the node ends at once, as on a node that loses its power."""
        shared, name = self._shared, self._host.name
        programs = dict(parse_mapping(f"{image}={command}") for image, command in shared.images.items())
        images = Images.with_mappings(programs)
        config = AgentConfig(state=shared.folder.nodes / name, images=images, labels=self._labels)
        async with shared.client(f"node-{name}") as client:
            self._agent = agent = NodeAgent(
                name,
                client=client,
                namespace=self._namespace,
                address=self._host.addresses[0],
                config=config,
                clock=clock,
            )
            self._streams.connect(name, agent.streams)
            watching = asyncio.create_task(self._follow(agent))
            try:
                await agent.run()
            finally:
                watching.cancel()
                self.ready.clear()
                self._streams.disconnect(name)

    async def _follow(self, agent: NodeAgent) -> None:
        await agent.ready.wait()
        self.ready.set()
