"""The kernel half: what we ask for is what the kernel then shows, and its refusals name the object and the cure."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator

import pytest

from build_netns import needs_namespaces, settings_aside
from portway.netns.kernel import Namespace, NetworkError
from portway.netns.plan import (
    Address,
    Kind,
    Link,
    Neighbour,
    Owner,
    Peer,
    Plan,
    Route,
    Sysctl,
)

pytestmark = needs_namespaces

ROUTER = Plan(
    links=(Link("lo"), Link("nodes", Kind.BRIDGE), Link("port-1", Kind.VETH, Peer("eth0", "host"), "nodes")),
    addresses=(Address("nodes", "10.100.0.1/24"),),
    sysctls=(Sysctl("net.ipv4.ip_forward", "1"),),
)
HOST = Plan(
    links=(Link("lo"), Link("eth0")),
    addresses=(Address("eth0", "10.100.0.2/24"),),
    routes=(Route("default", via="10.100.0.1", link="eth0"),),
)


@pytest.fixture
def router() -> Iterator[Namespace]:
    with Namespace.new("router") as namespace:
        yield namespace


@pytest.fixture
def host() -> Iterator[Namespace]:
    with Namespace.new("host") as namespace:
        yield namespace


@pytest.fixture
def wired(router: Namespace, host: Namespace) -> tuple[Namespace, Namespace]:
    router.apply(ROUTER, {"host": host})
    host.apply(HOST)
    return router, host


def test_two_hosts_on_a_bridge_reach_each_other(wired: tuple[Namespace, Namespace]) -> None:
    router, host = wired
    with (
        router.socket(socket.AF_INET, socket.SOCK_STREAM) as server,
        host.socket(socket.AF_INET, socket.SOCK_STREAM) as client,
    ):
        server.bind(("10.100.0.1", 7000))
        server.listen()
        client.settimeout(5)
        client.connect(("10.100.0.1", 7000))
        connection, peer = server.accept()
        connection.close()
    assert peer[0] == "10.100.0.2"


def test_the_kernel_shows_what_the_plan_says(wired: tuple[Namespace, Namespace]) -> None:
    router, host = wired
    links = router.links()
    assert (links["nodes"].kind, links["nodes"].up, links["nodes"].owner) == ("bridge", True, Owner.LAB)
    assert (links["port-1"].kind, links["port-1"].master) == ("veth", "nodes")
    assert Address("eth0", "10.100.0.2/24") in host.addresses()
    assert host.routes()[Route("default", via="10.100.0.1", link="eth0")] == Owner.LAB
    assert router.sysctl("net.ipv4.ip_forward") == "1"
    assert host.sysctl("net.ipv4.ip_forward") == "0"


def test_proc_agrees(wired: tuple[Namespace, Namespace]) -> None:
    def read(path: str) -> str:
        with open(path) as file:
            return file.read()

    _, host = wired
    table = [line.split() for line in host.run(lambda: read("/proc/thread-self/net/route")).splitlines()[1:]]
    assert ["eth0", "00000000", "0100640A"] in [row[:3] for row in table], (
        "the default route, in the kernel's hexadecimal"
    )
    assert "10.100.0.2" in host.run(lambda: read("/proc/thread-self/net/fib_trie"))


def test_applying_again_changes_nothing(wired: tuple[Namespace, Namespace]) -> None:
    router, host = wired
    assert router.apply(settings_aside(ROUTER), {"host": host}) == ()
    assert host.apply(HOST) == ()


def test_what_is_no_longer_wanted_goes_and_what_others_added_stays(wired: tuple[Namespace, Namespace]) -> None:
    router, host = wired
    router.route_add(Route("10.9.0.0/16", via="10.100.0.2"), owner=Owner.USER_ROUTES)
    router.apply(Plan(routes=(Route("10.0.2.0/24", via="10.100.0.2"),), owner=Owner.CLOUD_ROUTES))
    router.apply(Plan(routes=(Route("10.0.3.0/24", via="10.100.0.2"),), owner=Owner.CLOUD_ROUTES))
    destinations = {r.destination for r in router.routes()}
    assert {"10.9.0.0/16", "10.0.3.0/24"} <= destinations
    assert "10.0.2.0/24" not in destinations

    router.apply(settings_aside(ROUTER), {"host": host})
    assert {"10.9.0.0/16", "10.0.3.0/24"} <= {r.destination for r in router.routes()}


def test_a_port_that_is_not_wanted_any_more_takes_its_far_end_along(wired: tuple[Namespace, Namespace]) -> None:
    router, host = wired
    router.apply(Plan(links=ROUTER.links[:2], addresses=ROUTER.addresses))
    assert set(router.links()) == {"lo", "nodes"}
    assert set(host.links()) == {"lo"}


def test_a_route_is_added_replaced_and_deleted(wired: tuple[Namespace, Namespace]) -> None:
    router, _ = wired
    router.route_add(Route("10.3.240.0/20", via="10.100.0.2"))
    router.route_add(Route("10.3.240.0/20", via="10.100.0.3"))
    assert [r.via for r in router.routes() if r.destination == "10.3.240.0/20"] == ["10.100.0.3"]
    router.route_delete(Route("10.3.240.0/20", via="10.100.0.3"), owner=Owner.USER_ROUTES)
    assert "10.3.240.0/20" in {r.destination for r in router.routes()}, "it is not theirs"
    router.route_delete(Route("10.3.240.0/20", via="10.100.0.3"))
    router.route_delete(Route("10.3.240.0/20", via="10.100.0.3"))
    assert "10.3.240.0/20" not in {r.destination for r in router.routes()}


def test_a_pod_is_wired_with_a_host_route_and_a_shared_gateway_address(router: Namespace, host: Namespace) -> None:
    router.add(
        Plan(
            links=(Link("pod-1", Kind.VETH, Peer("eth0", "pod")),),
            addresses=(Address("pod-1", "10.0.1.1/32", link_scope=True),),
            routes=(Route("10.0.1.2/32", link="pod-1"),),
            owner=Owner.PODS,
        ),
        {"pod": host},
    )
    pod = Plan(
        links=(Link("lo"), Link("eth0")),
        addresses=(Address("eth0", "10.0.1.2/32"),),
        routes=(Route("10.0.1.1/32", link="eth0"), Route("default", via="10.0.1.1", link="eth0")),
    )
    host.add(pod)
    host.add(pod)
    assert router.routes()[Route("10.0.1.2/32", link="pod-1")] == Owner.PODS
    assert {r.destination for r in host.routes() if ":" not in r.destination} == {"10.0.1.1/32", "0.0.0.0/0"}


def test_adding_a_link_that_is_there_adds_the_rest(router: Namespace, host: Namespace) -> None:
    plan = Plan(links=(Link("pod-1", Kind.VETH, Peer("eth0", "pod")),), owner=Owner.PODS)
    router.add(plan, {"pod": host})
    router.add(Plan(links=plan.links, addresses=(Address("pod-1", "10.0.1.1/32"),), owner=Owner.PODS), {"pod": host})
    assert Address("pod-1", "10.0.1.1/32") in router.addresses()


def test_a_veth_pair_is_up_on_both_sides(router: Namespace, host: Namespace) -> None:
    router.veth("cable", "eth0", host)
    assert router.links()["cable"].up
    assert host.links()["eth0"].up
    router.delete_link("cable")
    router.delete_link("cable")
    assert "eth0" not in host.links()


def test_a_hundred_links_in_one_plan(router: Namespace) -> None:
    names = [f"d{i}" for i in range(100)]
    plan = Plan(
        links=tuple(Link(n, Kind.BRIDGE) for n in names),
        addresses=tuple(Address(n, f"10.5.{i}.1/24") for i, n in enumerate(names)),
        routes=tuple(Route(f"10.{i + 20}.0.0/16", via=f"10.5.{i}.9") for i in range(100)),
    )
    router.apply(plan)
    assert router.apply(plan) == ()
    assert set(names) <= set(router.links())


def test_permanent_neighbours_and_ipv6(router: Namespace) -> None:
    plan = Plan(
        links=(Link("lo"), Link("d0", Kind.BRIDGE, mtu=1400)),
        addresses=(Address("d0", "10.5.0.1/24"), Address("d0", "fd00:5::1/64")),
        routes=(Route("fd00:6::/64", via="fd00:5::9", link="d0"),),
        neighbours=(Neighbour("d0", "10.5.0.9", "02:00:00:00:00:09"),),
    )
    router.apply(plan)
    assert router.apply(plan) == ()
    assert router.links()["d0"].mtu == 1400
    assert plan.neighbours[0] in router.state().neighbours


def test_the_first_refusal_is_told_and_the_rest_is_not_lost(router: Namespace) -> None:
    routes = (Route("10.8.0.0/16", via="192.0.2.1"), Route("10.9.0.0/16", via="10.5.0.9"))
    plan = Plan(links=(Link("d0", Kind.BRIDGE),), addresses=(Address("d0", "10.5.0.1/24"),), routes=routes)
    with pytest.raises(NetworkError) as caught:
        router.apply(plan)
    assert caught.value.errno == errno.ENETUNREACH
    assert "router: add route 10.8.0.0/16 via 192.0.2.1" in str(caught.value)
    assert "add an address or a link-scope route first" in str(caught.value)
    assert "10.9.0.0/16" in {r.destination for r in router.routes()}, "the socket is still in step with the kernel"


@pytest.mark.parametrize(
    ("plan", "number", "says"),
    [
        (Plan(addresses=(Address("eth7", "10.0.0.1/24"),)), errno.ENODEV, "there is no eth7"),
        (Plan(links=(Link("v", Kind.VETH, Peer("eth0", "nobody")),)), errno.ENODEV, "there is no nobody"),
        (Plan(links=(Link("p", Kind.VETH, Peer("q"), master="nodes"),)), errno.ENODEV, "there is no nodes"),
        (Plan(sysctls=(Sysctl("net.ipv4.no_such_thing", "1"),)), errno.ENOENT, "without the setting"),
    ],
)
def test_errors_name_the_object_and_the_cure(router: Namespace, plan: Plan, number: int, says: str) -> None:
    with pytest.raises(NetworkError, match=says) as caught:
        router.apply(plan)
    assert caught.value.errno == number


def test_a_closed_namespace_says_so(router: Namespace) -> None:
    router.close()
    router.close()
    for use in (router.links, lambda: router.sysctl("net.ipv4.ip_forward"), lambda: router.run(int)):
        with pytest.raises(NetworkError, match="router is closed"):
            use()


def test_the_namespace_of_a_process(router: Namespace) -> None:
    with Namespace.of_pid(os.getpid()) as own:
        assert os.fstat(own.fd).st_ino != os.fstat(router.fd).st_ino
    with pytest.raises(NetworkError, match="process 4194999"):
        Namespace.of_pid(4194999)


def test_a_setting_of_a_link_with_a_dot_in_its_name(router: Namespace) -> None:
    router.apply(Plan(links=(Link("d0.5", Kind.BRIDGE),)))
    assert router.sysctl("net.ipv4.conf.d0/5.rp_filter", "0") == "0"


def test_the_process_itself_never_leaves_its_namespace(router: Namespace) -> None:
    before = os.stat("/proc/self/ns/net").st_ino
    router.apply(Plan(links=(Link("lo"),), sysctls=(Sysctl("net.ipv4.ip_forward", "1"),)))
    with pytest.raises(ZeroDivisionError):
        router.run(lambda: 1 // 0)
    assert os.stat("/proc/self/ns/net").st_ino == before
