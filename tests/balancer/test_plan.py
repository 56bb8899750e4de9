"""The provider's pieces: forwarding rules from Services, instances from Nodes, who gets new connections, and every "no"."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from build_balancer import OTHER, VIP, all_healthy, healthy, local, node, nodes, port, service
from portway.balancer.intent import (
    EXCLUDE_LABEL,
    LEAVING_TAINT,
    RANGES_ANNOTATION,
    Check,
    InstanceState,
    eligible,
    instance,
    keepers,
    obstacle,
    plan,
    source_ranges,
)
from portway.balancer.reasons import Reason
from portway.objects.core import Node, Service, Taint
from portway.objects.meta import ObjectMeta


def test_one_rule_for_each_port_that_has_a_node_port() -> None:
    made = plan([service("shop/web", VIP, port(80, 30080), port(53, 30053, "UDP"), port(81, 0))], nodes(1))
    assert [(str(r.address), r.protocol, r.port, r.node_port) for r in made.rules] == [
        (VIP, "tcp", 80, 30080),
        (VIP, "udp", 53, 30053),
    ]
    assert str(made.rules[1].origin) == "Service shop/web spec.ports[1]"


@pytest.mark.parametrize(
    "silent",
    [
        pytest.param(service(address=""), id="it has no address yet"),
        pytest.param(service(type="ClusterIP"), id="it is no load balancer any more"),
        pytest.param(service(load_balancer_class="example.com/other"), id="it is another's"),
        pytest.param(service("shop/web", VIP, port(80, 0)), id="it has no node ports"),
        pytest.param(service(address="2001:db8::1"), id="its address is of the other family"),
    ],
)
def test_no_rules_for(silent: Service) -> None:
    made = plan([silent], nodes(1))
    assert made.rules == () and made.backends == {}


def test_the_local_policy_has_a_check_of_its_own() -> None:
    made = plan([service(), local()], nodes(1))
    assert made.backends["shop/web"].check == Check(10256, "/healthz")
    assert made.backends["shop/local"].check == Check(31000, "/healthz") and made.backends["shop/local"].local
    assert made.checks == {Check(10256), Check(31000)}


@pytest.mark.parametrize(
    ("sentence", "found", "state"),
    [
        ("a node", node(1), InstanceState.SERVING),
        ("a cordoned node", node(1, cordoned=True), InstanceState.DRAINING),
        ("a node that an autoscaler takes away", node(1, taints=(Taint(key=LEAVING_TAINT),)), InstanceState.DRAINING),
        ("a node with another taint", node(1, taints=(Taint(key="a"),)), InstanceState.SERVING),
        ("a node with the label", node(1, labels={EXCLUDE_LABEL: ""}), InstanceState.EXCLUDED),
    ],
)
def test_the_state_of(sentence: str, found: Node, state: InstanceState) -> None:
    made = instance(found)
    assert made is not None and made.state is state, sentence
    assert bool(made.why) is (state is not InstanceState.SERVING), "and it says why"


def test_a_node_that_is_being_deleted_drains() -> None:
    going = node(1)
    meta = ObjectMeta(name="node-1", deletion_timestamp="2026-01-01T00:00:00Z")
    made = instance(type(going)(metadata=meta, status=going.status))
    assert made is not None and made.state is InstanceState.DRAINING


def test_a_node_without_an_address_is_no_instance_yet() -> None:
    assert instance(Node(metadata=ObjectMeta(name="node-1"))) is None


def test_who_gets_new_connections() -> None:
    made = plan([service()], [node(1), node(2, cordoned=True), node(3, labels={EXCLUDE_LABEL: ""}), node(4)])
    backend = made.backends["shop/web"]

    def names(*well: str) -> list[str]:
        return [i.name for i in eligible(made, healthy(*well), backend)]

    assert names("node-1", "node-2", "node-3", "node-4") == ["node-1", "node-4"]
    assert names("node-2", "node-4") == ["node-4"]
    assert names("node-2", "node-3") == ["node-2"], "better one that drains than nobody"
    assert names("node-3") == [] == names()


def test_a_check_of_another_service_says_nothing() -> None:
    made = plan([local()], nodes(2))
    backend = made.backends["shop/local"]
    assert eligible(made, healthy("node-1"), backend) == ()
    assert [i.name for i in eligible(made, healthy("node-2", check=Check(31000)), backend)] == ["node-2"]


def test_who_may_keep_its_connections() -> None:
    made = plan([service(), local()], [node(1), node(2, cordoned=True), node(3, labels={EXCLUDE_LABEL: ""})])
    health = {**healthy("node-1", "node-2", "node-3"), **healthy("node-2", check=Check(31000))}
    found = {str(door[0]): sorted(map(str, nodes_)) for door, nodes_ in keepers(made, health).items()}
    assert found == {VIP: ["10.100.0.2", "10.100.0.3"], OTHER: ["10.100.0.3"]}, "one that drains keeps what it has"


def test_every_no_of_a_service_that_has_an_address() -> None:
    made = plan([service(), local()], nodes(2))
    assert obstacle(service(), made, all_healthy(made)) is None
    nobody = obstacle(service(), made, {})
    assert nobody is not None and nobody.reason is Reason.ALL_UNHEALTHY
    assert "node-1, node-2" in str(nobody) and "port 10256" in str(nobody)
    assert "Local policy" in str(obstacle(local(), made, {}))
    without = obstacle(service("shop/web", VIP, port(80, 0)), made, {})
    assert without is not None and without.reason is Reason.NO_NODE_PORTS
    alone = obstacle(service(), plan([service()], [node(1, labels={EXCLUDE_LABEL: ""})]), {})
    assert alone is not None and alone.reason is Reason.NO_NODES


def test_source_ranges_by_field_and_by_annotation() -> None:
    ranges = (ip_network("192.0.2.0/24"), ip_network("198.51.100.7/32"))
    assert source_ranges(service()) == ()
    assert source_ranges(service(load_balancer_source_ranges=("192.0.2.0/24", " 198.51.100.7/32"))) == ranges
    assert source_ranges(service(annotations={RANGES_ANNOTATION: "192.0.2.0/24,198.51.100.7"})) == ranges
    assert source_ranges(service(load_balancer_source_ranges=("nonsense", "192.0.2.0/24"))) == ranges[:1]


def test_the_plan_does_not_depend_on_the_order() -> None:
    one = plan([service(), local(address=OTHER)], nodes(3))
    assert one == plan([local(address=OTHER), service()], reversed(nodes(3)))
