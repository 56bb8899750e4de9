"""One container of one pod, over all its runs: start it, ask its probes, stop it, and keep what the status shows.

`ContainerKeeper` is owned by a `pod.PodWorker`, which decides when to start and stop. Every change of `unit` calls
`changed`, which wakes the worker. What fails before a program runs (no image, no configuration) is a step of its own,
FAILED, and is tried again.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from portway.client import ApiError
from portway.loop import stamp
from portway.node import busyports, probes, status
from portway.node.context import NodeContext
from portway.node.environment import PATH, ConfigError, Sources, environment, expand
from portway.node.hostports import Reason
from portway.node.images import ImageReason, Launch, Unknown
from portway.node.lifecycle import KILLED, Exit, Role, Step, Unit, WaitReason
from portway.node.logs import log_path
from portway.node.prober import Target, ask
from portway.node.probes import ProbeKind
from portway.node.runtime import Mount, Run, Sandbox, Start, StartFailed
from portway.node.volumes import VolumeError
from portway.objects.core import Container, LifecycleHandler, Probe

_HOOK_PATIENCE = 3600.0
_EAGER = 0.02
"""Seconds before the second of the first questions of a probe; doubles."""
_LAST_CHANCE = 2.0
"""Seconds that a container has after SIGTERM when its preStop hook used up the grace period; the kubelet gives as many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodHome:
    """What the pod gives to its containers: where they run and what they are made from; `refresh` reads that again."""

    sandbox: Sandbox
    sources: Sources
    refresh: Callable[[], Awaitable[Sources]]
    folder: Path
    files: dict[str, str]
    mounts: Callable[[Container], tuple[Mount, ...]]
    grace: float


