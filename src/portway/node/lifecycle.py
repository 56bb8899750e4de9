"""The decision core of a pod: given what its containers are doing, which to start now, when to look again, and the
pod's phase.

Pure: time comes as a number of seconds. `pod` keeps one `Unit` per container, asks `decide` after every change and
does what it says. The rules are those of the kubelet: init containers one after the other, sidecars (an init
container with restartPolicy Always) stay, restarts with a delay that doubles, from the second crash on, up to a cap,
and starts over after a long good run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from portway.objects.core import PodSpec


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: its code, 128 + N for signal N."""

    code: int
    signal: int = 0


KILLED = Exit(137, 9)


class Role(StrEnum):
    INIT = "init"
    SIDECAR = "sidecar"
    MAIN = "main"


class Step(StrEnum):
    """Where a container is. FAILED: it could not even be started (no program, no configuration)."""

    NEW = "new"
    STARTING = "starting"
    RUNNING = "running"
    EXITED = "exited"
    FAILED = "failed"


class WaitReason(StrEnum):
    """Why a container waits, as `kubectl get pods` shows it."""

    CREATING = "ContainerCreating"
    INITIALIZING = "PodInitializing"
    CRASH_LOOP = "CrashLoopBackOff"
    CONFIG = "CreateContainerConfigError"


class Phase(StrEnum):
    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class RestartDelay:
    """Seconds: `base`, 2 × `base` … `cap`; forgotten after a run of twice `cap`. Kubernetes: 10 and 300. The one-machine cluster
    uses 1 and 30: there somebody is watching."""

    base: float = 10.0
    cap: float = 300.0

    def after(self, crashes: int) -> float:
        """The delay after the `crashes`th end in a row. The first restart is immediate."""
        return 0.0 if crashes <= 1 else min(self.cap, self.base * 2.0 ** min(crashes - 2, 30))

    def crashes(self, before: int, ran: float) -> int:
        """How many ends in a row there are after one more, which came after `ran` seconds."""
        return 1 if ran >= 2 * self.cap else before + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One container as far as decisions go. `changed` is when `step` was reached; `started` that its startup probe passed."""

    name: str
    role: Role = Role.MAIN
    step: Step = Step.NEW
    exit: Exit = Exit(0)
    crashes: int = 0
    restarts: int = 0
    started: bool = False
    ready: bool = False
    changed: float = 0.0


@dataclass(frozen=True, slots=True)
class Decision:
    """`start`: containers to start now. `waiting`: those that ended and are to be started later, at the earliest at `wake`.

    `stop`: sidecars that have outlived the pod. `wake`: when to decide again, None for never."""

    phase: Phase
    start: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    wake: float | None = None
    initialized: bool = True


@dataclass(frozen=True, slots=True)
class Policy:
    restart: str = "Always"
    delay: RestartDelay = RestartDelay()


def roles(spec: PodSpec) -> list[tuple[str, Role]]:
    """The containers in the order in which they may start."""
    init = [(c.name, Role.SIDECAR if c.restart_policy == "Always" else Role.INIT) for c in spec.init_containers or ()]
    return [*init, *((c.name, Role.MAIN) for c in spec.containers)]


def decide(units: Sequence[Unit], policy: Policy, now: float) -> Decision:
    """What to do. Containers that are starting or running are left alone."""
    blocked = _initialise(units, policy, now)
    if blocked is not None:
        return blocked
    main = [u for u in units if u.role is Role.MAIN]
    sidecars = [u for u in units if u.role is Role.SIDECAR]
    if all(_over(u, policy) for u in main):
        failed = any(u.exit.code for u in main)
        stop = tuple(u.name for u in sidecars if u.step in (Step.RUNNING, Step.STARTING))
        return Decision(Phase.FAILED if failed else Phase.SUCCEEDED, stop=stop)
    due = _due((*main, *sidecars), policy, now)
    pending = any(u.step in (Step.NEW, Step.STARTING, Step.FAILED) and not u.restarts for u in main)
    return Decision(Phase.PENDING if pending else Phase.RUNNING, due.start, due.waiting, wake=due.wake)


def _initialise(units: Sequence[Unit], policy: Policy, now: float) -> Decision | None:
    """What to do while init containers are in the way; None when they are done."""
    before: list[Unit] = []
    for unit in units:
        if unit.role is Role.MAIN:
            return None
        if unit.role is Role.INIT and _over(unit, policy):
            if unit.exit.code == 0:
                continue
            stop = tuple(u.name for u in before if u.step in (Step.RUNNING, Step.STARTING))
            return Decision(Phase.FAILED, stop=stop, initialized=False)
        before.append(unit)
        if unit.role is Role.INIT or not (unit.started or unit.restarts):
            if _has_begun(units):  # a sidecar that restarts later does not send the pod back
                continue
            due = _due(before, policy, now)
            return Decision(Phase.PENDING, due.start, due.waiting, wake=due.wake, initialized=False)
    return None


def _has_begun(units: Sequence[Unit]) -> bool:
    return any(u.role is Role.MAIN and u.step is not Step.NEW for u in units)


@dataclass(frozen=True, slots=True)
class _Due:
    start: tuple[str, ...]
    waiting: tuple[str, ...]
    wake: float | None


def _due(units: Sequence[Unit], policy: Policy, now: float) -> _Due:
    """Of the containers that do not run: which are to be started now, and when the next one will be."""
    moments = {u: moment for u in units if (moment := start_at(u, policy)) is not None}
    start = tuple(u.name for u, moment in moments.items() if moment <= now)
    later = {u: moment for u, moment in moments.items() if moment > now}
    waiting = tuple(u.name for u in later if u.step is Step.EXITED)
    return _Due(start, waiting, min(later.values(), default=None))


def start_at(unit: Unit, policy: Policy) -> float | None:
    """When the container may start (again); None when it runs, or never."""
    if unit.step is Step.NEW:
        return 0.0
    if unit.step not in (Step.EXITED, Step.FAILED) or _over(unit, policy):
        return None
    crashes = max(unit.crashes, 2) if unit.step is Step.FAILED else unit.crashes
    return unit.changed + policy.delay.after(crashes)


def restarts(role: Role, policy: Policy, code: int) -> bool:
    """Whether a container that ended with `code` is to run again."""
    if role is Role.SIDECAR:
        return True
    if role is Role.INIT:
        return code != 0 and policy.restart != "Never"
    return policy.restart == "Always" or (policy.restart == "OnFailure" and code != 0)


def _over(unit: Unit, policy: Policy) -> bool:
    return unit.step is Step.EXITED and not restarts(unit.role, policy, unit.exit.code)
