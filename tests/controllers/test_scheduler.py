"""Where a pod goes, and what is said when it can go nowhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest

from build_controllers import node, pod
from portway.controllers.scheduler import choose, matches_node, unfit
from portway.objects.core import Node, Pod

NODES = (node("node-1", labels={"disk": "fast", "size": "5"}), node("node-2"))


def where(who: Pod, nodes: Sequence[Node] = NODES, there: Mapping[str, Sequence[Pod]] | None = None) -> str:
    return choose(who, nodes, there or {}).node


def test_equal_nodes_are_taken_by_natural_name() -> None:
    assert where(pod("a"), (node("node-10"), node("node-9"))) == "node-9"


def test_replicas_are_spread_before_pods_are() -> None:
    kin = pod("a", owner="web-1")
    others = [pod(f"x{n}", labels={"app": "other"}) for n in range(5)]
    assert where(kin, there={"node-1": [pod("b", owner="web-1")], "node-2": others}) == "node-2"


def test_revisions_of_one_deployment_are_kin_by_their_labels() -> None:
    new = pod("a", owner="web-2", labels={"app": "web", "pod-template-hash": "2"})
    old = pod("b", owner="web-1", labels={"app": "web", "pod-template-hash": "1"})
    assert where(new, there={"node-1": [old]}) == "node-2"


def test_then_the_node_with_fewer_pods() -> None:
    assert where(pod("a"), there={"node-1": [pod("x", labels={"app": "other"})]}) == "node-2"


def test_finished_and_ending_kin_do_not_count() -> None:
    there = {"node-1": [pod("b", phase="Succeeded")], "node-2": [pod("x", labels={"app": "other"})]}
    assert where(pod("a"), there=there) == "node-1"


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (node("n", unschedulable=True), "node(s) were unschedulable"),
        (
            node("n", taints=[{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]),
            "node(s) were unschedulable",
        ),
        (
            node("n", taints=[{"key": "gpu", "value": "a", "effect": "NoSchedule"}]),
            "node(s) had untolerated taint {gpu: a}",
        ),
        (node("n", taints=[{"key": "gpu", "effect": "PreferNoSchedule"}]), ""),
        (node("n", ready=False), "node(s) were not ready"),
        (node("n", ready=None), "node(s) were not ready"),
        (node("n"), ""),
    ],
)
def test_nodes_that_take_no_pods(bad: Node, reason: str) -> None:
    assert unfit(pod("a"), bad, ()) == reason


def test_a_tolerated_taint_is_none() -> None:
    who = pod("a", spec={"tolerations": [{"key": "gpu", "operator": "Exists"}]})
    assert unfit(who, node("n", taints=[{"key": "gpu", "effect": "NoSchedule"}]), ()) == ""


def test_a_node_that_is_better_not_used_is_the_last_choice() -> None:
    shunned = node("node-1", taints=[{"key": "k", "effect": "PreferNoSchedule"}])
    busy = {"node-2": [pod("b", owner="web-1")]}
    assert where(pod("a", owner="web-1"), (shunned, node("node-2")), busy) == "node-2"


def affinity(*terms: dict[str, Any]) -> dict[str, Any]:
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}
    return {"affinity": {"nodeAffinity": required}}


def expression(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


@pytest.mark.parametrize(
    ("spec", "fits"),
    [
        ({"nodeSelector": {"disk": "fast"}}, True),
        ({"nodeSelector": {"disk": "slow"}}, False),
        (affinity(expression("disk", "In", "slow", "fast")), True),
        (affinity(expression("disk", "NotIn", "fast")), False),
        (affinity(expression("disk", "Exists")), True),
        (affinity(expression("disk", "DoesNotExist")), False),
        (affinity(expression("size", "Gt", "4")), True),
        (affinity(expression("size", "Lt", "4")), False),
        (affinity(expression("disk", "Gt", "4")), False),
        (affinity(expression("disk", "Sideways")), False),
        (affinity(expression("disk", "In", "slow"), expression("size", "Exists")), True),
        (affinity({}), False),
        (affinity({"matchExpressions": [{"key": 7}]}), False),
        (affinity({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-1"]}]}), True),
        ({}, True),
    ],
)
def test_selectors_and_affinity(spec: dict[str, Any], fits: bool) -> None:
    assert matches_node(pod("a", spec=spec), NODES[0]) is fits


def holding(number: int, protocol: str = "TCP", ip: str = "", **spec: Any) -> Pod:
    port = {"containerPort": 80, "hostPort": number, "protocol": protocol, "hostIP": ip}
    return pod(f"h{number}", spec={"containers": [{"name": "m", "ports": [port]}], **spec})


@pytest.mark.parametrize(
    ("wanted", "there", "clash"),
    [
        (holding(80), holding(80), True),
        (holding(80), holding(81), False),
        (holding(80), holding(80, "UDP"), False),
        (holding(80, ip="10.1.0.1"), holding(80, ip="10.1.0.2"), False),
        (holding(80, ip="10.1.0.1"), holding(80), True),
        (holding(80), holding(80, ip="10.1.0.1"), True),
        (holding(80, ip="0.0.0.0"), holding(80, ip="10.1.0.1"), True),
        (holding(80, "UDP", "10.1.0.1"), holding(80, "TCP", "10.1.0.1"), False),
        (holding(0, hostNetwork=True), holding(80), True),
        (holding(80), holding(0, hostNetwork=True), True),
        (holding(0, hostNetwork=True), holding(0, hostNetwork=True), True),
        (holding(0), holding(0), False),
    ],
)
def test_host_ports(wanted: Pod, there: Pod, clash: bool) -> None:
    reason = unfit(wanted, node("n"), [there])
    assert reason == ("node(s) didn't have free ports for the requested pod ports" if clash else "")


def test_a_pod_that_is_ending_still_has_its_port_and_a_finished_one_has_not() -> None:
    ending, over = holding(80), holding(80)
    assert unfit(holding(80), node("n"), [pod("e", deleted=True, spec=plain_spec(ending))])
    assert not unfit(holding(80), node("n"), [pod("o", phase="Succeeded", spec=plain_spec(over))])


def plain_spec(of: Pod) -> dict[str, Any]:
    return {"containers": msgspec.to_builtins(of.spec.containers)}


def test_a_host_port_goes_to_the_node_where_it_is_free_and_else_nowhere() -> None:
    two = (node("node-1"), node("node-2"))
    assert where(holding(80), two, {"node-1": [holding(80)]}) == "node-2"
    taken = {"node-1": [holding(80)], "node-2": [holding(80, ip="127.0.0.1")]}
    assert choose(holding(80), two, taken).message == (
        "0/2 nodes are available: 2 node(s) didn't have free ports for the requested pod ports."
    )


def test_no_node_at_all_and_the_sum_of_the_reasons() -> None:
    assert choose(pod("a"), (), {}).message == "no nodes available to schedule pods"
    nodes = (node("a", unschedulable=True), node("b"), node("c"), node("d", ready=False))
    picky = pod("a", spec={"nodeSelector": {"disk": "fast"}})
    assert choose(picky, nodes, {}).message == (
        "0/4 nodes are available: 1 node(s) were not ready, 1 node(s) were unschedulable, "
        "2 node(s) didn't match Pod's node affinity/selector."
    )
