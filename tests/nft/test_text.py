"""Text and netlink say the same: `nft` loads what we print, and prints what we loaded as if it had loaded it itself."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from build_nft import (
    NAT_OUT,
    TABLE,
    everything,
    nft_program,
    private_namespace,
    rulesets,
    service,
    services,
)
from portway.netlink.namespace import new_namespace, run_in
from portway.netlink.socket import NETLINK_NETFILTER, open_netlink
from portway.nft.canonical import canonical
from portway.nft.kernel import KernelNft
from portway.nft.operations import AddRule, AddSet, DeleteElements
from portway.nft.tables import (
    ACCEPT,
    Chain,
    DnatMap,
    Element,
    Family,
    Field,
    Masquerade,
    Match,
    Rule,
    Ruleset,
    Set,
    Type,
)
from portway.nft.text import operation_lines, quoted, render, rule_text
from portway.nft.transaction import Transaction, diff


@pytest.fixture
def namespace() -> Iterator[int]:
    with private_namespace() as fd:
        yield fd


def kernel_of(namespace: int) -> KernelNft:
    return KernelNft(run_in(namespace, lambda: open_netlink(NETLINK_NETFILTER)))


def listing(namespace: int, family: Family) -> list[str]:
    """`nft list`, with the elements of every set in one order: the kernel keeps them in one of its own."""
    out: list[str] = []
    for block in nft_program(namespace, "-n", "list", "table", family, TABLE).split("\n\n"):
        head, _, elements = block.partition("elements = {")
        out.append(head.strip())
        out.extend(sorted(e.strip(" \n\t}") for e in elements.split(",")))
    return out


def objects(namespace: int) -> list[Any]:
    """`nft -j list` without the kernel's own numbers."""
    listed = json.loads(nft_program(namespace, "-j", "list", "ruleset"))["nftables"]
    return [_without_handles(thing) for thing in listed if "metainfo" not in thing]


def _without_handles(thing: Any) -> Any:
    if isinstance(thing, dict):
        sorted_ = {k: _without_handles(v) for k, v in thing.items() if k != "handle"}
        if isinstance(sorted_.get("elem"), list):
            sorted_["elem"].sort(key=json.dumps)
        return sorted_
    return [_without_handles(t) for t in thing] if isinstance(thing, list) else thing


def test_a_table_reads_as_nft_would_list_it() -> None:
    web, slots = service("10.3.240.9", "10.0.1.2", "10.0.2.2")
    table = services(web, slots, comment="the road")
    outgoing = Chain("outgoing", (Rule((Match(Field.OIFNAME, "eth0"), Masquerade()), "pods"),), NAT_OUT, "last")
    table = replace(table, chains=(*table.chains, outgoing))
    assert render(table) == (Path(__file__).parent / "services.nft").read_text()


def test_equal_tables_read_alike_whatever_their_order() -> None:
    table = everything()
    turned = replace(
        table,
        sets=table.sets[::-1],
        chains=table.chains[::-1],
        elements={n: dict(list(e.items())[::-1]) for n, e in list(table.elements.items())[::-1]},
    )
    assert render(turned) == render(table)


@pytest.mark.parametrize("family", list(Family))
def test_nft_loads_the_transaction_and_gives_the_same_table(namespace: int, family: Family) -> None:
    nft_program(namespace, "-f", "-", stdin=str(diff(None, everything(family))))
    assert kernel_of(namespace).read(family, TABLE) == canonical(everything(family))


@pytest.mark.parametrize("family", list(Family))
def test_nft_loads_the_rendered_table(namespace: int, family: Family) -> None:
    nft_program(namespace, "-f", "-", stdin=render(everything(family)))
    assert kernel_of(namespace).read(family, TABLE) == canonical(everything(family))


