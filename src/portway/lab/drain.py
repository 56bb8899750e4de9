"""Take the pods off a node before it is removed, so that traffic goes on: cordon, delete, wait for the replacements.

What `kubectl drain` does, from inside the supervisor and with a bound: a pod whose node goes away anyway is not worth waiting for
longer than the user says. The decisions are the two pure functions at the top.
"""

from __future__ import annotations

from collections.abc import Iterable

from portway.client import ApiError, Client, Select
from portway.loop.clock import Clock
from portway.objects.apps import ReplicaSet
from portway.objects.core import Node, Pod

_LOOK_AGAIN_SECONDS = 0.05


def owners(pods: Iterable[Pod]) -> frozenset[str]:
    """The uids of the replica sets (or other controllers) that will replace these pods."""
    return frozenset(o.uid for pod in pods for o in pod.metadata.owner_references or () if o.controller)


def incomplete(sets: Iterable[ReplicaSet], wanted: frozenset[str]) -> frozenset[str]:
    """Which of the replica sets `wanted` have fewer ready pods than they should, as "namespace/name"."""
    return frozenset(
        s.ref
        for s in sets
        if s.metadata.uid in wanted
        and (s.status.ready_replicas or 0) < (1 if s.spec.replicas is None else s.spec.replicas)
    )


async def drain(client: Client, node: str, clock: Clock, seconds: float) -> list[str]:
    """Cordon `node` and move its pods. The pods and replica sets that were not there in time; empty when all went well."""
    here = Select(fields=f"spec.nodeName={node}")
    try:
        await client.patch(Node, node, {"spec": {"unschedulable": True}})
    except ApiError as e:
        if not e.not_found:
            raise
    pods = (await client.list(Pod, here)).items
    for pod in pods:
        await _delete(client, pod)
    end = clock.monotonic() + seconds
    waiting = owners(pods)
    while True:
        left = [p.ref for p in (await client.list(Pod, here)).items]
        short = incomplete((await client.list(ReplicaSet)).items, waiting) if waiting else frozenset()
        if not left and not short:
            return []
        if clock.monotonic() > end:
            return sorted([*left, *short])
        await clock.sleep(_LOOK_AGAIN_SECONDS)


async def forget(client: Client, node: str) -> None:
    """Delete the Node and what is still bound to it."""
    for pod in (await client.list(Pod, Select(fields=f"spec.nodeName={node}"))).items:
        await _delete(client, pod, grace=0)
    try:
        await client.delete(Node, node)
    except ApiError as e:
        if not e.not_found:
            raise


async def _delete(client: Client, pod: Pod, grace: int | None = None) -> None:
    try:
        await client.delete(Pod, pod.name, pod.namespace, grace_seconds=grace, uid=pod.metadata.uid)
    except ApiError as e:
        if not e.not_found and e.code != 409:
            raise
