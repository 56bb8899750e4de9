"""Which address each Service has: stories in a line each, and what holds for every set of Services."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from build_balancer import service, short, wish
from portway.balancer.assign import Assigned, Wish, assign, is_balanced, is_ours, wish_of
from portway.balancer.pools import Pool, checked, pool
from portway.balancer.reasons import Reason, Refused
from portway.objects.core import LoadBalancerIngress, LoadBalancerStatus, ServiceStatus
from portway.objects.meta import ObjectMeta

SMALL = (pool("public", "203.0.113.0-203.0.113.3"),)  # .1, .2 and .3
TWO = (pool("office", "192.0.2.1-192.0.2.2"), pool("public", "203.0.113.0/24"))
BY_HAND = (pool("byhand", "192.0.2.0/24", automatic=False),)

STORIES: list[tuple[str, tuple[Pool, ...], list[Wish], dict[str, str]]] = [
    ("the lowest free address first, by age", SMALL, [wish("young", age="2"), wish("old", age="1")],
     {"old": "203.0.113.1", "young": "203.0.113.2"}),
    ("the same age: by name", SMALL, [wish("b"), wish("a")], {"a": "203.0.113.1", "b": "203.0.113.2"}),
    ("who has an address keeps it", SMALL, [wish("a"), wish("b", held="203.0.113.1")],
     {"a": "203.0.113.2", "b": "203.0.113.1"}),
    ("a pool that is used up", SMALL, [wish(n) for n in "abcd"],
     {"a": "203.0.113.1", "b": "203.0.113.2", "c": "203.0.113.3", "d": "PoolUsedUp"}),
    ("the next pool when the first is used up", TWO, [wish(n) for n in "abc"],
     {"a": "192.0.2.1", "b": "192.0.2.2", "c": "203.0.113.1"}),
    ("no pool at all", (), [wish("a")], {"a": "NoPool"}),
    ("a pool that gives nothing by itself", BY_HAND, [wish("a"), wish("b", requested="192.0.2.9")],
     {"a": "NoPool", "b": "192.0.2.9"}),
    ("a pool by name", TWO, [wish("a", pool="public")], {"a": "203.0.113.1"}),
    ("a name that no pool has", TWO, [wish("a", pool="nowhere")], {"a": "UnknownPool"}),
    ("an address that is asked for goes before the lowest free one", SMALL,
     [wish("a", age="1"), wish("b", age="2", requested="203.0.113.1")], {"a": "203.0.113.2", "b": "203.0.113.1"}),
    ("asked for, but somebody has it", SMALL, [wish("a", held="203.0.113.1"), wish("b", requested="203.0.113.1")],
     {"a": "203.0.113.1", "b": "AddressTaken"}),
    ("asked for by two: the older has it", SMALL,
     [wish("a", age="2", requested="203.0.113.1"), wish("b", age="1", requested="203.0.113.1")],
     {"a": "AddressTaken", "b": "203.0.113.1"}),
    ("asked for outside every pool", SMALL, [wish("a", requested="192.0.2.1")], {"a": "OutsidePools"}),
    ("asked for at an edge of the /24", SMALL, [wish("a", requested="203.0.113.0")], {"a": "OutsidePools"}),
    ("what is asked for is no address", SMALL, [wish("a", requested="example.com")], {"a": "NotAnAddress"}),
    ("asks for another address than it has", SMALL, [wish("a", held="203.0.113.1", requested="203.0.113.3")],
     {"a": "203.0.113.3"}),
    ("has an address that left the pools", SMALL, [wish("a", held="192.0.2.7")], {"a": "203.0.113.1"}),
    ("wants another pool than it is in", TWO, [wish("a", held="192.0.2.1", pool="public")], {"a": "203.0.113.1"}),
    ("shares with the same key and other ports", SMALL, [wish("a", share="k"), wish("b", share="k", ports=(81,))],
     {"a": "203.0.113.1", "b": "203.0.113.1"}),
    ("the same port cannot be shared: it gets its own", SMALL, [wish("a", share="k"), wish("b", share="k")],
     {"a": "203.0.113.1", "b": "203.0.113.2"}),
    ("the same port of an address that is asked for", SMALL,
     [wish("a", share="k", held="203.0.113.1"), wish("b", share="k", requested="203.0.113.1")],
     {"a": "203.0.113.1", "b": "PortTaken"}),
    ("another key", SMALL, [wish("a", share="k"), wish("b", share="l", ports=(81,))],
     {"a": "203.0.113.1", "b": "203.0.113.2"}),
    ("a key alone opens nobody else's address", SMALL,
     [wish("a", held="203.0.113.1"), wish("b", share="k", ports=(81,), requested="203.0.113.1")],
     {"a": "203.0.113.1", "b": "AddressTaken"}),
    ("one Local, one Cluster", SMALL,
     [wish("a", share="k", held="203.0.113.1"),
      wish("b", share="k", ports=(81,), local=True, requested="203.0.113.1")],
     {"a": "203.0.113.1", "b": "PolicyDiffers"}),
    ("both Local with the same pods", SMALL,
     [wish("a", share="k", local=True, pods=frozenset({("app", "x")})),
      wish("b", share="k", ports=(81,), local=True, pods=frozenset({("app", "x")}))],
     {"a": "203.0.113.1", "b": "203.0.113.1"}),
    ("both Local with other pods", SMALL,
     [wish("a", share="k", local=True, pods=frozenset({("app", "x")})),
      wish("b", share="k", ports=(81,), local=True, pods=frozenset({("app", "y")}))],
     {"a": "203.0.113.1", "b": "203.0.113.2"}),
    ("two hold one address that they may not share: the older keeps it", SMALL,
     [wish("a", age="2", held="203.0.113.1"), wish("b", age="1", held="203.0.113.1")],
     {"a": "203.0.113.2", "b": "203.0.113.1"}),
]  # fmt: skip


@pytest.mark.parametrize(("pools", "wishes", "expected"), [pytest.param(*rest, id=s) for s, *rest in STORIES])
def test_a_story(pools: tuple[Pool, ...], wishes: list[Wish], expected: dict[str, str]) -> None:
    for order in itertools.islice(itertools.permutations(wishes), 6):
        assert short(assign(order, checked(pools)).items()) == expected, "whatever the order"


def test_a_no_names_both_sides_and_the_cure() -> None:
    answers = assign([wish("a", held="203.0.113.1"), wish("b", requested="203.0.113.1")], SMALL)
    said = answers["shop/b"]
    assert isinstance(said, Refused) and said.reason is Reason.ADDRESS_TAKEN
    assert "203.0.113.1 is taken by Service shop/a" in str(said) and "portway.dev/share" in str(said)
    said = assign([wish("a", requested="192.0.2.1")], SMALL)["shop/a"]
    assert "spec.loadBalancerIP asks for 192.0.2.1" in str(said) and "203.0.113.0-203.0.113.3" in str(said)


_WISHES = st.lists(
    st.builds(
        lambda n, **more: (n, more),
        st.integers(0, 30),
        age=st.sampled_from(["", "1", "2"]),
        ports=st.sets(st.sampled_from([80, 81, 82]), min_size=1),
        share=st.sampled_from(["", "", "k"]),
        local=st.booleans(),
        requested=st.sampled_from(["", "", "203.0.113.2", "192.0.2.200"]),
    ),
    max_size=8,
    unique_by=lambda pair: pair[0],
)


@given(_WISHES)
def test_what_was_given_stays_given_after_a_restart(drawn: list[tuple[int, dict[str, Any]]]) -> None:
    wishes = [wish(f"s{n:02}", **more) for n, more in drawn]
    first = assign(wishes, TWO)
    held = {ref: str(a.address) for ref, a in first.items() if isinstance(a, Assigned)}
    again = [
        wish(f"s{n:02}", **more, **({"held": held[f"shop/s{n:02}"]} if f"shop/s{n:02}" in held else {}))
        for n, more in drawn
    ]
    after = assign(again, TWO)
    assert {ref: str(a.address) for ref, a in after.items() if isinstance(a, Assigned)} == held


@given(_WISHES)
def test_nobody_shares_a_door(drawn: list[tuple[int, dict[str, Any]]]) -> None:
    wishes = {w.service: w for n, more in drawn if (w := wish(f"s{n:02}", **more))}
    taken: set[object] = set()
    for ref, answer in assign(wishes.values(), TWO).items():
        if isinstance(answer, Assigned):
            doors = {(answer.address, door) for door in wishes[ref].doors}
            assert not doors & taken
            taken |= doors


def test_what_a_service_asks_for() -> None:
    asked = service("shop/web", "", annotations={"metallb.io/loadBalancerIPs": "203.0.113.9", "portway.dev/share": "k"})
    found = wish_of(asked)
    assert (found.requested, found.share) == ("203.0.113.9", "k") and found.doors == {("TCP", 80)}
    assert found.asked_by == "metadata.annotations[metallb.io/loadBalancerIPs]"
    both = service("shop/web", "", annotations={"portway.dev/address": "203.0.113.8"}, load_balancer_ip="203.0.113.7")
    assert wish_of(both).requested == "203.0.113.8", "the annotation goes before the deprecated field"
    assert str(wish_of(service(address="203.0.113.5")).held) == "203.0.113.5"


def test_a_status_that_holds_no_address() -> None:
    ingress = (LoadBalancerIngress(hostname="a.example.com"), LoadBalancerIngress(ip="x"))
    odd = service(address="")
    status = ServiceStatus(load_balancer=LoadBalancerStatus(ingress=ingress))
    assert wish_of(type(odd)(metadata=odd.metadata, spec=odd.spec, status=status)).held is None


@pytest.mark.parametrize(
    ("class_", "ours"), [(None, True), ("", True), ("portway.dev/lab", True), ("example.com/other", False)]
)
def test_whose_class_it_is(class_: str | None, ours: bool) -> None:
    assert is_ours(service(load_balancer_class=class_)) is ours


def test_only_load_balancers_that_stay_get_an_address() -> None:
    assert is_balanced(service())
    assert not is_balanced(service(type="NodePort"))
    going = service()
    meta = ObjectMeta(name="web", namespace="shop", deletion_timestamp="2026-01-01T00:00:00Z")
    assert not is_balanced(type(going)(metadata=meta, spec=going.spec, status=going.status))