@pytest.mark.parametrize("family", list(Family))
def test_nft_lists_our_table_as_if_it_had_loaded_it(namespace: int, family: Family) -> None:
    table = everything(family)
    kernel_of(namespace).apply(diff(None, table))
    with private_namespace() as other:
        nft_program(other, "-f", "-", stdin=str(diff(None, table)))
        assert listing(namespace, family) == listing(other, family)
        assert objects(namespace) == objects(other)


@pytest.mark.parametrize("family", list(Family))
def test_what_nft_lists_of_our_table_can_be_loaded_again(namespace: int, family: Family) -> None:
    kernel_of(namespace).apply(diff(None, everything(family)))
    listed = nft_program(namespace, "list", "table", family, TABLE)
    with private_namespace() as other:
        nft_program(other, "-f", "-", stdin=listed)
        assert kernel_of(other).read(family, TABLE) == canonical(everything(family))


@given(old=rulesets(), new=rulesets())
@settings(max_examples=15, deadline=None)
def test_nft_takes_the_text_of_every_change(old: Ruleset, new: Ruleset) -> None:
    fd = _namespace_or_skip()
    try:
        change = diff(old, new)
        nft_program(fd, "-f", "-", stdin=str(diff(None, old)))
        if _adds_dnat_for_a_loaded_map(change):
            kernel_of(fd).apply(change)
        else:
            nft_program(fd, "-c", "-f", "-", stdin=str(change))
            nft_program(fd, "-f", "-", stdin=str(change))
        assert kernel_of(fd).read(Family.IP, TABLE) == canonical(new)
    finally:
        os.close(fd)


def _adds_dnat_for_a_loaded_map(change: Transaction) -> bool:
    """What nft 1.0.6 cannot read ("conflicting protocols"): see the module `text`."""
    made = {op.set.name for op in change.operations if isinstance(op, AddSet)}
    rules = [op.rule for op in change.operations if isinstance(op, AddRule)]
    return any(isinstance(s, DnatMap) and s.map not in made for rule in rules for s in rule.statements)


def _namespace_or_skip() -> int:
    try:
        return new_namespace()
    except PermissionError as e:
        pytest.skip(f"no private network namespace here: {e}")


def test_a_comment_that_cannot_be_quoted_is_an_error() -> None:
    for words in ('say "hello"', "two\nlines"):
        with pytest.raises(ValueError, match="cannot quote"):
            quoted(words)


def test_an_unknown_statement_has_no_text() -> None:
    with pytest.raises(TypeError, match="no text"):
        rule_text(Family.IP, Rule((object(),)))  # type: ignore[arg-type]


def test_a_set_with_slots_is_declared_by_typeof() -> None:
    s = Set("endpoints", (Type.ADDR, Type.SLOT), (Type.ADDR, Type.PORT))
    assert operation_lines(Family.IP6, TABLE, AddSet(s)) == [
        "add map ip6 portway endpoints { typeof ip6 daddr . numgen random mod 2 : ip6 daddr . th dport; }"
    ]


def test_a_deletion_names_keys_only() -> None:
    s = Set("pairs", (Type.MARK, Type.IFNAME))
    assert operation_lines(Family.IP, TABLE, DeleteElements(s, ((2, "b"), (1, "a")))) == [
        'delete element ip portway pairs { 0x00000001 . "a" }',
        'delete element ip portway pairs { 0x00000002 . "b" }',
    ]


def test_a_rule_carries_its_origin() -> None:
    rule = Rule((Match(Field.L4PROTO, ("tcp", "udp")), ACCEPT), "shop/web")
    assert operation_lines(Family.IP, TABLE, AddRule("a", rule)) == [
        'add rule ip portway a meta l4proto { tcp, udp } accept comment "shop/web"'
    ]


def test_comments_of_elements_stand_beside_the_key() -> None:
    table = Ruleset(
        Family.IP, TABLE, (Set("ports", (Type.PORT,)),), elements={"ports": {(80,): Element(comment="web")}}
    )
    assert '80 comment "web" }' in render(table)
