"""Which addresses and ports are behind a Service: pods → EndpointSlices and the older Endpoints. Pure.

`endpoints_run` writes what `slices` and `endpoints` want. A named target port is looked up in every pod, so the pods
of one Service may have different port sets; each set has slices of its own. A slice that exists keeps its endpoints
in place: a pod that becomes ready changes one slice and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

import msgspec

from portway.controllers.pods import is_finished, is_ready, is_terminating, owner_reference
from portway.objects.core import Node, Pod, Service, ServicePort
from portway.objects.discovery import MANAGED_BY_LABEL, SERVICE_NAME_LABEL, EndpointSlice
from portway.objects.meta import RawObject

MANAGER = "endpointslice-controller.k8s.io"
HEADLESS = "service.kubernetes.io/headless"
ENDPOINTS_MANAGED_BY = "endpoints.kubernetes.io/managed-by"
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
ZONE = "topology.kubernetes.io/zone"
CAPACITY = 1000
"""Addresses in one Endpoints object; more are cut off and the object says so."""

Ports = tuple[tuple[str, str, int, str], ...]
"""(name, protocol, number, appProtocol) of every port, sorted."""


@dataclass(frozen=True, slots=True)
class SlicePlan:
    """`create` are bodies, `update` (slice name, changed fields), `delete` slice names."""

    create: tuple[RawObject, ...] = ()
    update: tuple[tuple[str, RawObject], ...] = ()
    delete: tuple[str, ...] = ()


def ports_of(service: Service, pod: Pod) -> Ports:
    """The Service's ports as this pod has them; a name that the pod does not know is left out."""
    found = []
    for port in service.spec.ports or ():
        number = target_number(port, pod)
        if number:
            found.append((port.name, port.protocol, number, port.app_protocol or ""))
    return tuple(sorted(found))


def target_number(port: ServicePort, pod: Pod) -> int:
    """0 when the pod has no container port of that name and protocol."""
    if isinstance(port.target_port, int) or not port.target_port:
        return port.target_port or port.port
    if port.target_port.isdigit():
        return int(port.target_port)
    sidecars = tuple(c for c in pod.spec.init_containers or () if c.restart_policy == "Always")
    for container in (*pod.spec.containers, *sidecars):
        for candidate in container.ports or ():
            if (candidate.name, candidate.protocol) == (port.target_port, port.protocol):
                return candidate.container_port
    return 0


def is_headless(service: Service) -> bool:
    return service.spec.cluster_ip == "None"


def families(service: Service) -> tuple[str, ...]:
    return service.spec.ip_families or ("IPv4",)


def addresses(pod: Pod, family: str) -> list[str]:
    texts = [i.ip for i in pod.status.pod_ips or ()] or [pod.status.pod_ip]
    return [t for t in texts if t and (":" in t) == (family == "IPv6")][:1]


def by_number(address: RawObject) -> tuple[int, int | str]:
    """Sort key. What an agent reported as an address and is none comes last, and stops nobody."""
    try:
        return (0, int(ip_address(address["ip"])))
    except ValueError:
        return (1, str(address["ip"]))


def endpoint(service: Service, pod: Pod, nodes: Mapping[str, Node], address: str) -> RawObject:
    """The conditions are those of KEP-1672: a terminating pod is not ready, but it may still serve."""
    serving, leaving = is_ready(pod), is_terminating(pod)
    made: RawObject = {
        "addresses": [address],
        "conditions": {
            "ready": service.spec.publish_not_ready_addresses or (serving and not leaving),
            "serving": serving,
            "terminating": leaving,
        },
        "targetRef": target_ref(pod),
    }
    if pod.spec.node_name:
        made["nodeName"] = pod.spec.node_name
        node = nodes.get(pod.spec.node_name)
        if node is not None and node.labels.get(ZONE):
            made["zone"] = node.labels[ZONE]
    if pod.spec.hostname and pod.spec.subdomain == service.name:
        made["hostname"] = pod.spec.hostname
    return made


