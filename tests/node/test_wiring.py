"""Addresses, plans, and two pods on the wires they describe."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from build_netns import needs_namespaces
from build_node import NODE_ADDRESS, node_namespace, pod
from portway.netns.kernel import Namespace
from portway.netns.plan import Owner, Route
from portway.node.podfiles import etc_files, hostname
from portway.node.wiring import AddressPool, PodWires, PoolExhausted, Wiring, internal_address, link_name, node_routes
from portway.objects.core import Node, NodeAddress, NodeSpec, NodeStatus, Pod
from portway.objects.meta import ObjectMeta


def test_addresses_begin_behind_the_gateway_and_go_round() -> None:
    pool = AddressPool("10.0.1.0/29")
    assert pool.gateway == "10.0.1.1"
    assert [pool.take(name) for name in "abcd"] == ["10.0.1.2", "10.0.1.3", "10.0.1.4", "10.0.1.5"]
    assert pool.take("b") == "10.0.1.3", "the same owner, the same address"
    pool.give_back("b")
    assert pool.take("e") == "10.0.1.6", "not the one that was just given back"
    assert pool.take("f") == "10.0.1.3"


def test_a_full_pool_says_what_to_do() -> None:
    pool = AddressPool("10.0.1.0/30")
    pool.take("a")
    with pytest.raises(PoolExhausted, match=r"all 1 addresses of 10.0.1.0/30 are in use: delete pods, or add a node"):
        pool.take("b")
    pool.give_back("nobody")
    pool.give_back("a")
    assert pool.take("b") == "10.0.1.2"


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 12)), max_size=60))
def test_no_two_owners_share_an_address(steps: list[tuple[bool, int]]) -> None:
    pool, held = AddressPool("10.0.1.0/28"), dict[str, str]()
    for take, owner in steps:
        if take:
            held[str(owner)] = pool.take(str(owner))
        else:
            pool.give_back(str(owner))
            held.pop(str(owner), None)
        assert len(set(held.values())) == len(held)
        assert not {"10.0.1.0", "10.0.1.1", "10.0.1.15"} & set(held.values())


def test_link_names_fit_and_differ() -> None:
    names = {link_name(f"uid-{n}") for n in range(200)}
    assert len(names) == 200
    assert all(len(name) <= 15 and name.startswith("pod") for name in names)


def node(name: str, cidr: str = "", address: str = "") -> Node:
    addresses = (NodeAddress("Hostname", name), NodeAddress("InternalIP", address)) if address else ()
    return Node(metadata=ObjectMeta(name=name), spec=NodeSpec(pod_cidr=cidr), status=NodeStatus(addresses=addresses))


def test_routes_lead_to_every_other_node_that_has_what_it_takes() -> None:
    nodes = [
        node("node-3", "10.0.3.0/24", "10.100.0.4"),
        node("node-1", "10.0.1.0/24", "10.100.0.2"),
        node("node-2", "10.0.2.0/24", "10.100.0.3"),
        node("no-cidr", "", "10.100.0.5"),
        node("no-address", "10.0.5.0/24"),
    ]
    plan = node_routes("node-1", nodes)
    assert plan.routes == (Route("10.0.2.0/24", via="10.100.0.3"), Route("10.0.3.0/24", via="10.100.0.4"))
    assert plan.owner == Owner.NODE_ROUTES
    assert plan == node_routes("node-1", reversed(nodes))
    assert internal_address(nodes[0]) == "10.100.0.4"
    assert internal_address(nodes[4]) == ""


def wires(number: int) -> PodWires:
    return PodWires(uid=f"uid-{number}", address=f"10.0.1.{number}", gateway="10.0.1.1", node_address=NODE_ADDRESS)


def reach(here: Namespace, there: Namespace, address: str, port: int) -> str:
    """Connect from `here` to a listener in `there`; the address that the listener saw."""
    with (
        there.socket(socket.AF_INET, socket.SOCK_STREAM) as listener,
        here.socket(socket.AF_INET, socket.SOCK_STREAM) as client,
    ):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("0.0.0.0", port))
        listener.listen()
        for sock in (listener, client):
            sock.settimeout(5)
        client.connect((address, port))
        accepted, peer = listener.accept()
        accepted.close()
        return str(peer[0])


@needs_namespaces
def test_two_pods_and_their_node() -> None:
    with node_namespace() as host, Namespace.new("a") as a, Namespace.new("b") as b:
        wiring = Wiring(host)
        wiring.route(node_routes("node-1", []))
        wiring.connect(wires(2), a)
        wiring.connect(wires(3), b)
        assert reach(a, b, "10.0.1.3", 80) == "10.0.1.2"
        assert reach(host, b, "10.0.1.3", 80) == NODE_ADDRESS
        assert reach(a, host, NODE_ADDRESS, 80) == "10.0.1.2"
        wiring.disconnect("uid-3", "10.0.1.3")
        wiring.disconnect("uid-3", "10.0.1.3")
        assert [r.destination for r in host.routes() if r.destination.endswith("/32")] == ["10.0.1.2/32"]
        wiring.clear()
        assert sorted(host.links()) == ["eth0", "lo"]


@needs_namespaces
def test_routes_of_others_are_left_alone() -> None:
    with node_namespace() as host:
        foreign = Route("192.0.2.0/24", via="10.100.0.9")
        host.route_add(foreign)
        wiring = Wiring(host)
        wiring.route(node_routes("node-1", [node("node-2", "10.0.2.0/24", "10.100.0.3")]))
        wiring.route(node_routes("node-1", []))
        assert {r.destination for r in host.routes()} >= {"192.0.2.0/24"}
        assert "10.0.2.0/24" not in {r.destination for r in host.routes()}


DNS = {"cluster_dns": "10.3.240.10", "cluster_domain": "cluster.local"}


def files(shown: Pod) -> dict[str, str]:
    return etc_files(shown, "10.0.1.2", "node-1", cluster_dns=DNS["cluster_dns"], cluster_domain=DNS["cluster_domain"])


def test_the_files_of_a_pod() -> None:
    aliases = ({"ip": "192.0.2.9", "hostnames": ["db", "db.example.com"]},)
    made = files(pod("web", hostname="front", subdomain="site", host_aliases=aliases))
    assert made["/etc/hostname"] == "front\n"
    assert "10.0.1.2\tfront.site.default.svc.cluster.local front\n" in made["/etc/hosts"]
    assert "192.0.2.9\tdb\tdb.example.com\n" in made["/etc/hosts"]
    assert made["/etc/resolv.conf"] == (
        "search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.3.240.10\noptions ndots:5\n"
    )


@pytest.mark.parametrize(
    ("policy", "host_network", "expected"),
    [
        ("ClusterFirst", False, True),
        ("ClusterFirst", True, False),
        ("ClusterFirstWithHostNet", True, True),
        ("Default", False, False),
    ],
)
def test_who_asks_the_clusters_names(policy: str, host_network: bool, expected: bool) -> None:
    made = files(pod("web", dns_policy=policy, host_network=host_network))
    assert ("/etc/resolv.conf" in made) is expected


OPTIONS = [{"name": "ndots", "value": "2"}, {"name": "edns0"}]
CONFIG = {"nameservers": ["192.0.2.53"], "searches": ["a.example"], "options": OPTIONS}
SEARCH = "search default.svc.cluster.local svc.cluster.local cluster.local"


@pytest.mark.parametrize(
    ("sentence", "policy", "config", "expected"),
    [
        ("added to the cluster's", "ClusterFirst", CONFIG,
         f"{SEARCH} a.example\nnameserver 10.3.240.10\nnameserver 192.0.2.53\noptions ndots:2 edns0\n"),
        ("alone", "None", CONFIG, "search a.example\nnameserver 192.0.2.53\noptions ndots:2 edns0\n"),
        ("a server alone", "None", {"nameservers": ["192.0.2.53"]}, "nameserver 192.0.2.53\n"),
        ("nothing at all", "None", None, ""),
        ("what is there already is not repeated", "ClusterFirst",
         {"nameservers": ["10.3.240.10"], "searches": ["cluster.local"]},
         f"{SEARCH}\nnameserver 10.3.240.10\noptions ndots:5\n"),
    ],
)  # fmt: skip
def test_dns_config(sentence: str, policy: str, config: dict[str, object] | None, expected: str) -> None:
    assert files(pod("web", dns_policy=policy, dns_config=config))["/etc/resolv.conf"] == expected, sentence


def test_hostnames() -> None:
    assert hostname(pod("web"), "node-1") == "web"
    assert hostname(pod("web", host_network=True), "node-1") == "node-1"
    assert hostname(pod("x" * 62 + ".yz"), "node-1") == "x" * 62
