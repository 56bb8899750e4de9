"""The status of a pod, and a node's words about itself, as values."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from build_node import pod
from portway.node.lifecycle import Decision, Exit, Phase, Role, Step, Unit
from portway.node.registration import conditions, labels, machine_facts
from portway.node.sandbox_root import nested_mounts
from portway.node.status import PodView, Shown, pod_status
from portway.objects.core import Container
from portway.objects.meta import Condition

NOW, BEFORE = "2026-01-01T12:00:00Z", "2026-01-01T11:00:00Z"
MAIN = Container(name="main", image="web:1")
RUNS = Unit(name="main", step=Step.RUNNING, started=True, ready=True)


def view(*shown: Shown, phase: Phase = Phase.RUNNING, initialized: bool = True, **more: Any) -> dict[str, Any]:
    decision = Decision(phase, initialized=initialized)
    made = PodView(
        pod=pod(),
        shown=shown,
        decision=decision,
        host_ip="10.100.0.2",
        now=NOW,
        start_time=BEFORE,
        sandbox=True,
        **more,
    )
    return pod_status(made)


def shown(unit: Unit, **more: Any) -> Shown:
    return Shown(unit=unit, container=replace_name(unit), **more)


def replace_name(unit: Unit) -> Container:
    return Container(name=unit.name, image="web:1")


STATES: tuple[tuple[str, Unit, dict[str, str], dict[str, Any]], ...] = (
    ("new", Unit(name="main"), {}, {"waiting": {"reason": "ContainerCreating"}}),
    ("running", RUNS, {"started_at": BEFORE}, {"running": {"startedAt": BEFORE}}),
    (
        "crash loop",
        Unit(name="main", step=Step.EXITED, exit=Exit(1)),
        {"reason": "CrashLoopBackOff", "message": "later"},
        {"waiting": {"reason": "CrashLoopBackOff", "message": "later"}},
    ),
    (
        "killed",
        Unit(name="main", step=Step.EXITED, exit=Exit(137, 9)),
        {"started_at": BEFORE, "finished_at": NOW, "run_id": "portway://u/main/1"},
        {
            "terminated": {
                "exitCode": 137,
                "signal": 9,
                "reason": "Error",
                "startedAt": BEFORE,
                "finishedAt": NOW,
                "containerID": "portway://u/main/1",
            }
        },
    ),
    (
        "no image",
        Unit(name="main", step=Step.FAILED),
        {"reason": "ErrImagePull", "message": "map it"},
        {"waiting": {"reason": "ErrImagePull", "message": "map it"}},
    ),
)


@pytest.mark.parametrize(("story", "unit", "more", "state"), STATES, ids=[row[0] for row in STATES])
def test_container_states(story: str, unit: Unit, more: dict[str, str], state: dict[str, Any]) -> None:
    (status,) = view(shown(unit, **more))["containerStatuses"]
    assert status["state"] == state
    assert {"ready", "restartCount", "image", "imageID"} <= set(status), "fields that every client expects"


def truth(status: dict[str, Any]) -> dict[str, str]:
    return {c["type"]: c["status"] for c in status["conditions"]}


def test_a_ready_pod() -> None:
    status = view(shown(RUNS), pod_ip="10.0.1.2")
    assert set(truth(status).values()) == {"True"}
    assert (status["phase"], status["podIP"], status["podIPs"]) == ("Running", "10.0.1.2", [{"ip": "10.0.1.2"}])


def test_one_unready_container_is_named() -> None:
    other = shown(replace(RUNS, name="slow", ready=False))
    status = view(shown(RUNS), other)
    assert (truth(status)["Ready"], truth(status)["Initialized"]) == ("False", "True")
    message = next(c["message"] for c in status["conditions"] if c["type"] == "ContainersReady")
    assert message == "containers with unready status: [slow]"


def test_while_init_containers_run_the_rest_waits_for_them() -> None:
    init = shown(Unit(name="init", role=Role.INIT, step=Step.RUNNING), started_at=BEFORE)
    status = view(init, shown(Unit(name="main")), phase=Phase.PENDING, initialized=False)
    assert status["containerStatuses"][0]["state"] == {"waiting": {"reason": "PodInitializing"}}
    assert truth(status)["Initialized"] == "False"
    assert "containers with incomplete status: [init]" in str(status["conditions"])


def test_a_finished_pod_is_not_ready() -> None:
    status = view(shown(Unit(name="main", step=Step.EXITED)), phase=Phase.SUCCEEDED)
    assert truth(status)["Ready"] == "False"
    assert "PodCompleted" in str(status["conditions"])


def test_an_unchanged_condition_keeps_its_time_and_a_strange_one_stays() -> None:
    old = (
        Condition(type="Ready", status="True", last_transition_time=BEFORE),
        Condition(type="Initialized", status="False", last_transition_time=BEFORE),
        Condition(type="example.com/gate", status="True", last_transition_time=BEFORE),
    )
    times = {c["type"]: c["lastTransitionTime"] for c in view(shown(RUNS), old=old)["conditions"]}
    assert (times["Ready"], times["Initialized"], times["example.com/gate"]) == (BEFORE, NOW, BEFORE)


def test_equal_input_gives_an_equal_status() -> None:
    assert view(shown(RUNS)) == view(shown(RUNS))


def test_a_nodes_conditions() -> None:
    old = (Condition(type="Ready", status="False", last_transition_time=BEFORE),)
    waiting = {c["type"]: c for c in conditions(False, "waiting", NOW, old)}
    assert waiting["Ready"]["lastTransitionTime"] == BEFORE
    assert waiting["Ready"]["reason"] == "KubeletNotReady"
    ready = {c["type"]: c for c in conditions(True, "", NOW, old)}
    assert (ready["Ready"]["status"], ready["Ready"]["lastTransitionTime"]) == ("True", NOW)
    assert ready["MemoryPressure"]["status"] == "False"


def test_a_nodes_labels_and_facts() -> None:
    assert labels("node-1", {"zone": "a"})["kubernetes.io/hostname"] == "node-1"
    assert labels("node-1", {"zone": "a"})["zone"] == "a"
    facts = machine_facts(17)
    assert facts["capacity"]["pods"] == "17"
    assert facts["capacity"]["memory"].endswith("Ki")
    assert facts["nodeInfo"]["operatingSystem"] == "linux"


MOUNTINFO = """\
1 0 8:1 / / rw - ext4 /dev/sda1 rw
2 1 8:2 / /home rw - ext4 /dev/sda2 rw
3 2 8:3 / /home/me/data rw - ext4 /dev/sda3 rw
4 3 8:4 / /home/me/data/deep rw - ext4 /dev/sda4 rw
5 1 0:5 / /proc rw - proc proc rw
6 1 0:6 / /usr/with\\040blank rw shared:1 - tmpfs tmpfs rw
7 1 0:7 / /var/lib/images rw - ext4 /dev/sda5 rw
8 1 0:8 / /mnt/venv rw - tmpfs tmpfs rw
9 1 0:9 / /opt/cgroup rw - cgroup2 cgroup rw
"""


def test_nested_mounts_that_a_container_must_see() -> None:
    assert nested_mounts(MOUNTINFO, ["/mnt/venv/lib/python"]) == ["/home/me/data", "/mnt/venv", "/usr/with blank"]
    assert nested_mounts(MOUNTINFO, []) == ["/home/me/data", "/usr/with blank"]
