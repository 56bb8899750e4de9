"""Services: ports, type, addresses, traffic policies. Whether an address or node port is free is for allocation to say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from portway.apiserver.errors import (
    FieldError,
    duplicate,
    forbidden_field,
    invalid_value,
    not_supported,
    required,
    too_many,
)
from portway.apiserver.validation import formats

Json = dict[str, Any]

TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
POLICIES = ("Cluster", "Local")
DISTRIBUTIONS = ("PreferClose", "PreferSameNode", "PreferSameZone")
KUBELET_PORT = 10250
AFFINITY_LIMIT = 86400
PORT_LIMIT = 100_000
_BALANCER_ONLY = "may only be used when `type` is 'LoadBalancer'"
_NOT_EXTERNAL_NAME = "may not be set for ExternalName services"


def check(new: Json, old: Json | None, subresource: str) -> Iterator[FieldError]:
    spec = new.get("spec") or {}
    if subresource == "status":
        yield from _status(new.get("status") or {}, spec)
        return
    kind = spec.get("type", "")
    yield from _ports(spec, kind)
    yield from formats.labels("spec.selector", spec.get("selector"))
    yield from _affinity(spec)
    yield from _addresses(spec, kind)
    yield from formats.one_of("spec.type", kind, TYPES)
    yield from _balancer(spec, kind)
    yield from _policies(spec, kind)
    if old is not None:
        yield from _unchanged(spec, old.get("spec") or {})


def _headless(spec: Json) -> bool:
    return "None" in (spec.get("clusterIP"), *(spec.get("clusterIPs") or ())[:1])


def _ports(spec: Json, kind: str) -> Iterator[FieldError]:
    ports = spec.get("ports") or []
    if not ports and not _headless(spec) and kind != "ExternalName":
        yield required("spec.ports")
    if len(ports) > PORT_LIMIT:
        yield too_many("spec.ports", len(ports), PORT_LIMIT)
    names: set[str] = set()
    for i, port in enumerate(ports):
        path = f"spec.ports[{i}]"
        yield from _port(path, port, names, several=len(ports) > 1)
        if kind == "LoadBalancer" and port.get("port") == KUBELET_PORT:
            why = f"may not expose port {KUBELET_PORT} externally since it is used by kubelet"
            yield invalid_value(f"{path}.port", KUBELET_PORT, why)
        if kind in ("ClusterIP", "ExternalName") and port.get("nodePort"):
            yield forbidden_field(f"{path}.nodePort", f"may not be used when `type` is '{kind}'")
    yield from _doubles(ports)


def _port(path: str, port: Json, names: set[str], *, several: bool) -> Iterator[FieldError]:
    name = port.get("name", "")
    if name:
        yield from formats.text(f"{path}.name", name, formats.label(name))
        if name in names:
            yield duplicate(f"{path}.name", name)
        names.add(name)
    elif several:
        yield required(f"{path}.name")
    number = port.get("port", 0)
    yield from formats.text(f"{path}.port", number, formats.port_number(number))
    yield from formats.one_of(f"{path}.protocol", port.get("protocol"), formats.PROTOCOLS)
    target = port.get("targetPort", number)
    yield from formats.text(f"{path}.targetPort", target, formats.port_or_name(target))
    if protocol := port.get("appProtocol"):
        yield from formats.text(f"{path}.appProtocol", protocol, formats.qualified(protocol))


def _doubles(ports: list[Json]) -> Iterator[FieldError]:
    for field in ("nodePort", "port"):
        seen: set[tuple[Any, Any]] = set()
        for i, port in enumerate(ports):
            pair = (port.get("protocol", "TCP"), port.get(field, 0))
            if not pair[1]:
                continue
            if pair in seen:
                path = f"spec.ports[{i}]"
                both = {"port": pair[1], "protocol": pair[0]}
                yield duplicate(f"{path}.nodePort", pair[1]) if field == "nodePort" else duplicate(path, both)
            seen.add(pair)


def _affinity(spec: Json) -> Iterator[FieldError]:
    affinity, config = spec.get("sessionAffinity"), spec.get("sessionAffinityConfig")
    yield from formats.one_of("spec.sessionAffinity", affinity, ("ClientIP", "None"))
    if affinity == "None" and config is not None:
        yield forbidden_field("spec.sessionAffinityConfig", "must not be set when session affinity is None")
    if affinity == "ClientIP":
        seconds = ((config or {}).get("clientIP") or {}).get("timeoutSeconds")
        path = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
        if seconds is None:
            yield required(path)
        elif not 0 < seconds <= AFFINITY_LIMIT:
            yield invalid_value(path, seconds, f"must be greater than 0 and less than {AFFINITY_LIMIT}")


def _addresses(spec: Json, kind: str) -> Iterator[FieldError]:
    single, several = spec.get("clusterIP", ""), spec.get("clusterIPs") or []
    if kind == "ExternalName":
        yield from _external_name(spec)
        return
    if kind in ("LoadBalancer", "NodePort") and _headless(spec):
        yield invalid_value("spec.clusterIPs[0]", "None", f"may not be set to 'None' for {kind} services")
    if single and several and several[0] != single:
        yield invalid_value("spec.clusterIPs", several, "first value must match `clusterIP`")
    if len(several) > 2:
        yield invalid_value("spec.clusterIPs", several, "may only hold up to 2 values")
    for i, address in enumerate(several or ([single] if single else [])):
        if address != "None" or i > 0:
            yield from formats.text(f"spec.clusterIPs[{i}]", address, formats.ip(address))
    for i, address in enumerate(spec.get("externalIPs") or ()):
        yield from formats.text(f"spec.externalIPs[{i}]", address, formats.endpoint_ip(address))
    for i, family in enumerate(spec.get("ipFamilies") or ()):
        yield from formats.one_of(f"spec.ipFamilies[{i}]", family, ("IPv4", "IPv6"))
    if policy := spec.get("ipFamilyPolicy"):
        yield from formats.one_of("spec.ipFamilyPolicy", policy, ("SingleStack", "PreferDualStack", "RequireDualStack"))


def _external_name(spec: Json) -> Iterator[FieldError]:
    for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
        if spec.get(field):
            yield forbidden_field(f"spec.{field}", _NOT_EXTERNAL_NAME)
    name = spec.get("externalName", "").removesuffix(".")
    yield from formats.needed("spec.externalName", name, formats.subdomain(name))


def _balancer(spec: Json, kind: str) -> Iterator[FieldError]:
    balanced = kind == "LoadBalancer"
    for field in ("loadBalancerSourceRanges", "allocateLoadBalancerNodePorts", "loadBalancerClass"):
        if not balanced and field in spec and spec[field] != []:
            yield forbidden_field(f"spec.{field}", _BALANCER_ONLY)
    for i, value in enumerate(spec.get("loadBalancerSourceRanges") or ()):
        yield from formats.text(f"spec.loadBalancerSourceRanges[{i}]", value, formats.cidr(value.strip()))
    if name := spec.get("loadBalancerClass"):
        yield from formats.text("spec.loadBalancerClass", name, formats.qualified(name))


def _policies(spec: Json, kind: str) -> Iterator[FieldError]:
    external = spec.get("externalTrafficPolicy", "")
    reachable = kind in ("NodePort", "LoadBalancer") or bool(spec.get("externalIPs"))
    if reachable:
        yield from formats.one_of("spec.externalTrafficPolicy", external, POLICIES)
    elif external:
        why = "may only be set for externally-accessible services"
        yield invalid_value("spec.externalTrafficPolicy", external, why)
    health = spec.get("healthCheckNodePort", 0)
    if health and not (kind == "LoadBalancer" and external == "Local"):
        why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        yield invalid_value("spec.healthCheckNodePort", health, why)
    if kind in ("ClusterIP", "NodePort", "LoadBalancer") or spec.get("internalTrafficPolicy"):
        yield from formats.one_of("spec.internalTrafficPolicy", spec.get("internalTrafficPolicy"), POLICIES)
    distribution = spec.get("trafficDistribution")
    if distribution is not None and distribution not in DISTRIBUTIONS:
        yield not_supported("spec.trafficDistribution", distribution, DISTRIBUTIONS)


def _unchanged(spec: Json, old: Json) -> Iterator[FieldError]:
    if "ExternalName" in (spec.get("type"), old.get("type")):
        return
    was = old.get("clusterIPs") or ([old["clusterIP"]] if old.get("clusterIP") else [])
    now = spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else [])
    if was and now and now[0] != was[0]:
        yield invalid_value("spec.clusterIPs[0]", now[0], "may not change once set")
    elif was and not now:
        yield invalid_value("spec.clusterIPs[0]", "", "primary clusterIP can not be unset")
    both = spec.get("type") == old.get("type") == "LoadBalancer"
    if both and spec.get("loadBalancerClass") != old.get("loadBalancerClass"):
        yield invalid_value("spec.loadBalancerClass", spec.get("loadBalancerClass"), "may not change once set")
    health, was_health = spec.get("healthCheckNodePort", 0), old.get("healthCheckNodePort", 0)
    if both and health and was_health and health != was_health:  # a provider's health checks hold on to it
        yield invalid_value("spec.healthCheckNodePort", health, "field is immutable")


def _status(status: Json, spec: Json) -> Iterator[FieldError]:
    entries = (status.get("loadBalancer") or {}).get("ingress") or []
    path = "status.loadBalancer.ingress"
    if entries and spec.get("type") != "LoadBalancer":
        yield forbidden_field(path, 'may only be used when `spec.type` is "LoadBalancer"')
    for i, entry in enumerate(entries):
        address, mode = entry.get("ip", ""), entry.get("ipMode")
        if address:
            yield from formats.text(f"{path}[{i}].ip", address, formats.ip(address))
        if mode is not None and address:
            yield from formats.one_of(f"{path}[{i}].ipMode", mode, ("Proxy", "VIP"))
        if mode is not None and not address:
            yield forbidden_field(f"{path}[{i}].ipMode", "may not be specified when `ip` is not set")
        if name := entry.get("hostname"):
            yield from formats.text(f"{path}[{i}].hostname", name, formats.subdomain(name))
