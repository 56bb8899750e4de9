"""What one network namespace shall contain, what it contains, and the steps from one to the other. Pure.

A `Plan` is whole for its `owner`: a number that the kernel keeps beside every route (its protocol), address (its protocol,
Linux 5.18) and link (its group). Reconciling removes only what carries the plan's own number, so several authors can
share a namespace: the lab wires a host, a node agent wires the pods behind it. A veth pair is made from one side only; its
far end is named by a handle ("node-1"), which the caller of `kernel.Namespace.apply` resolves to an open namespace.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface, ip_network

_NAME_MAX = 15  # IFNAMSIZ - 1


class Owner(IntEnum):
    """Who added a route, address or link. Numbers from the range of /etc/iproute2/rt_protos that nobody has claimed."""

    LAB = 112
    NODE_ROUTES = 113
    PODS = 114
    CLOUD_ROUTES = 115
    USER_ROUTES = 116


class Kind(StrEnum):
    """What a link is. EXISTING: somebody else makes it (lo, the far end of a veth pair); it is only set up."""

    EXISTING = ""
    VETH = "veth"
    BRIDGE = "bridge"


class PlanError(ValueError):
    """A plan that no kernel could apply: the object, the value and why. A mistake of the caller."""


@dataclass(frozen=True, slots=True)
class Peer:
    """The far end of a veth pair. `namespace` is a handle for the caller to resolve; "" is the same namespace."""

    name: str
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class Link:
    """A network interface. `master` is the bridge whose port it is; `mtu` 0 leaves the kernel's default.

    `up` of a veth is its near end; the far end is set up by a plan of its own namespace (`Link("eth0")`)."""

    name: str
    kind: Kind = Kind.EXISTING
    peer: Peer | None = None
    master: str = ""
    up: bool = True
    mtu: int = 0

    def __post_init__(self) -> None:
        for name in (self.name, self.master, self.peer.name if self.peer else ""):
            if len(name.encode()) > _NAME_MAX or "/" in name or any(c.isspace() for c in name):
                raise PlanError(f"link name {name!r}: at most {_NAME_MAX} bytes without '/' and blanks")
        if (self.kind is Kind.VETH) != (self.peer is not None):
            raise PlanError(f"link {self.name}: a veth, and only a veth, has a peer")


@dataclass(frozen=True, slots=True)
class Address:
    """An address on a link, with its prefix length: "10.0.1.2/32".

    With `link_scope` (IPv4) it answers on the link but is never chosen as the source of what leaves the host: masquerade
    and the host's own connections take an address of wider scope, from another link if need be (inet_select_addr)."""

    link: str
    address: str
    link_scope: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "address", _interface(self.address).with_prefixlen)


@dataclass(frozen=True, slots=True)
class Route:
    """A route of the main table: to `destination` ("10.0.2.0/24", "default") through a gateway, a link, or both.

    Without `via` it has link scope. `source` is the address that the host's own packets get. `onlink` says that the
    gateway is reachable on `link` though no address says so."""

    destination: str
    via: str = ""
    link: str = ""
    source: str = ""
    onlink: bool = False

    def __post_init__(self) -> None:
        if not self.via and not self.link:
            raise PlanError(f"route {self.destination}: needs a gateway (via) or a link")
        family = 6 if ":" in (self.via or self.source or self.destination) else 4
        destination = ("::/0" if family == 6 else "0.0.0.0/0") if self.destination == "default" else self.destination
        try:
            object.__setattr__(self, "destination", str(ip_network(destination)))
            for name in ("via", "source"):
                if getattr(self, name):
                    object.__setattr__(self, name, str(ip_address(getattr(self, name))))
        except ValueError as e:
            raise PlanError(f"route {self.destination}: {e}") from e


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A permanent entry of the neighbour table: who has `address` on `link`."""

    link: str
    address: str
    mac: str


@dataclass(frozen=True, slots=True)
class Sysctl:
    """A setting of the namespace: "net.ipv4.ip_forward" and its value. Links in the name are written with slashes as dots."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Plan:
    """All that `owner` wants in one namespace. Order is kept; links before their masters are put right by `diff`."""

    links: tuple[Link, ...] = ()
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    sysctls: tuple[Sysctl, ...] = ()
    owner: int = Owner.LAB


@dataclass(frozen=True, slots=True)
class LinkState:
    """A link as the kernel has it. `owner` is its group; `master` a name."""

    index: int
    name: str
    kind: str = ""
    up: bool = False
    master: str = ""
    mtu: int = 1500
    mac: str = ""
    owner: int = 0
    peer_index: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """What a namespace contains. The values of `addresses` and `routes` are their owners (the kernel's protocol numbers)."""

    links: Mapping[str, LinkState] = field(default_factory=dict)
    addresses: Mapping[Address, int] = field(default_factory=dict)
    routes: Mapping[Route, int] = field(default_factory=dict)
    neighbours: frozenset[Neighbour] = frozenset()


