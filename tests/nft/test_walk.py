"""A packet's way through a table, row by row: a sentence, a packet, and where it ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from build_nft import (
    FILTER_FORWARD,
    FILTER_IN,
    NAT_IN,
    NAT_LOCAL,
    NAT_OUT,
    TABLE,
    TO_SERVICE,
    address,
    network,
    service,
    services,
)
from portway.nft.tables import (
    ACCEPT,
    DROP,
    RETURN,
    Base,
    Chain,
    ChainType,
    ClearMark,
    Counter,
    DnatMap,
    Element,
    Family,
    Field,
    Hook,
    InSet,
    Key,
    MarkBits,
    Masquerade,
    Match,
    OrMark,
    Reject,
    RejectWith,
    Rule,
    Ruleset,
    Set,
    Statement,
    Type,
    Verdict,
    VerdictKind,
    VerdictMap,
    goto,
    jump,
)
from portway.nft.walk import End, Host, Packet, outcomes, walk

CLIENT, NODE, POD = address("198.51.100.10"), address("10.100.0.2"), address("10.0.1.2")
OTHER = address("10.0.2.2")
WEB = address("10.3.240.9")
HOST = Host(frozenset({NODE}), lambda to: "eth0" if to == OTHER else "veth1")
FILTER_PRE = Base(ChainType.FILTER, Hook.PREROUTING, -150)
LATER = Base(ChainType.FILTER, Hook.INPUT, 10)


def table(*chains: Chain, sets: tuple[Set, ...] = (), **elements: dict[Key, Element]) -> Ruleset:
    return Ruleset(Family.IP, TABLE, sets, chains, elements)


def chain(base: Base | None, *rules: tuple[Statement, ...], name: str = "here") -> Chain:
    return Chain(name, tuple(Rule(r) for r in rules), base)


def two_pods() -> Ruleset:
    return services(*service("10.3.240.9", "10.0.1.2", "10.0.2.2"))


def test_a_service_sends_a_packet_to_each_of_its_pods() -> None:
    ends = outcomes(two_pods(), Packet(CLIENT, WEB), HOST)
    assert {o.dnat for o in ends} == {(POD, 8080), (OTHER, 8080)}, ends
    assert {o.end for o in ends} == {End.FORWARDED}


def test_the_lot_is_an_argument() -> None:
    asked: list[int] = []

    def second(mod: int) -> int:
        asked.append(mod)
        return 1

    assert walk(two_pods(), Packet(CLIENT, WEB), HOST, choose=second).dnat == (OTHER, 8080)
    assert asked == [2]


def test_the_outcome_is_printed_with_the_rules_and_elements_that_matched() -> None:
    printed = str(walk(two_pods(), Packet(CLIENT, WEB), HOST))
    lines = [line.split() for line in printed.splitlines()]
    assert printed.startswith("forwarded, dnat to 10.0.1.2 port 8080\n")
    assert [line[:2] for line in lines[1:]] == [["prerouting", c] for c in ("incoming", "incoming", "pick-2", "pick-2")]
    assert "@services 10.3.240.9 . tcp . 80 : goto pick-2" in printed
    assert walk(two_pods(), Packet(CLIENT, WEB), HOST).steps[1].comment == "shop/web"


def test_the_packet_leaves_by_the_interface_of_its_new_destination() -> None:
    ends = outcomes(two_pods(), Packet(CLIENT, WEB), HOST)
    assert {(o.packet.daddr, o.packet.oif) for o in ends} == {(POD, "veth1"), (OTHER, "eth0")}


NOT_OURS = [
    ("another port", Packet(CLIENT, WEB, 81)),
    ("another protocol", Packet(CLIENT, WEB, proto="udp")),
    ("another address", Packet(CLIENT, address("10.3.240.10"))),
    ("a ping, which has no ports", Packet(CLIENT, WEB, proto="icmp")),
    ("a packet of a connection that is there", Packet(CLIENT, WEB, ct_state="established")),
    ("one that the node itself sends: nothing hangs on output here", Packet(NODE, WEB, iif="")),
]


@pytest.mark.parametrize(("sentence", "packet"), NOT_OURS, ids=[r[0] for r in NOT_OURS])
def test_what_is_not_for_a_service_passes_untouched(sentence: str, packet: Packet) -> None:
    (end,) = outcomes(two_pods(), packet, HOST)
    assert (end.end, end.dnat, end.steps) == (End.FORWARDED, None, ()), f"{sentence}: {end}"


SEEN = Match(Field.CT_STATE, ("new", "established"))
ROWS: list[tuple[str, tuple[Statement, ...], Packet, End]] = [
    ("an address matches", (Match(Field.SADDR, CLIENT), DROP), Packet(CLIENT, NODE), End.DROPPED),
    ("another does not", (Match(Field.SADDR, POD), DROP), Packet(CLIENT, NODE), End.LOCAL),
    ("negated, it does", (Match(Field.SADDR, POD, True), DROP), Packet(CLIENT, NODE), End.DROPPED),
    ("a prefix", (Match(Field.SADDR, network("198.51.100.0/24")), DROP), Packet(CLIENT, NODE), End.DROPPED),
    ("another prefix", (Match(Field.SADDR, network("10.0.0.0/8")), DROP), Packet(CLIENT, NODE), End.LOCAL),
    ("one of several ports", (Match(Field.DPORT, (80, 443)), DROP), Packet(CLIENT, NODE, 443), End.DROPPED),
    ("none of several", (Match(Field.DPORT, (80, 443), True), DROP), Packet(CLIENT, NODE, 22), End.DROPPED),
    ("a source port", (Match(Field.SPORT, 40000), DROP), Packet(CLIENT, NODE), End.DROPPED),
    (
        "a ping has no port, not even another one",
        (Match(Field.DPORT, 80, True), DROP),
        Packet(CLIENT, NODE, proto="icmp"),
        End.LOCAL,
    ),
    ("a protocol", (Match(Field.L4PROTO, "udp"), DROP), Packet(CLIENT, NODE, proto="udp"), End.DROPPED),
    ("an interface", (Match(Field.IIFNAME, "eth0"), DROP), Packet(CLIENT, NODE), End.DROPPED),
    ("interfaces that begin so", (Match(Field.IIFNAME, "veth*"), DROP), Packet(POD, NODE, iif="veth1"), End.DROPPED),
    ("others do not", (Match(Field.IIFNAME, "veth*"), DROP), Packet(POD, NODE), End.LOCAL),
    ("a mark", (Match(Field.MARK, 7), DROP), Packet(CLIENT, NODE, mark=7), End.DROPPED),
    ("a bit of a mark", (MarkBits(4), DROP), Packet(CLIENT, NODE, mark=7), End.DROPPED),
    ("not all bits", (MarkBits(12), DROP), Packet(CLIENT, NODE, mark=7), End.LOCAL),
    ("a bit that was just set", (OrMark(8), MarkBits(12), DROP), Packet(CLIENT, NODE, mark=7), End.DROPPED),
    ("a bit that was just cleared", (ClearMark(4), MarkBits(4), DROP), Packet(CLIENT, NODE, mark=7), End.LOCAL),
    ("one of several states", (SEEN, DROP), Packet(CLIENT, NODE, ct_state="established"), End.DROPPED),
    ("none of them", (SEEN, DROP), Packet(CLIENT, NODE, ct_state="invalid"), End.LOCAL),
    ("not that state", (Match(Field.CT_STATE, "new", True), DROP), Packet(CLIENT, NODE), End.LOCAL),
    (
        "a translated connection",
        (Match(Field.CT_STATUS, "dnat"), DROP),
        Packet(CLIENT, NODE, ct_status=frozenset({"dnat", "snat"})),
        End.DROPPED,
    ),
    ("one that is not", (Match(Field.CT_STATUS, "dnat", True), DROP), Packet(CLIENT, NODE), End.DROPPED),
    ("an address of the host", (Match(Field.FIB_DADDR_TYPE, "local"), DROP), Packet(CLIENT, NODE), End.DROPPED),
    (
        "a sender elsewhere",
        (Match(Field.FIB_SADDR_TYPE, ("unicast", "local")), DROP),
        Packet(CLIENT, NODE),
        End.DROPPED,
    ),
    ("a counter counts and goes on", (Counter(), DROP), Packet(CLIENT, NODE), End.DROPPED),
    ("so does continue", (Verdict(VerdictKind.CONTINUE), DROP), Packet(CLIENT, NODE), End.DROPPED),
    ("reject", (Reject(),), Packet(CLIENT, NODE), End.REJECTED),
    ("a reset is for TCP", (Reject(RejectWith.TCP_RESET),), Packet(CLIENT, NODE), End.REJECTED),
    ("others are dropped by it", (Reject(RejectWith.TCP_RESET),), Packet(CLIENT, NODE, proto="udp"), End.DROPPED),
    ("accept", (ACCEPT,), Packet(CLIENT, NODE), End.LOCAL),
    (
        "an address of the other family matches nothing",
        (Match(Field.SADDR, CLIENT, True), DROP),
        Packet(address("fd00::1"), address("::1")),
        End.LOCAL,
    ),
]


@pytest.mark.parametrize(("sentence", "statements", "packet", "end"), ROWS, ids=[r[0] for r in ROWS])
def test_a_statement_means_what_it_says(
    sentence: str, statements: tuple[Statement, ...], packet: Packet, end: End
) -> None:
    outcome = walk(table(chain(FILTER_IN, statements)), packet, HOST)
    assert outcome.end is end, f"{sentence}: {outcome}"


FLOW: list[tuple[str, tuple[Chain, ...], End]] = [
    (
        "accept ends its chain, and the next base chain still sees the packet",
        (chain(FILTER_IN, (ACCEPT,), (DROP,)), chain(LATER, (DROP,), name="later")),
        End.DROPPED,
    ),
    ("drop ends all", (chain(FILTER_IN, (DROP,)), chain(LATER, (Reject(),), name="later")), End.DROPPED),
    ("a jump comes back", (chain(FILTER_IN, (jump("a"),), (DROP,)), chain(None, (Counter(),), name="a")), End.DROPPED),
    (
        "return comes back at once",
        (chain(FILTER_IN, (jump("a"),), (Reject(),)), chain(None, (RETURN,), (DROP,), name="a")),
        End.REJECTED,
    ),
    ("a goto does not come back", (chain(FILTER_IN, (goto("a"),), (DROP,)), chain(None, name="a")), End.LOCAL),
    (
        "a goto within a jump comes back to the jump",
        (
            chain(FILTER_IN, (jump("a"),), (DROP,)),
            chain(None, (goto("b"),), (Reject(),), name="a"),
            chain(None, name="b"),
        ),
        End.DROPPED,
    ),
    (
        "accept within a jump ends the base chain",
        (chain(FILTER_IN, (jump("a"),), (DROP,)), chain(None, (ACCEPT,), name="a")),
        End.LOCAL,
    ),
    (
        "chains of one hook run by priority",
        (chain(LATER, (DROP,), name="later"), chain(FILTER_IN, (Reject(),))),
        End.REJECTED,
    ),
    ("forward is not for the host itself", (chain(FILTER_FORWARD, (DROP,)),), End.LOCAL),
]


@pytest.mark.parametrize(("sentence", "chains", "end"), FLOW, ids=[r[0] for r in FLOW])
def test_chains_are_walked_as_the_kernel_walks_them(sentence: str, chains: tuple[Chain, ...], end: End) -> None:
    outcome = walk(table(*chains), Packet(CLIENT, NODE), HOST)
    assert outcome.end is end, f"{sentence}: {outcome}"


def test_sixteen_jumps_are_too_many() -> None:
    with pytest.raises(RecursionError, match="more than 16"):
        walk(table(chain(FILTER_IN, (jump("a"),)), chain(None, (jump("a"),), name="a")), Packet(CLIENT, NODE), HOST)


def test_masquerade_is_for_new_connections() -> None:
    rules = table(chain(NAT_OUT, (Match(Field.OIFNAME, "eth0"), MarkBits(0x4000), Masquerade())))
    packet = Packet(POD, OTHER, mark=0x4000)
    assert walk(rules, packet, HOST).masqueraded
    assert not walk(rules, replace(packet, ct_state="established"), HOST).masqueraded
    assert not walk(rules, replace(packet, mark=0), HOST).masqueraded
    assert not walk(rules, replace(packet, daddr=POD), HOST).masqueraded


def test_a_mark_set_before_routing_is_seen_after_it() -> None:
    rules = table(chain(FILTER_PRE, (OrMark(0x4000),), name="a"), chain(NAT_OUT, (MarkBits(0x4000), Masquerade())))
    outcome = walk(rules, Packet(CLIENT, OTHER), HOST)
    assert (outcome.masqueraded, outcome.packet.mark) == (True, 0x4000)


TO_POD: dict[Key, Element] = {(WEB, "tcp", 80): Element((POD, 8080))}
TO_NODE: dict[Key, Element] = {(WEB, "tcp", 80): Element((NODE, 8080))}
DNATS = (Set("m", (Type.ADDR, Type.PROTO, Type.PORT), (Type.ADDR, Type.PORT)),)
DNAT = DnatMap(TO_SERVICE, "m")


def test_after_a_translation_no_nat_chain_of_the_hook_is_asked() -> None:
    late = Base(ChainType.NAT, Hook.PREROUTING, -50)
    rules = table(chain(NAT_IN, (DNAT,)), chain(late, (DROP,), name="late"), sets=DNATS, m=TO_POD)
    assert walk(rules, Packet(CLIENT, WEB), HOST).dnat == (POD, 8080)
    assert walk(rules, Packet(CLIENT, OTHER), HOST).end is End.DROPPED


def test_what_is_not_found_leaves_the_next_rule_its_turn() -> None:
    rules = table(chain(NAT_IN, (DNAT,), (Reject(),)), sets=DNATS, m=TO_POD)
    assert walk(rules, Packet(CLIENT, OTHER), HOST).end is End.REJECTED


def test_a_translation_to_the_host_itself_is_delivered_there() -> None:
    rules = table(
        chain(NAT_IN, (DNAT,)),
        chain(FILTER_IN, (Match(Field.CT_STATUS, "dnat"), DROP), name="in"),
        sets=DNATS,
        m=TO_NODE,
    )
    assert walk(rules, Packet(CLIENT, WEB), HOST).end is End.DROPPED


def test_what_the_host_sends_is_translated_on_output_and_routed_again() -> None:
    rules = table(
        chain(NAT_LOCAL, (DNAT,)),
        chain(NAT_OUT, (Match(Field.OIFNAME, "veth1"), Masquerade()), name="out"),
        sets=DNATS,
        m=TO_POD,
    )
    outcome = walk(rules, Packet(NODE, WEB, iif=""), HOST)
    assert (outcome.end, outcome.dnat, outcome.masqueraded, outcome.packet.oif) == (
        End.FORWARDED,
        (POD, 8080),
        True,
        "veth1",
    )


def test_what_the_host_sends_to_itself_comes_in_through_lo_and_is_translated_once() -> None:
    twice = chain(NAT_IN, (DROP,), name="in")
    lo = chain(FILTER_IN, (Match(Field.IIFNAME, "lo"), Reject()), name="lo")
    rules = table(chain(NAT_LOCAL, (DNAT,)), twice, sets=DNATS, m=TO_NODE)
    assert walk(rules, Packet(NODE, WEB, iif=""), HOST).end is End.LOCAL
    assert walk(replace(rules, chains=(*rules.chains, lo)), Packet(NODE, WEB, iif=""), HOST).end is End.REJECTED


def test_an_interval_set_holds_the_addresses_of_its_networks() -> None:
    ranges = Set("ranges", (Type.ADDR, Type.PORT), interval=True)
    rules = table(
        chain(FILTER_IN, (InSet((Field.SADDR, Field.DPORT), "ranges", True), DROP)),
        sets=(ranges,),
        ranges={(network("198.51.100.0/24"), 80): Element()},
    )
    assert walk(rules, Packet(CLIENT, NODE), HOST).end is End.LOCAL
    assert walk(rules, Packet(CLIENT, NODE, 81), HOST).end is End.DROPPED
    assert walk(rules, Packet(POD, NODE), HOST).end is End.DROPPED


def test_a_verdict_map_may_hold_any_verdict() -> None:
    verdicts = Set("v", (Type.PORT,), (Type.VERDICT,))
    held: dict[Key, Element] = {
        (1,): Element(DROP),
        (2,): Element(RETURN),
        (3,): Element(Verdict(VerdictKind.CONTINUE)),
    }
    rules = table(chain(FILTER_IN, (VerdictMap((Field.DPORT,), "v"),), (Reject(),)), sets=(verdicts,), v=held)
    ends = [walk(rules, Packet(CLIENT, NODE, port), HOST).end for port in range(1, 5)]
    assert ends == [End.DROPPED, End.LOCAL, End.REJECTED, End.REJECTED]


def test_broadcast_and_multicast_are_told_apart() -> None:
    host = Host(frozenset({NODE}), broadcasts=frozenset({address("10.100.0.255")}))
    words = ["10.100.0.2", "127.0.0.53", "10.100.0.255", "255.255.255.255", "224.0.0.251", "8.8.8.8", "ff02::1", "::1"]
    assert [host.address_type(address(w)) for w in words] == [
        "local",
        "local",
        "broadcast",
        "broadcast",
        "multicast",
        "unicast",
        "multicast",
        "local",
    ]


def test_the_walk_does_not_guess() -> None:
    with pytest.raises(TypeError, match="does not know"):
        walk(table(chain(FILTER_IN, (object(),))), Packet(CLIENT, NODE), HOST)  # type: ignore[arg-type]


def test_equal_ends_are_one_outcome_whichever_rules_led_there() -> None:
    web, slots = service("10.3.240.9", "10.0.1.2", "10.0.1.2", "10.0.1.2")
    assert len(outcomes(services(web, slots), Packet(CLIENT, WEB), HOST)) == 1
