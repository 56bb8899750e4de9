"""One contract for both holders of tables: what the kernel does, the fake does, and what it refuses, the fake refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings

from build_nft import (
    FILTER_IN,
    NAT_IN,
    NAT_OUT,
    SERVICE,
    TABLE,
    TO_SERVICE,
    address,
    everything,
    kernel_nft,
    network,
    rulesets,
    service,
    services,
)
from portway.nft.canonical import canonical
from portway.nft.fake import FakeNft
from portway.nft.operations import (
    AddChain,
    AddElements,
    AddRule,
    AddSet,
    AddTable,
    DeleteChain,
    DeleteElements,
    DeleteSet,
    DeleteTable,
    FlushChain,
    Operation,
)
from portway.nft.protocol import Nft, NftError
from portway.nft.tables import (
    DROP,
    Chain,
    Element,
    Family,
    Field,
    InSet,
    Key,
    Masquerade,
    Match,
    Reject,
    Rule,
    Ruleset,
    Set,
    Type,
    VerdictMap,
    goto,
    jump,
)
from portway.nft.transaction import Transaction, diff

SERVICES = Set("services", SERVICE, (Type.VERDICT,))
RANGES = Set("ranges", (Type.ADDR,), interval=True)
WEB = (address("10.3.240.9"), "tcp", 80)


@pytest.fixture(params=["fake", "kernel"])
def nft(request: pytest.FixtureRequest) -> Iterator[Nft]:
    if request.param == "fake":
        yield FakeNft()
        return
    with kernel_nft() as kernel:
        yield kernel


def give(nft: Nft, *operations: Operation) -> None:
    nft.apply(Transaction(Family.IP, TABLE, operations))


def load(nft: Nft, ruleset: Ruleset) -> None:
    nft.apply(diff(nft.read(ruleset.family, ruleset.name), ruleset))


def test_a_table_that_nobody_made_is_none(nft: Nft) -> None:
    assert nft.read(Family.IP, TABLE) is None


def test_nothing_to_do_is_done_at_once(nft: Nft) -> None:
    nft.apply(diff(None, None))
    assert nft.read(Family.IP, TABLE) is None


@pytest.mark.parametrize("family", list(Family))
def test_the_whole_vocabulary_comes_back_as_it_was_given(nft: Nft, family: Family) -> None:
    wanted = everything(family)
    load(nft, wanted)
    assert nft.read(family, TABLE) == canonical(wanted)


def test_a_deleted_table_is_gone(nft: Nft) -> None:
    load(nft, everything())
    nft.apply(diff(everything(), None))
    assert nft.read(Family.IP, TABLE) is None


def test_both_families_have_a_table_of_the_same_name(nft: Nft) -> None:
    load(nft, everything(Family.IP))
    load(nft, everything(Family.IP6))
    nft.apply(diff(everything(Family.IP), None))
    assert nft.read(Family.IP, TABLE) is None
    assert nft.read(Family.IP6, TABLE) == canonical(everything(Family.IP6))


def test_a_changed_element_is_changed_and_its_neighbours_stay(nft: Nft) -> None:
    (web, slots), (dns, _) = service("10.3.240.9", "10.0.1.2"), service("10.3.240.10", "10.0.1.3", "10.0.1.4")
    before = services(web | dns, slots)
    after = services({**web, next(iter(dns)): Element(DROP, "closed")}, slots)
    load(nft, before)
    nft.apply(diff(before, after))
    assert nft.read(Family.IP, TABLE) == canonical(after)


def test_the_last_service_with_two_endpoints_takes_its_chain_along(nft: Nft) -> None:
    two, one = service("10.3.240.9", "10.0.1.2", "10.0.1.3"), service("10.3.240.9", "10.0.1.2")
    load(nft, services(*two))
    nft.apply(diff(services(*two), services(*one)))
    assert nft.read(Family.IP, TABLE) == canonical(services(*one))


def test_more_elements_than_one_message_holds(nft: Nft) -> None:
    endpoints: dict[Key, Element] = {
        (address("10.3.240.9"), "tcp", 80, slot): Element((address("10.0.1.2"), 1000 + slot), "shop/web")
        for slot in range(4000)
    }
    wanted = services({}, endpoints)
    load(nft, wanted)
    assert nft.read(Family.IP, TABLE) == canonical(wanted)
    nft.apply(diff(wanted, services({}, {})))
    assert nft.read(Family.IP, TABLE) == canonical(services({}, {}))


def test_a_network_of_one_address_is_that_address(nft: Nft) -> None:
    give(nft, AddTable(), AddSet(RANGES), AddElements(RANGES, {(network("10.0.0.1/32"),): Element()}))
    table = nft.read(Family.IP, TABLE)
    assert table and table.elements == {"ranges": {(address("10.0.0.1"),): Element()}}
    give(nft, DeleteElements(RANGES, ((address("10.0.0.1"),),)))


@pytest.mark.parametrize("words", ["0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "255.255.255.255/32"])
def test_a_range_may_begin_and_end_where_the_addresses_do(nft: Nft, words: str) -> None:
    element: dict[Key, Element] = {(network(words),): Element(comment="edge")}
    give(nft, AddTable(), AddSet(RANGES), AddElements(RANGES, element))
    table = nft.read(Family.IP, TABLE)
    assert table == canonical(Ruleset(Family.IP, TABLE, (RANGES,), elements={"ranges": element}))
    give(nft, DeleteElements(RANGES, tuple(element)))
    assert nft.read(Family.IP, TABLE) == Ruleset(Family.IP, TABLE, (RANGES,))


def test_adding_what_is_there_changes_nothing(nft: Nft) -> None:
    elements = AddElements(SERVICES, {WEB: Element(DROP)})
    base = Chain("incoming", (), NAT_IN)
    for _ in range(2):
        give(nft, AddTable(), AddSet(SERVICES), AddChain(base), elements)
    wanted = Ruleset(Family.IP, TABLE, (SERVICES,), (base,), {"services": {WEB: Element(DROP)}})
    assert nft.read(Family.IP, TABLE) == wanted


def _start() -> tuple[Operation, ...]:
    """A table with a map, a pick chain and a base chain, from which the refusals begin."""
    return (
        AddTable(),
        AddSet(SERVICES),
        AddSet(RANGES),
        AddChain(Chain("pick-2")),
        AddChain(Chain("incoming", (), NAT_IN)),
        AddChain(Chain("input", (), FILTER_IN)),
        AddRule("incoming", Rule((VerdictMap(TO_SERVICE, "services"),))),
        AddElements(SERVICES, {WEB: Element(goto("pick-2"))}),
        AddElements(RANGES, {(network("10.0.0.0/8"),): Element()}),
    )


REFUSED: list[tuple[str, Operation, str]] = [
    ("an element that goes to no chain", AddElements(SERVICES, {(*WEB[:2], 81): Element(goto("pick-9"))}), "No such"),
    ("an element of a set that is not there", AddElements(Set("x", (Type.PORT,)), {(80,): Element()}), "No such"),
    ("the same key with another verdict", AddElements(SERVICES, {WEB: Element(DROP)}), "exists|busy"),
    ("an element that goes to a base chain", AddElements(SERVICES, {(*WEB[:2], 81): Element(goto("incoming"))}), "sup"),
    ("a range within a range", AddElements(RANGES, {(network("10.1.0.0/16"),): Element()}), "exists"),
    ("a deletion of no element", DeleteElements(SERVICES, ((*WEB[:2], 81),)), "No such"),
    ("a deletion of a set in use", DeleteSet(SERVICES), "busy"),
    ("a deletion of a set that is not there", DeleteSet(Set("x", (Type.PORT,))), "No such"),
    ("a deletion of a chain in use", DeleteChain("pick-2"), "busy"),
    ("a deletion of a chain that is not there", DeleteChain("pick-9"), "No such"),
    ("a set of another type by the same name", AddSet(Set("services", (Type.PORT,), (Type.VERDICT,))), "exists"),
    ("a chain on another hook by the same name", AddChain(Chain("incoming", (), FILTER_IN)), "not supported"),
    ("a rule in no chain", AddRule("pick-9", Rule((DROP,))), "No such"),
    ("a rule that jumps to no chain", AddRule("pick-2", Rule((jump("pick-9"),))), "No such"),
    ("a rule that jumps to a base chain", AddRule("pick-2", Rule((jump("incoming"),))), "not supported"),
    ("a rule that looks into no set", AddRule("pick-2", Rule((InSet((Field.DPORT,), "x"),))), "No such"),
    ("a flush of no chain", FlushChain("pick-9"), "No such"),
    ("a chain that jumps to itself", AddRule("pick-2", Rule((jump("pick-2"),))), "Too many links"),
    ("masquerade before routing", AddRule("incoming", Rule((Masquerade(),))), "not supported"),
    ("masquerade in a filter chain", AddRule("input", Rule((Masquerade(),))), "not supported"),
]


@pytest.mark.parametrize(("sentence", "operation", "reason"), REFUSED, ids=[r[0] for r in REFUSED])
def test_a_refusal_names_its_reason_and_changes_nothing(
    nft: Nft, sentence: str, operation: Operation, reason: str
) -> None:
    give(nft, *_start())
    before = nft.read(Family.IP, TABLE)
    with pytest.raises(NftError, match=f"(?i){reason}") as refused:
        give(nft, AddChain(Chain("never-seen")), operation)
    assert f"ip {TABLE}: " in str(refused.value), sentence
    assert nft.read(Family.IP, TABLE) == before


def test_a_refusal_names_the_operation(nft: Nft) -> None:
    give(nft, *_start())
    with pytest.raises(NftError, match="delete chain pick-2"):
        give(nft, AddChain(Chain("other")), DeleteChain("pick-2"))


def test_after_a_refusal_of_many_parts_the_holder_goes_on(nft: Nft) -> None:
    give(nft, AddTable())
    with pytest.raises(NftError, match="flush chain a"):
        give(nft, *(FlushChain(name) for name in "abcdef"))
    give(nft, AddChain(Chain("a")))
    assert nft.read(Family.IP, TABLE) == Ruleset(Family.IP, TABLE, chains=(Chain("a"),))


@pytest.mark.parametrize("operation", [DeleteTable(), AddSet(SERVICES), AddChain(Chain("a")), FlushChain("a")])
def test_nothing_can_be_done_to_a_table_that_is_not_there(nft: Nft, operation: Operation) -> None:
    with pytest.raises(NftError, match="No such file"):
        give(nft, operation)


def test_reject_is_allowed_before_routing_but_not_after(nft: Nft) -> None:
    rejecting = Rule((Reject(),))
    load(nft, Ruleset(Family.IP, TABLE, chains=(Chain("incoming", (rejecting,), NAT_IN),)))
    with pytest.raises(NftError, match="not supported"):
        give(nft, AddChain(Chain("outgoing", (), NAT_OUT)), AddRule("outgoing", rejecting))


@pytest.mark.parametrize("make", [lambda: "x" * 128, lambda: "ü" * 64], ids=["128 letters", "64 of two bytes"])
def test_a_comment_that_nft_could_not_read_back_is_refused(nft: Nft, make: Callable[[], str]) -> None:
    with pytest.raises(NftError, match="comment"):
        give(nft, AddTable(make()))


NONSENSE: list[tuple[str, Operation]] = [
    ("a protocol that has no number", AddElements(SERVICES, {(WEB[0], "quic", 80): Element(DROP)})),
    ("a port beyond 65535", AddElements(SERVICES, {(WEB[0], "tcp", 65536): Element(DROP)})),
    ("an address of the other family", AddElements(SERVICES, {(address("fd00::1"), "tcp", 80): Element(DROP)})),
    ("a key that is too short", AddElements(SERVICES, {WEB[:2]: Element(DROP)})),
    ("a map's element without a value", AddElements(SERVICES, {(*WEB[:2], 81): Element()})),
    ("an interface name of 16 letters", AddRule("pick-2", Rule((Match(Field.IIFNAME, "x" * 16),)))),
    ("an unknown connection state", AddRule("pick-2", Rule((Match(Field.CT_STATE, "fresh"),)))),
]


@pytest.mark.parametrize(("sentence", "operation"), NONSENSE, ids=[n[0] for n in NONSENSE])
def test_a_value_that_does_not_fit_is_refused(nft: Nft, sentence: str, operation: Operation) -> None:
    give(nft, *_start())
    before = nft.read(Family.IP, TABLE)
    with pytest.raises(NftError):
        give(nft, operation)
    assert nft.read(Family.IP, TABLE) == before, sentence


def test_the_fake_also_refuses_a_lookup_with_the_wrong_fields() -> None:
    fake = FakeNft()
    give(fake, *_start())
    for statement in (InSet(TO_SERVICE, "services"), VerdictMap((Field.DADDR,), "services")):
        with pytest.raises(NftError, match="other types"):
            give(fake, AddRule("pick-2", Rule((statement,))))


@given(old=rulesets(), new=rulesets())
@settings(max_examples=200, deadline=None)
def test_the_difference_turns_one_table_into_the_other_on_the_fake(old: Ruleset, new: Ruleset) -> None:
    _turns(FakeNft(), old, new)


@given(old=rulesets(), new=rulesets())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_difference_turns_one_table_into_the_other_in_the_kernel(old: Ruleset, new: Ruleset) -> None:
    with kernel_nft() as nft:
        _turns(nft, old, new)


def _turns(nft: Nft, old: Ruleset, new: Ruleset) -> None:
    nft.apply(diff(None, old))
    assert nft.read(Family.IP, TABLE) == canonical(old)
    change = diff(old, new)
    nft.apply(change)
    assert nft.read(Family.IP, TABLE) == canonical(new), str(change)
    assert not diff(nft.read(Family.IP, TABLE), canonical(new))
