"""Which address each LoadBalancer Service has: one frozen map, derived from the Services alone. Pure.

There is no allocator state to lose: what was given out stands in the Services' status, so a restarted controller comes
to the same map. Holders come first and keep their address as long as they may; then come those who ask for one, then
everybody else with the lowest free address, each group by age and name. `run` writes what is found here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TypeAlias

from portway.balancer.pools import Address, Pool
from portway.balancer.reasons import Reason, Refused
from portway.objects.core import Service

CLASS = "portway.dev/lab"
ADDRESS = ("portway.dev/address", "metallb.io/loadBalancerIPs", "metallb.universe.tf/loadBalancerIPs")
SHARE = ("portway.dev/share", "metallb.io/allow-shared-ip", "metallb.universe.tf/allow-shared-ip")
POOL = ("portway.dev/pool", "metallb.io/address-pool", "metallb.universe.tf/address-pool")

Door: TypeAlias = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What one Service asks for, in the balancer's words. `held` is what it has by its status."""

    service: str
    age: str = ""
    doors: frozenset[Door] = frozenset()
    requested: str = ""
    asked_by: str = ""
    pool: str = ""
    share: str = ""
    local: bool = False
    pods: frozenset[tuple[str, str]] = frozenset()
    held: Address | None = None

    @property
    def order(self) -> tuple[str, str]:
        return self.age, self.service


@dataclass(frozen=True, slots=True)
class Assigned:
    address: Address
    pool: str


Answer: TypeAlias = Assigned | Refused
Assignments: TypeAlias = Mapping[str, Answer]


def is_balanced(service: Service) -> bool:
    return service.spec.type == "LoadBalancer" and service.metadata.deletion_timestamp is None


def is_ours(service: Service, class_: str = CLASS) -> bool:
    """A Service without a class is for the default load balancer, which we are."""
    return service.spec.load_balancer_class in (None, "", class_)


def wish_of(service: Service, held: Address | None = None) -> Wish:
    """What `service` asks for. `held` is used where the status says nothing yet: an answer on its way to the server."""
    spec = service.spec
    field_, requested = next(_requests(service), ("", ""))
    return Wish(
        service=service.ref,
        age=service.metadata.creation_timestamp or "",
        doors=frozenset((p.protocol, p.port) for p in spec.ports or ()),
        requested=requested,
        asked_by=field_,
        pool=_annotation(service, POOL),
        share=_annotation(service, SHARE),
        local=spec.external_traffic_policy == "Local",
        pods=frozenset((spec.selector or {}).items()),
        held=next(addresses_of(service), held),
    )


def addresses_of(service: Service) -> Iterator[Address]:
    """The addresses in the Service's status; what is none is left out."""
    for ingress in service.status.load_balancer.ingress or ():
        address = _parsed(ingress.ip)
        if address is not None:
            yield address


def _requests(service: Service) -> Iterator[tuple[str, str]]:
    for name in ADDRESS:
        if text := service.annotations.get(name, "").strip():
            yield f"metadata.annotations[{name}]", text
    if service.spec.load_balancer_ip:
        yield "spec.loadBalancerIP", service.spec.load_balancer_ip


def _annotation(service: Service, names: Sequence[str]) -> str:
    return next((v for name in names if (v := service.annotations.get(name, ""))), "")


