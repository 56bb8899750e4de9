"""One spelling for equal rulesets: what `Nft.read` returns, whichever holder is asked.

Sets and chains by name, no entries for empty sets, a network of one address as that address, a choice of one value as
that value, choices in order. `canonical(a) == canonical(b)` says that the kernel could not tell them apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network

from portway.nft.tables import Chain, Element, Key, Match, Rule, Ruleset, Statement, Value
from portway.nft.text import sort_key


def canonical(ruleset: Ruleset) -> Ruleset:
    """The same ruleset in the order and spelling in which `read` gives it."""
    interval = {s.name for s in ruleset.sets if s.interval}
    elements = {
        name: _elements(mapping) if name in interval else mapping
        for name, mapping in sorted(ruleset.elements.items())
        if mapping
    }
    return replace(
        ruleset,
        sets=tuple(sorted(ruleset.sets, key=lambda s: s.name)),
        chains=tuple(_chain(c) for c in sorted(ruleset.chains, key=lambda c: c.name)),
        elements=elements,
    )


def _elements(elements: Mapping[Key, Element]) -> dict[Key, Element]:
    return {tuple(simple(v) for v in key): element for key, element in elements.items()}


def _chain(chain: Chain) -> Chain:
    return replace(chain, rules=tuple(_rule(r) for r in chain.rules))


def _rule(rule: Rule) -> Rule:
    return replace(rule, statements=tuple(_statement(s) for s in rule.statements))


def _statement(statement: Statement) -> Statement:
    if not isinstance(statement, Match):
        return statement
    if not isinstance(statement.value, tuple):
        return replace(statement, value=simple(statement.value))
    values = ordered({simple(v) for v in statement.value})
    return replace(statement, value=values[0] if len(values) == 1 else values)


def ordered(values: set[Value]) -> tuple[Value, ...]:
    return tuple(sorted(values, key=lambda v: sort_key((v,))))


def simple(value: Value) -> Value:
    """A network that is a single address, as the address; any other value as it is."""
    if isinstance(value, IPv4Network | IPv6Network) and value.prefixlen == value.max_prefixlen:
        return value.network_address
    return value
