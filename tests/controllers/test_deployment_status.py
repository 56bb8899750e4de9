"""What `kubectl rollout status` and `kubectl wait` are told."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from build_controllers import NOON, deployment, replica_set
from portway.controllers.deployment_status import Reason, Report, report
from portway.loop import stamp
from portway.objects.apps import Deployment


def condition(said: Report, type: str) -> dict[str, Any]:
    return next(c for c in said.status["conditions"] if c["type"] == type)


def after(d: Deployment, said: Report) -> Deployment:
    """The deployment with the report written."""
    status = {**msgspec.to_builtins(d.status), **said.status}
    return msgspec.convert({**msgspec.to_builtins(d), "status": status}, Deployment)


def test_a_rollout_that_begins() -> None:
    new = replica_set("web-1", 3, available=0)
    said = report(deployment(3), (new,), new, NOON)
    assert said.status["replicas"] == 3
    assert said.status["unavailableReplicas"] == 3
    assert said.status["observedGeneration"] == 1
    assert (condition(said, "Available")["status"], condition(said, "Available")["reason"]) == ("False", Reason.TOO_FEW)
    assert condition(said, "Progressing")["reason"] == Reason.CREATED
    assert said.deadline == NOON + timedelta(seconds=600)


def test_a_rollout_that_has_ended_and_says_nothing_twice() -> None:
    new = replica_set("web-1", 3)
    d = deployment(3)
    said = report(d, (new,), new, NOON)
    assert condition(said, "Available")["reason"] == Reason.ENOUGH
    assert condition(said, "Progressing")["reason"] == Reason.DONE
    assert said.deadline is None
    assert report(after(d, said), (new,), new, NOON + timedelta(hours=1)) == Report({}, None)


def test_a_rollout_that_does_not_move_exceeds_its_deadline() -> None:
    new = replica_set("web-1", 3, available=1)
    d = deployment(3)
    d = after(d, report(d, (new,), new, NOON))
    d = after(d, report(d, (new,), new, NOON + timedelta(seconds=1)))
    late = report(d, (new,), new, NOON + timedelta(seconds=601))
    assert (condition(late, "Progressing")["status"], condition(late, "Progressing")["reason"]) == (
        "False",
        Reason.LATE,
    )
    assert late.deadline is None
    again = report(after(d, late), (new,), new, NOON + timedelta(seconds=700))
    assert again.status == {}, "it stays late and is not written again"


def test_each_step_forward_moves_the_deadline() -> None:
    d = deployment(3)
    first = replica_set("web-1", 3, available=0)
    d = after(d, report(d, (first,), first, NOON))
    second = replica_set("web-1", 3, available=1)
    later = NOON + timedelta(seconds=500)
    moved = report(d, (second,), second, later)
    assert moved.deadline == later + timedelta(seconds=600)
    assert condition(moved, "Progressing")["lastTransitionTime"] == stamp(NOON)
    assert condition(moved, "Progressing")["lastUpdateTime"] == stamp(later)


def test_a_late_rollout_that_moves_again_progresses() -> None:
    d = deployment(3)
    stuck, better = replica_set("web-1", 3, available=0), replica_set("web-1", 3, available=2)
    d = after(d, report(d, (stuck,), stuck, NOON))
    d = after(d, report(d, (stuck,), stuck, NOON + timedelta(seconds=700)))
    said = report(d, (better,), better, NOON + timedelta(seconds=800))
    assert condition(said, "Progressing")["reason"] == Reason.MOVING


def test_a_new_template_after_a_finished_rollout_progresses_anew() -> None:
    d, old = deployment(3), replica_set("web-1", 3)
    d = after(d, report(d, (old,), old, NOON))
    new = replica_set("web-2", 1, version="2", available=0)
    later = NOON + timedelta(hours=2)
    said = report(d, (old, new), new, later)
    assert condition(said, "Progressing")["status"] == "True"
    assert condition(said, "Progressing")["reason"] != Reason.DONE
    assert said.deadline == later + timedelta(seconds=600)


def test_paused_and_resumed() -> None:
    new = replica_set("web-1", 3)
    d = deployment(3, paused=True)
    said = report(d, (new,), new, NOON)
    assert condition(said, "Progressing")["reason"] == Reason.PAUSED
    resumed = msgspec.structs.replace(after(d, said), spec=msgspec.structs.replace(d.spec, paused=False))
    assert condition(report(resumed, (new,), new, NOON), "Progressing")["reason"] == Reason.RESUMED


@pytest.mark.parametrize(("available", "status"), [(3, "True"), (2, "False")])
def test_available_allows_for_max_unavailable(available: int, status: str) -> None:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}}
    new = replica_set("web-1", 4, available=available)
    said = report(deployment(4, strategy=strategy), (new,), new, NOON)
    assert condition(said, "Available")["status"] == status


def test_without_a_deadline_there_is_no_progressing_condition() -> None:
    new = replica_set("web-1", 3)
    said = report(deployment(3, progressDeadlineSeconds=None), (new,), new, NOON)
    assert [c["type"] for c in said.status["conditions"]] == ["Available"]


def test_conditions_of_others_stay() -> None:
    foreign = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "quota"}
    new = replica_set("web-1", 3)
    said = report(deployment(3, status={"conditions": [foreign]}), (new,), new, NOON)
    assert [c["type"] for c in said.status["conditions"]] == ["ReplicaFailure", "Available", "Progressing"]