class ContainerKeeper:
    def __init__(
        self,
        container: Container,
        role: Role,
        node: NodeContext,
        *,
        changed: Callable[[], None],
        story: Callable[..., None],
    ) -> None:
        """`story(reason, message, warning=…)` records an event about this container."""
        self.container = container
        self.shown = status.Shown(unit=Unit(name=container.name, role=role), container=container)
        self.run: Run | None = None
        self.environment: dict[str, str] = {}
        self._node = node
        self._changed = changed
        self._story = story
        self._tasks: set[asyncio.Task[None]] = set()
        self._life: asyncio.Task[None] | None = None
        self._home: PodHome | None = None
        self._stopping = False
        self._verdicts: dict[ProbeKind, probes.Verdict] = {}
        self._hooked = True
        self._startup_passed = asyncio.Event()
        self._runs = 0

    @property
    def unit(self) -> Unit:
        return self.shown.unit

    @property
    def running(self) -> bool:
        return self.unit.step is Step.RUNNING

    def log(self, *, previous: bool = False) -> Path | None:
        """The log file of the present or the previous run; None when there was none."""
        number = self._runs - (2 if previous else 1)
        if number < 0 or self._home is None:
            return None
        return log_path(self._home.folder / "logs", self.container.name, number)

    def begin(self, home: PodHome) -> None:
        """Start the container (again) in the background."""
        self._home = home
        if self.unit.step is Step.EXITED:
            self._show(restarts=self.unit.restarts + 1, last=self._last_state(), finished_at="")
        self._show(step=Step.STARTING, started=False, ready=False)
        self._life = self._spawn(self._live(home))

    def wait_for_restart(self) -> None:
        """Say that the next start is put off: CrashLoopBackOff, with the end of the last run beside it."""
        if self.unit.step is Step.EXITED and not self.shown.reason:
            last = status.terminated(self.shown)
            self.shown = replace(
                self.shown, reason=WaitReason.CRASH_LOOP, message="waiting before the next restart", last=last
            )
            self._story(
                "BackOff", f"Container {self.container.name} ended again and waits before it is restarted", warning=True
            )

    async def stop(self, grace: float, *, why: str = "") -> None:
        """preStop, SIGTERM, and when `grace` seconds are over SIGKILL; returns when the container has ended."""
        self._stopping = True
        self._cancel_probes(keep=ProbeKind.READINESS)
        run, life, home = self.run, self._life, self._home
        if run is None or life is None or home is None or run.exited.done():
            await self.abandon()
            return
        self._story("Killing", f"Stopping container {self.container.name}{f': {why}' if why else ''}")
        end = self._node.clock.monotonic() + grace
        hook = self.container.lifecycle.pre_stop if self.container.lifecycle else None
        if hook is not None and grace > 0 and self.running:
            await self._hook("PreStop", hook, grace)
        if grace > 0:
            home.sandbox.signal(run, signal.SIGTERM)
            left = max(end - self._node.clock.monotonic(), _LAST_CHANCE if hook else 0)
            await self._within(run.exited, left)
        if not run.exited.done():
            home.sandbox.kill(run)
        await asyncio.wait([life])
        self._cancel_probes()

    async def abandon(self) -> None:
        """Forget the container: its sandbox is going or gone."""
        tasks = [t for t in self._tasks if t is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self.unit.step in (Step.RUNNING, Step.STARTING):
            self._show(finished_at=self._now())
            self._ended(KILLED, 0.0)

    async def _live(self, home: PodHome) -> None:
        """One run, from configuration to end."""
        try:
            if self.unit.step is Step.STARTING and self.shown.reason == WaitReason.CONFIG:
                home = self._home = replace(home, sources=await home.refresh())
            start = self._prepare(home)
        except (ConfigError, VolumeError, ApiError) as e:
            self._failed(WaitReason.CONFIG, str(e))
            return
        if isinstance(start, Unknown):
            backing_off = self.shown.reason == ImageReason.UNKNOWN
            self._failed(ImageReason.BACK_OFF if backing_off else start.reason, start.message)
            return
        self._runs += 1
        run_id = f"{self.container.name}/{self._runs}"
        self._story("Pulled", f'Image "{self.container.image}" is a program of this machine: nothing to download')
        self._story("Created", f"Container {self.container.name} runs {start.argv[0]}")
        self.run = run = home.sandbox.start(run_id, start)
        self._show(run_id=f"portway://{home.folder.name}/{run_id}")
        try:
            await asyncio.shield(run.started)
        except StartFailed as e:
            await asyncio.shield(run.exited)
            self._show(reason="", message=str(e), exit_reason="StartError", started_at="", finished_at=self._now())
            self._story("Failed", f"Container {self.container.name} could not be started: {e}", warning=True)
            self._ended(Exit(128), 0.0)
            return
        since = self._node.clock.monotonic()
        self._show(started_at=self._now(), reason="", message="", exit_reason="")
        self._story("Started", f"Started container {self.container.name}")
        self._runs_now(home, run)
        exit_ = await asyncio.shield(run.exited)
        self._cancel_probes()
        self._show(finished_at=self._now(), message=await self._busy_port(home, exit_))
        self._ended(exit_, self._node.clock.monotonic() - since)

    async def _busy_port(self, home: PodHome, exit_: Exit) -> str:
        """Who has the node's port that the program wanted; empty when that was not its trouble."""
        node = self._node
        if not (exit_.code and home.sources.pod.spec.host_network) or self._stopping:
            return ""
        args = (self.container, self.log(), node.network, node.name, dict(node.pods))
        said = await asyncio.to_thread(busyports.explanation, *args)
        if said:
            self._story(Reason.IN_USE, f"Container {self.container.name} found its port taken: {said}", warning=True)
        return said

    def _prepare(self, home: PodHome) -> Start | Unknown:
        container, images = self.container, self._node.config.images
        launch = images.launch(container.image, container.command or (), container.args or ())
        if isinstance(launch, Unknown):
            return launch
        self.environment = env = self._environment(launch, home)
        root = home.folder / "root" / container.name
        log = log_path(home.folder / "logs", container.name, self._runs)
        for folder in (root, log.parent):
            folder.mkdir(parents=True, exist_ok=True)
        return Start(
            argv=tuple(expand(word, env) for word in launch.argv),
            env=env,
            root=str(root),
            log=str(log),
            cwd=container.working_dir,
            tty=container.tty,
            files=home.files,
            mounts=home.mounts(container),
        )

    def _environment(self, launch: Launch, home: PodHome) -> dict[str, str]:
        sources = home.sources
        base = {
            "PATH": f"{launch.path}:{PATH}" if launch.path else PATH,
            "HOME": "/root",
            "HOSTNAME": home.files["/etc/hostname"].strip(),
        }
        if launch.identity:
            base |= {"POD_NAME": sources.pod.name, "POD_NAMESPACE": sources.pod.namespace, "NODE_NAME": sources.node}
        if self.container.tty:
            base["TERM"] = "xterm"
        return base | environment(self.container, sources)

    def _runs_now(self, home: PodHome, run: Run) -> None:
        asked = probes.probes_of(self.container)
        hook = self.container.lifecycle.post_start if self.container.lifecycle else None
        self._verdicts = {kind: probes.first(kind) for kind in asked}
        self._hooked = hook is None
        self._startup_passed = asyncio.Event()
        self._show(step=Step.RUNNING)
        self._judge()
        target = Target(
            home.sandbox, run.id, self.container, self.environment, home.sources.pod_ip, self._node.network.fd
        )
        if hook is not None:
            self._spawn(self._post_start(hook), name="hook")
        for kind, probe in asked.items():
            self._spawn(self._probe(kind, probe, target), name=kind)

    def _judge(self) -> None:
        """Started and ready, from the verdicts so far."""
        startup, readiness = self._verdicts.get(ProbeKind.STARTUP), self._verdicts.get(ProbeKind.READINESS)
        started = self._hooked and (startup is None or startup.passing)
        ready = started and (readiness is None or readiness.passing) and self.unit.role is not Role.INIT
        self._show(started=started, ready=ready)
        if started:
            self._startup_passed.set()

    async def _probe(self, kind: ProbeKind, probe: Probe, target: Target) -> None:
        clock = self._node.clock
        await clock.sleep(probe.initial_delay_seconds)
        if kind is not ProbeKind.STARTUP:
            await self._startup_passed.wait()
        if kind is not ProbeKind.LIVENESS:
            await self._await_first_success(probe, target)
        while True:
            begun = clock.monotonic()
            result = await ask(probe, target, max(1, probe.timeout_seconds))
            if self._observed(kind, probe, result):
                return
            await clock.sleep(max(0.0, begun + probe.period_seconds - clock.monotonic()))

    async def _await_first_success(self, probe: Probe, target: Target) -> None:
        """Ask often at first, for a period at most: a program that starts in 30 ms shall not wait for the next full period.

        Nothing counts here: after a success the question is asked once more, and that counts."""
        clock, pause = self._node.clock, _EAGER
        end = clock.monotonic() + probe.period_seconds
        while clock.monotonic() + pause < end:
            if (await ask(probe, target, max(1, probe.timeout_seconds))).ok:
                return
            await clock.sleep(pause)
            pause *= 2

    def _observed(self, kind: ProbeKind, probe: Probe, result: probes.ProbeResult) -> bool:
        """Take one result in. True when nothing more is to be asked."""
        verdict = self._verdicts[kind] = probes.observe(self._verdicts[kind], probe, result)
        if not result.ok and not self._stopping:
            self._story("Unhealthy", f"{kind} probe failed: {result.message}", warning=True)
        self._judge()
        if probes.fatal(verdict):
            self._restart_for(kind, probe)
            return True
        return kind is ProbeKind.STARTUP and verdict.passing

    def _restart_for(self, kind: ProbeKind, probe: Probe) -> None:
        grace = probe.termination_grace_period_seconds
        home_grace = self._home.grace if self._home else 0.0
        self._spawn(self._stop_for_restart(home_grace if grace is None else grace, f"{kind.lower()} probe failed"))

    async def _stop_for_restart(self, grace: float, why: str) -> None:
        await self.stop(grace, why=why)
        self._stopping = False

    async def _post_start(self, hook: LifecycleHandler) -> None:
        if await self._hook("PostStart", hook, _HOOK_PATIENCE):
            self._hooked = True
            self._judge()
        elif self._home is not None:
            self._spawn(self._stop_for_restart(self._home.grace, "postStart hook failed"))

    async def _hook(self, name: str, hook: LifecycleHandler, patience: float) -> bool:
        if self.run is None or self._home is None:
            return False
        if hook.sleep is not None:
            await self._within(self.run.exited, min(patience, hook.sleep.seconds))
            return True
        target = Target(
            self._home.sandbox,
            self.run.id,
            self.container,
            self.environment,
            self._home.sources.pod_ip,
            self._node.network.fd,
        )
        result = await ask(hook, target, patience)
        if not result.ok:
            self._story(
                f"Failed{name}Hook", f"{name} hook of container {self.container.name}: {result.message}", warning=True
            )
        return result.ok

    async def _within(self, future: asyncio.Future[Any], seconds: float) -> None:
        """Until the future is done or the (possibly virtual) time is over."""
        timer = asyncio.ensure_future(self._node.clock.sleep(seconds))
        try:
            await asyncio.wait([future, timer], return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()

    def _failed(self, reason: str, message: str) -> None:
        if (self.shown.reason, self.shown.message) != (reason, message):
            self._story("Failed", message, warning=True)
        self._show(
            step=Step.FAILED,
            crashes=self.unit.crashes + 1,
            changed=self._node.clock.monotonic(),
            reason=reason,
            message=message,
        )

    def _ended(self, exit_: Exit, ran: float) -> None:
        self.run = None
        crashes = self._node.config.restart.crashes(self.unit.crashes, ran)
        changed = self._node.clock.monotonic()
        self._show(step=Step.EXITED, exit=exit_, crashes=crashes, changed=changed, ready=False, started=False)

    def _last_state(self) -> status.State:
        """The end of the run before, to be shown as `lastState`."""
        return self.shown.last if self.shown.reason or not self.shown.finished_at else status.terminated(self.shown)

    def _show(self, **values: Any) -> None:
        of_unit = {k: v for k, v in values.items() if k in Unit.__dataclass_fields__}
        rest = {k: v for k, v in values.items() if k not in of_unit}
        shown = replace(self.shown, unit=replace(self.unit, **of_unit), **rest)
        if shown != self.shown:
            self.shown = shown
            self._changed()

    def _now(self) -> str:
        return stamp(self._node.clock.now())

    def _spawn(self, work: Any, name: str = "") -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work, name=name or None)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _cancel_probes(self, keep: ProbeKind | None = None) -> None:
        current = asyncio.current_task()
        for task in self._tasks:
            if task.get_name() in {str(k) for k in ProbeKind if k is not keep} | {"hook"} and task is not current:
                task.cancel()
