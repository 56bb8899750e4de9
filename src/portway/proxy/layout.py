"""The part of the proxy's table that never moves: its hooks, its sets and maps, and the names of everything.

`proxy.compile` puts elements into these sets and adds one `pick-N` chain for each number of endpoints in use. A Service
never makes a chain, a rule or a set of its own: that keeps a change at a few map elements and the first load linear in
their number.

The road of a first packet: nat hooks → `services` → (map `services`, or `node-ports` for the node's own) → `pick-N` →
map `endpoints`; what is left for our addresses is refused by `unserved` at the filter hooks, and `masquerading` decides
whose answers must come back through this node. Later packets follow the connection, not the table.
"""

from __future__ import annotations

from ipaddress import ip_network

from portway.nft.tables import (
    DROP,
    Base,
    Chain,
    ChainType,
    ClearMark,
    DnatMap,
    Family,
    Field,
    Hook,
    InSet,
    MarkBits,
    Masquerade,
    Match,
    Network,
    Numgen,
    OrMark,
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
from portway.proxy.config import ProxyConfig
from portway.proxy.reasons import Reason

DSTNAT, FILTER, SRCNAT = -100, 0, 100
_NEW = Match(Field.CT_STATE, "new")

# One row per hook: name, type, hook, priority, its only rule, why it is there.
_HOOKS: tuple[tuple[str, ChainType, Hook, int, tuple[Statement, ...], str], ...] = (
    ("nat-prerouting", ChainType.NAT, Hook.PREROUTING, DSTNAT, (jump("services"),),
     "what pods and other hosts send: rewritten before the route is chosen"),
    ("nat-output", ChainType.NAT, Hook.OUTPUT, DSTNAT, (jump("services"),),
     "what the node itself sends does not pass prerouting"),
    ("nat-postrouting", ChainType.NAT, Hook.POSTROUTING, SRCNAT, (jump("masquerading"),),
     "the source is rewritten last, when the outgoing interface is known"),
    ("filter-input", ChainType.FILTER, Hook.INPUT, FILTER, (_NEW, jump("unserved")),
     "node ports that nobody serves: their packets are for this node"),
    ("filter-forward", ChainType.FILTER, Hook.FORWARD, FILTER, (_NEW, jump("unserved")),
     "cluster addresses that nobody serves: their packets would leave by the default route"),
    ("filter-output", ChainType.FILTER, Hook.OUTPUT, FILTER, (_NEW, jump("unserved")),
     "the same for what the node itself sends"),
)  # fmt: skip

SERVICES = "services"
ENDPOINTS = "endpoints"
NO_ENDPOINTS = "no-endpoints"
NODE_PORTS = "node-ports"
NODE_PORT_ENDPOINTS = "node-port-endpoints"
NODE_PORTS_NO_ENDPOINTS = "node-ports-no-endpoints"
CLUSTER_ADDRESSES = "cluster-ips"
HAIRPIN = "hairpin"

# Sorted by name, as a table that was read back is.
SETS: tuple[Set, ...] = (
    Set(CLUSTER_ADDRESSES, (Type.ADDR,), comment="every Service's addresses"),
    Set(ENDPOINTS, (Type.ADDR, Type.PROTO, Type.PORT, Type.SLOT), (Type.ADDR, Type.PORT),
        comment="who serves, numbered from 0 for each Service port"),
    Set(HAIRPIN, (Type.ADDR, Type.ADDR, Type.PROTO, Type.PORT),
        comment="a pod of this node that reaches itself through its Service"),
    Set(NO_ENDPOINTS, (Type.ADDR, Type.PROTO, Type.PORT), (Type.VERDICT,), comment="Service ports that nobody serves"),
    Set(NODE_PORT_ENDPOINTS, (Type.PROTO, Type.PORT, Type.SLOT), (Type.ADDR, Type.PORT),
        comment="who serves, numbered from 0 for each node port"),
    Set(NODE_PORTS, (Type.PROTO, Type.PORT), (Type.VERDICT,), comment="node port to the choice among its endpoints"),
    Set(NODE_PORTS_NO_ENDPOINTS, (Type.PROTO, Type.PORT), (Type.VERDICT,), comment="node ports that nobody serves"),
    Set(SERVICES, (Type.ADDR, Type.PROTO, Type.PORT), (Type.VERDICT,),
        comment="Service port to the choice among its endpoints"),
)  # fmt: skip

SERVICE_KEY = (Field.DADDR, Field.L4PROTO, Field.DPORT)
NODE_PORT_KEY = (Field.L4PROTO, Field.DPORT)
_LOOPBACK: dict[Family, Network] = {Family.IP: ip_network("127.0.0.0/8"), Family.IP6: ip_network("::1/128")}


def pick_chain(count: int) -> str:
    """The chain that chooses among `count` endpoints of a Service address.

    Names are ours alone: a letter first, then letters, digits and dashes, a few bytes long, so every nft reads them
    unquoted; what users named is only ever in comments."""
    return f"pick-{count}"


def node_pick_chain(count: int) -> str:
    """The same for node ports."""
    return f"node-pick-{count}"


# What an element's verdict says when there is nobody to choose among.
REFUSE = goto("refuse-no-endpoints")


def static_chains(config: ProxyConfig) -> tuple[Chain, ...]:
    """All chains but the pick chains."""
    hooks = (Chain(n, (Rule(r),), Base(t, h, p), comment=why) for n, t, h, p, r, why in _HOOKS)
    return (
        *hooks,
        Chain("services", _services(config)),
        Chain("node-ports", (Rule((VerdictMap(NODE_PORT_KEY, NODE_PORTS),)),)),
        Chain("masquerading", _masquerading(config)),
        Chain("unserved", _unserved(config)),
        _refusal("refuse-no-endpoints", Reason.NO_ENDPOINTS),
        _refusal("refuse-undefined-port", Reason.UNDEFINED_PORT),
    )


def _services(config: ProxyConfig) -> tuple[Rule, ...]:
    outside = Match(Field.SADDR, config.cluster_cidr, negate=True)
    return (
        Rule(
            (InSet((Field.DADDR,), CLUSTER_ADDRESSES), outside, OrMark(config.masquerade_mark)),
            "a source that is no pod: the answer must come back through this node",
        ),
        Rule((VerdictMap(SERVICE_KEY, SERVICES),)),
        Rule((*_own_addresses(config), goto("node-ports"))),
    )


def _own_addresses(config: ProxyConfig) -> tuple[Match, Match]:
    """Packets for this node. Not loopback: the kernel routes no packet with a loopback source to a pod."""
    return Match(Field.DADDR, _LOOPBACK[config.family], negate=True), Match(Field.FIB_DADDR_TYPE, "local")


def _masquerading(config: ProxyConfig) -> tuple[Rule, ...]:
    hairpin = InSet((Field.SADDR, Field.DADDR, Field.L4PROTO, Field.DPORT), HAIRPIN)
    mark = config.masquerade_mark
    return (
        # Cleared, so that a tunnel's outer packet, which inherits the mark, is not masqueraded again.
        Rule((MarkBits(mark), ClearMark(mark), Masquerade()), "marked on the way in"),
        Rule((hairpin, Masquerade()), "a pod would not recognise an answer from itself"),
    )


def _unserved(config: ProxyConfig) -> tuple[Rule, ...]:
    return (
        Rule((VerdictMap(SERVICE_KEY, NO_ENDPOINTS),)),
        Rule((InSet((Field.DADDR,), CLUSTER_ADDRESSES), goto("refuse-undefined-port")), str(Reason.UNDEFINED_PORT)),
        Rule((Match(Field.DADDR, config.service_cidr), DROP), str(Reason.UNALLOCATED)),
        Rule((*_own_addresses(config), VerdictMap(NODE_PORT_KEY, NODE_PORTS_NO_ENDPOINTS))),
    )


def _refusal(name: str, reason: Reason) -> Chain:
    """TCP learns it by a reset (ECONNREFUSED), everything else by ICMP."""
    reset = Rule((Match(Field.L4PROTO, "tcp"), Reject(RejectWith.TCP_RESET)), str(reason))
    return Chain(name, (reset, Rule((Reject(),), str(reason))))


def pick(name: str, config: ProxyConfig) -> Chain:
    """The pick chain of that name: one rule (two for node ports, whose answers must come back through this node)."""
    kind, _, count = name.rpartition("-")
    numgen = Numgen(int(count))
    if kind == "pick":
        return Chain(name, (Rule((DnatMap((*SERVICE_KEY, numgen), ENDPOINTS),)),))
    mark = Rule((OrMark(config.masquerade_mark),))
    return Chain(name, (mark, Rule((DnatMap((*NODE_PORT_KEY, numgen), NODE_PORT_ENDPOINTS),))))
