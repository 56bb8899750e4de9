"""The running cluster: what `up` starts, in which order, and what `node`, `route` and `status` do to it.

One object of the supervisor's event loop. It owns the hosts, the API server, the agents and `state.json`; its operations are
called by `control` for the command line, one at a time where they change something.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from portway.client import Client, Reflector
from portway.lab import cloud, drain, parts, pki, readiness, state, topology, versions
from portway.lab.agents import Agents, AgentState
from portway.lab.ask import Refused
from portway.lab.edge import Edge
from portway.lab.files import write_private
from portway.lab.hosts import Hosts
from portway.lab.parts import Shared
from portway.lab.publish import PortTaken, Published
from portway.lab.sockets import listen
from portway.lab.state import Folder, NodeRecord, RouteRecord, State
from portway.lab.streams import NodeStreams
from portway.lab.topology import CLIENT, EDGE, Host
from portway.lab.wanted import Wanted, first_state
from portway.loop.clock import Clock
from portway.netns.kernel import NetworkError
from portway.netns.plan import Owner, Plan, PlanError
from portway.objects.core import Node

log = logging.getLogger("portway.lab")

Report = Callable[[str], None]

_HOPELESS = 5
"""So many failures of one agent while the cluster comes up (about two seconds) end the attempt."""
_RELEASE_SECONDS = 10.0
"""How long `node remove` waits for the connections that the edge has given to the node."""
_NOTICE_SECONDS = 10.0
_NAMES_SECONDS = 5.0
"""How long a node's names are waited for. A cluster without them is of use, so it comes up and says what is wrong."""
_NODE_SECONDS = 60.0
"""How long `node add` and `node start` wait for a node to be ready."""


class CannotStart(Exception):
    """The cluster cannot come up; the message names what is missing and the cure."""


