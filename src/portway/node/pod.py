"""One pod, from bound to deleted: `PodWorker` is the task that makes it run and tells the API.

It keeps a `ContainerKeeper` per container, asks `lifecycle.decide` after every change, does what it says, and writes
the status when it differs from what was written. Network and volumes come first, the sandbox beside them. A deleted
pod ends in order (preStop, SIGTERM, grace period, SIGKILL), then its API object is removed; a pod whose object
vanished is ended at once. `agent` owns the workers.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from dataclasses import replace
from enum import StrEnum
from typing import Any

from portway.client import ApiError
from portway.loop import stamp
from portway.netns.kernel import Namespace, NetworkError
from portway.nft.protocol import NftError
from portway.node import status, volumes
from portway.node.containers import ContainerKeeper, PodHome
from portway.node.context import NodeContext
from portway.node.environment import Sources, service_variables
from portway.node.hostports import Reason
from portway.node.lifecycle import Decision, Phase, Policy, Role, decide, roles
from portway.node.podfiles import etc_files, hostname
from portway.node.runtime import RuntimeRefused, Sandbox
from portway.node.volumes import VolumeError
from portway.node.wiring import PodWires, PoolExhausted
from portway.objects.core import ConfigMap, Container, Pod, Secret
from portway.objects.meta import Condition

log = logging.getLogger("portway.node")
_TERMINAL = (Phase.SUCCEEDED, Phase.FAILED)
_RETRY = (0.05, 0.2, 1.0, 5.0)


class SetUpReason(StrEnum):
    """Why a pod has no sandbox yet: the reason of its event."""

    SANDBOX = "FailedCreatePodSandBox"
    MOUNT = "FailedMount"


class PodWorker:
    def __init__(self, pod: Pod, node: NodeContext, *, refused: str = "") -> None:
        """`refused`: why the pod must not run on this node; then it fails without having begun."""
        self.pod = pod
        self.keepers = {name: self._keeper(pod, name, role, node) for name, role in roles(pod.spec)}
        self.sandbox: Sandbox | None = None
        self.pod_ip = ""
        self._node = node
        self._refusal = refused
        self._network: Namespace | None = None
        self._home: PodHome | None = None
        self._decision = Decision(Phase.PENDING)
        self._stir = asyncio.Event()
        self._stir.set()
        self._conditions: tuple[Condition, ...] = pod.status.conditions or ()
        self._written: dict[str, Any] = {}
        self._writing: asyncio.Task[None] | None = None
        self._started = pod.status.start_time or stamp(node.clock.now())
        self._over = False
        self._silent = False

    @property
    def running(self) -> bool:
        return any(k.running for k in self.keepers.values())

    @property
    def finished(self) -> bool:
        """Whether it will never run again: its ports are free."""
        return bool(self._refusal) or self._decision.phase in _TERMINAL or self.pod.status.phase in _TERMINAL

    @property
    def network(self) -> Namespace | None:
        """The pod's network namespace (the node's with hostNetwork); None while there is none."""
        return self._node.network if self.pod.spec.host_network else self._network

    def update(self, pod: Pod) -> None:
        """What the watch says now."""
        self.pod = pod
        self._stir.set()

    async def run(self) -> None:
        """Until the pod is deleted. Cancelled: the pod is ended at once, and the API is told nothing."""
        try:
            self._adopt()
            if self._refusal:
                self._story(Reason.REJECTED, self._refusal, warning=True)
                self._write_soon()
            elif self.pod.status.phase not in _TERMINAL:
                await self._live()
            while self.pod.metadata.deletion_timestamp is None:
                await self._stirred(None)
            await self._terminate()
        finally:
            self._silent = True
            await self._tear_down()
            if self._writing is not None:
                self._writing.cancel()

    async def kill_containers(self, grace: float) -> None:
        """SIGTERM and after `grace` seconds SIGKILL for all containers, without a word to the API: the node is going."""
        self._over = self._silent = True
        await asyncio.gather(*(k.stop(grace) for k in self.keepers.values()))

    async def _live(self) -> None:
        """Set up, then decide and act until the pod is over or to be deleted."""
        failures = 0
        while self.pod.metadata.deletion_timestamp is None and not self._over:
            if self.sandbox is None or self.sandbox.gone.done():
                if not await self._set_up():
                    self._write_soon()
                    await self._deleted_within(_RETRY[min(failures, len(_RETRY) - 1)])
                    failures += 1
                    continue
                failures = 0
            self._act()
            self._write_soon()
            if self._decision.phase in _TERMINAL:
                await self._finish()
                return
            wake = self._decision.wake
            await self._stirred(None if wake is None else wake - self._node.clock.monotonic())

    def _act(self) -> None:
        """One decision, carried out."""
        if self._home is None:
            return
        self._decision = self._decide()
        for name in self._decision.start:
            self.keepers[name].begin(self._home)
        for name in self._decision.waiting:
            self.keepers[name].wait_for_restart()

    def _decide(self) -> Decision:
        policy = Policy(self.pod.spec.restart_policy or "Always", self._node.config.restart)
        return decide([k.unit for k in self.keepers.values()], policy, self._node.clock.monotonic())

    async def _stirred(self, seconds: float | None) -> None:
        """Until something changed, or `seconds` have passed."""
        waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(self._stir.wait())]
        if seconds is not None:
            waits.append(asyncio.ensure_future(self._node.clock.sleep(max(0.0, seconds))))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        self._stir.clear()

    async def _deleted_within(self, seconds: float) -> None:
        """Until the pod is to be deleted, or `seconds` have passed. Other changes do not count: most echo our own status,
        and to try again for each of them would never end."""
        end = self._node.clock.monotonic() + seconds
        while self.pod.metadata.deletion_timestamp is None and not self._over:
            left = end - self._node.clock.monotonic()
            if left <= 0:
                return
            await self._stirred(left)

    # Set up and tear down.

    async def _set_up(self) -> bool:
        """Address, volumes, network and sandbox; True when the containers may start."""
        await self._tear_down()
        try:
            self.pod_ip = self._address()
            sources = await self._sources()
            folder = self._node.pod_folder(self.pod)
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            prepared = volumes.prepare(self.pod, folder / "volumes", sources)
            self.sandbox = await self._make_sandbox(prepared.memory)
        except VolumeError as e:
            return self._refused(SetUpReason.MOUNT, str(e))
        except (RuntimeRefused, NetworkError, NftError, PoolExhausted) as e:
            return self._refused(SetUpReason.SANDBOX, str(e))
        except ApiError as e:
            return self._refused(SetUpReason.MOUNT, f"the API server gives no answer about what the pod refers to: {e}")
        config = self._node.config
        files = etc_files(
            self.pod, self.pod_ip, self._node.name, cluster_dns=config.cluster_dns, cluster_domain=config.cluster_domain
        )
        self._home = PodHome(
            sandbox=self.sandbox,
            sources=sources,
            refresh=self._sources,
            folder=folder,
            files=files,
            mounts=lambda container: volumes.mounts(container, prepared),
            grace=self._grace(),
        )
        self.sandbox.gone.add_done_callback(lambda _: self._stir.set())
        return True

    def _refused(self, reason: SetUpReason, message: str) -> bool:
        self._story(reason, message, warning=True)
        return False

    def _address(self) -> str:
        if self.pod.spec.host_network:
            return self._node.address
        if self._node.pool is None:
            raise PoolExhausted(f"node {self._node.name} has no pod CIDR yet: the node controller gives it one")
        return self._node.pool.take(self.pod.metadata.uid)

    async def _make_sandbox(self, memory: dict[str, str]) -> Sandbox:
        """The network is wired, and its host ports are opened, while the sandbox makes its other namespaces."""
        node, name = self._node, hostname(self.pod, self._node.name)
        network = node.network if self.pod.spec.host_network else Namespace.new(self.pod.ref)
        sandbox = node.host.pod(name, network.fd, memory=memory, warn=self._warn)
        if network is not node.network:
            self._network = network
        try:
            if self._network is not None and node.pool is not None:
                wires = PodWires(
                    uid=self.pod.metadata.uid, address=self.pod_ip, gateway=node.pool.gateway, node_address=node.address
                )
                node.wiring.connect(wires, self._network)
            for reason, message in node.open_ports(self.pod, self.pod_ip):
                self._story(reason, message, warning=True)
            await sandbox.ready()
        except (RuntimeRefused, NetworkError, NftError, asyncio.CancelledError):
            sandbox.close()
            raise
        return sandbox

    async def _tear_down(self) -> None:
        """End every process of the pod and take its ports and its network away. Idempotent."""
        self._node.opener.close(self.pod.metadata.uid)
        for keeper in self.keepers.values():
            await keeper.abandon()
        if self.sandbox is not None:
            self.sandbox.close()
            self.sandbox = None
        if self._network is not None:
            try:
                self._node.wiring.disconnect(self.pod.metadata.uid, self.pod_ip)
            except NetworkError as e:
                log.warning("pod %s: %s", self.pod.ref, e)
            self._network.close()
            self._network = None
        if self._node.pool is not None:
            self._node.pool.give_back(self.pod.metadata.uid)
        self._home = None

    async def _finish(self) -> None:
        """All containers are done: the status says so, sidecars are stopped, and the network is given back."""
        await asyncio.gather(*(self.keepers[name].stop(self._grace()) for name in self._decision.stop))
        self._write_soon()
        await self._tear_down()

    async def _terminate(self) -> None:
        """The graceful end of a deleted pod; the last step removes the API object."""
        grace = self._grace()
        main = [k for k in self.keepers.values() if k.unit.role is not Role.SIDECAR]
        sidecars = [k for k in self.keepers.values() if k.unit.role is Role.SIDECAR]
        if self.sandbox is not None:
            end = self._node.clock.monotonic() + grace
            await self._leave(min(self._node.config.leave, grace))
            left = max(0.0, end - self._node.clock.monotonic())
            await asyncio.gather(*(k.stop(left) for k in main))
            left = max(0.0, end - self._node.clock.monotonic())
            await asyncio.gather(*(k.stop(left) for k in reversed(sidecars)))
        await self._tear_down()
        if self._writing is not None:
            self._writing.cancel()
        await self._remove()

    async def _leave(self, seconds: float) -> None:
        """Serve on for a moment: the proxies hear of the deletion when we do, and what one still sends here would be refused.

        Containers that have ended anyway are not waited for."""
        if seconds > 0 and any(k.running for k in self.keepers.values()):
            await self._node.clock.sleep(seconds)

    async def _remove(self) -> None:
        meta = self.pod.metadata
        for delay in (*_RETRY, None):
            try:
                await self._node.client.delete(Pod, meta.name, meta.namespace, grace_seconds=0, uid=meta.uid)
                break
            except ApiError as e:
                if e.not_found or e.code == 409:
                    break
                log.warning("pod %s has ended but cannot be removed: %s", self.pod.ref, e)
            if delay is not None:
                await self._node.clock.sleep(delay)
        shutil.rmtree(self._node.pod_folder(self.pod), ignore_errors=True)

    def _grace(self) -> float:
        meta, spec = self.pod.metadata, self.pod.spec
        for seconds in (meta.deletion_grace_period_seconds, spec.termination_grace_period_seconds):
            if seconds is not None:
                return float(seconds)
        return 30.0

    # What the pod refers to.

    async def _sources(self) -> Sources:
        maps: dict[str, ConfigMap] = {}
        secrets: dict[str, Secret] = {}
        for kind, name in sorted(volumes.references(self.pod)):
            try:
                if kind == "configmap":
                    maps[name] = await self._node.client.get(ConfigMap, name, self.pod.namespace)
                else:
                    secrets[name] = await self._node.client.get(Secret, name, self.pod.namespace)
            except ApiError as e:
                if not e.not_found:
                    raise
        config, node = self._node.config, self._node
        variables = service_variables(config.services(self.pod.namespace), config.kubernetes_host)
        return Sources(
            pod=self.pod,
            pod_ip=self.pod_ip,
            host_ip=node.address,
            node=node.name,
            config_maps=maps,
            secrets=secrets,
            services=variables,
        )

    def _adopt(self) -> None:
        """Go on counting restarts where an earlier agent stopped."""
        for old in (*(self.pod.status.container_statuses or ()), *(self.pod.status.init_container_statuses or ())):
            keeper = self.keepers.get(old.name)
            if keeper is not None and (old.state.running or old.state.terminated or old.restart_count):
                keeper.shown = replace(keeper.shown, unit=replace(keeper.unit, restarts=old.restart_count + 1))

    # Events and status.

    def _keeper(self, pod: Pod, name: str, role: Role, node: NodeContext) -> ContainerKeeper:
        container: Container = next(
            c for c in (*(pod.spec.init_containers or ()), *pod.spec.containers) if c.name == name
        )
        place = "spec.containers" if role is Role.MAIN else "spec.initContainers"

        def story(reason: str, message: str, *, warning: bool = False) -> None:
            node.recorder.record(self.pod, reason, message, warning=warning, field_path=f"{place}{{{name}}}")

        return ContainerKeeper(container, role, node, changed=self._changed, story=story)

    def _story(self, reason: str, message: str, *, warning: bool = False) -> None:
        self._node.recorder.record(self.pod, reason, message, warning=warning)

    def _warn(self, text: str) -> None:
        log.info("pod %s: %s", self.pod.ref, text)

    def _changed(self) -> None:
        self._stir.set()
        self._write_soon()

    def _write_soon(self) -> None:
        """Have the status written; several changes before the write are one."""
        if not self._silent and (self._writing is None or self._writing.done()):
            self._writing = asyncio.create_task(self._write())

    async def _write(self) -> None:
        failures = 0
        while (wanted := self._status()) != self._written:
            meta = self.pod.metadata
            try:
                await self._node.client.patch_status(
                    Pod, meta.name, {"metadata": {"uid": meta.uid}, "status": wanted}, meta.namespace
                )
                self._written = wanted
                failures = 0
            except ApiError as e:
                if not e.retryable or e.reason == "Conflict":
                    log.info("the status of pod %s cannot be written: %s", self.pod.ref, e)
                    return
                await self._node.clock.sleep(_RETRY[min(failures, len(_RETRY) - 1)])
                failures += 1

    def _status(self) -> dict[str, Any]:
        view = status.PodView(
            pod=self.pod,
            shown=[] if self._refusal else [k.shown for k in self.keepers.values()],
            # Anew: containers may have moved on since the last one was carried out.
            decision=Decision(Phase.FAILED) if self._refusal else self._decide(),
            reason=Reason.REJECTED if self._refusal else "",
            message=self._refusal,
            host_ip=self._node.address,
            pod_ip=self.pod_ip,
            now=stamp(self._node.clock.now()),
            start_time=self._started,
            sandbox=self.sandbox is not None,
            old=self._conditions,
        )
        made = status.pod_status(view)
        self._conditions = tuple(
            Condition(
                type=c["type"],
                status=c["status"],
                reason=c.get("reason", ""),
                message=c.get("message", ""),
                last_transition_time=c["lastTransitionTime"],
            )
            for c in made["conditions"]
        )
        return made
