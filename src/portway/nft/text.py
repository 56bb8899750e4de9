"""Rulesets and operations as the text that `nft` reads and prints.

`render` is for people and golden files: one line for each element, everything sorted, so that a changed line is a changed
thing; `nft -f` loads it. `operation_lines` is for `str(transaction)`. Only words here, the bytes are `wire`'s.

Keys are written `meta l4proto`, never `ip protocol`: it is right for IPv6, too, where a header may stand between. A set
whose key has a numgen slot is declared by `typeof`, as `integer` is no type that the grammar lets one write. Its ports are
`th dport`: by `tcp dport`, nft would limit every rule that uses the map to TCP. The price is that nft 1.0.6 ("conflicting
protocols") takes a dnat rule only in the same file as its map, so text that adds one later is for reading; netlink is not
concerned.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

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
    Base,
    ClearMark,
    Counter,
    DnatMap,
    DnatMaps,
    Element,
    Expression,
    Family,
    Field,
    InSet,
    JHash,
    Key,
    MarkBits,
    MarkMap,
    Masquerade,
    Match,
    Numgen,
    OrMark,
    Reject,
    RejectWith,
    Rule,
    Ruleset,
    Set,
    Statement,
    Type,
    Value,
    Verdict,
    VerdictMap,
)

_TYPEOF = {
    Type.PROTO: "meta l4proto",
    Type.PORT: "th dport",
    Type.MARK: "meta mark",
    Type.IFNAME: "iifname",
    Type.SLOT: "numgen random mod 2",
}
_BITMASKS = {Field.CT_STATE, Field.CT_STATUS}


def render(ruleset: Ruleset) -> str:
    """The whole table as `nft list table` would read, with one element to a line and without counts."""
    family = ruleset.family
    lines = [f"table {family} {ruleset.name} {{"]
    if ruleset.comment:
        lines.append(f"\tcomment {quoted(ruleset.comment)}")
    blocks = [list(_set_block(family, s, ruleset.elements.get(s.name, {}))) for s in sorted(ruleset.sets, key=_name)]
    for chain in sorted(ruleset.chains, key=_name):
        head = [_base(chain.base)] if chain.base else []
        comment = [f"comment {quoted(chain.comment)}"] if chain.comment else []
        rules = [rule_text(family, rule) for rule in chain.rules]
        blocks.append([f"chain {chain.name} {{", *(f"\t{x}" for x in (*comment, *head, *rules)), "}"])
    for i, block in enumerate(blocks):
        if i:
            lines.append("")
        lines.extend(f"\t{line}" for line in block)
    return "\n".join([*lines, "}"]) + "\n"


def _name(thing: object) -> str:
    return str(getattr(thing, "name", thing))


def _set_block(family: Family, s: Set, elements: Mapping[Key, Element]) -> Iterator[str]:
    yield f"{set_word(s)} {s.name} {{"
    yield from (f"\t{line}" for line in _set_body(family, s))
    texts = element_texts(s, elements)
    if texts:
        yield "\telements = {"
        yield from (f"\t\t{t}," for t in texts[:-1])
        yield f"\t\t{texts[-1]} }}"
    yield "}"


def set_word(s: Set) -> str:
    return "map" if s.value else "set"


def _set_body(family: Family, s: Set) -> Iterator[str]:
    typeof = Type.SLOT in s.key or Type.SLOT in s.value
    names = [" . ".join(_type(family, t, typeof) for t in types) for types in (s.key, s.value) if types]
    yield f"{'typeof' if typeof else 'type'} {' : '.join(names)}"
    if s.interval:
        yield "flags interval"
    if s.comment:
        yield f"comment {quoted(s.comment)}"


def _type(family: Family, type_: Type, typeof: bool) -> str:
    if type_ is Type.ADDR:
        if typeof:
            return f"{family} daddr"
        return "ipv4_addr" if family is Family.IP else "ipv6_addr"
    if typeof and type_ in _TYPEOF:
        return _TYPEOF[type_]
    return str(type_)


def element_texts(s: Set, elements: Mapping[Key, Element]) -> list[str]:
    """Each element as text, sorted by key."""
    return [_element(s, key, elements[key]) for key in sorted(elements, key=sort_key)]


def _element(s: Set, key: Key, element: Element) -> str:
    comment = f" comment {quoted(element.comment)}" if element.comment else ""
    head = f"{_concatenation(s.key, key)}{comment}"
    if element.value is None:
        return head
    if isinstance(element.value, Verdict):
        return f"{head} : {verdict_text(element.value)}"
    return f"{head} : {_concatenation(s.value, element.value)}"


def _concatenation(types: tuple[Type, ...], values: Key) -> str:
    return " . ".join(_typed(t, v) for t, v in zip(types, values, strict=True))


def _typed(type_: Type, value: Value) -> str:
    if type_ is Type.MARK:
        return f"{value:#010x}"
    return quoted(str(value)) if type_ is Type.IFNAME else str(value)


def sort_key(key: Key) -> tuple[tuple[int, int, str], ...]:
    """An order for keys whose values are of different types: addresses by number, then networks, numbers, names."""
    return tuple(_sortable(v) for v in key)


def _sortable(value: Value) -> tuple[int, int, str]:
    match value:
        case IPv4Address() | IPv6Address():
            return (int(value), 129, "")
        case IPv4Network() | IPv6Network():
            return (int(value.network_address), value.prefixlen, "")
        case int():
            return (value, 0, "")
        case _:
            return (0, 0, value)


def quoted(words: str) -> str:
    """A quoted string. The grammar has no escape, so a quotation mark or a line end within raises ValueError."""
    if '"' in words or "\n" in words:
        raise ValueError(f"nft cannot quote {words!r}: no quotation mark or line end may be in a comment or name")
    return f'"{words}"'


def _base(base: Base) -> str:
    return f"type {base.type} hook {base.hook} priority {base.priority}; policy accept;"


def rule_text(family: Family, rule: Rule) -> str:
    """A rule on one line, with its comment."""
    words = [statement_text(family, s) for s in rule.statements]
    if rule.comment:
        words.append(f"comment {quoted(rule.comment)}")
    return " ".join(words)


def statement_text(family: Family, statement: Statement) -> str:
    """One statement. Raises TypeError for one that is not in the vocabulary."""
    match statement:
        case Match():
            return _match(family, statement)
        case InSet():
            return f"{_fields(family, statement.fields)} {'!= ' if statement.negate else ''}@{statement.set}"
        case VerdictMap():
            return f"{_fields(family, statement.fields)} vmap @{statement.map}"
        case DnatMap():
            return f"dnat {family} to {_fields(family, statement.key)} map @{statement.map}"
        case DnatMaps():
            address = f"{_fields(family, statement.key)} map @{statement.map}"
            return f"dnat {family} to {address} : {_fields(family, statement.port_key)} map @{statement.port_map}"
        case MarkMap():
            return f"meta mark set {_fields(family, statement.fields)} map @{statement.map}"
        case Verdict():
            return verdict_text(statement)
        case Masquerade():
            return "masquerade fully-random" if statement.fully_random else "masquerade"
        case Reject():
            return "reject with tcp reset" if statement.with_ is RejectWith.TCP_RESET else "reject"
        case Counter():
            return "counter"
        case OrMark() | MarkBits() | ClearMark():
            return _mark(statement)
        case _:
            raise TypeError(f"no text for {statement!r}")


def _mark(statement: OrMark | MarkBits | ClearMark) -> str:
    bits = statement.bits
    match statement:
        case OrMark():
            return f"meta mark set meta mark | {bits:#010x}"
        case ClearMark():
            return f"meta mark set meta mark & {bits ^ 0xFFFFFFFF:#010x}"
        case MarkBits():
            return f"meta mark & {bits:#010x} == {bits:#010x}"


def _match(family: Family, match: Match) -> str:
    field, value = match.field, match.value
    values = value if isinstance(value, tuple) else (value,)
    if field in _BITMASKS:  # "! new" asks for the bit, "!= new" would compare the whole word
        return f"{_field(family, field)} {'! ' if match.negate else ''}{','.join(map(str, values))}"
    texts = [_matched(field, v) for v in values]
    right = f"{{ {', '.join(texts)} }}" if isinstance(value, tuple) else texts[0]
    return f"{_field(family, field)} {'!= ' if match.negate else ''}{right}"


def _matched(field: Field, value: Value) -> str:
    return _typed(field.type, value) if field.type else str(value)


def _fields(family: Family, expressions: Iterable[Expression]) -> str:
    return " . ".join(_field(family, e) for e in expressions)


def _field(family: Family, expression: Expression) -> str:
    if isinstance(expression, Numgen):
        return f"numgen random mod {expression.mod}"
    if isinstance(expression, JHash):
        return f"jhash {_fields(family, expression.fields)} mod {expression.mod} seed {expression.seed:#x}"
    return f"{family} {expression}" if expression in (Field.SADDR, Field.DADDR) else str(expression)


def verdict_text(verdict: Verdict) -> str:
    return f"{verdict.kind} {verdict.chain}" if verdict.chain else str(verdict.kind)


def operation_lines(family: Family, table: str, operation: Operation) -> list[str]:
    """The commands of one operation, for `nft -f`."""
    where = f"{family} {table}"
    match operation:
        case AddTable():
            body = f" {{ comment {quoted(operation.comment)}; }}" if operation.comment else ""
            return [f"add table {where}{body}"]
        case DeleteTable():
            return [f"delete table {where}"]
        case AddSet():
            s = operation.set
            return [f"add {set_word(s)} {where} {s.name} {{ {'; '.join(_set_body(family, s))}; }}"]
        case DeleteSet():
            return [f"delete {set_word(operation.set)} {where} {operation.set.name}"]
        case AddElements() | DeleteElements():
            return _element_lines(where, operation)
        case _:
            return [_chain_line(family, where, operation)]


def _chain_line(family: Family, where: str, operation: AddChain | FlushChain | DeleteChain | AddRule) -> str:
    match operation:
        case AddChain():
            c = operation.chain
            body = [_base(c.base)] if c.base else []
            body += [f"comment {quoted(c.comment)};"] if c.comment else []
            braces = f" {{ {' '.join(body)} }}" if body else ""
            return f"add chain {where} {c.name}{braces}"
        case FlushChain():
            return f"flush chain {where} {operation.chain}"
        case DeleteChain():
            return f"delete chain {where} {operation.chain}"
        case AddRule():
            return f"add rule {where} {operation.chain} {rule_text(family, operation.rule)}"


def _element_lines(where: str, operation: AddElements | DeleteElements) -> list[str]:
    s = operation.set
    if isinstance(operation, AddElements):
        return [f"add element {where} {s.name} {{ {t} }}" for t in element_texts(s, operation.elements)]
    keys = sorted(operation.keys, key=sort_key)
    return [f"delete element {where} {s.name} {{ {_concatenation(s.key, k)} }}" for k in keys]
