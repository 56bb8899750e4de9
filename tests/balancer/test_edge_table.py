"""A packet's journey through the edge's table, and what moves in the table when nodes come and go."""

from __future__ import annotations

import random
from collections import Counter
from ipaddress import IPv4Address

import pytest

from build_balancer import CONFIG, OTHER, VIP, edge, healthy, local, node, nodes, port, service, table
from build_nft import kernel_nft, nft_program, private_namespace
from portway.balancer import layout
from portway.balancer.intent import Check, Health
from portway.balancer.reasons import Reason
from portway.balancer.slots import SLOTS
from portway.balancer.slots import table as slot_table
from portway.nft.canonical import canonical
from portway.nft.fake import FakeNft
from portway.nft.packet import End, Outcome, Packet
from portway.nft.tables import DROP, Reject, RejectWith, Ruleset
from portway.nft.text import render
from portway.nft.transaction import diff
from portway.nft.walk import walk

CLIENT = "198.51.100.10"
THREE = nodes(3)


def sent(
    to: str, number: int = 80, proto: str = "tcp", *, source: str = CLIENT, sport: int = 40000, iif: str | None = None
) -> Packet:
    by = ("eth1" if source == CLIENT else "eth0") if iif is None else iif
    return Packet(IPv4Address(source), IPv4Address(to), number, proto, sport, iif=by)


def went(outcome: Outcome) -> str:
    """ "10.100.0.2:30080", or how it ended."""
    return f"{outcome.dnat[0]}:{outcome.dnat[1]}" if outcome.dnat else outcome.end.value


def over_many(ruleset: Ruleset, to: str = VIP, proto: str = "tcp", count: int = 200) -> Counter[str]:
    return Counter(went(walk(ruleset, sent(to, 80, proto, sport=20000 + n * 7), edge())) for n in range(count))


def test_connections_spread_over_the_node_ports_of_all_healthy_nodes() -> None:
    found = over_many(table([service()], THREE))
    assert found.keys() == {f"10.100.0.{n}:30080" for n in (2, 3, 4)}
    assert min(found.values()) > 40


def test_the_client_keeps_its_address() -> None:
    outcome = walk(table([service()], THREE), sent(VIP), edge())
    assert (outcome.end, outcome.masqueraded, str(outcome.packet.saddr)) == (End.FORWARDED, False, CLIENT)


@pytest.mark.parametrize("source", ["10.100.0.2", "10.0.1.2"])
def test_a_node_or_a_pod_hears_the_answer_from_the_edge(source: str) -> None:
    outcome = walk(table([service()], THREE), sent(VIP, source=source), edge())
    assert outcome.end is End.FORWARDED and outcome.masqueraded


def test_the_edge_itself_reaches_the_address() -> None:
    outcome = walk(table([service()], THREE), sent(VIP, source="198.51.100.1", iif=""), edge())
    assert outcome.end is End.FORWARDED and went(outcome).endswith(":30080")


@pytest.mark.parametrize(
    ("sentence", "packet", "end", "reject"),
    [
        ("a port that no Service has", sent(VIP, 81), End.REJECTED, RejectWith.TCP_RESET),
        ("the port with the other protocol", sent(VIP, 80, "udp"), End.REJECTED, RejectWith.PORT_UNREACHABLE),
        ("the edge asks for such a port", sent(VIP, 81, source="198.51.100.1", iif=""), End.REJECTED, RejectWith.TCP_RESET),
        ("an address that nobody has", sent("203.0.113.99"), End.FORWARDED, None),
        ("a node's own address", sent("10.100.0.2", 30080), End.FORWARDED, None),
        ("the edge's own address", sent("10.100.0.1", 80), End.LOCAL, None),
    ],
)  # fmt: skip
def test_what_is_not_forwarded(sentence: str, packet: Packet, end: End, reject: RejectWith | None) -> None:
    outcome = walk(table([service()], THREE), packet, edge())
    assert (outcome.end, outcome.reject, outcome.dnat) == (end, reject, None), sentence


def test_nobody_healthy_refuses_and_says_so() -> None:
    outcome = walk(table([service()], THREE, {}), sent(VIP), edge())
    assert (outcome.end, outcome.reject) == (End.REJECTED, RejectWith.TCP_RESET)
    assert Reason.ALL_UNHEALTHY.words in str(outcome.steps[-1].comment)


def test_source_ranges() -> None:
    guarded = table([service(load_balancer_source_ranges=("198.51.100.0/28", "198.51.100.0/25"))], THREE)
    assert walk(guarded, sent(VIP), edge()).end is End.FORWARDED
    assert walk(guarded, sent(VIP, source="192.0.2.1"), edge()).end is End.DROPPED
    only_six = table([service(load_balancer_source_ranges=("2001:db8::/32",))], THREE)
    assert walk(only_six, sent(VIP), edge()).end is End.DROPPED


