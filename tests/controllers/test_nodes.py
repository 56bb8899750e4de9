"""Blocks of addresses, silence, taints, and how long a pod may stay."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

import msgspec
import pytest

from build_controllers import NOON, node
from portway.controllers.nodes import (
    NOT_READY,
    UNREACHABLE,
    UNSCHEDULABLE,
    assign,
    natural,
    patience,
    silent_conditions,
    taints,
    tolerates,
)
from portway.objects.core import Node, Taint, Toleration

CLUSTER = IPv4Network("10.0.0.0/16")


def test_the_oldest_first_and_then_by_natural_name() -> None:
    nodes = [node(n) for n in ("node-10", "node-2")] + [node("zebra", created="2026-01-01T10:00:00Z")]
    assert assign(nodes, CLUSTER, 24) == {"zebra": "10.0.1.0/24", "node-2": "10.0.2.0/24", "node-10": "10.0.3.0/24"}


def test_blocks_in_use_are_left_alone_and_a_gap_is_filled() -> None:
    nodes = [node("a", cidr="10.0.1.0/24"), node("c", cidr="10.0.3.0/24"), node("d", cidr="192.168.0.0/16"), node("e")]
    assert assign(nodes, CLUSTER, 24) == {"e": "10.0.2.0/24"}


def test_a_larger_block_takes_all_that_it_covers() -> None:
    assert assign([node("a", cidr="10.0.0.0/22"), node("b")], CLUSTER, 24) == {"b": "10.0.4.0/24"}


def test_a_block_that_is_none_stops_nobody() -> None:
    assert assign([node("a", cidr="ten"), node("b")], CLUSTER, 24) == {"b": "10.0.1.0/24"}


def test_the_first_block_is_the_last_and_then_there_is_none() -> None:
    tiny = IPv4Network("10.0.0.0/23")
    assert assign([node("a"), node("b"), node("c")], tiny, 24) == {"a": "10.0.1.0/24", "b": "10.0.0.0/24", "c": None}


def test_natural_order() -> None:
    assert sorted(["node-10", "node-9", "b", "node-9a"], key=natural) == ["b", "node-9", "node-9a", "node-10"]


def with_conditions(*conditions: dict[str, Any]) -> Node:
    return msgspec.convert({"metadata": {"name": "n"}, "status": {"conditions": conditions}}, Node)


def test_silence_makes_every_condition_unknown_once() -> None:
    spoken = with_conditions(
        {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": "2026-01-01T11:00:00Z"},
        {"type": "MemoryPressure", "status": "False"},
    )
    made = silent_conditions(spoken, NOON)
    assert made is not None
    assert [(c["type"], c["status"], c["reason"]) for c in made] == [
        ("Ready", "Unknown", "NodeStatusUnknown"),
        ("MemoryPressure", "Unknown", "NodeStatusUnknown"),
    ]
    assert made[0]["lastTransitionTime"] == "2026-01-01T12:00:00Z"
    assert made[0]["lastHeartbeatTime"] == "2026-01-01T11:00:00Z"
    assert silent_conditions(with_conditions(*made), NOON) is None


def test_a_node_that_never_spoke() -> None:
    made = silent_conditions(node("n", ready=None), NOON)
    assert made is not None
    assert (made[0]["status"], made[0]["reason"]) == ("Unknown", "NodeStatusNeverUpdated")


def keys(made: list[dict[str, Any]] | None) -> set[tuple[str, str]] | None:
    return None if made is None else {(t["key"], t["effect"]) for t in made}


def test_taints_follow_the_ready_condition() -> None:
    assert taints(node("n"), NOON) is None
    assert keys(taints(node("n", ready=False), NOON)) == {(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")}
    unknown = with_conditions({"type": "Ready", "status": "Unknown"})
    made = taints(unknown, NOON)
    assert keys(made) == {(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")}
    assert {t["timeAdded"] for t in made or ()} == {"2026-01-01T12:00:00Z"}


def test_a_node_that_comes_back_keeps_only_foreign_taints() -> None:
    own = {"key": "gpu", "value": "yes", "effect": "NoSchedule"}
    old = {"key": UNREACHABLE, "effect": "NoExecute", "timeAdded": "2026-01-01T11:00:00Z"}
    assert taints(node("n", taints=[own, old]), NOON) == [own]


def test_taints_that_are_right_keep_their_time() -> None:
    both = [{"key": NOT_READY, "effect": e, "timeAdded": "2026-01-01T11:00:00Z"} for e in ("NoSchedule", "NoExecute")]
    assert taints(node("n", ready=False, taints=both), NOON) is None


def test_cordon() -> None:
    assert keys(taints(node("n", unschedulable=True), NOON)) == {(UNSCHEDULABLE, "NoSchedule")}
    assert keys(taints(node("n", taints=[{"key": UNSCHEDULABLE, "effect": "NoSchedule"}]), NOON)) == set()


TAINT = Taint(key="k", value="v", effect="NoExecute")


@pytest.mark.parametrize(
    ("toleration", "answer"),
    [
        (Toleration(key="k", value="v"), True),
        (Toleration(key="k", value="other"), False),
        (Toleration(key="k", operator="Exists"), True),
        (Toleration(operator="Exists"), True),
        (Toleration(), False),
        (Toleration(key="k", operator="Exists", effect="NoSchedule"), False),
        (Toleration(key="other", operator="Exists"), False),
    ],
)
def test_tolerations(toleration: Toleration, answer: bool) -> None:
    assert tolerates(toleration, TAINT) is answer


SILENT = Taint(key=UNREACHABLE, effect="NoExecute")


@pytest.mark.parametrize(
    ("on", "tolerations", "seconds"),
    [
        ([TAINT], [], 0),
        ([SILENT], [], 300),
        ([SILENT], [Toleration(key=UNREACHABLE, operator="Exists", toleration_seconds=7)], 7),
        ([SILENT], [Toleration(operator="Exists")], None),
        ([SILENT, TAINT], [Toleration(key=UNREACHABLE, operator="Exists", toleration_seconds=7)], 0),
        ([], [], None),
    ],
)
def test_patience(on: list[Taint], tolerations: list[Toleration], seconds: float | None) -> None:
    assert patience(on, tolerations, 300) == seconds
