"""The vocabulary of nftables that Portway uses, as frozen values.

A `Ruleset` is one table with its sets, maps, chains, rules and elements. It is what `proxy.compile` makes, what
`transaction.diff` compares, what `text` prints, what `kernel` loads and what `walk` steps a packet through. Only what
is used is here: the walker and the encoders raise on a statement that they do not know, so a new statement starts here
and fails there until both speak it.

Values: an address is an `ipaddress.IPv4Address` or `IPv6Address`, a port or mark an `int`, a protocol a lower-case name
("tcp"), an interface a `str`. The order of a concatenation's fields is the order of its values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network
Value: TypeAlias = Address | Network | int | str
Key: TypeAlias = tuple[Value, ...]


class Family(StrEnum):
    """The table's address family; it decides what a `daddr` is."""

    IP = "ip"
    IP6 = "ip6"


class Type(StrEnum):
    """The data types of set keys and map values, by nft's names."""

    ADDR = "addr"  # ipv4_addr or ipv6_addr, by the table's family
    PROTO = "inet_proto"
    PORT = "inet_service"
    MARK = "mark"
    SLOT = "integer"  # what numgen yields: 32 bits in host order; `typeof numgen random mod 2` in text
    IFNAME = "ifname"
    VERDICT = "verdict"


class Field(StrEnum):
    """What can be read from a packet, by nft's text (`addr` stands for `ip saddr` or `ip6 saddr`, by family)."""

    SADDR = "saddr"
    DADDR = "daddr"
    L4PROTO = "meta l4proto"
    SPORT = "th sport"
    DPORT = "th dport"
    MARK = "meta mark"
    IIFNAME = "iifname"
    OIFNAME = "oifname"
    CT_STATE = "ct state"  # values: "new", "established", "related", "invalid", "untracked"
    CT_STATUS = "ct status"  # values: "dnat", "snat"
    FIB_DADDR_TYPE = "fib daddr type"  # values: "local", "unicast", "broadcast", "multicast"
    FIB_SADDR_TYPE = "fib saddr type"

    @property
    def type(self) -> Type | None:
        """The set data type of the field, or None where a field cannot be part of a key."""
        return _FIELD_TYPES.get(self)


_FIELD_TYPES = {
    Field.SADDR: Type.ADDR,
    Field.DADDR: Type.ADDR,
    Field.L4PROTO: Type.PROTO,
    Field.SPORT: Type.PORT,
    Field.DPORT: Type.PORT,
    Field.MARK: Type.MARK,
    Field.IIFNAME: Type.IFNAME,
    Field.OIFNAME: Type.IFNAME,
}


@dataclass(frozen=True, slots=True)
class Numgen:
    """`numgen random mod N`: a number from 0 to N-1, different for every packet that asks."""

    mod: int


@dataclass(frozen=True, slots=True)
class JHash:
    """`jhash FIELD . FIELD mod N seed S`: a number from 0 to N-1, the same for every packet with the same fields."""

    fields: tuple[Field, ...]
    mod: int
    seed: int = 0


Expression: TypeAlias = Field | Numgen | JHash


def expression_type(expression: Expression) -> Type | None:
    """The set data type of what the expression yields; None for a field that cannot be part of a key."""
    return expression.type if isinstance(expression, Field) else Type.SLOT


class VerdictKind(StrEnum):
    """How a rule or a chain ends. `return` goes back to the caller, `goto` does not come back."""

    ACCEPT = "accept"
    DROP = "drop"
    CONTINUE = "continue"
    RETURN = "return"
    JUMP = "jump"
    GOTO = "goto"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A verdict, as a statement or as a map's value; `chain` only with jump and goto."""

    kind: VerdictKind
    chain: str = ""


ACCEPT = Verdict(VerdictKind.ACCEPT)
DROP = Verdict(VerdictKind.DROP)
RETURN = Verdict(VerdictKind.RETURN)


def jump(chain: str) -> Verdict:
    return Verdict(VerdictKind.JUMP, chain)


def goto(chain: str) -> Verdict:
    return Verdict(VerdictKind.GOTO, chain)


@dataclass(frozen=True, slots=True)
class Match:
    """`FIELD == VALUE`, `FIELD != VALUE`; a `Network` matches by prefix, a tuple of values matches any of them."""

    field: Field
    value: Value | tuple[Value, ...]
    negate: bool = False


@dataclass(frozen=True, slots=True)
class InSet:
    """`FIELD . FIELD @set`; with `negate`, `!= @set`."""

    fields: tuple[Field, ...]
    set: str
    negate: bool = False


@dataclass(frozen=True, slots=True)
class VerdictMap:
    """`FIELD . FIELD vmap @map`: the found verdict is taken; when nothing is found the next rule is tried."""

    fields: tuple[Field, ...]
    map: str


@dataclass(frozen=True, slots=True)
class DnatMap:
    """`dnat to FIELD . … map @map`, where the map's value is an address and a port; nothing found: the next rule."""

    key: tuple[Expression, ...]
    map: str


