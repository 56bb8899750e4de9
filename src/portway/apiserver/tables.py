"""The columns that `kubectl get` prints, declared per kind: a name, and how a cell is read from the object.

A server that cannot do this leaves people with NAME and AGE. `columns(kind)` and `row` are all that `render` and
`watch` use; the cells of pods, which need thought, are in `podcells`. Columns and wording are those of kubernetes
pkg/printers/internalversion. Pure: `now` is an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from portway.apiserver import podcells
from portway.apiserver.cells import NONE, UNKNOWN, age_cell, listed, selector_text, since
from portway.objects.kinds import Kind

Value = dict[str, Any]
Cell = Callable[[Value, float], Any]


@dataclass(frozen=True, slots=True)
class Column:
    """`priority` 1 shows with `-o wide` only."""

    name: str
    cell: Cell
    priority: int = 0
    type: str = "string"

    @property
    def definition(self) -> Value:
        form = "name" if self.name == "Name" else ""
        return {
            "name": self.name,
            "type": self.type,
            "format": form,
            "description": _DESCRIPTIONS.get(self.name, self.name),
            "priority": self.priority,
        }


_DESCRIPTIONS = {
    "Name": "Name must be unique within a namespace.",
    "Age": "CreationTimestamp is when the server created the object.",
}


def _spec(value: Value) -> Value:
    return value.get("spec") or {}


def _status(value: Value) -> Value:
    return value.get("status") or {}


def _name(value: Value, _: float) -> str:
    return str(value["metadata"]["name"])


NAME = Column("Name", _name)
AGE = Column("Age", age_cell)

# services


def _ports(value: Value, _: float) -> str:
    texts = []
    for port in _spec(value).get("ports") or ():
        node = f":{port['nodePort']}" if port.get("nodePort") else ""
        texts.append(f"{port.get('port')}{node}/{port.get('protocol', 'TCP')}")
    return ",".join(texts) or NONE


def _external(value: Value, _: float) -> str:
    spec = _spec(value)
    external = list(spec.get("externalIPs") or ())
    if spec.get("type") == "ExternalName":
        return str(spec.get("externalName", ""))
    if spec.get("type") != "LoadBalancer":
        return ",".join(external) or NONE
    ingress = (_status(value).get("loadBalancer") or {}).get("ingress") or ()
    found = [i.get("ip") or i.get("hostname") or "" for i in ingress]
    return ",".join(dict.fromkeys(f for f in (*found, *external) if f)) or "<pending>"


def _cluster_ip(value: Value, _: float) -> str:
    spec = _spec(value)
    return str(next(iter(spec.get("clusterIPs") or ()), "") or spec.get("clusterIP") or NONE)


# workloads


def _containers(field: str) -> Cell:
    def cell(value: Value, _: float) -> str:
        template = (_spec(value).get("template") or {}).get("spec") or {}
        return ",".join(str(c.get(field, "")) for c in template.get("containers") or ())

    return cell


def _selector(value: Value, _: float) -> str:
    return selector_text(_spec(value).get("selector") or {})


def _number(part: str, field: str) -> Cell:
    def cell(value: Value, _: float) -> int:
        return int((value.get(part) or {}).get(field) or 0)

    return cell


def _deployment_ready(value: Value, _: float) -> str:
    return f"{_status(value).get('readyReplicas') or 0}/{_spec(value).get('replicas') or 0}"


_WORKLOAD = (
    Column("Containers", _containers("name"), 1),
    Column("Images", _containers("image"), 1),
    Column("Selector", _selector, 1),
)

# nodes


def _node_status(value: Value, _: float) -> str:
    conditions = {c.get("type"): c.get("status") for c in _status(value).get("conditions") or ()}
    ready = {"True": "Ready", None: "Unknown"}.get(conditions.get("Ready"), "NotReady")
    return ready + (",SchedulingDisabled" if _spec(value).get("unschedulable") else "")


def _roles(value: Value, _: float) -> str:
    prefix = "node-role.kubernetes.io/"
    labels = value["metadata"].get("labels") or {}
    roles = {k.removeprefix(prefix) for k in labels if k.startswith(prefix)} | {labels.get("kubernetes.io/role", "")}
    return ",".join(sorted(roles - {""})) or NONE


def _address(kind: str) -> Cell:
    def cell(value: Value, _: float) -> str:
        found = (a.get("address", "") for a in _status(value).get("addresses") or () if a.get("type") == kind)
        return next(found, NONE)

    return cell


def _info(field: str) -> Cell:
    def cell(value: Value, _: float) -> str:
        return str((_status(value).get("nodeInfo") or {}).get(field) or UNKNOWN)

    return cell


def _version(value: Value, _: float) -> str:
    return str((_status(value).get("nodeInfo") or {}).get("kubeletVersion", ""))


# endpoints


def _endpoints(value: Value, _: float) -> str:
    texts: list[str] = []
    for subset in value.get("subsets") or ():
        ports = [p.get("port") for p in subset.get("ports") or ()]
        for address in subset.get("addresses") or ():
            texts += [f"{address.get('ip')}:{p}" for p in ports] or [str(address.get("ip"))]
    return listed(texts, 3, NONE)


def _slice_ports(value: Value, _: float) -> str:
    texts = [str(p["port"]) if p.get("port") is not None else "*" for p in value.get("ports") or ()]
    return listed(texts, 3, "<unset>")


def _slice_endpoints(value: Value, _: float) -> str:
    return listed([a for e in value.get("endpoints") or () for a in e.get("addresses") or ()], 3, "<unset>")


# events


def _last_seen(value: Value, now: float) -> str:
    series = value.get("series") or {}
    return since(series.get("lastObservedTime") or value.get("lastTimestamp") or value.get("eventTime"), now)


def _first_seen(value: Value, now: float) -> str:
    return since(value.get("firstTimestamp") or value.get("eventTime"), now)


def _event_object(value: Value, _: float) -> str:
    involved = value.get("involvedObject") or {}
    return (
        f"{str(involved.get('kind', '')).lower()}/{involved.get('name', '')}"
        if involved.get("name")
        else str(involved.get("kind", "")).lower()
    )


def _event_source(value: Value, _: float) -> str:
    source = value.get("source") or {}
    component = source.get("component") or value.get("reportingComponent") or ""
    host = source.get("host") or value.get("reportingInstance") or ""
    return f"{component}, {host}" if host else str(component)


def _text(*path: str) -> Cell:
    def cell(value: Value, _: float) -> str:
        here: Any = value
        for step in path:
            here = (here or {}).get(step)
        return str(here or "").strip()

    return cell


def _count(*fields: str) -> Cell:
    def cell(value: Value, _: float) -> int:
        return sum(len(value.get(f) or {}) for f in fields)

    return cell


_COLUMNS: dict[str, tuple[Column, ...]] = {
    "pods": (
        NAME,
        Column("Ready", podcells.ready),
        Column("Status", podcells.status),
        Column("Restarts", podcells.restarts),
        AGE,
        Column("IP", podcells.ip, 1),
        Column("Node", podcells.node, 1),
        Column("Nominated Node", podcells.nominated_node, 1),
        Column("Readiness Gates", podcells.readiness_gates, 1),
    ),
    "services": (
        NAME,
        Column("Type", _text("spec", "type")),
        Column("Cluster-IP", _cluster_ip),
        Column("External-IP", _external),
        Column("Port(s)", _ports),
        AGE,
        Column(
            "Selector",
            lambda v, _: listed(sorted(f"{k}={x}" for k, x in (_spec(v).get("selector") or {}).items()), 99, NONE),
            1,
        ),
    ),
    "deployments.apps": (
        NAME,
        Column("Ready", _deployment_ready),
        Column("Up-to-date", _number("status", "updatedReplicas"), type="integer"),
        Column("Available", _number("status", "availableReplicas"), type="integer"),
        AGE,
        *_WORKLOAD,
    ),
    "replicasets.apps": (
        NAME,
        Column("Desired", _number("spec", "replicas"), type="integer"),
        Column("Current", _number("status", "replicas"), type="integer"),
        Column("Ready", _number("status", "readyReplicas"), type="integer"),
        AGE,
        *_WORKLOAD,
    ),
    "nodes": (
        NAME,
        Column("Status", _node_status),
        Column("Roles", _roles),
        AGE,
        Column("Version", _version),
        Column("Internal-IP", _address("InternalIP"), 1),
        Column("External-IP", _address("ExternalIP"), 1),
        Column("OS-Image", _info("osImage"), 1),
        Column("Kernel-Version", _info("kernelVersion"), 1),
        Column("Container-Runtime", _info("containerRuntimeVersion"), 1),
    ),
    "endpoints": (NAME, Column("Endpoints", _endpoints), AGE),
    "endpointslices.discovery.k8s.io": (
        NAME,
        Column("AddressType", _text("addressType")),
        Column("Ports", _slice_ports),
        Column("Endpoints", _slice_endpoints),
        AGE,
    ),
    "namespaces": (NAME, Column("Status", _text("status", "phase")), AGE),
    "configmaps": (NAME, Column("Data", _count("data", "binaryData"), type="integer"), AGE),
    "secrets": (NAME, Column("Type", _text("type")), Column("Data", _count("data"), type="integer"), AGE),
    "leases.coordination.k8s.io": (NAME, Column("Holder", _text("spec", "holderIdentity")), AGE),
    "events": (
        Column("Last Seen", _last_seen),
        Column("Type", _text("type")),
        Column("Reason", _text("reason")),
        Column("Object", _event_object),
        Column("Subobject", _text("involvedObject", "fieldPath"), 1),
        Column("Source", _event_source, 1),
        Column("Message", _text("message")),
        Column("First Seen", _first_seen, 1),
        Column("Count", lambda v, _: int(v.get("count") or 1), 1, "integer"),
        Column("Name", _name, 1),
    ),
}
_DEFAULT = (NAME, AGE)


def columns(kind: Kind) -> tuple[Column, ...]:
    """The kind's columns; NAME and AGE for one without a declaration."""
    return _COLUMNS.get(kind.resource, _DEFAULT)


def definitions(kind: Kind) -> list[Value]:
    return [c.definition for c in columns(kind)]


def cells(kind: Kind, value: Value, now: float) -> list[Any]:
    return [c.cell(value, now) for c in columns(kind)]


def in_order(kind: Kind, values: Iterable[Value]) -> list[Value]:
    """Events by when they were last seen, all else as it comes."""
    if kind.resource != "events":
        return list(values)
    return sorted(
        values,
        key=lambda v: str(v.get("lastTimestamp") or v.get("eventTime") or v["metadata"].get("creationTimestamp") or ""),
    )