def test_affinity_sends_all_connections_of_a_client_to_one_node() -> None:
    assert len(over_many(table([service(session_affinity="ClientIP")], THREE))) == 1


def test_the_local_policy_uses_only_nodes_that_pass_its_own_check() -> None:
    health: Health = {**healthy("node-1", "node-2", "node-3"), **healthy("node-2", check=Check(31000))}
    made = table([service(), local()], THREE, health)
    assert over_many(made, OTHER).keys() == {"10.100.0.3:30080"}
    assert len(over_many(made, VIP)) == 3


def test_services_with_the_same_local_nodes_share_a_table_of_slots() -> None:
    health: Health = {**healthy("node-1", check=Check(31000)), **healthy("node-1", check=Check(31001))}
    two = table([local("shop/a", VIP), local("shop/b", OTHER, port(80, 30081), health=31001)], THREE, health)
    assert len(two.elements[layout.SLOT_MAP]) == SLOTS


def test_two_services_that_claim_one_port_the_first_by_name_has_it() -> None:
    made = table([service("shop/b", VIP, port(80, 30081)), service("shop/a", VIP)], nodes(1))
    assert over_many(made).keys() == {"10.100.0.2:30080"}


@pytest.mark.parametrize("leaving", [1, 5, 10])
def test_a_node_that_leaves_moves_only_its_own_connections(leaving: int) -> None:
    ten = nodes(10)
    before, after = table([service()], ten), table([service()], [n for n in ten if n.name != f"node-{leaving}"])
    chance = random.Random(leaving)
    gone, moved = f"10.100.0.{leaving + 1}:30080", 0
    flows = [
        sent(VIP, source=f"192.0.2.{chance.randint(1, 254)}", sport=chance.randint(1024, 65535)) for _ in range(300)
    ]
    for flow in flows:
        first, second = went(walk(before, flow, edge())), went(walk(after, flow, edge()))
        assert second == first or first == gone, "nobody else is sent to another node"
        moved += first != second
    assert moved / len(flows) <= 0.15


def test_each_of_ten_nodes_has_about_its_share_of_slots() -> None:
    shares = Counter(slot_table([f"node-{n}" for n in range(10)]))
    assert sum(shares.values()) == SLOTS
    assert 0.6 * SLOTS / 10 < min(shares.values()) <= max(shares.values()) < 1.4 * SLOTS / 10


def test_a_change_of_health_touches_only_slots() -> None:
    services = [service(f"shop/s{n:02}", f"203.0.113.{n + 2}", port(80, 30000 + n)) for n in range(50)]
    before = table(services, THREE)
    after = table(services, THREE, healthy("node-1", "node-3"))
    moved = {k for k, v in before.elements[layout.SLOT_MAP].items() if after.elements[layout.SLOT_MAP][k] != v}
    assert 0.2 * SLOTS < len(moved) < 0.5 * SLOTS
    for name in (layout.FORWARDING, layout.GROUPS, layout.DOORS, layout.ADDRESSES):
        assert before.elements[name] == after.elements[name]
    fake = FakeNft()
    fake.apply(diff(None, before))
    fake.apply(diff(before, after))
    assert fake.read(after.family, after.name) == canonical(after)


def test_the_table_does_not_depend_on_the_order_and_no_service_makes_a_chain() -> None:
    services = [service(f"shop/s{n}", f"203.0.113.{n + 2}") for n in range(5)]
    assert table(services, THREE) == table(reversed(services), reversed(THREE))
    assert table(services, THREE).chains == table([], ()).chains == layout.chains(CONFIG)


def test_long_names_fit_into_comments() -> None:
    made = table([service(f"{'n' * 63}/{'s' * 63}", VIP, port(name="p" * 15))], [node(1)])
    (element,) = made.elements[layout.FORWARDING].values()
    assert len(element.comment.encode()) <= 127


def test_nft_and_the_kernel_take_the_table_and_give_it_back() -> None:
    guarded = service("shop/guarded", OTHER, load_balancer_source_ranges=("198.51.100.0/24", "192.0.2.7/32"))
    made = table([service(), guarded], THREE)
    with private_namespace() as namespace:
        nft_program(namespace, "-f", "-", stdin=render(made))
    with kernel_nft() as kernel:
        kernel.apply(diff(None, made))
        assert kernel.read(made.family, made.name) == canonical(made)
        fewer = table([guarded], THREE[:2])
        kernel.apply(diff(kernel.read(made.family, made.name), fewer))
        assert kernel.read(made.family, made.name) == canonical(fewer)


def test_every_rule_that_refuses_says_why() -> None:
    words = {r.words for r in Reason}
    rules = [rule for chain in table([], ()).chains for rule in chain.rules]
    refusing = [r for r in rules if any(isinstance(s, Reject) or s == DROP for s in r.statements)]
    assert len(refusing) == 5 and all(r.comment in words for r in refusing)
