"""The hosts of the lab, their addresses, and wishes that cannot be had."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.lab import topology
from portway.lab.topology import Host, NoSuchPlan, Role, first_nodes, next_node, node
from portway.netns.plan import Kind, Plan, Route


def addresses(plan: Plan) -> set[str]:
    return {a.address for a in plan.addresses}


def settings(plan: Plan) -> dict[str, str]:
    return {s.name: s.value for s in plan.sysctls}


def test_the_first_nodes_have_the_addresses_of_the_articles() -> None:
    assert [(n.name, n.addresses) for n in first_nodes(3)] == [
        ("node-1", ("10.100.0.2",)),
        ("node-2", ("10.100.0.3",)),
        ("node-3", ("10.100.0.4",)),
    ]


def test_client_edge_and_nodes_are_each_others_gateways() -> None:
    assert topology.client_plan().routes == (Route("default", via="198.51.100.1", link="eth0"),)
    assert addresses(topology.client_plan()) == {"198.51.100.10/24"}
    assert addresses(topology.edge_plan()) == {"10.100.0.1/24", "198.51.100.1/24"}
    assert topology.edge_plan().routes == (), "the edge has no way out of the lab"
    assert topology.node_plan(node("node-1", 1)).routes == (Route("default", via="10.100.0.1", link="eth0"),)


def test_edge_and_nodes_forward_and_the_client_does_not() -> None:
    assert settings(topology.edge_plan())["net.ipv4.ip_forward"] == "1"
    assert settings(topology.node_plan(node("node-1", 1)))["net.ipv4.ip_forward"] == "1"
    assert "net.ipv4.ip_forward" not in settings(topology.client_plan())


@pytest.mark.parametrize("plan", [topology.client_plan(), topology.edge_plan(), topology.node_plan(node("node-1", 1))])
def test_no_host_filters_by_return_path_or_tells_of_shorter_ways(plan: Plan) -> None:
    found = settings(plan)
    links = {"all", "default"} | {link.name for link in plan.links if link.name != "lo"}
    for link in links:
        assert found[f"net.ipv4.conf.{link}.rp_filter"] == "0"
        assert found[f"net.ipv4.conf.{link}.send_redirects"] == "0"


def test_the_bridge_has_a_port_for_the_edge_and_for_each_node() -> None:
    plan = topology.outer_plan(first_nodes(2))
    ports = {link.peer.namespace: link.master for link in plan.links if link.peer}
    (bridge,) = [link.name for link in plan.links if link.kind is Kind.BRIDGE]
    assert ports == {"edge": bridge, "node-1": bridge, "node-2": bridge}


@given(st.integers(1, topology.MAX_NODES))
def test_every_node_has_an_address_of_the_node_network_that_no_other_host_has(number: int) -> None:
    (address,) = node("node-x", number).addresses
    assert ip_address(address) in ip_network(topology.NODE_NETWORK)
    assert address not in {topology.EDGE_ADDRESS, "10.100.0.255"}
    assert all(address != node("y", other).addresses[0] for other in (1, topology.MAX_NODES) if other != number)
    (planned,) = topology.node_plan(node("node-x", number)).addresses
    assert str(ip_interface(planned.address).ip) == address


def test_a_new_node_takes_the_lowest_free_address() -> None:
    two = (node("node-1", 1), node("node-3", 3))
    assert next_node("node-9", two).addresses == ("10.100.0.3",)
    assert next_node("node-9", (*two, node("node-2", 2))).addresses == ("10.100.0.5",)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: node("Node_1", 1), "lower-case"),
        (lambda: node("edge", 1), "and not client, edge or outer"),
        (lambda: node("n" * 64, 1), "at most 63"),
        (lambda: node("node-999", 254), "at most 253 nodes"),
        (lambda: first_nodes(0), "--nodes 1 or more"),
        (lambda: first_nodes(254), "at most 253 nodes"),
        (lambda: next_node("node-1", first_nodes(2)), "there is a node-1 already"),
        (lambda: topology.route("10.3.240.0/20", "node-9", first_nodes(2)), "neither a node nor an address"),
        (lambda: topology.route("10.3.240.0/20", "192.0.2.1", first_nodes(2)), "on no network of the lab"),
        (lambda: topology.route("10.3.240.1/20", "node-1", first_nodes(2)), "is no network"),
        (lambda: topology.route("everywhere", "node-1", first_nodes(2)), "is no network"),
    ],
)
def test_wishes_that_cannot_be_had_name_the_cure(make: object, says: str) -> None:
    assert callable(make)
    with pytest.raises(NoSuchPlan, match=says):
        make()


@pytest.mark.parametrize(
    ("destination", "via", "want"),
    [
        ("10.3.240.0/20", "node-2", Route("10.3.240.0/20", via="10.100.0.3")),
        ("10.3.240.9", "10.100.0.2", Route("10.3.240.9/32", via="10.100.0.2")),
        ("default", "edge", Route("0.0.0.0/0", via="10.100.0.1")),
        ("203.0.113.0/24", "198.51.100.10", Route("203.0.113.0/24", via="198.51.100.10")),
    ],
)
def test_a_users_route_leads_through_a_node_or_a_neighbour(destination: str, via: str, want: Route) -> None:
    assert topology.route(destination, via, first_nodes(2)) == want


def test_hosts_know_their_role() -> None:
    assert node("node-1", 1) == Host("node-1", Role.NODE, ("10.100.0.2",), 1)
    assert (topology.CLIENT_HOST.role, topology.EDGE_HOST.role) == (Role.CLIENT, Role.EDGE)


@pytest.mark.parametrize(
    ("zones", "want"),
    [
        (0, ["", "", "", ""]),
        (1, ["zone-a", "zone-a", "zone-a", "zone-a"]),
        (3, ["zone-a", "zone-b", "zone-c", "zone-a"]),
    ],
)
def test_nodes_take_zones_in_turn(zones: int, want: list[str]) -> None:
    assert [topology.zone(number, zones) for number in range(1, 5)] == want


def test_every_zone_that_can_be_asked_for_has_a_name_of_its_own() -> None:
    names = [topology.zone(number, topology.MAX_ZONES) for number in range(1, topology.MAX_ZONES + 1)]
    assert len(set(names)) == topology.MAX_ZONES
    assert names[-1] == "zone-z"


def test_a_node_that_fills_a_gap_is_in_the_zone_of_the_one_that_left() -> None:
    left = [n for n in first_nodes(4) if n.name != "node-2"]
    assert topology.zone(next_node("fresh", left).number, 2) == topology.zone(2, 2)


@pytest.mark.parametrize("segment", [topology.NODE_NETWORK, "198.51.100.0/24"])
def test_a_segment_of_the_lab_is_no_route_of_the_users(segment: str) -> None:
    """Added, it would replace the kernel's own route to the segment; deleted again, it would cut the edge off."""
    with pytest.raises(topology.NoSuchPlan, match="is a segment of the lab"):
        topology.route(segment, "node-1", [topology.node("node-1", 1)])