class Running:
    """Built by `start`, ended by `stop`."""

    def __init__(self, folder: Folder, clock: Clock, report: Report) -> None:
        self.folder = folder
        self.clock = clock
        self.report = report
        self.state = State()
        self.hosts = Hosts()
        self.agents = Agents(clock)
        self.streams = NodeStreams()
        self.published = Published(clock, lambda: self.hosts.get(CLIENT), lambda kept: self._save(published=kept))
        self.port = 0
        self._changing = asyncio.Lock()
        self._started = time.time()
        self._handles: dict[str, parts.NodeHandle] = {}
        self._ready_once = False
        self._shared: Shared | None = None
        self._api: parts.Api | None = None
        self._client: Client | None = None
        self._nodes: Reflector[Node] | None = None
        self._edge: Edge | None = None
        self._noticing: set[asyncio.Task[None]] = set()

    # Coming up

    async def start(self, wanted: Wanted) -> None:
        """Everything, until the first `wait_ready`. Raises CannotStart, NetworkError and the packages' own errors."""
        self.state = first_state(state.load(self.folder), wanted)
        self._publish(wanted)
        self.hosts.build(self._switched_on())
        self._restore_routes()
        self.report(f"network: {', '.join([CLIENT, EDGE, *(n.name for n in self.state.nodes)])}")
        probing = asyncio.create_task(asyncio.to_thread(parts.missing_in_netfilter, self.hosts[CLIENT]))
        listeners = self._listen()
        keys = pki.ensure(self.folder.pki)
        write_private(self.folder.kubeconfig, pki.kubeconfig(keys, self.server, self.folder.name).encode())
        self._shared = shared = Shared(self.folder, keys, self.server, dict(self.state.images))
        self._save(supervisor=state.identify(os.getpid()), port=self.port)
        self._api = await parts.start_api(shared, listeners, self.streams)
        if missing := await probing:
            raise CannotStart("; ".join(missing))
        self.report(f"API server: {self.server}")
        self._start_control_plane(shared)
        for node in self._switched_on():
            self._start_node(shared, node)

    def _publish(self, wanted: Wanted) -> None:
        """First of all: whatever is taken here ends the attempt before anything is made."""
        try:
            kept = self.published.open(wanted.publish, self.state.published)
        except PortTaken as e:
            raise CannotStart(str(e)) from e
        self.state = msgspec.structs.replace(self.state, published=kept)
        for problem in self.published.problems():
            self.report(f"not published: {problem}")

    def _listen(self) -> list[socket.socket]:
        """The API server's sockets: for the user on loopback, on the port of last time if it is free, and at the edge."""
        try:
            local = listen("127.0.0.1", self.state.port)
        except OSError as e:
            if e.errno != errno.EADDRINUSE:
                raise CannotStart(f"cannot listen on 127.0.0.1:{self.state.port}: {e.strerror}") from e
            log.warning("port %s is taken by now: another one is used", self.state.port)
            local = listen("127.0.0.1", 0)
        self.port = int(local.getsockname()[1])
        inside = self.hosts[EDGE].run(lambda: listen(topology.EDGE_ADDRESS, topology.EDGE_API_PORT))
        return [local, inside]

    @property
    def server(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def _start_control_plane(self, shared: Shared) -> None:
        self._client = client = shared.client("lab")
        self._nodes = nodes = Reflector(client, Node)
        self.agents.start("controllers", "", lambda: parts.run_controllers(shared, self.clock))
        self.agents.start("watch", "", nodes.run)
        self.agents.start("dns-endpoints", "", lambda: parts.run_dns_endpoints(client, nodes, self.clock))
        self._edge = edge = Edge(self.hosts[EDGE], self.clock)
        self.agents.start("edge", EDGE, lambda: parts.run_edge(shared, edge))
        self.agents.start("balancer", "", lambda: parts.run_balancer(shared, edge, self.clock))
        self.agents.start("cloud-routes", EDGE, lambda: cloud.run(nodes, self.hosts[EDGE], self.clock))

    def _start_node(self, shared: Shared, node: Host) -> None:
        namespace = self.hosts[node.name]
        handle = self._handles[node.name] = parts.NodeHandle(
            shared, namespace, node, self.streams, zone=self._zone(node)
        )
        self.agents.start("proxy", node.name, lambda: parts.run_proxy(shared, namespace, node.name, self.clock))
        self.agents.start("dns", node.name, lambda: parts.run_dns(shared, namespace, node, self.clock))
        self.agents.start("node", node.name, lambda: handle.run(self.clock))

    def _zone(self, node: Host) -> str:
        return topology.zone(node.number, self.state.zones) if node.number else ""

    async def wait_ready(self) -> None:
        """Until every node that is on is Ready and reaches the Service `kubernetes`. CannotStart when an agent will not start."""
        tasks = {asyncio.create_task(self._all_ready()), asyncio.create_task(self._give_up())}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()

    async def _give_up(self) -> None:
        """Raise CannotStart once an agent has failed again and again, or the store has failed to write: waiting for the time
        limit would tell nothing new."""
        while True:
            if self._api is not None and self._api.failure:
                raise CannotStart(self._api.failure)
            for agent in self.agents.all():
                if agent.restarts >= _HOPELESS:
                    of = f" of {agent.host}" if agent.host else ""
                    raise CannotStart(
                        "; ".join((f"the {agent.name} agent{of} does not start: {agent.error}", *self.folder.see))
                    )
            await self.clock.sleep(0.1)

    async def _all_ready(self) -> None:
        names = [n.name for n in self._switched_on()]
        await asyncio.gather(*(self._handles[name].ready.wait() for name in names))
        self.report(f"nodes ready: {', '.join(names)}")
        await asyncio.gather(*(self._until_answered(name) for name in names))
        self.report(f"Services answer: {topology.KUBERNETES_SERVICE}:443 from every node")
        self._ready_once = True

    async def _until_answered(self, node: str) -> None:
        tls = self._running_client().config.tls()
        if tls is None:
            raise CannotStart(f"{self.server} is no TLS address: this is a bug, please report it")
        while problem := await readiness.kubernetes_answers(self.hosts[node], tls):
            log.debug("%s: %s:443: %s", node, topology.KUBERNETES_SERVICE, problem)
            await self.clock.sleep(0.01)
        await self._until_named(node)

    async def _until_named(self, node: str) -> None:
        end = self.clock.monotonic() + _NAMES_SECONDS
        while problem := await parts.names_problem(self.hosts[node]):
            if self.clock.monotonic() > end:
                log.warning("%s: kube-dns (%s) does not answer: %s", node, topology.DNS_SERVICE, problem)
                return
            await self.clock.sleep(0.01)

    async def stop(self) -> None:
        """Power off: every agent, every pod, every namespace. Nothing is waited for that a user would want to keep."""
        self.published.close()
        for task in self._noticing:
            task.cancel()
        await self.agents.stop()
        if self._client is not None:
            await self._client.close()
        if self._api is not None:
            await self._api.close()
        self.hosts.close()

    # Operations

    async def status(self, _: Mapping[str, Any]) -> dict[str, Any]:
        ready = self._ready_nodes()
        agents = [{"name": "apiserver", "host": "", "state": "running", "restarts": 0, "error": ""}]
        agents += [
            {"name": a.name, "host": a.host, "state": a.state.value, "restarts": a.restarts, "error": a.error}
            for a in self.agents.all()
        ]
        all_on = all(n.on and n.name in ready for n in self.state.nodes)
        return {
            "ready": self._ready_once and all_on and all(a.state is AgentState.RUNNING for a in self.agents.all()),
            "up": self._ready_once,
            "name": self.folder.name,
            "kubeconfig": str(self.folder.kubeconfig),
            "server": self.server,
            "log": str(self.folder.log),
            "supervisor": {"pid": os.getpid(), "seconds": round(time.time() - self._started, 1)},
            "hosts": [self._host(h, ready) for h in (topology.CLIENT_HOST, topology.EDGE_HOST)]
            + [self._host(topology.node(n.name, n.number), ready) for n in self.state.nodes],
            "agents": agents,
            "routes": [{"host": r.host, "destination": r.destination, "via": r.via} for r in self.state.routes],
            "published": self.published.words(),
            "versions": versions.of_running(),
            "loadBalancers": self._edge.report() if self._edge else [],
        }

    def _host(self, host: Host, ready: frozenset[str]) -> dict[str, Any]:
        namespace = self.hosts.get(host.name)
        on = namespace is not None
        words = "off" if not on else "ready" if not host.number or host.name in ready else "not ready"
        return {
            "name": host.name,
            "role": host.role.value,
            "addresses": list(host.addresses),
            "zone": self._zone(host),
            "state": words,
            "namespace": f"/proc/{os.getpid()}/fd/{namespace.fd}" if namespace else "",
        }

    async def node_add(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """A new node with the lowest free address; answers when it is Ready and its Services answer."""
        async with self._changing:
            known = [topology.node(n.name, n.number) for n in self.state.nodes]
            try:
                host = topology.next_node(str(request["node"]), known)
            except topology.NoSuchPlan as e:
                raise Refused(str(e)) from e
            self._switch_on(host)
            self._save(nodes=(*self.state.nodes, NodeRecord(host.name, host.number)))
        await self._wait_for(host.name)
        return {"name": host.name, "addresses": list(host.addresses)}

    async def node_remove(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Cordon, let the pods go and their replacements come up elsewhere, then take the node away.

        The pods of a node that is off cannot say goodbye: nobody waits for them."""
        async with self._changing:
            record = self._record(str(request["node"]))
            if len([n for n in self.state.nodes if n.on]) == 1 and record.on:
                raise Refused(f"{record.name} is the last node that is on: add another first (portway node add NAME)")
            client = self._running_client()
            seconds = float(request.get("seconds", 60))
            left = await drain.drain(client, record.name, self.clock, seconds) if record.on else []
            if record.on and self._edge and not await self._edge.released(record.name, min(seconds, _RELEASE_SECONDS)):
                log.warning("%s had connections from the edge that did not end", record.name)
            await self._switch_off(record.name)
            await drain.forget(client, record.name)
            self._save(nodes=tuple(n for n in self.state.nodes if n.name != record.name))
        return {"name": record.name, "left": left}

    async def node_stop(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Pull the plug: no goodbye to the API server, packets to it are lost."""
        async with self._changing:
            record = self._record(str(request["node"]))
            if not record.on:
                raise Refused(f"{record.name} is off already: portway node start {record.name} switches it on")
            await self._switch_off(record.name)
            self._replace(record, on=False)
            noticing = asyncio.create_task(self._notice(record.name))
            self._noticing.add(noticing)
            noticing.add_done_callback(self._noticing.discard)
        return {"name": record.name}

    async def _notice(self, name: str) -> None:
        """The provider sees that the instance is off once its health check fails."""
        silent = self._edge is not None and await self._edge.until_silent(name, _NOTICE_SECONDS)
        if silent and any(n.name == name and not n.on for n in self.state.nodes):
            await cloud.instance_stopped(self._running_client(), name, self.clock)

    async def node_start(self, request: Mapping[str, Any]) -> dict[str, Any]:
        async with self._changing:
            record = self._record(str(request["node"]))
            if record.on:
                raise Refused(f"{record.name} is on already: portway node stop {record.name} switches it off")
            self._switch_on(topology.node(record.name, record.number))
            self._replace(record, on=True)
        await self._wait_for(record.name)
        return {"name": record.name}

    async def route_add(self, request: Mapping[str, Any]) -> dict[str, Any]:
        nodes = [topology.node(n.name, n.number) for n in self.state.nodes]
        host = str(request.get("host") or EDGE)
        try:
            route = topology.route(str(request["destination"]), str(request["via"]), nodes)
            self._namespace_of(host).route_add(route, owner=Owner.USER_ROUTES)
        except (topology.NoSuchPlan, PlanError, NetworkError) as e:
            raise Refused(str(e)) from e
        record = RouteRecord(host, route.destination, route.via)
        others = tuple(r for r in self.state.routes if (r.host, r.destination) != (host, route.destination))
        self._save(routes=(*others, record))
        return {"host": host, "destination": route.destination, "via": route.via}

    async def route_delete(self, request: Mapping[str, Any]) -> dict[str, Any]:
        host = str(request.get("host") or EDGE)
        try:
            destination = topology.destination_of(str(request["destination"]))
        except topology.NoSuchPlan as e:
            raise Refused(str(e)) from e
        found = next((r for r in self.state.routes if (r.host, r.destination) == (host, destination)), None)
        if found is None:
            raise Refused(
                f"nobody added a route to {destination} on {host}: portway route list shows those that are there"
            )
        namespace = self.hosts.get(host)
        if namespace is not None:
            namespace.route_delete(topology.route(found.destination, found.via, ()), owner=Owner.USER_ROUTES)
        self._save(routes=tuple(r for r in self.state.routes if r is not found))
        return {"host": host, "destination": destination}

    async def routes(self, request: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The main table of a host, and who added each route."""
        owners = {o.value: o.name.lower().replace("_", "-") for o in Owner} | {2: "kernel"}
        try:
            table = self._namespace_of(str(request.get("host") or EDGE)).routes()
        except NetworkError as e:
            raise Refused(str(e)) from e
        return [
            {"destination": r.destination, "via": r.via, "link": r.link, "owner": owners.get(o, str(o))}
            for r, o in table.items()
            if ":" not in r.destination
        ]

    # Below here: helpers of the operations

    def _namespace_of(self, host: str) -> Any:
        found = self.hosts.get(host)
        if found is None:
            names = [CLIENT, EDGE, *(n.name for n in self._switched_on())]
            raise Refused(f"no host {host!r} is on: choose one of {', '.join(names)}")
        return found

    def _record(self, name: str) -> NodeRecord:
        for record in self.state.nodes:
            if record.name == name:
                return record
        raise Refused(f"there is no node {name!r}: it has {', '.join(n.name for n in self.state.nodes)}")

    def _running_client(self) -> Client:
        if self._client is None:
            raise Refused("the cluster is still coming up: wait until portway up has returned")
        return self._client

    def _switch_on(self, host: Host) -> None:
        shared = self._shared
        if shared is None:
            raise Refused("the cluster is still coming up: wait until portway up has returned")
        try:
            self.hosts.switch_on(host)
        except NetworkError as e:
            self.hosts.switch_off(host.name)
            raise Refused(str(e)) from e
        self._restore_routes(host.name)
        self._start_node(shared, host)

    async def _switch_off(self, name: str) -> None:
        self.hosts.unplug(name)
        await self.agents.stop(name)
        self._handles.pop(name, None)
        self.hosts.switch_off(name)

    async def _wait_for(self, name: str) -> None:
        try:
            async with asyncio.timeout(_NODE_SECONDS):
                await self._handles[name].ready.wait()
                await self._until_answered(name)
        except TimeoutError as e:
            errors = [f"{a.name}: {a.error}" for a in self.agents.all() if a.host == name and a.error]
            said = "; ".join(errors) or "its Services do not answer"
            raise Refused(
                "; ".join((f"{name} is on, but not ready after {_NODE_SECONDS:g} s: {said}", *self.folder.see))
            ) from e

    def _ready_nodes(self) -> frozenset[str]:
        """As the API server shows them; none while it does not run."""
        return (
            frozenset(n.name for n in self._nodes.items.values() if cloud.is_ready(n)) if self._nodes else frozenset()
        )

    def _switched_on(self) -> tuple[Host, ...]:
        return tuple(topology.node(n.name, n.number) for n in self.state.nodes if n.on)

    def _restore_routes(self, only: str = "") -> None:
        for record in self.state.routes:
            namespace = self.hosts.get(record.host)
            if namespace is not None and only in ("", record.host):
                plan = Plan(routes=(topology.route(record.destination, record.via, ()),), owner=Owner.USER_ROUTES)
                namespace.add(plan)

    def _replace(self, record: NodeRecord, *, on: bool) -> None:
        fresh = NodeRecord(record.name, record.number, on)
        self._save(nodes=tuple(fresh if n.name == record.name else n for n in self.state.nodes))

    def _save(self, **changes: Any) -> None:
        self.state = msgspec.structs.replace(self.state, **changes)
        state.save(self.folder, self.state)
