"""Which node a pod goes to, and if none: what each node lacks, in Kubernetes' words. Pure.

First the nodes that cannot take the pod are left out, then the pods of one owner are spread over the rest: fewest of
the same owner, then fewest pods, then the name. Requests for CPU and memory are not counted: the pods of one machine
share it anyway. `scheduler_run` binds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from portway.cluster.hostports import clash
from portway.controllers.nodes import is_ready, natural, tolerates
from portway.controllers.pods import is_finished, requirement_holds
from portway.objects.core import Node, Pod, Taint
from portway.objects.meta import LabelSelectorRequirement

SCHEDULER = "default-scheduler"
UNSCHEDULABLE = "node(s) were unschedulable"
AFFINITY = "node(s) didn't match Pod's node affinity/selector"
PORTS = "node(s) didn't have free ports for the requested pod ports"
SILENT = "node(s) were not ready"


@dataclass(frozen=True, slots=True)
class Choice:
    """`node` is empty when there is none; then `message` says why, as `kubectl describe pod` shows it."""

    node: str
    message: str = ""


def choose(pod: Pod, nodes: Sequence[Node], pods_of: Mapping[str, Sequence[Pod]]) -> Choice:
    """`pods_of` are the pods of each node, those just given to it included."""
    if not nodes:
        return Choice("", "no nodes available to schedule pods")
    reasons: Counter[str] = Counter()
    fitting: list[Node] = []
    for node in nodes:
        reason = unfit(pod, node, pods_of.get(node.name, ()))
        if reason:
            reasons[reason] += 1
        else:
            fitting.append(node)
    if fitting:
        return Choice(min(fitting, key=lambda n: _rank(pod, n, pods_of.get(n.name, ()))).name)
    said = ", ".join(sorted(f"{count} {reason}" for reason, count in reasons.items()))
    return Choice("", f"0/{len(nodes)} nodes are available: {said}.")


def unfit(pod: Pod, node: Node, running: Sequence[Pod]) -> str:
    """Why the node cannot take the pod; empty when it can."""
    tolerations = pod.spec.tolerations or ()
    for taint in node.spec.taints or ():
        if taint.effect in ("NoSchedule", "NoExecute") and not any(tolerates(t, taint) for t in tolerations):
            if taint.key == "node.kubernetes.io/unschedulable":
                return UNSCHEDULABLE
            return f"node(s) had untolerated taint {{{taint.key}: {taint.value}}}"
    cordoned = Taint(key="node.kubernetes.io/unschedulable", effect="NoSchedule")
    if node.spec.unschedulable and not any(tolerates(t, cordoned) for t in tolerations):
        return UNSCHEDULABLE
    if not is_ready(node):
        return SILENT
    if not matches_node(pod, node):
        return AFFINITY
    return PORTS if clash(pod, running) else ""


def matches_node(pod: Pod, node: Node) -> bool:
    """nodeSelector and the required part of node affinity: all of the first, one term of the second."""
    if any(node.labels.get(k) != v for k, v in (pod.spec.node_selector or {}).items()):
        return False
    affinity = (pod.spec.affinity or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if not required:
        return True
    return any(_term_holds(term, node) for term in required.get("nodeSelectorTerms") or ())


def _term_holds(term: Mapping[str, Any], node: Node) -> bool:
    """An empty term matches no node, nor does one that is none."""
    labels, fields = term.get("matchExpressions") or [], term.get("matchFields") or []
    if not labels and not fields:
        return False
    name = {"metadata.name": node.name}
    wanted = [(r, node.labels) for r in labels] + [(r, name) for r in fields]
    try:
        return all(requirement_holds(msgspec.convert(r, LabelSelectorRequirement), have) for r, have in wanted)
    except msgspec.ValidationError:
        return False


def _rank(pod: Pod, node: Node, running: Sequence[Pod]) -> tuple[Any, ...]:
    active = [p for p in running if not is_finished(p)]
    kin = sum(p.metadata.deletion_timestamp is None and _related(pod, p) for p in active)
    return (_mild_taints(pod, node), kin, len(active), natural(node.name))


def _mild_taints(pod: Pod, node: Node) -> int:
    tolerations = pod.spec.tolerations or ()
    mild = (t for t in node.spec.taints or () if t.effect == "PreferNoSchedule")
    return sum(not any(tolerates(o, t) for o in tolerations) for t in mild)


def _related(a: Pod, b: Pod) -> bool:
    """Of the same owner, or with the same labels but for the revision's: replicas of one thing."""
    if a.namespace != b.namespace:
        return False
    owners = {o.uid for o in a.metadata.owner_references or ()} & {o.uid for o in b.metadata.owner_references or ()}
    return bool(owners) or (bool(a.labels) and _kin_labels(a) == _kin_labels(b))


def _kin_labels(pod: Pod) -> dict[str, str]:
    return {k: v for k, v in pod.labels.items() if k != "pod-template-hash"}