def target_ref(pod: Pod) -> RawObject:
    return {"kind": "Pod", "namespace": pod.namespace, "name": pod.name, "uid": pod.metadata.uid}


def slices(
    service: Service, pods: Iterable[Pod], nodes: Mapping[str, Node], existing: Sequence[EndpointSlice], size: int = 100
) -> SlicePlan:
    """The difference between the slices that there are and those that should be; `size` endpoints in one at most."""
    wanted: dict[tuple[str, Ports], dict[str, RawObject]] = {}
    for pod in pods:
        if is_finished(pod):
            continue
        for family in families(service):
            for address in addresses(pod, family):
                group = wanted.setdefault((family, ports_of(service, pod)), {})
                group[pod.metadata.uid] = endpoint(service, pod, nodes, address)
    by_group: dict[tuple[str, Ports], list[EndpointSlice]] = {}
    for piece in sorted(existing, key=lambda s: s.name):
        by_group.setdefault((piece.address_type, _slice_ports(piece)), []).append(piece)
    plan = SlicePlan()
    for key in sorted(wanted.keys() | by_group.keys()):
        pieces = by_group.get(key, [])
        plan = _joined(plan, _group(service, key, wanted.get(key, {}), pieces, size))
    return _never_none(service, plan, existing)


def _group(
    service: Service, key: tuple[str, Ports], wanted: dict[str, RawObject], pieces: list[EndpointSlice], size: int
) -> SlicePlan:
    """Endpoints stay in the slice where they are; new ones fill the slices from the first, then new slices are made."""
    left = dict(wanted)
    kept: list[list[RawObject]] = []
    for piece in pieces:
        uids = [e.target_ref.uid for e in piece.endpoints or () if e.target_ref]
        kept.append([left.pop(uid) for uid in uids if uid in left][:size])
    fresh = [left[uid] for uid in sorted(left, key=lambda u: left[u]["targetRef"]["name"])]
    for endpoints in kept:
        while fresh and len(endpoints) < size and endpoints:
            endpoints.append(fresh.pop(0))
    for endpoints in kept:
        while fresh and len(endpoints) < size:
            endpoints.append(fresh.pop(0))
    update, delete = [], []
    for piece, endpoints in zip(pieces, kept, strict=True):
        if not endpoints:
            delete.append(piece.name)
        elif changed := _changed(service, piece, endpoints):
            update.append((piece.name, changed))
    chunks = [fresh[i : i + size] for i in range(0, len(fresh), size)]
    create = tuple(_body(service, key[0], key[1], chunk) for chunk in chunks)
    return SlicePlan(create, tuple(update), tuple(delete))


def _joined(a: SlicePlan, b: SlicePlan) -> SlicePlan:
    return SlicePlan(a.create + b.create, a.update + b.update, a.delete + b.delete)


def _never_none(service: Service, plan: SlicePlan, existing: Sequence[EndpointSlice]) -> SlicePlan:
    """A Service without endpoints has one empty slice, so that a reader can tell "nobody" from "not yet known"."""
    if plan.create or len(plan.delete) < len(existing):
        return plan
    if existing:
        first = min(existing, key=lambda s: s.name)
        rest = tuple(n for n in plan.delete if n != first.name)
        changed = _changed(service, first, [])
        return SlicePlan((), ((first.name, changed),) if changed else (), rest)
    return SlicePlan(create=(_body(service, families(service)[0], (), []),))


def slice_labels(service: Service) -> dict[str, str]:
    own = {SERVICE_NAME_LABEL: service.name, MANAGED_BY_LABEL: MANAGER}
    copied = {k: v for k, v in service.labels.items() if k != HEADLESS}
    return copied | own | ({HEADLESS: ""} if is_headless(service) else {})


