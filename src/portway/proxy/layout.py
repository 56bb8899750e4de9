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

EARLY, DSTNAT, FILTER, SRCNAT = -110, -100, 0, 100
_NEW = Match(Field.CT_STATE, "new")

# One row per hook: name, type, hook, priority, its only rule, why it is there.
_HOOKS: tuple[tuple[str, ChainType, Hook, int, tuple[Statement, ...], str], ...] = (
    ("early-prerouting", ChainType.FILTER, Hook.PREROUTING, EARLY, (_NEW, jump("admission")),
     "source ranges are about a public address, which is gone after the translation"),
    ("early-output", ChainType.FILTER, Hook.OUTPUT, EARLY, (_NEW, jump("admission")),
     "the same for what the node itself sends"),
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
EXTERNAL_ADDRESSES = "external-ips"
LOCAL_SERVICES = "local-services"
LOCAL_ENDPOINTS = "local-endpoints"
LOCAL_NODE_PORTS = "local-node-ports"
LOCAL_NODE_PORT_ENDPOINTS = "local-node-port-endpoints"
RESTRICTED = "restricted"
SOURCES = "sources"
HAIRPIN = "hairpin"

# Sorted by name, as a table that was read back is.
SETS: tuple[Set, ...] = (
    Set(CLUSTER_ADDRESSES, (Type.ADDR,), comment="every Service's addresses"),
    Set(ENDPOINTS, (Type.ADDR, Type.PROTO, Type.PORT, Type.SLOT), (Type.ADDR, Type.PORT),
        comment="who serves, numbered from 0 for each Service port"),
    Set(EXTERNAL_ADDRESSES, (Type.ADDR,), comment="load balancers' addresses"),
    Set(HAIRPIN, (Type.ADDR, Type.ADDR, Type.PROTO, Type.PORT),
        comment="a pod of this node that reaches itself through its Service"),
    Set(LOCAL_ENDPOINTS, (Type.ADDR, Type.PROTO, Type.PORT, Type.SLOT), (Type.ADDR, Type.PORT),
        comment="who serves on this node, numbered from 0 for each Service port"),
    Set(LOCAL_NODE_PORT_ENDPOINTS, (Type.PROTO, Type.PORT, Type.SLOT), (Type.ADDR, Type.PORT),
        comment="who serves on this node, numbered from 0 for each node port"),
    Set(LOCAL_NODE_PORTS, (Type.PROTO, Type.PORT), (Type.VERDICT,),
        comment="node ports whose clients from outside stay on this node"),
    Set(LOCAL_SERVICES, (Type.ADDR, Type.PROTO, Type.PORT), (Type.VERDICT,),
        comment="Service ports whose clients from outside stay on this node"),
    Set(NO_ENDPOINTS, (Type.ADDR, Type.PROTO, Type.PORT), (Type.VERDICT,), comment="Service ports that nobody serves"),
    Set(NODE_PORT_ENDPOINTS, (Type.PROTO, Type.PORT, Type.SLOT), (Type.ADDR, Type.PORT),
        comment="who serves, numbered from 0 for each node port"),
    Set(NODE_PORTS, (Type.PROTO, Type.PORT), (Type.VERDICT,), comment="node port to the choice among its endpoints"),
    Set(NODE_PORTS_NO_ENDPOINTS, (Type.PROTO, Type.PORT), (Type.VERDICT,), comment="node ports that nobody serves"),
    Set(RESTRICTED, (Type.ADDR, Type.PROTO, Type.PORT), comment="Service ports that not every client may use"),
    Set(SERVICES, (Type.ADDR, Type.PROTO, Type.PORT), (Type.VERDICT,),
        comment="Service port to the choice among its endpoints"),
    Set(SOURCES, (Type.ADDR, Type.PROTO, Type.PORT, Type.ADDR), interval=True, comment="who may use them"),
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


def local_pick_chain(count: int) -> str:
    """The same for clients from outside who must stay on this node."""
    return f"local-pick-{count}"


def local_node_pick_chain(count: int) -> str:
    """The same for node ports."""
    return f"local-node-pick-{count}"


# What an element's verdict says when there is nobody to choose among.
REFUSE = goto("refuse-no-endpoints")
DROP_NO_LOCAL = goto("drop-no-local-endpoints")


def static_chains(config: ProxyConfig) -> tuple[Chain, ...]:
    """All chains but the pick chains."""
    hooks = (Chain(n, (Rule(r),), Base(t, h, p), comment=why) for n, t, h, p, r, why in _HOOKS)
    return (
        *hooks,
        Chain("services", _services(config)),
        Chain("node-ports", _node_ports(config)),
        Chain("admission", _admission()),
        Chain("masquerading", _masquerading(config)),
        Chain("unserved", _unserved(config)),
        _refusal("refuse-no-endpoints", Reason.NO_ENDPOINTS),
        _refusal("refuse-undefined-port", Reason.UNDEFINED_PORT),
        Chain("drop-no-local-endpoints", (Rule((DROP,), str(Reason.NO_LOCAL_ENDPOINTS)),)),
    )


def _services(config: ProxyConfig) -> tuple[Rule, ...]:
    outside = Match(Field.SADDR, config.cluster_cidr, negate=True)
    why = "a source that is no pod: the answer must come back through this node"
    return (
        Rule((*_from_outside(config), VerdictMap(SERVICE_KEY, LOCAL_SERVICES)), _LOCAL_POLICY),
        Rule((InSet((Field.DADDR,), CLUSTER_ADDRESSES), outside, OrMark(config.masquerade_mark)), why),
        Rule((InSet((Field.DADDR,), EXTERNAL_ADDRESSES), outside, OrMark(config.masquerade_mark)), why),
        Rule((VerdictMap(SERVICE_KEY, SERVICES),)),
        Rule((*_own_addresses(config), goto("node-ports"))),
    )


_LOCAL_POLICY = "externalTrafficPolicy Local: the client keeps its address"


def _from_outside(config: ProxyConfig) -> tuple[Match, Match]:
    """Neither a pod nor this node: for those a load balancer's address is a short way to all endpoints."""
    return Match(Field.SADDR, config.cluster_cidr, negate=True), Match(Field.FIB_SADDR_TYPE, "local", negate=True)


def _node_ports(config: ProxyConfig) -> tuple[Rule, ...]:
    return (
        Rule((*_from_outside(config), VerdictMap(NODE_PORT_KEY, LOCAL_NODE_PORTS)), _LOCAL_POLICY),
        Rule((VerdictMap(NODE_PORT_KEY, NODE_PORTS),)),
    )


def _admission() -> tuple[Rule, ...]:
    allowed = InSet((*SERVICE_KEY, Field.SADDR), SOURCES, negate=True)
    return (Rule((InSet(SERVICE_KEY, RESTRICTED), allowed, DROP), str(Reason.SOURCE_NOT_ALLOWED)),)


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


_UNMARKED: dict[str, tuple[tuple[Field, ...], str]] = {
    "pick": (SERVICE_KEY, ENDPOINTS),
    "local-pick": (SERVICE_KEY, LOCAL_ENDPOINTS),
    "local-node-pick": (NODE_PORT_KEY, LOCAL_NODE_PORT_ENDPOINTS),
}


def pick(name: str, config: ProxyConfig) -> Chain:
    """The pick chain of that name: one rule (two for node ports, whose answers must come back through this node)."""
    kind, _, count = name.rpartition("-")
    numgen = Numgen(int(count))
    if kind in _UNMARKED:
        key, endpoints = _UNMARKED[kind]
        return Chain(name, (Rule((DnatMap((*key, numgen), endpoints),)),))
    mark = Rule((OrMark(config.masquerade_mark),))
    return Chain(name, (mark, Rule((DnatMap((*NODE_PORT_KEY, numgen), NODE_PORT_ENDPOINTS),))))
