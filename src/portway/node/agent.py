"""The agent of one node: `NodeAgent` registers it, watches the pods bound to it, and keeps a `PodWorker` for each.

The lab makes one per node and gives it the node's network namespace. It keeps the routes to the other nodes' pods,
renews the Lease, and reports Ready once it has a pod CIDR and its routes are set. Everything it starts ends with it:
`stop` in order, `crash` at once, as a node does that loses power; what an earlier agent left (links, folders) is
cleared at the start.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import socket
from collections.abc import Collection, Sequence

from portway.client import ApiError, Change, Client, Reflector, Select
from portway.cluster.hostports import FINISHED, clash
from portway.loop import Backoff, Clock, Wake, reconcile
from portway.netlink.socket import NETLINK_NETFILTER, open_netlink
from portway.netns.kernel import Namespace, NetworkError
from portway.nft.kernel import KernelNft
from portway.node.context import AgentConfig, NodeContext
from portway.node.events import Recorder
from portway.node.flows import KernelFlows
from portway.node.pod import PodWorker
from portway.node.portopener import PortOpener
from portway.node.registration import Registration
from portway.node.runtime import PodHost, RuntimeRefused
from portway.node.streams import NodeStreams
from portway.node.wiring import AddressPool, Wiring, node_routes
from portway.objects.core import Node, Pod

log = logging.getLogger("portway.node")


class StateUnusable(Exception):
    """The agent's state folder cannot be used; the message says why. Nothing in it was touched."""


