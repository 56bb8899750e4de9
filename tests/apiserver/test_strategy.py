"""What is particular to a kind: classes of service, first statuses, and what counts as a new generation."""

from __future__ import annotations

from typing import Any

import pytest

from portway.apiserver.deletion import DeleteOptions, options, plan, released
from portway.apiserver.errors import ApiError
from portway.apiserver.strategy import STRATEGIES, generation_part, qos_class, strategy
from portway.objects.kinds import CONFIG_MAP, ENDPOINT_SLICE, KINDS, NAMESPACE, POD

NOW = 1_800_000_000.0
Value = dict[str, Any]


def resources(requests: Value | None = None, limits: Value | None = None) -> Value:
    return {"resources": {k: v for k, v in (("requests", requests), ("limits", limits)) if v is not None}}


BOTH = {"cpu": "1", "memory": "1Gi"}


@pytest.mark.parametrize(
    ("containers", "expected"),
    [
        ([{}], "BestEffort"),
        ([resources({"ephemeral-storage": "1Gi"})], "BestEffort"),
        ([resources({"cpu": "1"})], "Burstable"),
        ([resources(BOTH, BOTH)], "Guaranteed"),
        ([resources(None, BOTH)], "Guaranteed"),
        ([resources({"cpu": "500m", "memory": "1Gi"}, BOTH)], "Burstable"),
        ([resources(BOTH, BOTH), {}], "Burstable"),
    ],
)
def test_the_class_of_service(containers: list[Value], expected: str) -> None:
    assert qos_class({"containers": containers}) == expected


def test_every_strategy_is_of_a_kind_and_the_rest_have_the_default() -> None:
    assert set(STRATEGIES) <= {k.resource for k in KINDS}
    assert strategy(ENDPOINT_SLICE).counts_generation and not strategy(CONFIG_MAP).counts_generation


def test_labels_and_status_make_no_generation() -> None:
    base = {"metadata": {"name": "a"}, "spec": {"x": 1}, "status": {"y": 1}}
    assert generation_part(base) == generation_part({**base, "metadata": {}, "status": {}})
    assert generation_part(base) != generation_part({**base, "spec": {"x": 2}})


def pod(**metadata: Any) -> Value:
    return {
        "metadata": {"name": "p", "generation": 1, **metadata},
        "spec": {"nodeName": "n"},
        "status": {"phase": "Running"},
    }


def test_a_marked_pod_is_a_new_generation() -> None:
    planned = plan(POD, pod(), DeleteOptions(), NOW)
    assert planned.value is not None and planned.value["metadata"]["generation"] == 2


@pytest.mark.parametrize(
    ("story", "value", "wanted", "gone", "changed"),
    [
        ("no grace, nobody holds it", pod(), DeleteOptions(grace=0), True, True),
        ("no grace, a finalizer holds it", pod(finalizers=["x"]), DeleteOptions(grace=0), False, True),
        (
            "it was marked with less",
            pod(deletionTimestamp="t", deletionGracePeriodSeconds=5),
            DeleteOptions(grace=9),
            False,
            False,
        ),
        (
            "it was marked with less, and the policy is new",
            pod(deletionTimestamp="t", deletionGracePeriodSeconds=5),
            DeleteOptions(grace=9, policy="Foreground"),
            False,
            True,
        ),
        (
            "a negative period of its own",
            {**pod(), "spec": {"nodeName": "n", "terminationGracePeriodSeconds": -1}},
            DeleteOptions(),
            True,
            True,
        ),
    ],
)
def test_plans(story: str, value: Value, wanted: DeleteOptions, gone: bool, changed: bool) -> None:
    planned = plan(POD, value, wanted, NOW)
    assert (planned.value is None, planned.changed) == (gone, changed), story


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (pod(), False),
        (pod(deletionTimestamp="t", deletionGracePeriodSeconds=0), True),
        (pod(deletionTimestamp="t", deletionGracePeriodSeconds=30), False),
        (pod(deletionTimestamp="t", finalizers=["x"]), False),
    ],
)
def test_who_lets_a_marked_object_go(value: Value, expected: bool) -> None:
    assert released(POD, value) is expected


def test_a_namespace_is_held_by_its_own_finalizers() -> None:
    namespace = {"metadata": {"name": "n", "deletionTimestamp": "t"}, "spec": {"finalizers": ["kubernetes"]}}
    assert not released(NAMESPACE, namespace)
    assert released(NAMESPACE, {**namespace, "spec": {}})


def test_options_come_from_the_body_before_the_query() -> None:
    query = {"gracePeriodSeconds": "9", "propagationPolicy": "Orphan"}
    assert options({}, query) == DeleteOptions(9, "Orphan")
    assert options({"gracePeriodSeconds": 3, "propagationPolicy": "Background"}, query) == DeleteOptions(
        3, "Background"
    )
    assert options({"orphanDependents": True}, {}).policy == "Orphan"
    assert options({"dryRun": ["All"]}, {}).dry_run
    with pytest.raises(ApiError, match="must be a whole number"):
        options({}, {"gracePeriodSeconds": "soon"})