def _parsed(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def assign(wishes: Iterable[Wish], pools: Sequence[Pool]) -> Assignments:
    """An answer for every wish. `pools` in the order in which they are used up (`pools.checked`)."""
    table = _Table(pools)
    waiting: list[Wish] = []
    answers: dict[str, Answer] = {}
    for wish in sorted(wishes, key=lambda w: w.order):
        kept = table.keep(wish)
        if kept is None:
            waiting.append(wish)
        else:
            answers[wish.service] = kept
    for choose in (table.asked, table.automatic):
        for wish in waiting:
            if wish.service not in answers and (answer := choose(wish)) is not None:
                answers[wish.service] = answer
    return answers


@dataclass(slots=True)
class _Table:
    """Who sits where, while one map is made. Nobody gets up again, so the search for a free address only moves on."""

    pools: Sequence[Pool]
    seated: dict[Address, list[Wish]] = field(default_factory=dict)
    shared: dict[str, list[Address]] = field(default_factory=dict)
    free: dict[str, Iterator[Address]] = field(default_factory=dict)

    def keep(self, wish: Wish) -> Assigned | None:
        """The address that the Service has, if it still may have it."""
        held = wish.held
        if held is None or (wish.requested and _parsed(wish.requested) != held):
            return None
        home = self._home(held)
        wrong_pool = home is not None and wish.pool not in ("", home.name)
        if home is None or wrong_pool or self._obstacle(wish, held) is not None:
            return None
        return self._seat(wish, held, home)

    def asked(self, wish: Wish) -> Answer | None:
        """The address that is asked for; None when none is."""
        if not wish.requested:
            return None
        wanted = _parsed(wish.requested)
        if wanted is None:
            return Refused(Reason.NOT_AN_ADDRESS, f"{wish.asked_by} is {wish.requested!r}, which is no address")
        home = self._home(wanted)
        if home is None:
            known = ", ".join(f"{p.name} {r}" for p in self.pools for r in p.ranges) or "there are none"
            words = f"{wish.asked_by} asks for {wanted}, which is in no pool ({known})"
            return Refused(Reason.OUTSIDE_POOLS, words)
        return self._obstacle(wish, wanted) or self._seat(wish, wanted, home)

    def automatic(self, wish: Wish) -> Answer:
        """An address that the Service may share, or else the lowest free one."""
        candidates = [p for p in self.pools if (p.name == wish.pool if wish.pool else p.automatic)]
        if not candidates:
            if wish.pool:
                names = ", ".join(p.name for p in self.pools) or "there are none"
                return Refused(Reason.UNKNOWN_POOL, f"there is no pool {wish.pool!r}: choose one of {names}")
            return Refused(Reason.NO_POOL)
        for address in self.shared.get(wish.share, ()) if wish.share else ():
            home = self._home(address)
            if home in candidates and home is not None and self._obstacle(wish, address) is None:
                return self._seat(wish, address, home)
        for home in candidates:
            address_ = self._lowest_free(home)
            if address_ is not None:
                return self._seat(wish, address_, home)
        names = ", ".join(f"{p.name} ({p.size} addresses)" for p in candidates)
        return Refused(Reason.POOL_USED_UP, f"every address of {names} is in use")

    def _home(self, address: Address) -> Pool | None:
        return next((p for p in self.pools if address in p), None)

    def _seat(self, wish: Wish, address: Address, home: Pool) -> Assigned:
        self.seated.setdefault(address, []).append(wish)
        if wish.share and address not in self.shared.setdefault(wish.share, []):
            self.shared[wish.share].append(address)
        return Assigned(address, home.name)

    def _lowest_free(self, home: Pool) -> Address | None:
        addresses = self.free.setdefault(home.name, iter(home))
        return next((a for a in addresses if a not in self.seated), None)

    def _obstacle(self, wish: Wish, address: Address) -> Refused | None:
        """Why the Service may not sit beside those who are there already."""
        for other in self.seated.get(address, ()):
            for rule in _RULES:
                if refused := rule(wish, other, address):
                    return refused
        return None


def _same_key(wish: Wish, other: Wish, address: Address) -> Refused | None:
    if wish.share and wish.share == other.share:
        return None
    cure = f"to share it, give both the annotation {SHARE[0]} with the same value"
    return Refused(Reason.ADDRESS_TAKEN, f"{address} is taken by Service {other.service}; {cure}")


def _other_doors(wish: Wish, other: Wish, address: Address) -> Refused | None:
    both = sorted(wish.doors & other.doors)
    if not both:
        return None
    protocol, port = both[0]
    return Refused(Reason.PORT_TAKEN, f"{protocol} port {port} of {address} is taken by Service {other.service}")


def _same_policy(wish: Wish, other: Wish, address: Address) -> Refused | None:
    """With the Local policy the nodes that answer differ by pods: a router knows one set of nodes for an address."""
    if not wish.local and not other.local:
        return None
    if wish.local == other.local and wish.pods == other.pods:
        return None
    words = f"{address} is shared with Service {other.service}: {Reason.POLICY_DIFFERS.words}"
    return Refused(Reason.POLICY_DIFFERS, words)


_RULES: tuple[Callable[[Wish, Wish, Address], Refused | None], ...] = (_same_key, _other_doors, _same_policy)
