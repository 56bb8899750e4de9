"""Pods with host ports → the node agent's own nftables table. Pure.

The static part (hooks, sets, rules) is at the top, one row per hook; a pod is a few map elements and never a rule. The
road of a first packet: nat hooks → `host-ports` (packets for an address of this node) → the pod's address and port; the
source stays what it is, so that the pod sees its client. Two senders need a source that the answer can find:
a pod that reaches itself, and a program of the node that uses loopback. `portopener` gives the table to the kernel.

The table is not the proxy's: a node without a proxy opens host ports too. It comes one step after the proxy's, so a
number that both have is the Service's on every node; `warnings` says so when a pod asks for such a number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, ip_address, ip_network

from portway.cluster.hostports import HostPort, host_ports
from portway.nft.tables import (
    DROP,
    Base,
    Chain,
    ChainType,
    DnatMap,
    Element,
    Family,
    Field,
    Hook,
    InSet,
    Key,
    Masquerade,
    Match,
    Rule,
    Ruleset,
    Set,
    Statement,
    Type,
    jump,
)
from portway.objects.core import Pod

TABLE = "portway-node"
AFTER_SERVICES, FILTER, SRCNAT = -99, 0, 100
_LOCAL = Match(Field.FIB_DADDR_TYPE, "local")
_LOOPBACK = ip_network("127.0.0.0/8")

# One row per hook: name, type, hook, priority, its only rule, why it is there.
_HOOKS: tuple[tuple[str, ChainType, Hook, int, tuple[Statement, ...], str], ...] = (
    ("host-ports-prerouting", ChainType.NAT, Hook.PREROUTING, AFTER_SERVICES, (_LOCAL, jump("host-ports")),
     "what pods and other hosts send to this node"),
    ("host-ports-output", ChainType.NAT, Hook.OUTPUT, AFTER_SERVICES, (_LOCAL, jump("host-ports")),
     "what the node sends to itself does not pass prerouting"),
    ("host-ports-postrouting", ChainType.NAT, Hook.POSTROUTING, SRCNAT, (jump("host-ports-source"),),
     "the source is rewritten last, when the outgoing interface is known"),
    ("host-ports-input", ChainType.FILTER, Hook.INPUT, FILTER,
     (Match(Field.IIFNAME, "lo", negate=True), Match(Field.DADDR, _LOOPBACK), Match(Field.CT_STATE, "new"), DROP),
     "route_localnet lets answers to loopback in, and nothing else may follow them"),
)  # fmt: skip

ONE_ADDRESS = "host-ports-one"
ANY_ADDRESS = "host-ports-any"
HAIRPIN = "host-ports-hairpin"

SETS: tuple[Set, ...] = (
    Set(ANY_ADDRESS, (Type.PROTO, Type.PORT), (Type.ADDR, Type.PORT), comment="host ports of all addresses of the node"),
    Set(HAIRPIN, (Type.ADDR, Type.ADDR, Type.PROTO, Type.PORT), comment="a pod that reaches itself by its host port"),
    Set(ONE_ADDRESS, (Type.ADDR, Type.PROTO, Type.PORT), (Type.ADDR, Type.PORT), comment="host ports of one hostIP"),
)  # fmt: skip

_CHAINS: tuple[Chain, ...] = (
    Chain(
        "host-ports",
        (
            Rule((DnatMap((Field.DADDR, Field.L4PROTO, Field.DPORT), ONE_ADDRESS),)),
            Rule((DnatMap((Field.L4PROTO, Field.DPORT), ANY_ADDRESS),)),
        ),
    ),
    *(Chain(name, (Rule(rule),), Base(kind, hook, at), comment=why) for name, kind, hook, at, rule, why in _HOOKS),
    Chain(
        "host-ports-source",
        (
            Rule(
                (InSet((Field.SADDR, Field.DADDR, Field.L4PROTO, Field.DPORT), HAIRPIN), Masquerade()),
                "a pod would not recognise an answer from itself",
            ),
            Rule(
                (Match(Field.SADDR, _LOOPBACK), Match(Field.OIFNAME, "lo", negate=True), Masquerade()),
                "no pod can answer a loopback address",
            ),
        ),
    ),
)
_COMMENT_BYTES = 127


class Reason(StrEnum):
    """What an event says of a host port that does not do what its manifest hopes for."""

    REJECTED = "NodePorts"  # the kubelet's word for a pod that came although another has its port
    OVERLAP = "HostPortOverlapsNodePorts"
    NOT_HERE = "HostIPNotOnNode"
    NO_IPV6 = "HostIPFamilyMismatch"
    IN_USE = "HostPortInUse"


@dataclass(frozen=True, slots=True)
class PodPorts:
    """A pod of this node and the host ports that lead to it."""

    pod: str
    address: IPv4Address
    ports: tuple[HostPort, ...]


def ports_of(pod: Pod, address: str) -> PodPorts | None:
    """What is to be opened for `pod`; None when there is nothing, as with hostNetwork, where programs open ports themselves."""
    found = () if pod.spec.host_network else tuple(p for p in host_ports(pod) if _family(p) != 6)
    return PodPorts(pod.ref, IPv4Address(address), found) if found else None


def compile_ports(pods: Iterable[PodPorts]) -> Ruleset:
    """The whole table. Where two want the same port (the agent admits no such pod) the first one has it."""
    elements: dict[str, dict[Key, Element]] = {s.name: {} for s in SETS}
    for pod in pods:
        for name, key, element in _elements(pod):
            elements[name].setdefault(key, element)
    filled: Mapping[str, Mapping[Key, Element]] = {
        name: dict(sorted(e.items(), key=str)) for name, e in elements.items() if e
    }
    return Ruleset(Family.IP, TABLE, SETS, _CHAINS, filled, "host ports of pods, kept by portway's node agent")


def _elements(pod: PodPorts) -> Iterator[tuple[str, Key, Element]]:
    for port in pod.ports:
        to = Element((pod.address, port.target), _fit(f"{pod.pod}:{port.container}"))
        if port.address:
            yield ONE_ADDRESS, (IPv4Address(port.address), port.protocol, port.port), to
        else:
            yield ANY_ADDRESS, (port.protocol, port.port), to
        yield HAIRPIN, (pod.address, pod.address, port.protocol, port.target), Element()


def _fit(text: str) -> str:
    return text.encode()[:_COMMENT_BYTES].decode(errors="ignore")


def warnings(pod: Pod, *, node_ports: range, addresses: Iterable[str]) -> Iterator[tuple[Reason, str]]:
    """What the author of the manifest should know although the pod runs. `addresses` are the node's own."""
    own = frozenset(addresses)
    for port in host_ports(pod):
        said = f"hostPort {port.port}/{port.protocol.upper()} of container {port.container}"
        if port.port in node_ports:
            span = f"{node_ports.start}-{node_ports.stop - 1}"
            why = f"is in the range of node ports, {span}: a Service that gets this number takes it from the pod"
            yield Reason.OVERLAP, f"{said} {why}; use a port outside of the range"
        if port.address and not pod.spec.host_network:
            yield from _about_address(port, said, own)


def _about_address(port: HostPort, said: str, own: frozenset[str]) -> Iterator[tuple[Reason, str]]:
    if _family(port) == 6:
        yield Reason.NO_IPV6, f"{said} is not opened: hostIP {port.address} is IPv6 and the pod's address is IPv4"
    elif port.address not in own and ip_address(port.address) not in _LOOPBACK:
        yield Reason.NOT_HERE, f"{said} is out of reach: no interface of this node has hostIP {port.address}"


def _family(port: HostPort) -> int:
    return ip_address(port.address).version if port.address else 4


def uses_loopback(ports: PodPorts) -> bool:
    """Whether programs of the node may reach the pod by 127.0.0.1; the kernel must be told to let such answers in."""
    return any(not p.address or IPv4Address(p.address) in _LOOPBACK for p in ports.ports)
