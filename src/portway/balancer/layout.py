"""The part of the edge's table that never moves: its hooks, its sets and maps, and the names of everything.

`compile` only puts elements into these: no chain or rule is made for a Service, so 10,000 of them are map elements.

The road of a first packet to a public address: `filter-early` (may this client come?) → nat hooks → map `forwarding` →
`spread` (or `sticky`) → the mark becomes the backend's group, the slot a hash of the client → map `slots` gives the node,
map `doors` the node port. What still has a public address behind that is served by nobody and refused. Later packets
follow the connection, whatever the maps say by then: that is how a node drains.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network

from portway.balancer.reasons import Reason
from portway.balancer.slots import SLOTS
from portway.nft.tables import (
    DROP,
    Base,
    Chain,
    ChainType,
    DnatMaps,
    Family,
    Field,
    Hook,
    InSet,
    JHash,
    MarkMap,
    Masquerade,
    Match,
    Network,
    Reject,
    RejectWith,
    Rule,
    Set,
    Statement,
    Type,
    VerdictMap,
    goto,
    jump,
)

EARLY, DSTNAT, LATE, FILTER, SRCNAT = -110, -100, -90, 0, 100
PROTOCOLS = ("tcp", "udp", "sctp")
KEY = (Field.DADDR, Field.L4PROTO, Field.DPORT)
_KEY_TYPES = (Type.ADDR, Type.PROTO, Type.PORT)

ADDRESSES = "addresses"
DOORS = "doors"
FORWARDING = "forwarding"
GROUPS = "groups"
RESTRICTED = "restricted"
SLOT_MAP = "slots"
SOURCES = "sources"
UNHEALTHY = "unhealthy"

SPREAD = goto("spread")
STICKY = goto("sticky")
REFUSE_UNHEALTHY = goto("refuse-unhealthy")


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeConfig:
    """`inside`: the cluster's own networks. Their answers would not come back through the edge by themselves."""

    table: str = "portway-edge"
    family: Family = Family.IP
    inside: tuple[Network, ...] = (ip_network("10.0.0.0/16"), ip_network("10.100.0.0/24"))
    slots: int = SLOTS
    # A fixed number: after a restart of the edge a client falls to the same node.
    seed: int = 0x70


# One row per hook: name, type, hook, priority, its only rule, why it is there.
_HOOKS: tuple[tuple[str, ChainType, Hook, int, tuple[Statement, ...], str], ...] = (
    ("filter-early", ChainType.FILTER, Hook.PREROUTING, EARLY, (Match(Field.CT_STATE, "new"), jump("admission")),
     "source ranges are about the public address, which is gone after the translation"),
    ("nat-prerouting", ChainType.NAT, Hook.PREROUTING, DSTNAT, (jump("forward-new"),),
     "what comes from the internet, from nodes and from pods"),
    ("nat-output", ChainType.NAT, Hook.OUTPUT, DSTNAT, (jump("forward-new"),),
     "what the edge itself sends"),
    ("filter-late", ChainType.FILTER, Hook.PREROUTING, LATE, (InSet((Field.DADDR,), ADDRESSES), jump("unserved")),
     "before the route is looked up: the addresses are on no interface, so there is none"),
    ("filter-output", ChainType.FILTER, Hook.OUTPUT, FILTER, (InSet((Field.DADDR,), ADDRESSES), jump("unserved")),
     "the same for what the edge itself sends"),
    ("nat-postrouting", ChainType.NAT, Hook.POSTROUTING, SRCNAT, (jump("inside"),),
     "a node answers a neighbour directly, who would not know the answer"),
)  # fmt: skip

# Sorted by name, as a table that was read back is.
SETS: tuple[Set, ...] = (
    Set(ADDRESSES, (Type.ADDR,), comment="external addresses"),
    Set(DOORS, _KEY_TYPES, (Type.PORT,), comment="forwarding rule to node port"),
    Set(FORWARDING, _KEY_TYPES, (Type.VERDICT,), comment="forwarding rules that a healthy node stands behind"),
    Set(GROUPS, _KEY_TYPES, (Type.MARK,), comment="forwarding rule to the group of nodes behind it"),
    Set(RESTRICTED, _KEY_TYPES, comment="forwarding rules that not every client may use"),
    Set(SLOT_MAP, (Type.MARK, Type.SLOT), (Type.ADDR,), comment="group and slot to the node that has it"),
    Set(SOURCES, (*_KEY_TYPES, Type.ADDR), interval=True, comment="who may use them"),
    Set(UNHEALTHY, _KEY_TYPES, (Type.VERDICT,), comment="forwarding rules that no healthy node stands behind"),
)


def chains(config: EdgeConfig) -> tuple[Chain, ...]:
    """All chains, sorted by name."""
    made = (
        *(Chain(n, (Rule(r),), Base(t, h, p), comment=why) for n, t, h, p, r, why in _HOOKS),
        Chain("admission", _admission()),
        Chain("forward-new", (Rule((VerdictMap(KEY, FORWARDING),)),)),
        Chain("inside", _inside(config)),
        _forward("spread", config, (Field.SADDR, Field.SPORT), "each connection by itself"),
        _forward("sticky", config, (Field.SADDR,), "all connections of a client alike"),
        Chain("unserved", _unserved()),
        _refusal("refuse-undefined-port", Reason.UNDEFINED_PORT),
        _refusal("refuse-unhealthy", Reason.ALL_UNHEALTHY),
    )
    return tuple(sorted(made, key=lambda c: c.name))


def _admission() -> tuple[Rule, ...]:
    allowed = InSet((*KEY, Field.SADDR), SOURCES, negate=True)
    return (Rule((InSet(KEY, RESTRICTED), allowed, DROP), str(Reason.SOURCE_NOT_ALLOWED.words)),)


def _forward(name: str, config: EdgeConfig, hashed: tuple[Field, ...], why: str) -> Chain:
    """One rule for each protocol, as nft's grammar wants to know it where a port is translated by a map of its own."""
    slot = JHash(hashed, config.slots, config.seed)
    to_node = DnatMaps((Field.MARK, slot), SLOT_MAP, KEY, DOORS)
    rules = (Rule((Match(Field.L4PROTO, protocol), to_node)) for protocol in PROTOCOLS)
    return Chain(name, (Rule((MarkMap(KEY, GROUPS),)), *rules), comment=why)


def _inside(config: EdgeConfig) -> tuple[Rule, ...]:
    ours = (Match(Field.CT_STATUS, "dnat"), Match(Field.SADDR, config.inside), Masquerade())
    return (Rule(ours, "a client that is a node or a pod"),)


def _unserved() -> tuple[Rule, ...]:
    undefined = str(Reason.UNDEFINED_PORT.words)
    return Rule((VerdictMap(KEY, UNHEALTHY),)), Rule((goto("refuse-undefined-port"),), undefined)


def _refusal(name: str, reason: Reason) -> Chain:
    """TCP learns it by a reset (ECONNREFUSED), everything else by ICMP."""
    reset = Rule((Match(Field.L4PROTO, "tcp"), Reject(RejectWith.TCP_RESET)), reason.words)
    return Chain(name, (reset, Rule((Reject(),), reason.words)))
