"""The decision core: which container starts when, and what phase the pod is in. Tables, and whole lives in virtual time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from build_node import pod
from portway.node.lifecycle import (
    Decision,
    Exit,
    Phase,
    Policy,
    RestartDelay,
    Role,
    Step,
    Unit,
    decide,
    restarts,
    roles,
    start_at,
)
from portway.objects.core import Container

DELAY = RestartDelay(10, 300)
PENDING = Phase.PENDING
ALWAYS, ON_FAILURE, NEVER = (Policy(word, DELAY) for word in ("Always", "OnFailure", "Never"))

NEW = Unit(name="main")
RUNS = Unit(name="main", step=Step.RUNNING, started=True, ready=True)
DONE = Unit(name="main", step=Step.EXITED, crashes=1)
BROKE = Unit(name="main", step=Step.EXITED, exit=Exit(1), crashes=1)
INIT = Unit(name="init", role=Role.INIT)
INIT_RUNS = replace(INIT, step=Step.RUNNING)
SECOND = replace(INIT, name="b")
INIT_DONE = replace(INIT, step=Step.EXITED, crashes=1)
INIT_BROKE = replace(INIT_DONE, exit=Exit(2))
SIDECAR = Unit(name="side", role=Role.SIDECAR)
SIDECAR_RUNS = replace(SIDECAR, step=Step.RUNNING, started=True)
SIDECAR_ENDED = replace(SIDECAR_RUNS, step=Step.EXITED, crashes=1)

DECISIONS = (
    ("a new pod starts its container", ALWAYS, (NEW,), Decision(PENDING, ("main",))),
    ("a running one is left alone", ALWAYS, (RUNS,), Decision(Phase.RUNNING)),
    ("a starting one is left alone", ALWAYS, (replace(NEW, step=Step.STARTING),), Decision(PENDING)),
    ("the first restart is at once", ALWAYS, (DONE,), Decision(Phase.RUNNING, ("main",))),
    ("done once, done for good", ON_FAILURE, (DONE,), Decision(Phase.SUCCEEDED)),
    ("a failure runs again", ON_FAILURE, (BROKE,), Decision(Phase.RUNNING, ("main",))),
    ("never again", NEVER, (BROKE,), Decision(Phase.FAILED)),
    ("done, never again", NEVER, (DONE,), Decision(Phase.SUCCEEDED)),
    ("one of two has failed, the other runs", NEVER, (BROKE, replace(RUNS, name="b")), Decision(Phase.RUNNING)),
    ("one of two has failed, the other is done", NEVER, (BROKE, replace(DONE, name="b")), Decision(Phase.FAILED)),
    ("two start together", ALWAYS, (NEW, replace(NEW, name="b")), Decision(PENDING, ("main", "b"))),
    ("init goes first", ALWAYS, (INIT, NEW), Decision(PENDING, ("init",), initialized=False)),
    ("while init runs nothing else does", ALWAYS, (INIT_RUNS, NEW), Decision(PENDING, initialized=False)),
    ("init is done", ALWAYS, (INIT_DONE, NEW), Decision(PENDING, ("main",))),
    ("init that ends well is not restarted, Always or not", ALWAYS, (INIT_DONE, RUNS), Decision(Phase.RUNNING)),
    ("a second init waits for the first", ALWAYS, (INIT, SECOND, NEW), Decision(PENDING, ("init",), initialized=False)),
    ("then its turn comes", ALWAYS, (INIT_DONE, SECOND, NEW), Decision(PENDING, ("b",), initialized=False)),
    ("init failed, and never again", NEVER, (INIT_BROKE, NEW), Decision(Phase.FAILED, initialized=False)),
    ("init failed and is tried again", ALWAYS, (INIT_BROKE, NEW), Decision(PENDING, ("init",), initialized=False)),
    ("a sidecar goes first", ALWAYS, (SIDECAR, NEW), Decision(PENDING, ("side",), initialized=False)),
    ("a sidecar that has started lets the rest start", ALWAYS, (SIDECAR_RUNS, NEW), Decision(PENDING, ("main",))),
    ("a sidecar before an init container", ALWAYS, (SIDECAR_RUNS, INIT, NEW), Decision(PENDING, ("init",), initialized=False)),
    ("a pod that is done stops its sidecar", NEVER, (SIDECAR_RUNS, DONE), Decision(Phase.SUCCEEDED, stop=("side",))),
    ("a sidecar that ends is restarted even then", NEVER, (SIDECAR_ENDED, RUNS), Decision(Phase.RUNNING, ("side",))),
)  # fmt: skip


@pytest.mark.parametrize(("story", "policy", "units", "expected"), DECISIONS, ids=[row[0] for row in DECISIONS])
def test_decisions(story: str, policy: Policy, units: tuple[Unit, ...], expected: Decision) -> None:
    assert decide(units, policy, now=1000.0) == expected


@pytest.mark.parametrize(
    ("crashes", "seconds"), [(0, 0), (1, 0), (2, 10), (3, 20), (4, 40), (6, 160), (7, 300), (99, 300)]
)
def test_the_delay_doubles_up_to_the_cap(crashes: int, seconds: float) -> None:
    assert DELAY.after(crashes) == seconds


def test_a_long_good_run_starts_the_count_anew() -> None:
    assert DELAY.crashes(5, ran=599) == 6
    assert DELAY.crashes(5, ran=600) == 1


def test_a_crash_loop_waits_and_says_until_when() -> None:
    crashed = replace(BROKE, crashes=3, changed=100.0)
    assert decide((crashed,), ALWAYS, now=119.0) == Decision(Phase.RUNNING, waiting=("main",), wake=120.0)
    assert decide((crashed,), ALWAYS, now=120.0) == Decision(Phase.RUNNING, start=("main",))


def test_what_cannot_be_started_is_tried_again_under_every_policy() -> None:
    failed = Unit(name="main", step=Step.FAILED, crashes=1, changed=50.0)
    for policy in (ALWAYS, ON_FAILURE, NEVER):
        assert decide((failed,), policy, now=50.0) == Decision(Phase.PENDING, wake=60.0)
    assert start_at(replace(failed, crashes=4), ALWAYS) == 90.0


def test_the_earliest_of_two_waits_counts() -> None:
    slow = replace(BROKE, name="slow", crashes=5, changed=0.0)
    quick = replace(BROKE, name="quick", crashes=2, changed=5.0)
    assert decide((slow, quick), ALWAYS, now=6.0) == Decision(Phase.RUNNING, waiting=("slow", "quick"), wake=15.0)


@pytest.mark.parametrize(
    ("role", "policy", "code", "again"),
    [
        (Role.MAIN, ALWAYS, 0, True),
        (Role.MAIN, ON_FAILURE, 0, False),
        (Role.MAIN, ON_FAILURE, 137, True),
        (Role.MAIN, NEVER, 1, False),
        (Role.INIT, ALWAYS, 0, False),
        (Role.INIT, ALWAYS, 1, True),
        (Role.INIT, NEVER, 1, False),
        (Role.SIDECAR, NEVER, 0, True),
    ],
)
def test_who_runs_again(role: Role, policy: Policy, code: int, again: bool) -> None:
    assert restarts(role, policy, code) is again


def test_roles_come_in_the_order_of_starting() -> None:
    init = (Container(name="a"), Container(name="b", restart_policy="Always"))
    assert roles(pod("x", Container(name="c"), init_containers=init).spec) == [
        ("a", Role.INIT),
        ("b", Role.SIDECAR),
        ("c", Role.MAIN),
    ]


@dataclass
class World:
    """Runs a pod in virtual time: `script` says how each run of a container ends, and after how many seconds."""

    units: dict[str, Unit]
    policy: Policy
    script: dict[str, list[tuple[float, int]]]
    now: float = 0.0
    story: list[tuple[float, str]] = field(default_factory=list)
    ends: dict[str, tuple[float, int]] = field(default_factory=dict)

    def run(self, until: float) -> Phase:
        while True:
            decision = decide(list(self.units.values()), self.policy, self.now)
            for name in decision.start:
                self._start(name)
            if decision.start:
                continue
            moments = [at for at, _ in self.ends.values()] + ([decision.wake] if decision.wake is not None else [])
            if not moments or min(moments) > until:
                return decision.phase
            self.now = min(moments)
            for name in [n for n, (at, _) in self.ends.items() if at <= self.now]:
                self._end(name)

    def _start(self, name: str) -> None:
        self.story.append((self.now, name))
        self.units[name] = replace(self.units[name], step=Step.RUNNING, started=True, changed=self.now)
        if self.script[name]:
            lasts, code = self.script[name].pop(0)
            self.ends[name] = (self.now + lasts, code)

    def _end(self, name: str) -> None:
        _, code = self.ends.pop(name)
        unit = self.units[name]
        crashes = self.policy.delay.crashes(unit.crashes, self.now - unit.changed)
        self.units[name] = replace(
            unit, step=Step.EXITED, exit=Exit(code), crashes=crashes, restarts=1, changed=self.now
        )


def test_a_life_of_crashes() -> None:
    world = World({"main": NEW}, ALWAYS, {"main": [(1, 1)] * 5})
    assert world.run(until=1000) is Phase.RUNNING
    assert [at for at, _ in world.story] == [0, 1, 12, 33, 74, 155]


def test_a_job_with_an_init_container_that_fails_twice() -> None:
    world = World({"init": INIT, "main": NEW}, ON_FAILURE, {"init": [(1, 1), (1, 1), (2, 0)], "main": [(5, 0)]})
    assert world.run(until=1000) is Phase.SUCCEEDED
    assert world.story == [(0, "init"), (1, "init"), (12, "init"), (14, "main")]


def test_a_sidecar_that_crashes_later_does_not_stop_the_pod() -> None:
    world = World({"side": SIDECAR, "main": NEW}, ALWAYS, {"side": [(5, 1), (1, 1)], "main": []})
    assert world.run(until=100) is Phase.RUNNING
    assert world.story == [(0, "side"), (0, "main"), (5, "side"), (16, "side")]