class Action(StrEnum):
    ADD = "add"
    SET = "set"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Change:
    """One step. ADD of a route replaces another route to the same destination; SET changes a link that exists."""

    action: Action
    what: Link | Address | Route | Neighbour | Sysctl

    def __str__(self) -> str:
        return f"{self.action} {describe(self.what)}"


def describe(what: Link | Address | Route | Neighbour | Sysctl) -> str:
    """The object in the words of an error message."""
    match what:
        case Link():
            to = f" with peer {what.peer.name} in {what.peer.namespace or 'the same namespace'}" if what.peer else ""
            return f"{what.kind or 'link'} {what.name}{to}"
        case Address():
            return f"address {what.address} on {what.link}"
        case Route():
            via = f" via {what.via}" if what.via else ""
            return f"route {what.destination}{via}{f' on {what.link}' if what.link else ''}"
        case Neighbour():
            return f"neighbour {what.address} on {what.link}"
        case Sysctl():
            return f"sysctl {what.name}={what.value}"


def diff(current: State, wanted: Plan) -> tuple[Change, ...]:
    """The steps from `current` to `wanted`, in an order that the kernel accepts; nothing when nothing differs.

    Settings are always written: reading one costs as much as writing it."""
    current = _without_replaced(current, wanted)
    return (
        *_removed_routes(current, wanted),
        *_removed_addresses(current, wanted),
        *_removed_links(current, wanted),
        *_links(current, wanted),
        *(Change(Action.ADD, s) for s in wanted.sysctls),
        *(Change(Action.ADD, a) for a in wanted.addresses if a not in current.addresses),
        *_routes(current, wanted),
        *(Change(Action.ADD, n) for n in wanted.neighbours if n not in current.neighbours),
    )


def additions(wanted: Plan) -> tuple[Change, ...]:
    """The steps that add `wanted` to a namespace without looking at it first: for one pod among many."""
    return diff(State(), wanted)


def _without_replaced(current: State, wanted: Plan) -> State:
    """`current` without the addresses and routes that go when a link of the wrong kind is made anew."""
    kinds = {link.name: link.kind for link in wanted.links if link.kind}
    gone = {name for name, link in current.links.items() if kinds.get(name, link.kind) != link.kind}
    if not gone:
        return current
    return State(
        current.links,
        {a: owner for a, owner in current.addresses.items() if a.link not in gone},
        {r: owner for r, owner in current.routes.items() if r.link not in gone},
        frozenset(n for n in current.neighbours if n.link not in gone),
    )


def _removed_routes(current: State, wanted: Plan) -> Iterator[Change]:
    kept = {r.destination for r in wanted.routes}
    for route, owner in current.routes.items():
        if owner == wanted.owner and route.destination not in kept:
            yield Change(Action.DELETE, route)


def _removed_addresses(current: State, wanted: Plan) -> Iterator[Change]:
    kept = set(wanted.addresses)
    for address, owner in current.addresses.items():
        if owner == wanted.owner and address not in kept:
            yield Change(Action.DELETE, address)


def _removed_links(current: State, wanted: Plan) -> Iterator[Change]:
    kept = {link.name for link in wanted.links}
    for link in current.links.values():
        if link.owner == wanted.owner and link.name not in kept:
            yield Change(Action.DELETE, Link(link.name))


def _links(current: State, wanted: Plan) -> Iterator[Change]:
    for link in sorted(wanted.links, key=lambda link: bool(link.master)):  # a bridge before its ports
        there = current.links.get(link.name)
        if there is None:
            yield Change(Action.ADD if link.kind else Action.SET, link)
        elif link.kind and link.kind != there.kind:
            yield Change(Action.DELETE, Link(link.name))
            yield Change(Action.ADD, link)
        elif (there.up, there.master) != (link.up, link.master) or link.mtu not in (0, there.mtu):
            yield Change(Action.SET, link)


def _routes(current: State, wanted: Plan) -> Iterator[Change]:
    same = {route for route, owner in current.routes.items() if owner == wanted.owner}
    # A gateway is only accepted once a route reaches it: link-scope routes first.
    for route in sorted(wanted.routes, key=lambda r: bool(r.via)):
        if route not in same and not _equivalent(route, same):
            yield Change(Action.ADD, route)


def _equivalent(route: Route, same: set[Route]) -> bool:
    """Whether the kernel has `route` with a link that the plan left open (the kernel always fills it in)."""
    return not route.link and any(
        r.destination == route.destination and r.via == route.via and r.source == route.source for r in same
    )


def _interface(address: str) -> IPv4Interface | IPv6Interface:
    try:
        return ip_interface(address)
    except ValueError as e:
        raise PlanError(f"address {address!r}: {e}") from e
