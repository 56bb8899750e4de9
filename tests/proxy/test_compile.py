"""The table that intents become: its elements, its chains, and that it depends on the intents alone."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from build_proxy import CONFIG, NODE_2, endpoint, intents, plain, port, ruleset, service, slice_of
from portway.cluster.origin import Origin
from portway.nft.tables import DnatMap, Element, Key, Numgen, OrMark, Ruleset, goto
from portway.proxy import layout
from portway.proxy.compile import Compiled, advance, comment, compile_all, delta, empty, fragment
from portway.proxy.intent import ServicePortIntent, Target

A = ip_address
WEB, API = A("10.3.240.9"), A("10.3.240.10")


def pods(count: int, first: int = 2) -> tuple[Target, ...]:
    return tuple(Target(A(f"10.0.1.{first + n}"), 8080, local=True) for n in range(count))


def intent(
    name: str = "shop/web", address: object = WEB, targets: tuple[Target, ...] = pods(2), node_port: int = 0
) -> ServicePortIntent:
    return ServicePortIntent(
        service=name,
        port_name="http",
        protocol="tcp",
        port=80,
        cluster_addresses=(A(str(address)),),
        node_port=node_port,
        targets=targets,
        origin=Origin("Service", name, "spec.ports[0]"),
    )


def elements(table: Ruleset, name: str) -> dict[Key, Element]:
    return dict(table.elements.get(name, {}).items())


def chains(table: Ruleset) -> set[str]:
    return {c.name for c in table.chains if "pick" in c.name}


def test_a_service_is_elements_and_nothing_else() -> None:
    bare, table = empty(CONFIG).ruleset, compile_all([intent()], CONFIG)
    assert table.sets == bare.sets
    assert {c.name for c in table.chains} - {c.name for c in bare.chains} == {"pick-2"}
    assert elements(table, layout.SERVICES) == {(WEB, "tcp", 80): Element(goto("pick-2"), "shop/web:http")}
    assert elements(table, layout.ENDPOINTS) == {
        (WEB, "tcp", 80, 0): Element((A("10.0.1.2"), 8080)),
        (WEB, "tcp", 80, 1): Element((A("10.0.1.3"), 8080)),
    }
    assert elements(table, layout.CLUSTER_ADDRESSES) == {(WEB,): Element(comment="shop/web")}


def test_a_node_port_has_maps_of_its_own_and_always_masquerades() -> None:
    table = compile_all([intent(node_port=30080)], CONFIG)
    assert elements(table, layout.NODE_PORTS) == {("tcp", 30080): Element(goto("node-pick-2"), "shop/web:http")}
    assert set(elements(table, layout.NODE_PORT_ENDPOINTS)) == {("tcp", 30080, 0), ("tcp", 30080, 1)}
    mark, choice = table.chain("node-pick-2").rules
    assert mark.statements == (OrMark(CONFIG.masquerade_mark),)
    assert isinstance(choice.statements[0], DnatMap)
    assert choice.statements[0].key[-1] == Numgen(2)


def test_nobody_behind_it_is_one_element_that_says_so() -> None:
    table = compile_all([intent(targets=(), node_port=30080)], CONFIG)
    refused = Element(layout.REFUSE, "shop/web:http")
    assert elements(table, layout.NO_ENDPOINTS) == {(WEB, "tcp", 80): refused}
    assert elements(table, layout.NODE_PORTS_NO_ENDPOINTS) == {("tcp", 30080): refused}
    assert elements(table, layout.SERVICES) == elements(table, layout.NODE_PORTS) == {}
    assert chains(table) == set()


def test_one_chain_for_each_count_in_use() -> None:
    ten = [intent(f"shop/s{n}", f"10.3.240.{n + 10}", pods(n % 3)) for n in range(10)]
    assert chains(compile_all(ten, CONFIG)) == {"pick-1", "pick-2"}


def test_only_pods_of_this_node_can_reach_themselves_here() -> None:
    objects = (service(), slice_of("shop/web", endpoint("10.0.1.2"), endpoint("10.0.2.2", node="node-2")))
    here, there = ruleset(*objects), ruleset(*objects, node=NODE_2)
    assert set(elements(here, layout.HAIRPIN)) == {(A("10.0.1.2"), A("10.0.1.2"), "tcp", 8080)}
    assert set(elements(there, layout.HAIRPIN)) == {(A("10.0.2.2"), A("10.0.2.2"), "tcp", 8080)}


def test_the_same_number_with_two_protocols_is_two_fronts() -> None:
    both = service("shop/dns", "10.3.240.9", port(53, "tcp", "TCP"), port(53, "udp", "UDP"))
    table = ruleset(
        both,
        slice_of("shop/dns", endpoint("10.0.1.2"), ports={"tcp": 53}),
        slice_of("shop/dns", endpoint("10.0.1.3"), ports={"udp": 5353}, protocol="UDP", suffix="udp"),
    )
    assert elements(table, layout.ENDPOINTS) == {
        (WEB, "tcp", 53, 0): Element((A("10.0.1.2"), 53)),
        (WEB, "udp", 53, 0): Element((A("10.0.1.3"), 5353)),
    }


def test_comments_fit_the_kernel_and_stay_different() -> None:
    long = "n" * 63 + "/" + "s" * 63
    one, two = comment(intent(long + "a")), comment(intent(long + "b"))
    assert len(one.encode()) <= 128
    assert one.startswith("n" * 63 + "/sss")
    assert one != two
    assert comment(intent()) == "shop/web:http"


def test_a_nameless_port_goes_by_its_number() -> None:
    (found,) = intents(service("shop/web", "10.3.240.9", port(8000)))
    assert comment(found) == "shop/web:8000"


def test_sets_and_chains_are_sorted_as_a_kernel_lists_them() -> None:
    table = compile_all([intent(f"shop/s{n}", f"10.3.240.{n}", pods(n)) for n in range(1, 13)], CONFIG)
    for names in ([s.name for s in table.sets], [c.name for c in table.chains]):
        assert names == sorted(names)


def test_two_services_with_one_address_the_first_by_name_has_it() -> None:
    first, second = intent("a/web", targets=pods(1)), intent("b/web", targets=pods(3))
    before = advance(empty(CONFIG), {"b/web": (second,)})
    both = advance(before, {"a/web": (first,)})
    assert plain(both.ruleset) == plain(compile_all([second, first], CONFIG))
    assert elements(both.ruleset, layout.SERVICES)[WEB, "tcp", 80].comment == "a/web:http"
    assert chains(both.ruleset) == {"pick-1"}
    assert plain(advance(both, {"a/web": ()}).ruleset) == plain(before.ruleset), "it lets go, the other gets it"


def test_of_many_that_want_one_address_the_first_by_name_has_it_however_they_came() -> None:
    rivals = [intent(f"{letter}/web", targets=pods(n + 1)) for n, letter in enumerate("abcdefgh")]
    for order in (rivals, rivals[::-1], rivals[4:] + rivals[:4]):
        compiled = empty(CONFIG)
        for rival in order:
            compiled = advance(compiled, {rival.service: (rival,)})
        for rival in rivals:
            comments = {e.comment for e in elements(compiled.ruleset, layout.SERVICES).values()}
            assert comments == {f"{rival.service}:http"}
            compiled = advance(compiled, {rival.service: ()})
        assert plain(compiled.ruleset) == plain(empty(CONFIG).ruleset)


def test_two_services_with_the_same_pods_share_their_hairpin() -> None:
    one, two = intent("a/web", WEB, pods(1)), intent("b/web", API, pods(1))
    both = advance(empty(CONFIG), {"a/web": (one,), "b/web": (two,)})
    left = advance(both, {"a/web": ()})
    assert len(elements(left.ruleset, layout.HAIRPIN)) == 1
    assert elements(advance(left, {"b/web": ()}).ruleset, layout.HAIRPIN) == {}


def test_nothing_new_is_the_very_same_value() -> None:
    before = advance(empty(CONFIG), {"shop/web": (intent(),)})
    assert advance(before, {"shop/web": (intent(),), "shop/gone": ()}) is before


def test_all_gone_is_the_empty_table() -> None:
    filled = advance(empty(CONFIG), {"shop/web": (intent(node_port=30080),)})
    assert plain(advance(filled, {"shop/web": ()}).ruleset) == plain(empty(CONFIG).ruleset)


def test_a_change_leaves_the_chains_of_others_alone() -> None:
    before = advance(empty(CONFIG), {"a/web": (intent("a/web", WEB),), "b/web": (intent("b/web", API),)})
    after = advance(before, {"b/web": (intent("b/web", API, pods(2, first=9)),)})
    old, new = delta(before, after)
    assert after.ruleset.chains is before.ruleset.chains
    assert {name for name, e in new.elements.items() if e} == {layout.ENDPOINTS, layout.HAIRPIN}
    assert {key[0] for key in new.elements[layout.ENDPOINTS]} == {API}
    assert old.elements[layout.ENDPOINTS].keys() == new.elements[layout.ENDPOINTS].keys()


def test_of_two_ports_with_the_same_number_the_first_counts() -> None:
    first, second = intent(targets=pods(1)), intent(targets=pods(3))
    assert fragment([first, second]).claims[layout.SERVICES, (WEB, "tcp", 80)][0][2].value == goto("pick-1")


names = st.sampled_from(["a/web", "b/web", "b/api", "c/db"])
some_targets = st.sets(st.sampled_from(pods(4)), max_size=4).map(lambda s: tuple(sorted(s)))
some_intents = st.builds(
    lambda name, address, targets, node_port: intent(name, address, targets, node_port),
    names,
    st.sampled_from([WEB, API, A("10.3.240.11")]),  # fewer addresses than Services: they collide
    some_targets,
    st.sampled_from([0, 30080, 30081]),
)
steps = st.lists(st.dictionaries(names, st.none() | some_intents, min_size=1, max_size=3), max_size=6)


@given(steps)
def test_step_by_step_is_the_same_as_all_at_once(history: list[dict[str, ServicePortIntent | None]]) -> None:
    now: dict[str, ServicePortIntent] = {}
    compiled: Compiled = empty(CONFIG)
    for step in history:
        change = {name: (_named(i, name),) if i else () for name, i in step.items()}
        now = {**now, **{n: c[0] for n, c in change.items() if c}}
        now = {n: i for n, i in now.items() if change.get(n, True)}
        compiled = advance(compiled, change)
    assert plain(compiled.ruleset) == plain(compile_all(now.values(), CONFIG))
    assert plain(compiled.ruleset) == plain(compile_all(reversed(now.values()), CONFIG))


@given(steps)
def test_delta_holds_exactly_what_differs(history: list[dict[str, ServicePortIntent | None]]) -> None:
    before = empty(CONFIG)
    for step in history:
        after = advance(before, {name: (_named(i, name),) if i else () for name, i in step.items()})
        old, new = delta(before, after)
        for s in layout.SETS:
            was, is_ = elements(before.ruleset, s.name), elements(after.ruleset, s.name)
            assert old.elements[s.name] == {k: v for k, v in was.items() if is_.get(k) != v}
            assert new.elements[s.name] == {k: v for k, v in is_.items() if was.get(k) != v}
        before = after


def _named(given_: ServicePortIntent, name: str) -> ServicePortIntent:
    return intent(name, given_.cluster_addresses[0], given_.targets, given_.node_port)


@pytest.mark.parametrize("count", [1, 2, 57])
def test_chain_names_are_plain_and_say_their_count(count: int) -> None:
    for name in (layout.pick_chain(count), layout.node_pick_chain(count)):
        assert layout.pick(name, CONFIG).name == name
        assert name.replace("-", "").isalnum()
        assert name.endswith(f"-{count}")
