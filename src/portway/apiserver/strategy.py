"""What is particular to a kind when it is created, updated or deleted: a few declared flags and small functions.

`rest` does what is the same for all kinds and asks here for the rest, so that a new kind needs at most one row in
`STRATEGIES`. Facts from kubernetes pkg/registry/*/strategy.go. Functions change, in place, a private copy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from portway.objects.kinds import Kind

Value = dict[str, Any]


def _nothing(value: Value) -> None:
    """No change."""


@dataclass(frozen=True, slots=True)
class Strategy:
    """`counts_generation`: metadata.generation is 1 and grows with the spec. `create_on_update`: a PUT may create.
    `conditional_only`: a PUT must name a resourceVersion. `keeps_status`: a create may bring a status."""

    counts_generation: bool = True
    create_on_update: bool = False
    conditional_only: bool = False
    keeps_status: bool = False
    prepare_create: Callable[[Value], None] = _nothing
    graceful: bool = False


_DEFAULT = Strategy()
_PLAIN = Strategy(counts_generation=False)


def _new_pod(pod: Value) -> None:
    pod["status"] = {"phase": "Pending", "qosClass": qos_class(pod.get("spec") or {})}


def _new_namespace(namespace: Value) -> None:
    finalizers = namespace.setdefault("spec", {}).setdefault("finalizers", [])
    if "kubernetes" not in finalizers:
        finalizers.append("kubernetes")
    namespace["status"] = {"phase": "Active"}


def _new_service(service: Value) -> None:
    service["status"] = {"loadBalancer": {}}


def _empty_status(value: Value) -> None:
    value["status"] = {}


def _new_replica_set(value: Value) -> None:
    value["status"] = {"replicas": 0}


STRATEGIES: dict[str, Strategy] = {
    "namespaces": Strategy(counts_generation=False, prepare_create=_new_namespace),
    "nodes": Strategy(counts_generation=False, keeps_status=True),
    "pods": Strategy(prepare_create=_new_pod, graceful=True),
    "services": Strategy(counts_generation=False, prepare_create=_new_service),
    "endpoints": Strategy(counts_generation=False, create_on_update=True),
    "configmaps": _PLAIN,
    "secrets": _PLAIN,
    "events": Strategy(counts_generation=False, create_on_update=True),
    "leases.coordination.k8s.io": Strategy(counts_generation=False, create_on_update=True, conditional_only=True),
    "deployments.apps": Strategy(prepare_create=_empty_status),
    "replicasets.apps": Strategy(prepare_create=_new_replica_set),
}


def strategy(kind: Kind) -> Strategy:
    return STRATEGIES.get(kind.resource, _DEFAULT)


def qos_class(spec: Value) -> str:
    """Guaranteed, Burstable or BestEffort, from the containers' requests and limits of cpu and memory."""
    containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    resources = [c.get("resources") or {} for c in containers]
    requests = [r.get("requests") or {} for r in resources]
    limits = [r.get("limits") or {} for r in resources]
    named = ("cpu", "memory")
    if not any(n in part for part in (*requests, *limits) for n in named):
        return "BestEffort"
    whole = all(
        n in limit and request.get(n, limit[n]) == limit[n]
        for request, limit in zip(requests, limits, strict=True)
        for n in named
    )
    return "Guaranteed" if whole else "Burstable"


def generation_part(value: Value) -> Value:
    """The part of an object whose change makes a new generation: everything but metadata and status."""
    return {k: v for k, v in value.items() if k not in ("metadata", "status", "apiVersion", "kind")}