@dataclass(frozen=True, slots=True)
class DnatMaps:
    """`dnat to KEY map @MAP : PORT-KEY map @PORT-MAP`: the address from one map, the port from another."""

    key: tuple[Expression, ...]
    map: str
    port_key: tuple[Expression, ...]
    port_map: str


@dataclass(frozen=True, slots=True)
class MarkMap:
    """`meta mark set FIELD . … map @MAP`: the mark becomes the map's value; nothing found: the next rule."""

    fields: tuple[Field, ...]
    map: str


@dataclass(frozen=True, slots=True)
class Masquerade:
    """Source NAT to the address of the interface that the packet leaves by; `fully-random` as kube-proxy does."""

    fully_random: bool = True


@dataclass(frozen=True, slots=True)
class OrMark:
    """`meta mark set meta mark or BITS`."""

    bits: int


@dataclass(frozen=True, slots=True)
class MarkBits:
    """Matches when all of `bits` are set in the packet's mark: `meta mark and BITS == BITS`."""

    bits: int


@dataclass(frozen=True, slots=True)
class ClearMark:
    """`meta mark set meta mark and not BITS`."""

    bits: int


class RejectWith(StrEnum):
    """TCP_RESET only behind a match on TCP (others would be dropped without a word); PORT_UNREACHABLE
    is ICMP type 3 code 3, or ICMPv6 type 1 code 4 (nft's plain `reject`)."""

    TCP_RESET = "tcp reset"
    PORT_UNREACHABLE = "port-unreachable"


@dataclass(frozen=True, slots=True)
class Reject:
    with_: RejectWith = RejectWith.PORT_UNREACHABLE


@dataclass(frozen=True, slots=True)
class Counter:
    """Counts packets and bytes of this rule in the kernel; a ruleset does not carry the counts."""


Statement: TypeAlias = (
    Match
    | InSet
    | VerdictMap
    | DnatMap
    | DnatMaps
    | MarkMap
    | Masquerade
    | OrMark
    | MarkBits
    | ClearMark
    | Reject
    | Counter
    | Verdict
)


class Hook(StrEnum):
    """Where in the kernel's road a base chain is called."""

    PREROUTING = "prerouting"
    INPUT = "input"
    FORWARD = "forward"
    OUTPUT = "output"
    POSTROUTING = "postrouting"


class ChainType(StrEnum):
    """`nat` chains see the first packet of a connection only; `filter` chains see every packet."""

    FILTER = "filter"
    NAT = "nat"


@dataclass(frozen=True, slots=True)
class Base:
    """What makes a chain a base chain. Priority: lower is earlier; dstnat is -100, filter 0, srcnat 100."""

    type: ChainType
    hook: Hook
    priority: int


@dataclass(frozen=True, slots=True)
class Rule:
    """Statements in order; the first that does not match ends the rule. `comment` says for whom it is."""

    statements: tuple[Statement, ...]
    comment: str = ""

    @property
    def sets_used(self) -> frozenset[str]:
        """The names of the sets and maps that the rule looks into."""
        return frozenset(name for s in self.statements for name in _sets_of(s))

    @property
    def chains_used(self) -> frozenset[str]:
        """The names of the chains that the rule itself goes to; those behind a verdict map are the map's."""
        return frozenset(s.chain for s in self.statements if isinstance(s, Verdict) and s.chain)


def _sets_of(statement: Statement) -> tuple[str, ...]:
    match statement:
        case InSet():
            return (statement.set,)
        case VerdictMap() | DnatMap() | MarkMap():
            return (statement.map,)
        case DnatMaps():
            return (statement.map, statement.port_map)
        case _:
            return ()


@dataclass(frozen=True, slots=True)
class Chain:
    """A named chain. The policy of a base chain is always accept: our table never drops what is not ours."""

    name: str
    rules: tuple[Rule, ...] = ()
    base: Base | None = None
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Element:
    """What a key stands for: `None` in a set, a verdict or a tuple of values in a map; `comment` names the origin."""

    value: Key | Verdict | None = None
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Set:
    """A set (no value types) or a map, without its elements. `interval` lets an element be a `Network`."""

    name: str
    key: tuple[Type, ...]
    value: tuple[Type, ...] = ()
    interval: bool = False
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Ruleset:
    """One whole table. `elements` maps a set's name to its elements; a set without elements may be missing there.

    Chain names are at most 127 bytes, set names 255 (the kernel's NFT_NAME_MAXLEN is 256); comments at most 127. No name
    may be a word of nft's grammar ("fwd", say): text could not be read back. Elements of an interval set do
    not overlap. `canonical` gives the one spelling in which `Nft.read` returns a table."""

    family: Family
    name: str
    sets: tuple[Set, ...] = ()
    chains: tuple[Chain, ...] = ()
    elements: Mapping[str, Mapping[Key, Element]] = field(default_factory=dict)
    comment: str = ""

    def chain(self, name: str) -> Chain:
        """The chain of that name; KeyError when there is none."""
        return {c.name: c for c in self.chains}[name]

    def set(self, name: str) -> Set:
        """The set or map of that name; KeyError when there is none."""
        return {s.name: s for s in self.sets}[name]
