"""The difference of two tables: as little as possible, in an order that the kernel takes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given

from build_nft import NAT_IN, TABLE, address, everything, rulesets, service, services
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
from portway.nft.tables import (
    DROP,
    Chain,
    Element,
    Family,
    Field,
    InSet,
    Key,
    Rule,
    Ruleset,
    Set,
    Type,
    VerdictMap,
    goto,
    jump,
)
from portway.nft.transaction import Transaction, diff, halves

PORTS = Set("ports", (Type.PORT,))
USES_PORTS = Rule((InSet((Field.DPORT,), "ports"), DROP))


def kinds(operations: tuple[Operation, ...]) -> list[str]:
    return [type(op).__name__ for op in operations]


def ports(*numbers: int, comment: str = "") -> Ruleset:
    elements: dict[Key, Element] = {(n,): Element(comment=comment) for n in numbers}
    return Ruleset(Family.IP, TABLE, (PORTS,), (Chain("in", (USES_PORTS,), NAT_IN),), {"ports": elements})


@given(rulesets())
def test_equal_tables_have_no_difference(ruleset: Ruleset) -> None:
    again = replace(ruleset, elements={name: dict(e) for name, e in ruleset.elements.items()})
    assert not diff(ruleset, again)


def test_nothing_becomes_nothing() -> None:
    assert not diff(None, None)
    assert str(diff(None, None)) == ""


def test_a_new_table_is_made_from_what_is_pointed_to_to_what_points() -> None:
    order = [kind for i, kind in enumerate(kinds(diff(None, everything()).operations))]
    assert order == sorted(order, key=["AddTable", "AddSet", "AddChain", "AddRule", "AddElements"].index)
    assert isinstance(diff(None, everything()).operations[0], AddTable)


def test_a_table_is_deleted_as_a_whole() -> None:
    assert diff(everything(), None).operations == (DeleteTable(),)


def test_a_new_service_is_elements_only() -> None:
    (web, slots), (dns, more) = service("10.3.240.9", "10.0.1.2"), service("10.3.240.10", "10.0.1.3")
    change = diff(services(web, slots), services(web | dns, slots | more))
    assert [(type(op), len(op.elements)) for op in change.operations if isinstance(op, AddElements)] == [
        (AddElements, 1),
        (AddElements, 1),
    ]
    assert len(change.operations) == 2


def test_a_changed_element_is_deleted_and_added() -> None:
    change = diff(
        ports(80, 443), replace(ports(), elements={"ports": {(80,): Element(comment="web"), (443,): Element()}})
    )
    assert change.operations == (
        DeleteElements(PORTS, ((80,),)),
        AddElements(PORTS, {(80,): Element(comment="web")}),
    )


@pytest.mark.parametrize(
    ("sentence", "after", "deleted", "added"),
    [
        ("at the beginning", (0, 1, 2, 3, 4), (), (0,)),
        ("at the end", (1, 2, 3, 4, 5), (), (5,)),
        ("in the middle", (1, 2, 9, 3, 4), (), (9,)),
        ("the first goes", (2, 3, 4), (1,), ()),
        ("the last goes", (1, 2, 3), (4,), ()),
        ("all go", (), (1, 2, 3, 4), ()),
        ("all are others", (5, 6), (1, 2, 3, 4), (5, 6)),
        ("only the order changes", (4, 3, 2, 1), (), ()),
        ("one moves and one goes", (2, 3, 1), (4,), ()),
    ],
)
def test_only_what_differs_is_touched_wherever_it_stands(
    sentence: str, after: tuple[int, ...], deleted: tuple[int, ...], added: tuple[int, ...]
) -> None:
    held: dict[int, tuple[Key, Element]] = {n: ((n,), Element()) for n in range(10)}
    old = replace(ports(), elements={"ports": dict(held[n] for n in (1, 2, 3, 4))})
    new = replace(ports(), elements={"ports": dict(held[n] for n in after)})
    operations = diff(old, new).operations
    gone = [k for op in operations if isinstance(op, DeleteElements) for (k,) in op.keys]
    come = [k for op in operations if isinstance(op, AddElements) for (k,) in op.elements]
    assert (sorted(gone, key=str), sorted(come, key=str)) == (list(deleted), list(added)), sentence


def test_a_mapping_that_is_the_same_object_is_not_looked_at() -> None:
    class Untouchable(dict[Key, Element]):
        def items(self) -> object:  # type: ignore[override]
            raise AssertionError("looked at")

    same = Untouchable({(80,): Element()})
    old = replace(ports(), elements={"ports": same})
    new = replace(old, chains=(*old.chains, Chain("more")))
    assert diff(old, new).operations == (AddChain(Chain("more")),)


def test_a_chain_with_other_rules_is_flushed_and_filled_again() -> None:
    old, new = ports(), replace(ports(), chains=(Chain("in", (USES_PORTS, Rule((DROP,))), NAT_IN),))
    assert diff(old, new).operations == (FlushChain("in"), AddRule("in", USES_PORTS), AddRule("in", Rule((DROP,))))


def test_a_chain_goes_after_the_elements_that_lead_there() -> None:
    two, one = service("10.3.240.9", "10.0.1.2", "10.0.1.3"), service("10.3.240.9", "10.0.1.2")
    order = kinds(diff(services(*two), services(*one)).operations)
    assert order == [
        "DeleteElements",
        "DeleteElements",
        "FlushChain",
        "DeleteChain",
        "AddChain",
        "AddRule",
        "AddElements",
    ]


def test_chains_that_lead_to_each_other_go_together() -> None:
    a, b = Chain("a", (Rule((jump("b"),)),)), Chain("b", (Rule((DROP,)),))
    change = diff(Ruleset(Family.IP, TABLE, chains=(b, a)), Ruleset(Family.IP, TABLE))
    assert change.operations == (FlushChain("b"), FlushChain("a"), DeleteChain("b"), DeleteChain("a"))


def test_a_set_of_another_type_takes_its_rules_and_elements_along() -> None:
    wide = replace(PORTS, key=(Type.PORT,), comment="wide")
    old, new = ports(80), replace(ports(80), sets=(wide,))
    assert diff(old, new).operations == (
        FlushChain("in"),
        DeleteSet(PORTS),
        AddSet(wide),
        AddRule("in", USES_PORTS),
        AddElements(wide, {(80,): Element()}),
    )


def test_a_chain_with_another_comment_takes_the_elements_that_lead_there_along() -> None:
    verdicts = Set("v", (Type.PORT,), (Type.VERDICT,))
    held: dict[Key, Element] = {(80,): Element(goto("a")), (81,): Element(DROP)}
    reads = Chain("in", (Rule((VerdictMap((Field.DPORT,), "v"),)),), NAT_IN)
    old = Ruleset(Family.IP, TABLE, (verdicts,), (reads, Chain("a")), {"v": held})
    new = replace(old, chains=(reads, Chain("a", comment="now with a reason")))
    assert diff(old, new).operations == (
        DeleteElements(verdicts, ((80,),)),
        DeleteChain("a"),
        AddChain(Chain("a", comment="now with a reason")),
        AddElements(verdicts, {(80,): Element(goto("a"))}),
    )


def test_a_table_with_another_comment_is_made_anew() -> None:
    change = diff(ports(80), replace(ports(80), comment="mine"))
    assert kinds(change.operations)[:2] == ["DeleteTable", "AddTable"]
    assert change.operations[1:] == diff(None, replace(ports(80), comment="mine")).operations


def test_tables_of_different_names_have_no_difference() -> None:
    with pytest.raises(ValueError, match="different tables"):
        diff(ports(), replace(ports(), name="other"))
    with pytest.raises(ValueError, match="different tables"):
        diff(ports(), replace(ports(), family=Family.IP6))


def test_a_transaction_prints_one_command_to_a_line() -> None:
    change = diff(ports(80), replace(ports(443), chains=(Chain("in", (), NAT_IN), Chain("a", comment="b"))))
    assert str(change) == (
        "delete element ip portway ports { 80 }\n"
        "flush chain ip portway in\n"
        'add chain ip portway a { comment "b"; }\n'
        "add element ip portway ports { 443 }\n"
    )


def test_keys_may_be_addresses() -> None:
    web, slots = service("10.3.240.9", "10.0.1.2")
    change = diff(services(web, slots), services({}, slots))
    assert str(change).splitlines()[0] == "delete element ip portway services { 10.3.240.9 . tcp . 80 }"
    assert address("10.3.240.9") in {key[0] for key in web}


def test_halves_do_the_same_one_after_the_other() -> None:
    whole = diff(None, everything())
    parts = halves(whole)
    assert parts is not None
    assert parts[0].operations + parts[1].operations == whole.operations
    assert all(parts)


@pytest.mark.parametrize(
    "operation", [AddElements(PORTS, dict(ports(1, 2, 3).elements["ports"])), DeleteElements(PORTS, ((1,), (2,), (3,)))]
)
def test_elements_are_divided_down_to_one(operation: Operation) -> None:
    waiting, single = [Transaction(Family.IP, TABLE, (operation,))], []
    while waiting:
        one = waiting.pop(0)
        parts = halves(one)
        waiting.extend(parts or ())
        single.extend([] if parts else [str(one)])
    assert sorted(single) == sorted(
        f"{line}\n" for line in str(Transaction(Family.IP, TABLE, (operation,))).splitlines()
    )
