"""Builders of objects for tests of the controllers: short calls, whole structs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from portway.objects.apps import Deployment, ReplicaSet
from portway.objects.core import Node, Pod, Service

NOON = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
STARTED = "2026-01-01T11:00:00Z"


def ready_condition(ready: bool, since: str = STARTED) -> dict[str, Any]:
    return {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": since}


def pod(
    name: str,
    *,
    ip: str = "",
    node: str = "node-1",
    ready: bool = True,
    since: str = STARTED,
    labels: Mapping[str, str] | None = None,
    deleted: bool = False,
    phase: str = "Running",
    ports: Mapping[str, int] | None = None,
    owner: str = "",
    spec: Mapping[str, Any] | None = None,
    created: str = STARTED,
) -> Pod:
    containers = [{"name": "main", "ports": [{"name": n, "containerPort": p} for n, p in (ports or {}).items()]}]
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": "shop",
        "uid": f"uid-{name}",
        "labels": {"app": "web"} if labels is None else dict(labels),
        "creationTimestamp": created,
        "resourceVersion": "1",
    }
    if deleted:
        metadata["deletionTimestamp"] = STARTED
    if owner:
        metadata["ownerReferences"] = [{"kind": "ReplicaSet", "name": owner, "uid": f"uid-{owner}", "controller": True}]
    status = {"phase": phase, "podIP": ip, "conditions": [ready_condition(ready, since)]}
    body = {
        "metadata": metadata,
        "spec": {"nodeName": node, "containers": containers, **(spec or {})},
        "status": status,
    }
    return msgspec.convert(body, Pod)


def node(
    name: str,
    *,
    ready: bool | None = True,
    labels: Mapping[str, str] | None = None,
    cidr: str = "",
    created: str = STARTED,
    **spec: Any,
) -> Node:
    status = {"conditions": [ready_condition(ready)]} if ready is not None else {}
    metadata = {"name": name, "uid": f"uid-{name}", "labels": dict(labels or {}), "creationTimestamp": created}
    return msgspec.convert({"metadata": metadata, "spec": {"podCIDR": cidr, **spec}, "status": status}, Node)


def service(name: str = "web", *, ports: Any = ({"port": 80, "targetPort": 8080},), **spec: Any) -> Service:
    metadata = {"name": name, "namespace": "shop", "uid": f"uid-{name}", "labels": {"team": "shop"}}
    full = {"selector": {"app": "web"}, "ports": list(ports), "clusterIP": "10.3.240.9", **spec}
    return msgspec.convert({"metadata": metadata, "spec": full}, Service)


def template(version: str = "1") -> dict[str, Any]:
    return {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "main", "image": f"web:{version}"}]},
    }


def deployment(
    replicas: int = 3, *, version: str = "1", status: Any = None, annotations: Any = None, **spec: Any
) -> Deployment:
    metadata = {
        "name": "web",
        "namespace": "shop",
        "uid": "uid-web",
        "generation": 1,
        "annotations": annotations or {},
    }
    full = {
        "replicas": replicas,
        "selector": {"matchLabels": {"app": "web"}},
        "template": template(version),
        "progressDeadlineSeconds": 600,
        **spec,
    }
    return msgspec.convert({"metadata": metadata, "spec": full, "status": status or {}}, Deployment)


def replica_set(
    name: str = "web-1",
    size: int = 3,
    *,
    version: str = "1",
    available: int | None = None,
    revision: int = 1,
    created: str = STARTED,
    desired: int | None = None,
    most: int | None = None,
    min_ready: int = 0,
) -> ReplicaSet:
    made = template(version)
    made["metadata"]["labels"] = {"app": "web", "pod-template-hash": name}
    there = size if available is None else available
    annotations = {"deployment.kubernetes.io/revision": str(revision)}
    if desired is not None:
        annotations["deployment.kubernetes.io/desired-replicas"] = str(desired)
    if most is not None:
        annotations["deployment.kubernetes.io/max-replicas"] = str(most)
    body = {
        "metadata": {
            "name": name,
            "namespace": "shop",
            "uid": f"uid-{name}",
            "creationTimestamp": created,
            "generation": 1,
            "annotations": annotations,
            "labels": {"app": "web", "pod-template-hash": name},
            "ownerReferences": [{"kind": "Deployment", "name": "web", "uid": "uid-web", "controller": True}],
        },
        "spec": {
            "replicas": size,
            "minReadySeconds": min_ready,
            "selector": {"matchLabels": {"app": "web", "pod-template-hash": name}},
            "template": made,
        },
        "status": {"replicas": size, "readyReplicas": there, "availableReplicas": there, "observedGeneration": 1},
    }
    return msgspec.convert(body, ReplicaSet)
