"""How many pods are made, and which of too many go first."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import msgspec
import pytest

from build_controllers import NOON, pod, replica_set
from portway.controllers.pods import available_at, pod_from
from portway.controllers.replicaset import BURST, decide
from portway.objects.core import Pod


@pytest.mark.parametrize(
    ("size", "there", "create", "delete"), [(3, 0, 3, 0), (3, 3, 0, 0), (1, 3, 0, 2), (0, 2, 0, 2)]
)
def test_the_difference(size: int, there: int, create: int, delete: int) -> None:
    made = decide(replica_set(size=size), [pod(f"p{n}") for n in range(there)], {}, NOON)
    assert (made.create, len(made.delete)) == (create, delete)


def test_a_pass_makes_a_limited_number() -> None:
    assert decide(replica_set(size=9000), (), {}, NOON).create == BURST


VICTIMS: list[tuple[str, Sequence[Pod], str]] = [
    ("one without a node goes before one that runs", (pod("runs"), pod("waits", node="", phase="Pending")), "waits"),
    ("pending before running", (pod("runs", ready=False), pod("starts", ready=False, phase="Pending")), "starts"),
    ("not ready before ready", (pod("ready"), pod("sick", ready=False)), "sick"),
    ("on the node with more of them", (pod("a", node="full"), pod("b", node="full"), pod("c", node="empty")), "a"),
    ("the one that is ready for a shorter time", (pod("old"), pod("new", since="2026-01-01T11:59:00Z")), "new"),
    ("the newer one", (pod("a"), pod("b", created="2026-01-01T11:30:00Z")), "b"),
    ("by name when all is equal", (pod("b"), pod("a")), "a"),
]


@pytest.mark.parametrize(("sentence", "pods", "victim"), VICTIMS, ids=[v[0] for v in VICTIMS])
def test_who_goes_first(sentence: str, pods: Sequence[Pod], victim: str) -> None:
    made = decide(replica_set(size=len(pods) - 1), pods, {"full": 2, "empty": 1, "node-1": 1}, NOON)
    assert [p.name for p in made.delete] == [victim], sentence


def test_a_set_that_is_being_deleted_does_nothing() -> None:
    rs = replica_set(size=3)

    leaving = msgspec.structs.replace(rs, metadata=msgspec.structs.replace(rs.metadata, deletion_timestamp="now"))
    made = decide(leaving, (), {}, NOON)
    assert (made.create, made.delete, made.status) == (0, (), {})


def test_status_counts_and_is_empty_when_it_is_right() -> None:
    pods = [pod("a"), pod("b", ready=False), pod("c", labels={"app": "web", "pod-template-hash": "web-1"})]
    made = decide(replica_set(size=3, available=0), pods, {}, NOON)
    assert made.status == {"fullyLabeledReplicas": 1, "readyReplicas": 2, "availableReplicas": 2}
    full = [pod(n, labels={"app": "web", "pod-template-hash": "web-1"}) for n in "abc"]
    rs = replica_set(size=3)

    rs = msgspec.structs.replace(rs, status=msgspec.structs.replace(rs.status, fully_labeled_replicas=3))
    assert decide(rs, full, {}, NOON).status == {}


def test_min_ready_seconds_delay_availability_and_say_when_to_look_again() -> None:
    just = pod("a", since="2026-01-01T11:59:55Z")
    made = decide(replica_set(size=1, available=0, min_ready=10), [just], {}, NOON)
    assert made.status["readyReplicas"] == 1
    assert "availableReplicas" not in made.status
    assert made.look_again == NOON + timedelta(seconds=5)
    later = decide(replica_set(size=1, available=0, min_ready=10), [just], {}, NOON + timedelta(seconds=5))
    assert later.status["availableReplicas"] == 1
    assert later.look_again is None


def test_a_pod_that_is_not_ready_is_never_available() -> None:
    assert available_at(pod("a", ready=False), 0) is None


def test_a_pod_of_the_template_keeps_every_field() -> None:
    rs = replica_set("web-1")
    rs.spec.template["spec"]["somethingNew"] = {"deep": [1]}
    made = pod_from(rs.spec.template, rs, "apps/v1")
    assert made["spec"]["somethingNew"] == {"deep": [1]}
    assert made["metadata"]["generateName"] == "web-1-"
    assert made["metadata"]["labels"] == {"app": "web", "pod-template-hash": "web-1"}
    assert made["metadata"]["ownerReferences"] == [
        {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "name": "web-1",
            "uid": "uid-web-1",
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]
