"""The steps of a rollout as decisions: what is made, grown, shrunk and deleted, and which bounds hold at every step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from build_controllers import deployment, replica_set, template
from portway.controllers import deployment as pure
from portway.controllers.deployment import Bounds, Plan, bounds, current, new_set, next_revision, plan, template_hash
from portway.objects.apps import Deployment, ReplicaSet


def rolling(surge: Any, unavailable: Any) -> dict[str, Any]:
    return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}


@pytest.mark.parametrize(
    ("replicas", "surge", "unavailable", "expected"),
    [
        (4, "25%", "25%", Bounds(4, 1, 1)),
        (3, "25%", "25%", Bounds(3, 1, 0)),
        (10, "33%", "33%", Bounds(10, 4, 3)),
        (2, 0, 0, Bounds(2, 0, 1)),
        (1, 0, "50%", Bounds(1, 0, 1)),
        (2, 5, 5, Bounds(2, 5, 2)),
        (0, "25%", "25%", Bounds(0, 0, 0)),
    ],
)
def test_percentages_round_so_that_pods_are_not_missed(
    replicas: int, surge: Any, unavailable: Any, expected: Bounds
) -> None:
    assert bounds(deployment(replicas, strategy=rolling(surge, unavailable))) == expected


def test_without_a_strategy_a_quarter_moves_and_recreate_has_no_bounds() -> None:
    assert bounds(deployment(8)) == Bounds(8, 2, 2)
    assert bounds(deployment(8, strategy={"type": "Recreate"})) == Bounds(8, 0, 0)


def test_the_first_set_is_made_whole() -> None:
    assert plan(deployment(3), (), 0) == Plan(create_size=3)


def test_a_new_template_starts_with_the_surge() -> None:
    old = replica_set("web-1", 3, version="1")
    assert plan(deployment(3, version="2"), (old,), 3) == Plan(create_size=1)


def test_old_pods_go_only_as_new_ones_become_available() -> None:
    old, new = replica_set("web-1", 3), replica_set("web-2", 1, version="2", available=0, revision=2)
    wanted = deployment(3, version="2", strategy=rolling(1, 0))
    assert plan(wanted, (old, new), 3) == Plan()
    new = replica_set("web-2", 1, version="2", revision=2)
    assert plan(wanted, (old, new), 3) == Plan(scale=(("web-1", 2),))


def test_old_pods_that_do_not_work_go_first() -> None:
    """A rollout that repairs a broken one does not wait for the broken pods."""
    broken = replica_set("web-2", 2, version="2", available=0, revision=2, created="2026-01-01T11:30:00Z")
    good = replica_set("web-1", 2)
    new = replica_set("web-3", 1, version="3", available=0, revision=3, created="2026-01-01T11:40:00Z")
    made = plan(deployment(3, version="3", strategy=rolling(1, 1)), (broken, good, new), 4)
    assert made.scale[0][0] == "web-2"
    assert dict(made.scale).get("web-1", 2) == 2


def test_a_rollout_whose_own_pods_are_not_available_yet_is_waited_for() -> None:
    """Nothing of the old revision works; still the next new pod is made only when the first one is available."""
    old = replica_set("web-1", 4, available=0)
    new = replica_set("web-2", 1, version="2", available=0, revision=2)
    assert plan(deployment(4, version="2", strategy=rolling(1, 0)), (old, new), 4) == Plan()


def test_recreate_first_ends_everything_and_waits() -> None:
    wanted = deployment(2, version="2", strategy={"type": "Recreate"})
    assert plan(wanted, (replica_set("web-1", 2),), 2) == Plan(scale=(("web-1", 0),))
    assert plan(wanted, (replica_set("web-1", 0),), 1) == Plan(), "one is still ending"
    assert plan(wanted, (replica_set("web-1", 0),), 0) == Plan(create_size=2)


def test_paused_means_no_new_revision_but_scaling_goes_on() -> None:
    old = replica_set("web-1", 3, desired=3, most=4)
    assert plan(deployment(3, version="2", paused=True), (old,), 3) == Plan()
    assert plan(deployment(5, version="2", paused=True), (old,), 3) == Plan(scale=(("web-1", 5),))


def test_scaling_in_the_middle_of_a_rollout_is_proportional() -> None:
    old = replica_set("web-1", 8, desired=10, most=13)
    new = replica_set("web-2", 5, version="2", revision=2, desired=10, most=13)
    made = plan(deployment(20, version="2", strategy=rolling(3, 2)), (old, new), 13)
    assert dict(made.scale) == {"web-1": 14, "web-2": 9}


def test_history_keeps_the_newest_revisions() -> None:
    new = replica_set("web-9", 2, version="9", revision=9)
    old = [replica_set(f"web-{n}", 0, version=str(n), revision=n) for n in range(1, 6)]
    made = plan(deployment(2, version="9", revisionHistoryLimit=2), (*old, new), 0)
    assert set(made.delete) == {"web-1", "web-2", "web-3"}
    assert plan(deployment(2, version="9"), (*old, new), 0).delete == ()


def test_history_is_not_touched_while_a_rollout_runs() -> None:
    new = replica_set("web-9", 2, version="9", available=1, revision=9)
    old = [replica_set(f"web-{n}", 0, version=str(n), revision=n) for n in range(1, 6)]
    assert plan(deployment(2, version="9", revisionHistoryLimit=0), (*old, new), 0).delete == ()


def test_the_current_set_is_found_by_its_template_whatever_its_hash() -> None:
    sets = (replica_set("web-a", 1, version="1"), replica_set("web-b", 1, version="2"))
    found = current(deployment(version="2"), sets)
    assert found is not None and found.name == "web-b"
    assert current(deployment(version="3"), sets) is None


def test_revisions_count_up_and_an_old_template_gets_a_new_number() -> None:
    first, second = replica_set("web-a", revision=1), replica_set("web-b", revision=2)
    assert next_revision(None, ()) == 1
    assert next_revision(None, (first, second)) == 3
    assert next_revision(second, (first, second)) == 2
    assert next_revision(first, (first, second)) == 3


def test_a_new_set_carries_hash_revision_owner_and_the_cause() -> None:
    d = deployment(3, annotations={"kubernetes.io/change-cause": "why", pure.REVISION: "7", pure.LAST_APPLIED: "{}"})
    body = new_set(d, 2, 8)
    digest = body["metadata"]["labels"][pure.HASH_LABEL]
    assert body["metadata"]["name"] == f"web-{digest}"
    assert body["spec"]["selector"]["matchLabels"] == {"app": "web", pure.HASH_LABEL: digest}
    assert body["spec"]["template"]["metadata"]["labels"] == {"app": "web", pure.HASH_LABEL: digest}
    assert body["spec"]["replicas"] == 2
    assert body["metadata"]["annotations"] == {
        "kubernetes.io/change-cause": "why",
        pure.REVISION: "8",
        pure.DESIRED: "3",
        pure.MAXIMUM: "4",
    }
    assert body["metadata"]["ownerReferences"][0]["uid"] == "uid-web"
    assert current(d, (msgspec.convert(body, ReplicaSet),)) is not None


def test_hashes_differ_by_template_and_by_collision() -> None:
    hashes = {template_hash(template("1"), 0), template_hash(template("2"), 0), template_hash(template("1"), 1)}
    assert len(hashes) == 3
    assert all(
        h.isalnum() and h.islower() and not set(h) & set("aeiou") for h in (x.strip("0123456789") for x in hashes)
    )


# A simulated cluster: pods become available or fail at random; the plan is carried out until nothing changes.


def carry_out(d: Deployment, sets: dict[str, ReplicaSet], made: Plan) -> None:
    if made.create_size is not None:
        sets["new"] = replica_set("new", made.create_size, version="2", available=0, revision=2)
    for name, size in made.scale:
        rs = sets[name]
        sick = (rs.spec.replicas or 0) - rs.status.available_replicas
        lost = max(0, (rs.spec.replicas or 0) - size)
        available = rs.status.available_replicas - max(0, lost - sick)
        sets[name] = replica_set(name, size, version="2" if name == "new" else "1", available=available)


def total(sets: Sequence[ReplicaSet]) -> tuple[int, int]:
    return sum(rs.spec.replicas or 0 for rs in sets), sum(rs.status.available_replicas for rs in sets)


@settings(max_examples=150, deadline=None)
@given(st.data(), st.integers(0, 9), st.integers(0, 4), st.integers(0, 4))
def test_a_rollout_stays_in_its_bounds_and_ends(
    data: st.DataObject, replicas: int, surge: int, unavailable: int
) -> None:
    d = deployment(replicas, version="2", strategy=rolling(surge, unavailable))
    size = bounds(d)
    sets = {"old": replica_set("old", replicas, version="1")}
    for _ in range(200):
        before = dict(sets)
        carry_out(d, sets, plan(d, tuple(sets.values()), 0))
        pods, available = total(tuple(sets.values()))
        assert pods <= size.most
        assert available >= size.least_available
        new = sets.get("new")
        if new and new.status.available_replicas < (new.spec.replicas or 0):
            more = data.draw(st.integers(0, (new.spec.replicas or 0) - new.status.available_replicas))
            available_now = new.status.available_replicas + max(more, 1 if sets == before else 0)
            sets["new"] = replica_set("new", new.spec.replicas or 0, version="2", available=available_now)
        elif sets == before:
            break
    assert {name: rs.spec.replicas for name, rs in sets.items()} == {"old": 0, "new": replicas}
