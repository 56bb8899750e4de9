"""The difference between what a namespace has and what it shall have, as tables and for random plans."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from build_netns import carried_out
from portway.netns.plan import (
    Action,
    Address,
    Change,
    Kind,
    Link,
    LinkState,
    Neighbour,
    Owner,
    Peer,
    Plan,
    PlanError,
    Route,
    State,
    Sysctl,
    additions,
    diff,
)

ETH0 = LinkState(2, "eth0", "veth", up=True)
NODE = Plan(
    links=(Link("lo"), Link("eth0")),
    addresses=(Address("eth0", "10.100.0.2/24"),),
    routes=(Route("default", via="10.100.0.1", link="eth0"),),
    sysctls=(Sysctl("net.ipv4.ip_forward", "1"),),
)


def test_an_empty_namespace_gets_links_then_settings_then_addresses_then_routes() -> None:
    kinds = [type(c.what) for c in additions(NODE)]
    assert kinds == [Link, Link, Sysctl, Address, Route]


def test_nothing_is_left_to_do_but_the_settings_once_it_is_done() -> None:
    done = State(
        {"lo": LinkState(1, "lo", up=True), "eth0": ETH0},
        {Address("eth0", "10.100.0.2/24"): Owner.LAB},
        {Route("default", via="10.100.0.1", link="eth0"): Owner.LAB},
    )
    assert diff(done, NODE) == (Change(Action.ADD, Sysctl("net.ipv4.ip_forward", "1")),)


def test_a_bridge_is_made_before_its_ports() -> None:
    port = Link("port-1", Kind.VETH, Peer("eth0", "node-1"), master="nodes")
    first, second = diff(State(), Plan(links=(port, Link("nodes", Kind.BRIDGE))))
    assert (first.what, second.what) == (Link("nodes", Kind.BRIDGE), port)


def test_a_link_scope_route_is_added_before_the_route_through_it() -> None:
    through, scope = Route("default", via="10.0.1.1", link="eth0"), Route("10.0.1.1/32", link="eth0")
    assert [c.what for c in additions(Plan(routes=(through, scope)))] == [scope, through]


def test_routes_of_others_stay() -> None:
    theirs = {
        Route("10.9.0.0/16", via="10.100.0.7", link="eth0"): Owner.USER_ROUTES,
        Route("10.8.0.0/16", link="eth0"): 2,
    }
    state = State({"eth0": ETH0}, {}, theirs)
    assert diff(state, Plan(owner=Owner.CLOUD_ROUTES)) == ()


def test_our_routes_go_when_they_are_no_longer_wanted() -> None:
    ours = Route("10.0.2.0/24", via="10.100.0.3", link="eth0")
    state = State({"eth0": ETH0}, {}, {ours: Owner.CLOUD_ROUTES})
    assert diff(state, Plan(owner=Owner.CLOUD_ROUTES)) == (Change(Action.DELETE, ours),)


def test_a_route_that_changes_its_gateway_is_replaced_without_a_gap() -> None:
    old, new = Route("10.0.2.0/24", via="10.100.0.3", link="eth0"), Route("10.0.2.0/24", via="10.100.0.4", link="eth0")
    state = State({"eth0": ETH0}, {}, {old: Owner.CLOUD_ROUTES})
    assert diff(state, Plan(routes=(new,), owner=Owner.CLOUD_ROUTES)) == (Change(Action.ADD, new),)


def test_a_route_without_a_link_is_the_one_whose_link_the_kernel_filled_in() -> None:
    state = State({"eth0": ETH0}, {}, {Route("10.0.2.0/24", via="10.100.0.3", link="eth0"): Owner.CLOUD_ROUTES})
    assert diff(state, Plan(routes=(Route("10.0.2.0/24", via="10.100.0.3"),), owner=Owner.CLOUD_ROUTES)) == ()


def test_a_link_of_another_kind_is_made_anew_with_its_addresses() -> None:
    address = Address("nodes", "10.100.0.9/24")
    state = State({"nodes": LinkState(3, "nodes", "dummy", up=True)}, {address: Owner.LAB})
    steps = diff(state, Plan(links=(Link("nodes", Kind.BRIDGE),), addresses=(address,)))
    assert [str(s) for s in steps] == ["delete link nodes", "add bridge nodes", "add address 10.100.0.9/24 on nodes"]


def test_our_links_and_addresses_go_when_they_are_no_longer_wanted() -> None:
    state = State(
        {"port-2": LinkState(4, "port-2", "veth", owner=Owner.LAB)}, {Address("lo", "10.7.0.1/32"): Owner.LAB}
    )
    assert [str(s) for s in diff(state, Plan())] == ["delete address 10.7.0.1/32 on lo", "delete link port-2"]


@pytest.mark.parametrize(
    ("state", "wanted"),
    [
        (replace(ETH0, up=False), Link("eth0")),
        (ETH0, Link("eth0", up=False)),
        (ETH0, Link("eth0", mtu=1400)),
        (ETH0, Link("eth0", master="nodes")),
    ],
)
def test_a_link_that_differs_is_set(state: LinkState, wanted: Link) -> None:
    assert diff(State({"eth0": state}), Plan(links=(wanted,))) == (Change(Action.SET, wanted),)


def test_a_known_neighbour_is_not_added_again() -> None:
    neighbour = Neighbour("eth0", "10.100.0.3", "02:00:00:00:00:03")
    plan = Plan(neighbours=(neighbour,))
    assert diff(State(neighbours=frozenset({neighbour})), plan) == ()
    assert diff(State(), plan) == (Change(Action.ADD, neighbour),)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Link("a-name-that-is-too-long"), "at most 15 bytes"),
        (lambda: Link("a/b"), "without '/'"),
        (lambda: Link("a", Kind.VETH), "has a peer"),
        (lambda: Link("a", Kind.BRIDGE, Peer("b")), "only a veth"),
        (lambda: Address("eth0", "10.0.0.300/24"), "10.0.0.300"),
        (lambda: Route("10.0.0.0/24"), "needs a gateway"),
        (lambda: Route("10.0.0.1/24", link="eth0"), "host bits"),
        (lambda: Route("10.0.0.0/24", via="nobody"), "nobody"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_with_its_value(make: object, says: str) -> None:
    assert callable(make)
    with pytest.raises(PlanError, match=says):
        make()


def test_default_is_of_the_family_of_its_gateway() -> None:
    assert Route("default", via="10.0.0.1").destination == "0.0.0.0/0"
    assert Route("default", via="fd00::1").destination == "::/0"


NAMES = st.sampled_from(["a", "b", "c", "d"])
BRIDGES = st.sampled_from(["", "x", "y"])


def _route(link: str, to: int, via: int) -> Route:
    return Route(f"10.{to}.0.0/16", f"10.0.{via}.9" if via else "", link)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    names = draw(st.lists(NAMES, unique=True))
    bridges = {n: draw(BRIDGES) for n in names}
    links = [Link(b, Kind.BRIDGE) for b in ("x", "y")]
    links += [
        Link(n, Kind.VETH, Peer("eth0", n), bridges[n]) if draw(st.booleans()) else Link(n, Kind.BRIDGE) for n in names
    ]
    on = st.sampled_from(["x", "y", *names])
    hosts = st.integers(1, 6)
    addresses = draw(st.lists(st.builds(lambda link, n: Address(link, f"10.0.{n}.1/24"), on, hosts), unique=True))
    routes = draw(
        st.lists(
            st.builds(_route, on, hosts, st.integers(0, 3)),
            unique_by=lambda r: r.destination,
        )
    )
    return Plan(tuple(draw(st.permutations(links))), tuple(addresses), tuple(routes))


@given(plans(), plans())
def test_after_the_steps_a_namespace_is_as_planned_whatever_it_was(before: Plan, after: Plan) -> None:
    start = carried_out(State(), diff(State(), before), before.owner)
    end = carried_out(start, diff(start, after), after.owner)
    assert diff(end, after) == ()
    assert set(end.links) == {link.name for link in after.links}
    assert set(end.addresses) == set(after.addresses)
    assert set(end.routes) == set(after.routes)


@given(plans(), plans())
def test_what_belongs_to_another_owner_is_never_touched(theirs: Plan, ours: Plan) -> None:
    ours = replace(ours, owner=Owner.PODS, links=(), addresses=())
    start = carried_out(State(), diff(State(), theirs), theirs.owner)
    mine = {r.destination for r in ours.routes}
    end = carried_out(start, diff(start, ours), ours.owner)
    assert end.links == start.links
    assert end.addresses == start.addresses
    for route, owner in start.routes.items():
        assert route.destination in mine or end.routes[route] == owner