def _changed(service: Service, piece: EndpointSlice, endpoints: list[RawObject]) -> RawObject:
    """The merge patch that makes the slice hold these endpoints; empty when it does."""
    patch: RawObject = {}
    if _plain(piece) != endpoints:
        patch["endpoints"] = endpoints
    labels = slice_labels(service)
    if piece.labels != labels:
        gone: dict[str, str | None] = {k: None for k in piece.labels if k not in labels}
        patch["metadata"] = {"labels": gone | labels}
    return patch


def _plain(piece: EndpointSlice) -> list[RawObject]:
    """The endpoints as `endpoint` writes them."""
    made: list[RawObject] = msgspec.to_builtins(piece.endpoints or ())
    for item in made:
        item["addresses"] = list(item.get("addresses", ()))
    return [*made]


def _slice_ports(piece: EndpointSlice) -> Ports:
    found = ((p.name or "", p.protocol or "TCP", p.port or 0, p.app_protocol or "") for p in piece.ports or ())
    return tuple(sorted(found))


def _port(port: tuple[str, str, int, str]) -> RawObject:
    name, protocol, number, app = port
    return {"name": name, "protocol": protocol, "port": number} | ({"appProtocol": app} if app else {})


def _body(service: Service, family: str, ports: Ports, endpoints: list[RawObject]) -> RawObject:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "generateName": f"{service.name}-",
            "namespace": service.namespace,
            "labels": slice_labels(service),
            "ownerReferences": [owner_reference(service, "v1")],
        },
        "addressType": family,
        "endpoints": endpoints,
        "ports": [_port(p) for p in ports],
    }


def endpoints(service: Service, pods: Iterable[Pod]) -> RawObject:
    """The whole Endpoints object: addresses with the same ports and readiness share a subset, sorted."""
    groups: dict[Ports, tuple[list[RawObject], list[RawObject]]] = {}
    count, cut = 0, False
    for pod in sorted(pods, key=lambda p: (not is_ready(p), p.name)):
        found = addresses(pod, families(service)[0])
        leaving = is_terminating(pod) and not service.spec.publish_not_ready_addresses
        ports = ports_of(service, pod)
        if not found or leaving or is_finished(pod) or (service.spec.ports and not ports):
            continue
        if count == CAPACITY:
            cut = True
            break
        count += 1
        ready = service.spec.publish_not_ready_addresses or is_ready(pod)
        groups.setdefault(ports, ([], []))[0 if ready else 1].append(_address(service, pod, found[0]))
    return {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": _endpoints_metadata(service, cut),
        "subsets": [_subset(ports, *groups[ports]) for ports in sorted(groups)],
    }


def _endpoints_metadata(service: Service, cut: bool) -> RawObject:
    labels = {k: v for k, v in service.labels.items() if k != HEADLESS}
    labels |= {ENDPOINTS_MANAGED_BY: "endpoint-controller"} | ({HEADLESS: ""} if is_headless(service) else {})
    made: RawObject = {"name": service.name, "namespace": service.namespace, "labels": labels}
    if cut:
        made["annotations"] = {OVER_CAPACITY: "truncated"}
    return made


def _address(service: Service, pod: Pod, ip: str) -> RawObject:
    made: RawObject = {"ip": ip}
    if pod.spec.hostname and pod.spec.subdomain == service.name:
        made["hostname"] = pod.spec.hostname
    if pod.spec.node_name:
        made["nodeName"] = pod.spec.node_name
    return made | {"targetRef": target_ref(pod)}


def _subset(ports: Ports, ready: list[RawObject], not_ready: list[RawObject]) -> RawObject:
    made: RawObject = {}
    if ready:
        made["addresses"] = sorted(ready, key=by_number)
    if not_ready:
        made["notReadyAddresses"] = sorted(not_ready, key=by_number)
    if ports:
        made["ports"] = [{k: v for k, v in _port(p).items() if v != ""} for p in ports]
    return made