class NodeAgent:
    """`ready` is set once the API shows the node as Ready; `streams` is what `kubectl logs` and `exec` reach."""

    def __init__(
        self, name: str, *, client: Client, namespace: Namespace, address: str, config: AgentConfig, clock: Clock
    ) -> None:
        self.name = name
        self.ready = asyncio.Event()
        self.workers: dict[str, PodWorker] = {}
        self._context = NodeContext(
            name=name,
            address=address,
            client=client,
            clock=clock,
            config=config,
            host=PodHost(config.needed),
            wiring=Wiring(namespace),
            opener=PortOpener(KernelNft(_netfilter(namespace)), KernelFlows(_netfilter(namespace))),
            recorder=Recorder(client, name, clock),
        )
        self.streams = NodeStreams(self.worker_of, clock)
        self._pods = Reflector(client, Pod, Select(fields=f"spec.nodeName={name}"))
        self._nodes = Reflector(client, Node)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._dropped: set[str] = set()
        self._registration = Registration(self._context)
        self._wake = Wake()
        self._running: asyncio.Task[None] | None = None
        self._ending = False

    async def run(self) -> None:
        """Until cancelled, or `stop` or `crash` is called.

        Raises StateUnusable, RuntimeRefused, NetworkError, ApiError at the start."""
        self._running = asyncio.current_task()
        try:
            self._clean()
            self._context.wiring.clear()
            self._context.opener.adopt()
            await asyncio.gather(self._context.host.start(), self._register())
            self._nodes.subscribe(lambda changes: self._wake.mark())
            self._pods.subscribe(self._on_pods)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._context.recorder.run(), name=f"{self.name} events")
                group.create_task(self._nodes.run(), name=f"{self.name} nodes")
                group.create_task(self._renew(), name=f"{self.name} lease")
                group.create_task(self._watch_pods(), name=f"{self.name} pods")
                group.create_task(self._keep_routes(), name=f"{self.name} routes")
                group.create_task(self._context.opener.run(self._context.clock), name=f"{self.name} host ports")
                group.create_task(self._watch_host(), name=f"{self.name} host")
        except asyncio.CancelledError:
            if not self._ending:
                raise
        finally:
            await self._end_pods()

    async def stop(self, *, graceful: bool = True) -> None:
        """End the agent and its pods without a word to the API; `graceful` gives containers SIGTERM and `stop_grace` seconds."""
        self._ending = True
        if graceful:
            await asyncio.gather(*(w.kill_containers(self._context.config.stop_grace) for w in self.workers.values()))
        await self.crash()

    async def crash(self) -> None:
        """End everything at once, without a word to anybody."""
        self._ending = True
        self._context.host.kill()
        if self._running is not None and not self._running.done():
            self._running.cancel()
            await asyncio.wait([self._running])

    async def _end_pods(self) -> None:
        self._context.host.kill()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._context.opener.stop()
        await self._context.host.close()
        self.ready.clear()

    def _clean(self) -> None:
        """Make the state folder, and remove the folders of pods whose processes ended with an earlier agent."""
        state = self._context.config.state
        try:
            state.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not os.access(state, os.R_OK | os.W_OK | os.X_OK):
                raise StateUnusable(f"the state folder {state} cannot be read and written by this user")
            if (state / "pods").exists():
                shutil.rmtree(state / "pods")
        except OSError as e:
            raise StateUnusable(f"the state folder {state}: {e}") from e

    async def _register(self) -> None:
        backoff = Backoff()
        while True:
            try:
                await self._registration.register()
                return
            except ApiError as e:
                if not e.retryable:
                    raise
                log.info("node %s cannot register yet: %s", self.name, e)
            await self._context.clock.sleep(backoff.next())

    async def _renew(self) -> None:
        while True:
            try:
                await self._registration.renew()
            except ApiError as e:
                log.info("the lease of node %s was not renewed: %s", self.name, e)
            await self._context.clock.sleep(self._context.config.lease_renew)

    async def _watch_pods(self) -> None:
        """Pods wait until there are addresses to give them."""
        await self.ready.wait()
        await self._pods.run()

    async def _watch_host(self) -> None:
        """Without the host there are no pods: better to fail, and be started anew, than to wait for what cannot come."""
        await self._context.host.ended.wait()
        if not self._ending:
            raise RuntimeRefused(
                f"the process that holds the pods of node {self.name} has ended (killed from outside?)"
            )

    async def _keep_routes(self) -> None:
        await reconcile(
            f"routes of {self.name}", self._route, self._wake, self._context.clock, inputs=[self._nodes.synced]
        )

    async def _route(self, _: frozenset[str]) -> Collection[str]:
        """One pass: routes to all other nodes, and Ready when this one has its pod CIDR."""
        me = self._nodes.items.get(self.name)
        if me is None:
            if self.ready.is_set():
                log.warning("node %s is no longer in the API", self.name)
            return ()
        try:
            self._context.wiring.route(node_routes(self.name, self._nodes.items.values()))
        except NetworkError as e:
            log.warning("routes of node %s: %s", self.name, e)
            return ("*",)
        if me.spec.pod_cidr:
            await self._become_ready(me)
        return ()

    async def _become_ready(self, me: Node) -> None:
        if self._context.pool is None:
            self._context.pool = AddressPool(me.spec.pod_cidr)
        shown = any(c.type == "Ready" and c.status == "True" for c in me.status.conditions or ())
        if not self.ready.is_set() or not shown:
            await self._registration.set_ready(me, True, "pods have addresses and routes")
            self.ready.set()

    def _on_pods(self, changes: Sequence[Change[Pod]]) -> None:
        newcomers: dict[str, Pod] = {}
        for change in changes:
            old, new = change.old, change.new
            if old is not None and (new is None or new.metadata.uid != old.metadata.uid):
                newcomers.pop(old.metadata.uid, None)
                self._drop(old.metadata.uid)
            if new is None:
                continue
            if worker := self.workers.get(new.metadata.uid):
                worker.update(new)
            else:
                newcomers[new.metadata.uid] = new
        for pod in sorted(newcomers.values(), key=_seniority):
            self._admit(pod)

    def _admit(self, pod: Pod) -> None:
        uid = pod.metadata.uid
        self._context.pods[uid] = pod
        self.workers[uid] = worker = PodWorker(pod, self._context, refused=self._in_the_way(pod))
        task = asyncio.create_task(worker.run(), name=f"pod {pod.ref}")
        self._tasks[uid] = task
        task.add_done_callback(lambda done: self._worker_ended(uid, done))

    def _in_the_way(self, pod: Pod) -> str:
        """Why the pod cannot run here: two schedulers raced, or a manifest named the node. Empty when it can.

        A pod whose object vanished gives its ports back in this moment, whatever its processes still do."""
        if pod.status.phase in FINISHED:
            return ""
        holders = (w.pod for uid, w in self.workers.items() if uid not in self._dropped and not w.finished)
        found = clash(pod, holders)
        return f"Pod was rejected: on node {self.name} {found}" if found else ""

    def _drop(self, uid: str) -> None:
        """The pod's object vanished: it is ended at once."""
        self._context.opener.close(uid)
        task = self._tasks.get(uid)
        if task is not None:
            self._dropped.add(uid)
            task.cancel()

    def _worker_ended(self, uid: str, task: asyncio.Task[None]) -> None:
        worker = self.workers.pop(uid)
        self._dropped.discard(uid)
        self._context.pods.pop(uid)
        self._tasks.pop(uid)
        shutil.rmtree(self._context.pod_folder(worker.pod), ignore_errors=True)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("pod %s: %s: this is a bug, please report it", worker.pod.ref, error, exc_info=error)

    def worker_of(self, namespace: str, name: str) -> PodWorker | None:
        """The worker of a pod by name; its `network` is where `portway exec pod/NAMESPACE/NAME` runs."""
        return next((w for w in self.workers.values() if (w.pod.namespace, w.pod.name) == (namespace, name)), None)


def _netfilter(namespace: Namespace) -> socket.socket:
    return namespace.run(lambda: open_netlink(NETLINK_NETFILTER))


def _seniority(pod: Pod) -> tuple[bool, str, str]:
    """Who ran before an agent's restart keeps its host port; a newcomer that wants it too must not come first by chance."""
    return not pod.status.start_time, pod.metadata.creation_timestamp or "", pod.ref
