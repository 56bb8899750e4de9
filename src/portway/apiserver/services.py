"""What the API server decides about a Service beyond defaults: its ClusterIP, families, node ports and health-check
port.

`fill` is called by `rest` on the private copy that is about to be stored (create, update, dry run alike), after
defaulting and before validation of the result; when it raises, nothing was taken, because what is taken is read from
the stored Services (`Taken`). Rules and wording as in kubernetes pkg/registry/core/service/storage.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from portway.apiserver.allocation import AddressRange, Choose, PortRange, Refused
from portway.apiserver.errors import ApiError, FieldError, internal, invalid, invalid_value
from portway.objects.kinds import SERVICE

Value = dict[str, Any]
NONE = "None"


@dataclass(slots=True)
class Taken:
    """Addresses and ports of the stored Services, counted; `change` follows the store, one Service at a time."""

    addresses: Counter[str] = field(default_factory=Counter)
    ports: Counter[int] = field(default_factory=Counter)

    def change(self, old: Value | None, new: Value | None) -> None:
        for service, sign in ((old, -1), (new, 1)):
            if service is not None:
                _count(self.addresses, addresses_of(service), sign)
                _count(self.ports, ports_of(service), sign)


def _count(counter: Counter[Any], items: Iterable[Any], sign: int) -> None:
    for item in items:
        counter[item] += sign
        if counter[item] <= 0:
            del counter[item]


def addresses_of(service: Value) -> frozenset[str]:
    spec = service.get("spec") or {}
    found = {spec.get("clusterIP", ""), *(spec.get("clusterIPs") or ())}
    return frozenset(found - {"", NONE})


def ports_of(service: Value) -> frozenset[int]:
    spec = service.get("spec") or {}
    found = {p.get("nodePort", 0) for p in spec.get("ports") or ()} | {spec.get("healthCheckNodePort", 0)}
    return frozenset(found - {0, None})


@dataclass(frozen=True, slots=True)
class Allocator:
    """The two ranges and the chance that picks in them."""

    addresses: AddressRange
    ports: PortRange
    choose: Choose

    def keep(self, new: Value, old: Value | None) -> None:
        """What an update leaves out stays, and what a change of type makes meaningless goes; before validation, in place."""
        if old is not None:
            _keep_allocated(new, old)
            _drop_unneeded(new, old)

    def fill(self, new: Value, old: Value | None, taken: Taken) -> None:
        """Allocate what `new` lacks, in place. ApiError 422 for a request that cannot be met, 500 for a range that is used up."""
        _Filling(self, new, old, taken).run()


def _needs_address(service: Value | None) -> bool:
    return service is not None and service["spec"].get("type", "ClusterIP") != "ExternalName"


def _needs_ports(service: Value | None) -> bool:
    if service is None:
        return False
    spec = service["spec"]
    if spec.get("type") == "LoadBalancer":
        return spec.get("allocateLoadBalancerNodePorts") is not False
    return bool(spec.get("type") == "NodePort")


def _may_have_ports(service: Value) -> bool:
    return service["spec"].get("type") in ("NodePort", "LoadBalancer")


def _needs_health_port(service: Value | None) -> bool:
    if service is None:
        return False
    spec = service["spec"]
    return bool(spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local")


def _keep_allocated(new: Value, old: Value) -> None:
    """A PUT without the allocated values keeps them, as clients that never saw them expect."""
    after, before = new["spec"], old["spec"]
    if _needs_address(new) and _needs_address(old):
        if not after.get("clusterIP") and before.get("clusterIP"):
            after["clusterIP"] = before["clusterIP"]
            if not after.get("clusterIPs") and before.get("clusterIPs"):
                after["clusterIPs"] = list(before["clusterIPs"])
        for name in ("ipFamilies", "ipFamilyPolicy"):
            if not after.get(name) and before.get(name):
                after[name] = before[name]
    if _may_have_ports(new) and _may_have_ports(old):
        _keep_ports(after, before)
    if _needs_health_port(new) and _needs_health_port(old) and not after.get("healthCheckNodePort"):
        after["healthCheckNodePort"] = before.get("healthCheckNodePort", 0)


def _keep_ports(after: Value, before: Value) -> None:
    known = {(p.get("protocol"), p.get("port")): p["nodePort"] for p in before.get("ports") or () if p.get("nodePort")}
    used = {(p.get("protocol"), p.get("nodePort")) for p in after.get("ports") or () if p.get("nodePort")}
    for port in after.get("ports") or ():
        number = known.get((port.get("protocol"), port.get("port")))
        if number and not port.get("nodePort") and (port.get("protocol"), number) not in used:
            port["nodePort"] = number


def _drop_unneeded(new: Value, old: Value) -> None:
    """What a change of type makes meaningless goes, unless the request itself changed it (then validation says no)."""
    after, before = new["spec"], old["spec"]
    if (
        _needs_address(old)
        and not _needs_address(new)
        and after.get("clusterIP") in (None, "", before.get("clusterIP"))
    ):
        for name in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            after.pop(name, None)
    if _may_have_ports(old) and not _may_have_ports(new) and _ports(after) == _ports(before):
        for port in after.get("ports") or ():
            port.pop("nodePort", None)
    if _needs_health_port(old) and not _needs_health_port(new) and _same(after, before, "healthCheckNodePort"):
        after.pop("healthCheckNodePort", None)
    if _may_have_ports(old) and not _may_have_ports(new) and _same(after, before, "externalTrafficPolicy"):
        after.pop("externalTrafficPolicy", None)
    if before.get("type") == "LoadBalancer" != after.get("type"):
        for name in ("allocateLoadBalancerNodePorts", "loadBalancerClass"):
            if _same(after, before, name):
                after.pop(name, None)
        # The balancer gives the address to somebody else: nobody may go on reading it here.
        new["status"] = {**(new.get("status") or {}), "loadBalancer": {}}


def _same(after: Value, before: Value, name: str) -> bool:
    return bool(after.get(name) == before.get(name))


def _ports(spec: Value) -> set[int]:
    return {p.get("nodePort") or 0 for p in spec.get("ports") or ()} - {0}


class _Filling:
    """One Service on its way into the store."""

    def __init__(self, allocator: Allocator, new: Value, old: Value | None, taken: Taken) -> None:
        self.allocator = allocator
        self.spec: Value = new["spec"]
        self.new = new
        self.old = old
        self.taken_addresses = taken.addresses
        self.taken_ports = taken.ports
        self.ours: set[int] = set()

    def run(self) -> None:
        if _needs_address(self.new):
            self._families()
            self._address()
        if _may_have_ports(self.new):
            self._node_ports(_needs_ports(self.new))
        if _needs_health_port(self.new):
            self._health_port()

    def _refuse(self, error: FieldError) -> ApiError:
        return invalid(SERVICE, self.new["metadata"].get("name", ""), [error])

    def _families(self) -> None:
        spec = self.spec
        headless = spec.get("clusterIP") == NONE
        if headless and not spec.get("selector"):
            policy = spec.setdefault("ipFamilyPolicy", "RequireDualStack")
            families = spec.setdefault("ipFamilies", ["IPv4"])
            if policy != "SingleStack" and len(families) < 2:
                spec["ipFamilies"] = [*families, "IPv6" if families == ["IPv4"] else "IPv4"]
            return
        for index, family in enumerate(spec.get("ipFamilies") or ()):
            if family != "IPv4":
                path = f"spec.ipFamilies[{index}]"
                raise self._refuse(invalid_value(path, family, "not configured on this cluster"))
        if spec.get("ipFamilyPolicy") == "RequireDualStack":
            words = "this cluster is not configured for dual-stack services"
            raise self._refuse(invalid_value("spec.ipFamilyPolicy", "RequireDualStack", words))
        spec["ipFamilies"] = ["IPv4"]
        spec.setdefault("ipFamilyPolicy", "SingleStack")

    def _address(self) -> None:
        spec = self.spec
        wanted = spec.get("clusterIP") or next(iter(spec.get("clusterIPs") or ()), "")
        if wanted == NONE:
            spec["clusterIP"], spec["clusterIPs"] = NONE, [NONE]
            return
        if wanted and self.old is not None and wanted in addresses_of(self.old):
            spec["clusterIP"], spec["clusterIPs"] = wanted, spec.get("clusterIPs") or [wanted]
            return
        address = self._requested(wanted) if wanted else self._any_address()
        spec["clusterIP"] = address
        spec["clusterIPs"] = spec.get("clusterIPs") or [address]

    def _requested(self, address: str) -> str:
        try:
            return self.allocator.addresses.request(address, self.taken_addresses)
        except Refused as refused:
            words = f"failed to allocate IP {address}: {refused}"
            raise self._refuse(invalid_value("spec.clusterIPs", [address], words)) from None

    def _any_address(self) -> str:
        try:
            return self.allocator.addresses.pick(self.taken_addresses, self.allocator.choose)
        except Refused as refused:
            raise internal(f"failed to allocate a serviceIP: {refused}") from None

    def _node_ports(self, assign: bool) -> None:
        """Entries of one Service with the same port number (TCP and UDP) get the same node port."""
        ports = self.spec.get("ports") or []
        before = _ports(self.old["spec"]) if self.old is not None else set()
        self.ours = set(before)
        asked: dict[Any, int] = {}
        for entry in ports:
            if entry.get("nodePort"):
                asked.setdefault(entry.get("port"), entry["nodePort"])
        for index, entry in enumerate(ports):
            number = int(entry.get("nodePort") or asked.get(entry.get("port")) or 0)
            if entry.get("nodePort") or (number and assign and self._free_in(ports, entry, number)):
                entry["nodePort"] = self._take(index, number)
            elif assign:
                entry["nodePort"] = asked[entry.get("port")] = self._any_port("nodePort")

    @staticmethod
    def _free_in(ports: list[Value], entry: Value, number: int) -> bool:
        """No other entry of this Service uses the node port with the same protocol."""
        protocol = entry.get("protocol", "TCP")
        return not any(p.get("nodePort") == number and p.get("protocol", "TCP") == protocol for p in ports)

    def _take(self, index: int, number: int) -> int:
        if number in self.ours:
            return number
        try:
            self.allocator.ports.request(number, self.taken_ports)
        except Refused as refused:
            raise self._refuse(invalid_value(f"spec.ports[{index}].nodePort", number, str(refused))) from None
        self.ours.add(number)
        return number

    def _any_port(self, what: str) -> int:
        taken = self.taken_ports.keys() | self.ours if self.ours else self.taken_ports
        try:
            number = self.allocator.ports.pick(taken, self.allocator.choose)
        except Refused as refused:
            raise internal(f"failed to allocate a {what}: {refused}") from None
        self.ours.add(number)
        return number

    def _health_port(self) -> None:
        wanted = self.spec.get("healthCheckNodePort")
        if not wanted:
            self.spec["healthCheckNodePort"] = self._any_port("HealthCheck NodePort")
        elif self.old is None or wanted not in ports_of(self.old):
            try:
                self.allocator.ports.request(wanted, self.taken_ports.keys() | self.ours)
            except Refused as refused:
                raise internal(f"failed to allocate requested HealthCheck NodePort {wanted}: {refused}") from None
