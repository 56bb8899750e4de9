"""The subresources that are not the object itself: scale, binding, eviction, and the two reviews that ask about
oneself.

Each reads a small body of its own kind and turns it into an ordinary write (`rest`) or an answer. `server` calls these
by name.
"""

from __future__ import annotations

from typing import Any

from portway.apiserver import decode, deletion
from portway.apiserver.auth import User
from portway.apiserver.cells import NONE, selector_text
from portway.apiserver.errors import bad_request, conflict, invalid, invalid_value, unsupported_media_type
from portway.apiserver.requests import Target, WriteOptions
from portway.apiserver.rest import MERGE_PATCH, PATCH_TYPES, Body, Outcome, Rest, patched_value
from portway.apiserver.store import Stored
from portway.apiserver.times import rfc3339
from portway.objects.kinds import POD

Value = dict[str, Any]


def scale_of(stored: Stored) -> Value:
    """The Scale (autoscaling/v1) of a Deployment or ReplicaSet."""
    value, metadata = stored.value, stored.value["metadata"]
    kept = {
        k: metadata[k] for k in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp") if k in metadata
    }
    selector = selector_text((value.get("spec") or {}).get("selector") or {})
    status: Value = {"replicas": (value.get("status") or {}).get("replicas", 0)}
    if selector != NONE:
        status["selector"] = selector
    replicas = (value.get("spec") or {}).get("replicas", 0)
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": kept,
        "spec": {"replicas": replicas},
        "status": status,
    }


def update_scale(rest: Rest, target: Target, body: Body, options: WriteOptions) -> Outcome:
    scale, _ = decode.read(decode.SCALE, body.content_type, body.data, options.validation)
    return _write_scale(rest, target, scale, options)


def patch_scale(rest: Rest, target: Target, body: Body, options: WriteOptions) -> Outcome:
    media = decode.media_type(body.content_type)
    if media not in PATCH_TYPES:
        raise unsupported_media_type(PATCH_TYPES)
    live = rest.get(target.kind, target.namespace, target.name)
    scale = patched_value(decode.SCALE.schema, scale_of(live), _plain(media), body.data)
    return _write_scale(rest, target, scale, options)


def _plain(media: str) -> str:
    """A Scale has no lists, so an apply patch does what a merge patch does."""
    return MERGE_PATCH if media.startswith("application/apply") else media


def _write_scale(rest: Rest, target: Target, scale: Value, options: WriteOptions) -> Outcome:
    replicas = (scale.get("spec") or {}).get("replicas", 0)
    if not isinstance(replicas, int) or isinstance(replicas, bool) or replicas < 0:
        words = "must be greater than or equal to 0"
        raise invalid(decode.SCALE, target.name, [invalid_value("spec.replicas", replicas, words)])
    live = rest.get(target.kind, target.namespace, target.name)
    value = live.copy()
    value["spec"]["replicas"] = replicas
    given = scale.get("metadata") or {}
    for name in ("resourceVersion", "uid"):
        if given.get(name):
            value["metadata"][name] = given[name]
    return rest.replace(Target(target.kind, target.namespace, target.name), live, value, options)


def bind(rest: Rest, target: Target, body: Body, options: WriteOptions, now: float) -> None:
    """Give a pod its node, once."""
    binding, _ = decode.read(decode.BINDING, body.content_type, body.data, options.validation)
    node = (binding.get("target") or {}).get("name") or ""
    if not node:
        raise bad_request("target.name: Required value")
    live = rest.get(POD, target.namespace, target.name)
    value = live.copy()
    metadata, spec = value["metadata"], value.setdefault("spec", {})
    uid = (binding.get("metadata") or {}).get("uid")
    if uid and uid != metadata["uid"]:
        words = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {metadata['uid']}"
        raise conflict(POD, target.name, words)
    if metadata.get("deletionTimestamp"):
        raise conflict(POD, target.name, f"pod {target.name} is being deleted, cannot be assigned to a host")
    if spec.get("nodeName"):
        raise conflict(POD, target.name, f'pod {target.name} is already assigned to node "{spec["nodeName"]}"')
    spec["nodeName"] = node
    for name, text in ((binding.get("metadata") or {}).get("annotations") or {}).items():
        metadata.setdefault("annotations", {})[name] = text
    status = value.setdefault("status", {})
    others = [c for c in status.get("conditions") or () if c.get("type") != "PodScheduled"]
    bound = {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": rfc3339(now)}
    status["conditions"] = [*others, bound]
    if not options.dry_run:
        rest.store.put(POD, value)


def evict(rest: Rest, target: Target, body: Body, options: WriteOptions) -> Outcome:
    """There are no disruption budgets, so an eviction is a deletion."""
    eviction, _ = decode.read(decode.EVICTION, body.content_type, body.data, options.validation)
    wanted = deletion.options(eviction.get("deleteOptions") or {}, {"dryRun": "All"} if options.dry_run else {})
    return rest.delete(Target(POD, target.namespace, target.name), wanted)


def review(plural: str, body: Body, user: User) -> Value:
    """SelfSubjectAccessReview (everything is allowed) and SelfSubjectReview (who am I)."""
    if plural == "selfsubjectaccessreviews":
        asked, _ = decode.read(decode.ACCESS_REVIEW, body.content_type, body.data, "Ignore")
        return {**asked, "status": {"allowed": True, "reason": "there are no authorization rules"}}
    info: Value = {"username": user.name, "groups": list(user.groups)}
    if user.uid:
        info["uid"] = user.uid
    return {
        "kind": "SelfSubjectReview",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"creationTimestamp": None},
        "status": {"userInfo": info},
    }
