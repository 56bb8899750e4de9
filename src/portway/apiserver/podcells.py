"""The cells of `kubectl get pods`. STATUS is a story told from phase, container states and deletion, not a field.

The order of the rules is that of kubectl's printer (kubernetes pkg/printers/internalversion, printPod): init containers
first, then containers from the last to the first, then deletion. `tables` declares the columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from portway.apiserver.cells import NONE
from portway.apiserver.times import age, parse

Value = dict[str, Any]


@dataclass(slots=True)
class _Story:
    reason: str
    ready: int = 0
    total: int = 0
    restarts: int = 0
    sidecar_restarts: int = 0
    last_restart: float = 0.0
    initializing: bool = False
    running: bool = False


def _state(status: Value, name: str) -> Value | None:
    state: Value | None = (status.get("state") or {}).get(name)
    return state


def _last_restart(status: Value) -> float:
    finished = ((status.get("lastState") or {}).get("terminated") or {}).get("finishedAt")
    try:
        return parse(finished) if finished else 0.0
    except ValueError:
        return 0.0


def _ended(terminated: Value) -> str:
    if terminated.get("reason"):
        return str(terminated["reason"])
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode', 0)}"


def _condition(pod: Value, name: str) -> Value:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return next((c for c in conditions if c.get("type") == name), {})


def _story(pod: Value) -> _Story:
    status = pod.get("status") or {}
    story = _Story(
        status.get("reason") or status.get("phase") or "", total=len((pod.get("spec") or {}).get("containers") or ())
    )
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("reason") == "SchedulingGated":
        story.reason = "SchedulingGated"
    _init_containers(pod, story)
    if not story.initializing or _condition(pod, "Initialized").get("status") == "True":
        _containers(pod, story)
    _deletion(pod, story)
    return story


def _init_containers(pod: Value, story: _Story) -> None:
    wanted = (pod.get("spec") or {}).get("initContainers") or ()
    sidecars = {c.get("name") for c in wanted if c.get("restartPolicy") == "Always"}
    story.total += len(sidecars)
    for index, status in enumerate((pod.get("status") or {}).get("initContainerStatuses") or ()):
        story.restarts += status.get("restartCount") or 0
        story.last_restart = max(story.last_restart, _last_restart(status))
        terminated, waiting = _state(status, "terminated"), _state(status, "waiting")
        if status.get("name") in sidecars:
            story.sidecar_restarts += status.get("restartCount") or 0
        if terminated is not None and not terminated.get("exitCode"):
            continue
        if status.get("name") in sidecars and status.get("started"):
            story.ready += bool(status.get("ready"))
            continue
        story.initializing = True
        if terminated is not None:
            story.reason = "Init:" + _ended(terminated)
        elif waiting and waiting.get("reason") not in (None, "", "PodInitializing"):
            story.reason = f"Init:{waiting['reason']}"
        else:
            story.reason = f"Init:{index}/{len(wanted)}"
        return


def _containers(pod: Value, story: _Story) -> None:
    story.restarts = story.sidecar_restarts
    for status in _reversed((pod.get("status") or {}).get("containerStatuses")):
        story.restarts += status.get("restartCount") or 0
        story.last_restart = max(story.last_restart, _last_restart(status))
        waiting, terminated = _state(status, "waiting"), _state(status, "terminated")
        if waiting and waiting.get("reason"):
            story.reason = waiting["reason"]
        elif terminated is not None:
            story.reason = _ended(terminated)
        elif status.get("ready") and _state(status, "running") is not None:
            story.running = True
            story.ready += 1
    if story.reason == "Completed" and story.running:
        story.reason = "Running" if _condition(pod, "Ready").get("status") == "True" else "NotReady"


def _reversed(items: list[Value] | None) -> Iterator[Value]:
    return reversed(items or [])


def _deletion(pod: Value, story: _Story) -> None:
    status = pod.get("status") or {}
    if not pod["metadata"].get("deletionTimestamp"):
        return
    if status.get("reason") == "NodeLost":
        story.reason = "Unknown"
    elif status.get("phase") not in ("Succeeded", "Failed"):
        story.reason = "Terminating"


def ready(pod: Value, _: float) -> str:
    story = _story(pod)
    return f"{story.ready}/{story.total}"


def status(pod: Value, _: float) -> str:
    return _story(pod).reason


def restarts(pod: Value, now: float) -> str:
    story = _story(pod)
    if story.restarts and story.last_restart:
        return f"{story.restarts} ({age(now - story.last_restart)} ago)"
    return str(story.restarts)


def ip(pod: Value, _: float) -> str:
    status = pod.get("status") or {}
    ips = [p.get("ip", "") for p in status.get("podIPs") or ()]
    return str(next(iter(ips), "") or status.get("podIP") or NONE)


def node(pod: Value, _: float) -> str:
    return str((pod.get("spec") or {}).get("nodeName") or NONE)


def nominated_node(pod: Value, _: float) -> str:
    return str((pod.get("status") or {}).get("nominatedNodeName") or NONE)


def readiness_gates(pod: Value, _: float) -> str:
    gates = (pod.get("spec") or {}).get("readinessGates") or ()
    if not gates:
        return NONE
    met = sum(_condition(pod, g.get("conditionType", "")).get("status") == "True" for g in gates)
    return f"{met}/{len(gates)}"
