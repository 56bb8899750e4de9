"""A pod's status as the API shows it, from what its worker knows. Pure: equal input gives an equal value, so that
`pod` writes on change only.

Built as plain JSON values: a status is a merge patch, and fields that went away must be said to be null.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from portway.node.lifecycle import Decision, Phase, Role, Step, Unit, WaitReason
from portway.objects.core import Container, Pod
from portway.objects.meta import Condition

State = dict[str, Any]
_TERMINAL = (Phase.SUCCEEDED, Phase.FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What the API shows of a container beside its `Unit`. Times are RFC 3339; `last` is the state of the run before this one."""

    unit: Unit
    container: Container
    run_id: str = ""
    started_at: str = ""
    finished_at: str = ""
    reason: str = ""
    message: str = ""
    exit_reason: str = ""
    last: State = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PodView:
    """Everything that the status is made of. `old` are the conditions that the API has now: an unchanged one keeps its time."""

    pod: Pod
    shown: Sequence[Shown]
    decision: Decision
    host_ip: str
    now: str
    start_time: str
    pod_ip: str = ""
    sandbox: bool = False
    reason: str = ""
    message: str = ""
    old: Sequence[Condition] = ()


def pod_status(view: PodView) -> dict[str, Any]:
    """The whole `status` but `qosClass`; every field is there, None where it does not apply."""
    main = [s for s in view.shown if s.unit.role is Role.MAIN]
    init = [s for s in view.shown if s.unit.role is not Role.MAIN]
    initialized = view.decision.initialized
    return {
        "phase": str(view.decision.phase),
        "reason": view.reason or None,
        "message": view.message or None,
        "hostIP": view.host_ip,
        "hostIPs": [{"ip": view.host_ip}],
        "podIP": view.pod_ip or None,
        "podIPs": [{"ip": view.pod_ip}] if view.pod_ip else None,
        "startTime": view.start_time,
        "conditions": _conditions(view, main),
        "containerStatuses": [_container(s, initialized) for s in main],
        "initContainerStatuses": [_container(s, True) for s in init] or None,
    }


def state_of(shown: Shown, initialized: bool = True) -> State:
    unit = shown.unit
    if unit.step is Step.RUNNING:
        return {"running": {"startedAt": shown.started_at}}
    if unit.step is Step.EXITED and not shown.reason:
        return terminated(shown)
    reason = shown.reason or (
        WaitReason.CREATING if initialized and unit.role is not Role.INIT else WaitReason.INITIALIZING
    )
    return {"waiting": {"reason": str(reason), **({"message": shown.message} if shown.message else {})}}


def terminated(shown: Shown) -> State:
    exit_ = shown.unit.exit
    body: State = {
        "exitCode": exit_.code,
        "reason": shown.exit_reason or ("Error" if exit_.code else "Completed"),
        "startedAt": shown.started_at or None,
        "finishedAt": shown.finished_at,
        "containerID": shown.run_id,
    }
    body |= {"message": shown.message} if shown.message else {}
    return {"terminated": body | ({"signal": exit_.signal} if exit_.signal else {})}


def _container(shown: Shown, initialized: bool) -> dict[str, Any]:
    unit = shown.unit
    done = unit.role is Role.INIT and unit.step is Step.EXITED and unit.exit.code == 0
    return {
        "name": shown.container.name,
        "state": state_of(shown, initialized),
        "lastState": shown.last,
        "ready": unit.ready or done,
        "started": unit.started and unit.step is Step.RUNNING,
        "restartCount": unit.restarts,
        "image": shown.container.image,
        "imageID": f"portway://{shown.container.image}" if shown.run_id else "",
        "containerID": shown.run_id,
    }


def _conditions(view: PodView, main: Sequence[Shown]) -> list[dict[str, Any]]:
    over = view.decision.phase in _TERMINAL
    unready = [s.container.name for s in main if not s.unit.ready]
    if over:
        why = ("PodCompleted", "") if view.decision.phase is Phase.SUCCEEDED else ("PodFailed", "")
    else:
        why = ("ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]")
    good = not unready and not over
    waiting = [
        s.container.name for s in view.shown if s.unit.role is not Role.MAIN and not _container(s, True)["ready"]
    ]
    initialized = view.decision.initialized
    uninitialised = ("ContainersNotInitialized", f"containers with incomplete status: [{' '.join(waiting)}]")
    rows = (
        ("PodReadyToStartContainers", view.sandbox, ("", "")),
        ("Initialized", initialized, ("", "") if initialized else uninitialised),
        ("Ready", good, ("", "") if good else why),
        ("ContainersReady", good, ("", "") if good else why),
        ("PodScheduled", True, ("", "")),
    )
    old = {c.type: c for c in view.old}
    mine = [_condition(type_, is_true, words, old.get(type_), view.now) for type_, is_true, words in rows]
    others = [c for c in view.old if c.type not in {row[0] for row in rows}]
    return [*mine, *(_kept(c) for c in others)]


def _condition(type_: str, is_true: bool, words: tuple[str, str], old: Condition | None, now: str) -> dict[str, Any]:
    status = "True" if is_true else "False"
    since = old.last_transition_time if old and old.status == status and old.last_transition_time else now
    body = {"type": type_, "status": status, "lastProbeTime": None, "lastTransitionTime": since}
    reason, message = words
    return body | ({"reason": reason} if reason else {}) | ({"message": message} if message else {})


def _kept(condition: Condition) -> dict[str, Any]:
    body = {"type": condition.type, "status": condition.status, "lastTransitionTime": condition.last_transition_time}
    return body | {k: v for k, v in (("reason", condition.reason), ("message", condition.message)) if v}
