"""A packet steps through a ruleset: the interpreter that says what the kernel would do, and why.

`walk` takes a packet through a host's hooks in the kernel's order and returns an `Outcome`: where it ends, what was
rewritten, and every rule and element that matched, printable. `outcomes` gives every possible one where `numgen` draws
lots. `explain` is made of it, and so are the tests of the compiler; a statement that it does not know raises TypeError.

The road, as in the kernel's ip_rcv and ip_local_out: prerouting (or output, for what the host itself sends), the routing
decision, input or forward, postrouting. What a host sends to itself comes back in through lo. Base chains of one hook
run by priority; nat chains only for a new connection, and none after the first that translated; a drop ends all, an
accept ends its own base chain only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network

from portway.nft import jhash
from portway.nft.packet import End, Host, Outcome, Packet, Step
from portway.nft.tables import (
    Address,
    Base,
    Chain,
    ChainType,
    ClearMark,
    Counter,
    DnatMap,
    DnatMaps,
    Element,
    Expression,
    Family,
    Field,
    Hook,
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
    Statement,
    Value,
    Verdict,
    VerdictKind,
    VerdictMap,
)
from portway.nft.text import element_texts, rule_text
from portway.nft.values import FORMS

__all__ = ["Choose", "End", "Host", "Outcome", "Packet", "Step", "outcomes", "walk"]

_WITH_PORTS = frozenset({"tcp", "udp", "sctp", "dccp", "udplite"})
_DEEPEST = 16  # the kernel's NFT_JUMP_STACK_SIZE


Choose = Callable[[int], int]


def _first(mod: int) -> int:
    return 0


def walk(ruleset: Ruleset, packet: Packet, host: Host | None = None, *, choose: Choose = _first) -> Outcome:
    """Take `packet` through all hooks of `host`. `choose(mod)` answers for `numgen random mod N`, by default with 0."""
    return _Walk(ruleset, packet, host or Host(), choose).journey()


def outcomes(ruleset: Ruleset, packet: Packet, host: Host | None = None) -> set[Outcome]:
    """Every outcome that some lot of `numgen` can give."""
    found: set[Outcome] = set()
    waiting: list[tuple[int, ...]] = [()]
    while waiting:
        lots = _Lots(waiting.pop())
        found.add(walk(ruleset, packet, host, choose=lots))
        for position in range(
            lots.given, len(lots.drawn)
        ):  # every other answer to what was asked beyond the given lots
            before = tuple(lot for lot, _ in lots.drawn[:position])
            waiting.extend((*before, other) for other in range(1, lots.drawn[position][1]))
    return found


class _Lots:
    """Answers with the given lots, then with 0, and remembers what was asked."""

    def __init__(self, lots: tuple[int, ...]) -> None:
        self._lots = lots
        self.given = len(lots)
        self.drawn: list[tuple[int, int]] = []

    def __call__(self, mod: int) -> int:
        position = len(self.drawn)
        lot = self._lots[position] if position < self.given else 0
        self.drawn.append((lot, mod))
        return lot


class _Over(Exception):
    """A verdict that ends the whole journey."""

    def __init__(self, end: End, reject: RejectWith | None = None) -> None:
        super().__init__(end)
        self.end = end
        self.reject = reject


@dataclass(slots=True)
class _Walk:
    ruleset: Ruleset
    packet: Packet
    host: Host
    choose: Choose
    hook: Hook = Hook.PREROUTING
    dnat: tuple[Address, int] | None = None
    masqueraded: bool = False
    steps: list[Step] = field(default_factory=list)
    _chains: dict[str, Chain] = field(default_factory=dict)

    def journey(self) -> Outcome:
        self._chains = {c.name: c for c in self.ruleset.chains}
        try:
            end, reject = (self._sent() if not self.packet.iif else self._received()), None
        except _Over as over:
            end, reject = over.end, over.reject
        return Outcome(end, self.packet, self.dnat, self.masqueraded, reject, tuple(self.steps))

    def _received(self) -> End:
        self._run(Hook.PREROUTING)
        if self._is_local():
            self._run(Hook.INPUT)
            return End.LOCAL
        self._leave_by(self.host.route(self.packet.daddr))
        self._run(Hook.FORWARD)
        self._run(Hook.POSTROUTING)
        return End.FORWARDED

    def _sent(self) -> End:
        """Routed once before output, so that an interface is known there, and again when it was translated."""
        self._leave_by("lo" if self._is_local() else self.host.route(self.packet.daddr))
        self._run(Hook.OUTPUT)
        local = self._is_local()
        self._leave_by("lo" if local else self.host.route(self.packet.daddr))
        self._run(Hook.POSTROUTING)
        if not local:
            return End.FORWARDED
        self.packet = replace(self.packet, iif="lo", oif="")
        self._run(Hook.PREROUTING, translated=True)
        self._run(Hook.INPUT, translated=True)
        return End.LOCAL

    def _is_local(self) -> bool:
        return self.host.address_type(self.packet.daddr) in ("local", "broadcast")

    def _leave_by(self, interface: str) -> None:
        self.packet = replace(self.packet, oif=interface or self.packet.oif)

    def _run(self, hook: Hook, *, translated: bool = False) -> None:
        """All base chains of one hook. A packet that comes back through lo has its translation settled already."""
        self.hook = hook
        settled = translated or self.packet.ct_state != "new"
        based = [(c, c.base) for c in self.ruleset.chains if c.base and c.base.hook is hook]
        for chain, base in sorted(based, key=lambda pair: pair[1].priority):
            if base.type is ChainType.NAT and settled:
                continue
            if self._chain(chain, base, 0) is _Ended.TRANSLATED:
                settled = True

    def _chain(self, chain: Chain, base: Base, depth: int) -> _Ended | None:
        """Why the base chain is over, or None where a caller goes on behind its jump."""
        if depth >= _DEEPEST:
            raise RecursionError(f"chain {chain.name} is reached through more than {_DEEPEST} jumps")
        for rule in chain.rules:
            verdict = self._rule(chain, rule)
            if isinstance(verdict, _Ended):
                return verdict
            if verdict is None:
                continue
            if verdict.kind is VerdictKind.RETURN:
                return None
            if verdict.kind is VerdictKind.ACCEPT:
                return _Ended.ACCEPTED
            if verdict.kind is VerdictKind.DROP:
                raise _Over(End.DROPPED)
            ended = self._chain(self._chains[verdict.chain], base, depth + 1)
            if ended or verdict.kind is VerdictKind.GOTO:
                return ended
        return None

    def _rule(self, chain: Chain, rule: Rule) -> Verdict | _Ended | None:
        """The verdict of a rule; None when it has none, because it did not match or only changed the packet."""
        position = len(self.steps)
        for statement in rule.statements:
            result = self._statement(chain, statement)
            if result is False:
                del self.steps[position:]
                return None
            if result is not True and result != _CONTINUE:
                self._note(position, chain, rule)
                if isinstance(result, _Over):
                    raise result
                return result
        self._note(position, chain, rule)
        return None

    def _note(self, position: int, chain: Chain, rule: Rule) -> None:
        """The rule stands before the elements that it found."""
        text = rule_text(self.ruleset.family, rule)
        self.steps.insert(position, Step(self.hook, chain.name, text, rule.comment))

    def _statement(self, chain: Chain, statement: Statement) -> bool | Verdict | _Ended | _Over:
        """True: go on within the rule; False: the rule does not match; else what ends it."""
        match statement:
            case Match():
                return self._match(statement)
            case InSet():
                found = self._find(chain, statement.set, self._key(statement.fields))
                return (found is None) if statement.negate else (found is not None)
            case VerdictMap():
                found = self._find(chain, statement.map, self._key(statement.fields))
                return found.value if found and isinstance(found.value, Verdict) else False
            case DnatMap() | DnatMaps():
                return self._dnat(chain, statement)
            case MarkMap():
                return self._mark_map(chain, statement)
            case OrMark() | ClearMark() | MarkBits():
                return self._mark(statement)
            case Verdict():
                return statement
            case _:
                return self._other(statement)

    def _other(self, statement: Statement) -> bool | _Ended | _Over:
        match statement:
            case Counter():
                return True
            case Masquerade():
                self.masqueraded = True
                return _Ended.TRANSLATED
            case Reject(RejectWith.TCP_RESET) if self.packet.proto != "tcp":
                return _Over(End.DROPPED)  # nothing can be reset, but the packet is gone
            case Reject():
                return _Over(End.REJECTED, statement.with_)
            case _:
                raise TypeError(f"the walk does not know the statement {statement!r}")

    def _mark(self, statement: OrMark | ClearMark | MarkBits) -> bool:
        mark = self.packet.mark
        match statement:
            case OrMark():
                self.packet = replace(self.packet, mark=mark | statement.bits)
            case ClearMark():
                self.packet = replace(self.packet, mark=mark & ~statement.bits)
            case MarkBits():
                return mark & statement.bits == statement.bits
        return True

    def _mark_map(self, chain: Chain, statement: MarkMap) -> bool:
        found = self._values(chain, statement.map, statement.fields)
        if not found or not isinstance(found[0], int):
            return False
        self.packet = replace(self.packet, mark=found[0])
        return True

    def _values(self, chain: Chain, name: str, key: tuple[Expression, ...]) -> Key:
        """The values that the map holds for the packet's key; none when it holds nothing."""
        found = self._find(chain, name, self._key(key))
        return found.value if found and isinstance(found.value, tuple) else ()

    def _dnat(self, chain: Chain, statement: DnatMap | DnatMaps) -> bool | _Ended:
        values = self._values(chain, statement.map, statement.key)
        if values and isinstance(statement, DnatMaps):
            values = (*values, *self._values(chain, statement.port_map, statement.port_key))
        if len(values) != 2:
            return False
        address, port = values
        if not isinstance(port, int) or isinstance(address, int | str | IPv4Network | IPv6Network):
            raise TypeError(f"map {statement.map} holds {values!r}, which is no address and port")
        changed = (address, port) != (self.packet.daddr, self.packet.dport)
        status = self.packet.ct_status | {"dnat"} if changed else self.packet.ct_status
        self.dnat = (address, port)
        self.packet = replace(self.packet, daddr=address, dport=port, ct_status=status)
        return _Ended.TRANSLATED

    def _key(self, fields: tuple[Expression, ...]) -> Key | None:
        """None when the packet has no such field: the kernel ends the rule there, and draws no lot."""
        values: list[Value] = []
        for f in fields:
            value = self._evaluated(f)
            if value is None or isinstance(value, frozenset):
                return None
            values.append(value)
        return tuple(values)

    def _evaluated(self, expression: Expression) -> Value | frozenset[str] | None:
        match expression:
            case Numgen():
                return self.choose(expression.mod)
            case JHash():
                return self._hashed(expression)
            case _:
                return self._field(expression)

    def _hashed(self, expression: JHash) -> int | None:
        """What the kernel computes over the registers that hold the fields."""
        values = [(f.type, self._field(f)) for f in expression.fields]
        if any(v is None or isinstance(v, frozenset) or t is None for t, v in values):
            return None
        forms = FORMS[self.ruleset.family]
        data = b"".join(forms[t].encode(v) for t, v in values if t and v is not None and not isinstance(v, frozenset))
        return jhash.slot(data, expression.mod, expression.seed)

    def _find(self, chain: Chain, name: str, key: Key | None) -> Element | None:
        """The element of a key, by equality first, then (in an interval set) by the networks that hold it."""
        if key is None:
            return None
        s, elements = self.ruleset.set(name), self.ruleset.elements.get(name, {})
        at: Key | None = key if key in elements else None
        if at is None and s.interval:
            at = next((k for k in elements if all(_holds(a, b) for a, b in zip(k, key, strict=True))), None)
        if at is None:
            return None
        (text,) = element_texts(s, {at: replace(elements[at], comment="")})
        self.steps.append(Step(self.hook, chain.name, f"@{name} {text}", elements[at].comment))
        return elements[at]

    def _match(self, match: Match) -> bool:
        value = self._field(match.field)
        if value is None:
            return False
        wanted = match.value if isinstance(match.value, tuple) else (match.value,)
        if isinstance(value, frozenset):
            return value.isdisjoint(str(w) for w in wanted) == match.negate
        return any(_holds(w, value) for w in wanted) != match.negate

    def _field(self, f: Field) -> Value | frozenset[str] | None:
        p = self.packet
        match f:
            case Field.SADDR | Field.DADDR:
                address = p.saddr if f is Field.SADDR else p.daddr
                return address if address.version == _VERSIONS[self.ruleset.family] else None
            case Field.SPORT | Field.DPORT:
                return None if p.proto not in _WITH_PORTS else p.sport if f is Field.SPORT else p.dport
            case Field.FIB_DADDR_TYPE:
                return self.host.address_type(p.daddr)
            case Field.FIB_SADDR_TYPE:
                return self.host.address_type(p.saddr)
            case Field.CT_STATE:
                return frozenset({p.ct_state})
            case Field.CT_STATUS:
                return p.ct_status
            case Field.L4PROTO:
                return p.proto
            case Field.MARK:
                return p.mark
            case Field.IIFNAME:
                return p.iif
            case Field.OIFNAME:
                return p.oif


class _Ended(StrEnum):
    """Why a base chain ended, where the packet goes on."""

    ACCEPTED = "accepted"
    TRANSLATED = "translated"


_CONTINUE = Verdict(VerdictKind.CONTINUE)
_VERSIONS = {Family.IP: 4, Family.IP6: 6}


def _holds(wanted: Value, value: Value) -> bool:
    """Equality; a network holds its addresses, a name that ends in `*` the names that begin so."""
    if isinstance(wanted, IPv4Network | IPv6Network):
        return not isinstance(value, int | str | IPv4Network | IPv6Network) and value in wanted
    if isinstance(wanted, str) and isinstance(value, str) and wanted.endswith("*"):
        return value.startswith(wanted[:-1])
    return wanted == value
