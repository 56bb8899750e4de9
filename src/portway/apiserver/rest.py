"""What a request does to the stored objects: create, update, patch, delete, for every kind alike.

Each operation is a plain function without an `await`: it reads the newest object, decides, and puts, so it is a
compare-and-set by itself. What differs between kinds is asked of `strategy` (flags), `defaults`, `validation` and
`services` (allocation). `server` parses the request, calls here, awaits `Store.durable` and answers.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from portway.apiserver import decode, deletion, managed, patches
from portway.apiserver.allocation import Choose
from portway.apiserver.defaults import admit_pod, set_defaults
from portway.apiserver.deletion import DeleteOptions
from portway.apiserver.errors import (
    already_exists,
    bad_request,
    forbidden,
    forbidden_field,
    invalid,
    not_found,
    required,
    unsupported_media_type,
)
from portway.apiserver.preserve import (
    check_namespace_matches,
    check_same_object,
    keep_metadata,
    other_name,
    restricted,
    unchanged,
)
from portway.apiserver.requests import Target, WriteOptions
from portway.apiserver.services import Allocator, Taken
from portway.apiserver.store import Event, Store, Stored
from portway.apiserver.strategy import generation_part, strategy
from portway.apiserver.times import Clock, rfc3339
from portway.apiserver.validation import validate
from portway.objects.kinds import NAMESPACE, POD, SERVICE, Kind

Value = dict[str, Any]

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
PATCH_TYPES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH, APPLY_PATCH)

KEPT_NAMESPACES = frozenset({"default", "kube-system", "kube-public"})
_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"


@dataclass(frozen=True, slots=True)
class Body:
    """A request's body, not yet read."""

    content_type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a write left behind. `gone`: the object was deleted, `stored` is its last state."""

    stored: Stored
    created: bool = False
    gone: bool = False
    warnings: tuple[str, ...] = ()


class Rest:
    """The operations over one store. `choose` is the chance behind generated names and allocated numbers."""

    def __init__(self, store: Store, *, allocator: Allocator, clock: Clock, choose: Choose) -> None:
        self.store = store
        self._allocator = allocator
        self._clock = clock
        self._choose = choose
        self._taken = Taken()
        store.on_stage(self._staged, self._reset)

    def _staged(self, event: Event) -> None:
        if event.kind is SERVICE:
            gone = event.type == "DELETED"
            old = event.previous.value if event.previous else None
            self._taken.change(old, None if gone else event.stored.value)

    def _reset(self) -> None:
        self._taken = Taken()
        for stored in self.store.items(SERVICE):
            self._taken.change(None, stored.value)

    # reading

    def get(self, kind: Kind, namespace: str, name: str) -> Stored:
        """404 when it is not there."""
        stored = self.store.get(kind, namespace, name)
        if stored is None:
            raise not_found(kind, name)
        return stored

    # create

    def create(self, target: Target, body: Body, options: WriteOptions) -> Outcome:
        value, warnings = decode.read(target.kind, body.content_type, body.data, options.validation)
        return replace(self.create_value(target, value, options), warnings=tuple(warnings))

    def create_value(self, target: Target, value: Value, options: WriteOptions, *, applied: bool = False) -> Outcome:
        kind = target.kind
        metadata = self._new_metadata(target, value)
        self._check_namespace(kind, target.namespace, metadata["name"])
        if metadata["name"] and self.store.get(kind, target.namespace, metadata["name"]) is not None:
            raise already_exists(kind, metadata["name"])
        rules = strategy(kind)
        if "status" in kind.subresources and not rules.keeps_status:
            value.pop("status", None)
        rules.prepare_create(value)
        if rules.counts_generation:
            metadata["generation"] = 1
        self._complete(kind, value, None, "")
        if not applied:
            managed.track_update(kind, None, value, manager=options.manager, now=self._now())
        return Outcome(self._put(kind, value, options.dry_run), created=True)

    def _new_metadata(self, target: Target, value: Value) -> Value:
        metadata: Value = value.setdefault("metadata", {})
        check_namespace_matches(target, metadata)
        if target.name and metadata.setdefault("name", target.name) != target.name:
            raise other_name(metadata["name"], target.name)
        if metadata.get("resourceVersion"):
            raise bad_request("resourceVersion should not be set on objects to be created")
        for name in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation", "resourceVersion"):
            metadata.pop(name, None)
        if target.kind.namespaced:
            metadata["namespace"] = target.namespace
        if not metadata.get("name"):
            metadata["name"] = self._generated(target, metadata.get("generateName") or "")
        metadata["uid"] = str(uuid.uuid4())
        metadata["creationTimestamp"] = self._now()
        return metadata

    def _generated(self, target: Target, base: str) -> str:
        """Five letters that spell no word, until the name is free; empty without a base (validation says so)."""
        while base:
            name = base[:58] + "".join(_SUFFIX[self._choose(len(_SUFFIX))] for _ in range(5))
            if self.store.get(target.kind, target.namespace, name) is None:
                return name
        return ""

    def _check_namespace(self, kind: Kind, namespace: str, name: str) -> None:
        if not kind.namespaced:
            return
        stored = self.store.get(NAMESPACE, "", namespace)
        if stored is None:
            raise not_found(NAMESPACE, namespace)
        if stored.value["metadata"].get("deletionTimestamp"):
            words = f"unable to create new content in namespace {namespace} because it is being terminated"
            error = forbidden(kind, name, words)
            cause = {"message": f"namespace {namespace} is being terminated", "field": "metadata.namespace"}
            error.details["causes"] = [{"reason": "NamespaceTerminating", **cause}]
            raise error

    # update

    def update(self, target: Target, body: Body, options: WriteOptions) -> Outcome:
        value, warnings = decode.read(target.kind, body.content_type, body.data, options.validation)
        live = self.store.get(target.kind, target.namespace, target.name)
        if live is None and strategy(target.kind).create_on_update and not target.subresource:
            return replace(self.create_value(target, value, options), warnings=tuple(warnings))
        if live is None:
            raise not_found(target.kind, target.name)
        return replace(self.replace(target, live, value, options), warnings=tuple(warnings))

    def replace(
        self, target: Target, live: Stored, value: Value, options: WriteOptions, *, applied: bool = False
    ) -> Outcome:
        """Store `value` in place of `live`, or as much of it as the subresource may write."""
        kind = target.kind
        old = live.value
        check_same_object(target, old, value)
        value = restricted(kind, target.subresource, old, value)
        keep_metadata(old["metadata"], value["metadata"])
        self._complete(kind, value, old, target.subresource)
        if (
            strategy(kind).counts_generation
            and not target.subresource
            and generation_part(old) != generation_part(value)
        ):
            value["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
        if not applied:
            names = {"manager": options.manager, "now": self._now(), "subresource": target.subresource}
            managed.track_update(kind, old, value, **names)
        if deletion.released(kind, value):
            return self._release(kind, live, value, options.dry_run)
        if unchanged(old, value, with_managers=applied):
            return Outcome(live)
        return Outcome(self._put(kind, value, options.dry_run))

    def _release(self, kind: Kind, live: Stored, value: Value, dry_run: bool) -> Outcome:
        if dry_run:
            return Outcome(self._put(kind, value, True), gone=True)
        return Outcome(self.store.remove(kind, live.namespace, live.name), gone=True)

    def _complete(self, kind: Kind, value: Value, old: Value | None, subresource: str) -> None:
        """Defaults, admission, allocation and validation, in the order that lets each see what it needs."""
        set_defaults(kind, value)
        if kind is POD and old is None:
            admit_pod(value)
        errors = validate(kind, value, old, subresource) if kind is not SERVICE or subresource else []
        if kind is SERVICE and not subresource:
            errors = self._complete_service(value, old)
        if errors:
            metadata = value["metadata"]
            raise invalid(kind, metadata.get("name") or metadata.get("generateName", ""), errors)

    def _complete_service(self, value: Value, old: Value | None) -> list[Any]:
        """A Service is validated as it was asked for, then completed; a valid one is then a complete one."""
        self._allocator.keep(value, old)
        errors = validate(SERVICE, value, old)
        if not errors:
            self._allocator.fill(value, old, self._taken)
        return errors

    def _put(self, kind: Kind, value: Value, dry_run: bool) -> Stored:
        if not dry_run:
            return self.store.put(kind, value)
        metadata = value["metadata"]
        return Stored(metadata.get("namespace", ""), metadata["name"], 0, msgspec.json.encode(value), value)

    # patch

    def patch(self, target: Target, body: Body, options: WriteOptions) -> Outcome:
        media = decode.media_type(body.content_type)
        _check_patch_options(media, options)
        if media == APPLY_PATCH:
            return self._apply(target, body, options)
        if media not in PATCH_TYPES:
            raise unsupported_media_type(PATCH_TYPES)
        live = self.get(target.kind, target.namespace, target.name)
        patched = patched_value(target.kind.schema, live.copy(), media, body.data)
        value, warnings = decode.recheck(target.kind, patched, options.validation)
        return replace(self.replace(target, live, value, options), warnings=tuple(warnings))

    def _apply(self, target: Target, body: Body, options: WriteOptions) -> Outcome:
        kind = target.kind
        wanted, warnings = decode.read(kind, _apply_media(body.data), body.data, options.validation)
        metadata = wanted.setdefault("metadata", {})
        if metadata.setdefault("name", target.name) != target.name:
            raise other_name(metadata["name"], target.name)
        check_namespace_matches(target, metadata)
        live = self.store.get(kind, target.namespace, target.name)
        if live is None and target.subresource:
            raise not_found(kind, target.name)
        merged = managed.apply(
            kind,
            live.copy() if live else None,
            wanted,
            manager=options.manager,
            force=bool(options.force),
            now=self._now(),
            subresource=target.subresource,
        )
        value, _ = decode.recheck(kind, merged, "Ignore")
        outcome = (
            self.create_value(target, value, options, applied=True)
            if live is None
            else self.replace(target, live, value, options, applied=True)
        )
        return replace(outcome, warnings=tuple(warnings))

    # delete

    def delete(self, target: Target, wanted: DeleteOptions) -> Outcome:
        return self.delete_stored(target.kind, self.get(target.kind, target.namespace, target.name), wanted)

    def delete_stored(self, kind: Kind, live: Stored, wanted: DeleteOptions) -> Outcome:
        if kind is NAMESPACE and live.name in KEPT_NAMESPACES:
            raise forbidden(kind, live.name, "this namespace may not be deleted")
        deletion.check_preconditions(kind, live.value, wanted)
        plan = deletion.plan(kind, live.copy(), wanted, self._clock())
        if plan.value is None:
            return Outcome(live if wanted.dry_run else self.store.remove(kind, live.namespace, live.name), gone=True)
        if not plan.changed:
            return Outcome(live)
        return Outcome(self._put(kind, plan.value, wanted.dry_run))

    def delete_all(self, kind: Kind, selected: Iterable[Stored], wanted: DeleteOptions) -> list[Stored]:
        return [self.delete_stored(kind, stored, wanted).stored for stored in list(selected)]

    def _now(self) -> str:
        return rfc3339(self._clock())


_PATCH_OPTIONS = Kind("meta.k8s.io", "v1", "PatchOptions", "patchoptions", "")


def _check_patch_options(media: str, options: WriteOptions) -> None:
    """An apply must say who applies; only an apply can be forced."""
    if media == APPLY_PATCH and not options.named:
        raise invalid(_PATCH_OPTIONS, "", [required("fieldManager", "is required for apply patch")])
    if media != APPLY_PATCH and options.force is not None:
        raise invalid(_PATCH_OPTIONS, "", [forbidden_field("force", "may not be specified for non-apply patch")])


def patched_value(schema: str, value: Value, media: str, data: bytes) -> Value:
    """`value` with a JSON, merge or strategic-merge patch applied. 400 for a body that is no patch."""
    try:
        patch = msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        raise bad_request(f"error decoding patch: {error}") from error
    if media == JSON_PATCH:
        return patches.json_patch(value, patch)
    if not isinstance(patch, dict):
        raise bad_request("error decoding patch: json: cannot unmarshal into Go value of type map[string]interface {}")
    if media == MERGE_PATCH:
        merged: Value = patches.merge_patch(value, patch)
        return merged
    return patches.strategic_merge(schema, value, patch)


def _apply_media(data: bytes) -> str:
    """kubectl sends JSON as an apply patch, people send YAML; the JSON reader is a hundred times faster."""
    return decode.JSON if data.lstrip()[:1] == b"{" else decode.YAML
