"""What a DELETE does to an object: gone at once, or marked and left for whoever holds it (finalizers, a kubelet's grace
period).

Pure: `plan` takes the object and the options and answers with the object as it shall be stored, or says that it goes.
Rules as in apiserver `rest.BeforeDelete` and the garbage collector's finalizers. `rest` calls it for delete,
deletecollection and eviction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from portway.apiserver.errors import bad_request, conflict
from portway.apiserver.strategy import strategy
from portway.apiserver.times import rfc3339
from portway.objects.kinds import Kind

Value = dict[str, Any]
ORPHAN = "orphan"
FOREGROUND = "foregroundDeletion"


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """`grace` in seconds, None for the object's own; `policy` is Background, Foreground, Orphan or empty."""

    grace: int | None = None
    policy: str = ""
    uid: str = ""
    resource_version: str = ""
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """`value` None: the object goes now. Otherwise it is stored as `value`; `changed` is False when it already looks so."""

    value: Value | None
    changed: bool = True


def options(body: Value, query: Mapping[str, str]) -> DeleteOptions:
    """From the DeleteOptions body, or the query where the body is silent. 400 for a policy that is not in the API."""
    grace = body.get("gracePeriodSeconds", query.get("gracePeriodSeconds") or None)
    policy = body.get("propagationPolicy") or query.get("propagationPolicy", "")
    if not policy and "orphanDependents" in body:
        policy = "Orphan" if body["orphanDependents"] else "Background"
    if policy not in ("", "Background", "Foreground", "Orphan"):
        raise bad_request(
            f'propagationPolicy: Unsupported value: "{policy}": supported values: "Background", "Foreground", "Orphan"'
        )
    preconditions = body.get("preconditions") or {}
    try:
        seconds = None if grace is None else max(int(grace), 0)
    except ValueError as error:
        raise bad_request(f'gracePeriodSeconds: Invalid value: "{grace}": must be a whole number') from error
    dry = bool(body.get("dryRun") or query.get("dryRun"))
    uid, version = preconditions.get("uid") or "", preconditions.get("resourceVersion") or ""
    return DeleteOptions(seconds, policy, uid, version, dry)


def check_preconditions(kind: Kind, value: Value, wanted: DeleteOptions) -> None:
    """409 when the object is not the one that was meant."""
    metadata = value["metadata"]
    if wanted.uid and wanted.uid != metadata.get("uid"):
        words = f"Precondition failed: UID in precondition: {wanted.uid}, UID in object meta: {metadata.get('uid')}"
        raise conflict(kind, metadata["name"], words)
    if wanted.resource_version and wanted.resource_version != metadata.get("resourceVersion"):
        found = metadata.get("resourceVersion")
        asked = wanted.resource_version
        words = (
            f"Precondition failed: ResourceVersion in precondition: {asked}, ResourceVersion in object meta: {found}"
        )
        raise conflict(kind, metadata["name"], words)


def plan(kind: Kind, value: Value, wanted: DeleteOptions, now: float) -> Plan:
    """`value` is a private copy and may be changed."""
    metadata = value["metadata"]
    before = list(metadata.get("finalizers") or ())
    finalizers = _finalizers(before, wanted.policy)
    _set(metadata, "finalizers", finalizers)
    held = bool(finalizers) or bool(kind.resource == "namespaces" and value.get("spec", {}).get("finalizers"))
    grace = _grace(value, wanted.grace) if strategy(kind).graceful else 0
    if grace == 0 and not held:
        return Plan(None)
    marked = _mark(metadata, grace, now)
    if kind.resource == "namespaces":
        value["status"] = {**value.get("status", {}), "phase": "Terminating"}
    return Plan(value, marked or finalizers != before)


def _finalizers(before: list[str], policy: str) -> list[str]:
    if not policy:
        return before
    kept = [f for f in before if f not in (ORPHAN, FOREGROUND)]
    return [*kept, *{"Orphan": [ORPHAN], "Foreground": [FOREGROUND]}.get(policy, [])]


def _set(metadata: Value, name: str, items: list[str]) -> None:
    if items:
        metadata[name] = items
    else:
        metadata.pop(name, None)


def _grace(pod: Value, wanted: int | None) -> int:
    """A pod that never got a node, or has ended, has nobody to wait for."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    if not spec.get("nodeName") or status.get("phase") in ("Succeeded", "Failed"):
        return 0
    if wanted is not None:
        return wanted
    own = spec.get("terminationGracePeriodSeconds")
    return 30 if own is None else max(int(own), 0)


def _mark(metadata: Value, grace: int, now: float) -> bool:
    """Set the deletion time; a second DELETE can only bring it forward."""
    if metadata.get("deletionTimestamp"):
        if grace >= (metadata.get("deletionGracePeriodSeconds") or 0):
            return False
    elif metadata.get("generation"):
        metadata["generation"] += 1
    metadata["deletionTimestamp"] = rfc3339(now + grace)
    metadata["deletionGracePeriodSeconds"] = grace
    return True


def released(kind: Kind, value: Value) -> bool:
    """An object that was marked and that nobody holds any more: the update that let it go removes it."""
    metadata = value["metadata"]
    if not metadata.get("deletionTimestamp") or metadata.get("finalizers"):
        return False
    if kind.resource == "namespaces":
        return not (value.get("spec") or {}).get("finalizers")
    return not metadata.get("deletionGracePeriodSeconds")
