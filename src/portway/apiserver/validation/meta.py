"""Metadata: names by the rule of their kind, labels, annotations, owners, finalizers, and what an update may not change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from portway.apiserver.errors import FieldError, forbidden_field, invalid_value, required, too_long
from portway.apiserver.validation import formats
from portway.objects import kinds
from portway.objects.kinds import Kind

Json = dict[str, Any]

ANNOTATIONS_LIMIT = 256 * 1024
# A Service's name may start with a digit: RFC 1123, no longer RFC 1035 (KEP-5311, stable in Kubernetes 1.37).
_NAME_RULES: dict[str, Callable[[str], str]] = {
    kinds.NAMESPACE.kind: formats.label,
    kinds.SERVICE.kind: formats.label,
}


def check(kind: Kind, new: Json, old: Json | None) -> Iterator[FieldError]:
    metadata = new.get("metadata") or {}
    if old is None:
        yield from _name(kind, metadata)
    yield from formats.labels("metadata.labels", metadata.get("labels"))
    yield from _annotations(metadata.get("annotations") or {})
    yield from _owners(metadata.get("ownerReferences") or ())
    yield from _finalizers(metadata.get("finalizers") or ())
    if old is not None:
        yield from _unchanged(metadata, old.get("metadata") or {})


def _name(kind: Kind, metadata: Json) -> Iterator[FieldError]:
    rule = _NAME_RULES.get(kind.kind, formats.subdomain)
    name, prefix = metadata.get("name", ""), metadata.get("generateName", "")
    if prefix and (why := rule(prefix.rstrip("-.") or prefix)):
        yield invalid_value("metadata.generateName", prefix, why)
    if not name:
        if not prefix:
            yield required("metadata.name", "name or generateName is required")
    elif why := rule(name):
        yield invalid_value("metadata.name", name, why)
    namespace = metadata.get("namespace", "")
    if kind.namespaced:
        yield from formats.needed("metadata.namespace", namespace, formats.label(namespace))
    elif namespace:
        yield forbidden_field("metadata.namespace", "not allowed on this type")


def _annotations(annotations: Json) -> Iterator[FieldError]:
    size = 0
    for key, value in annotations.items():
        size += len(key) + len(value)
        if why := formats.qualified(key.lower()):
            yield invalid_value("metadata.annotations", key, why)
    if size > ANNOTATIONS_LIMIT:
        yield too_long("metadata.annotations", ANNOTATIONS_LIMIT)


def _owners(owners: Sequence[Json]) -> Iterator[FieldError]:
    controller: Json | None = None
    for i, owner in enumerate(owners):
        path = f"metadata.ownerReferences[{i}]"
        if not owner.get("apiVersion"):
            yield invalid_value(f"{path}.apiVersion", "", "version must not be empty")
        for field in ("kind", "name", "uid"):
            if not owner.get(field):
                yield invalid_value(f"{path}.{field}", "", "must not be empty")
        if owner.get("controller"):
            if controller is not None:
                pair = f"{controller.get('name')} and {owner.get('name')}"
                why = f'Only one reference can have Controller set to true. Found "true" in references for {pair}'
                yield invalid_value("metadata.ownerReferences", owners, why)
            controller = owner


def _finalizers(finalizers: Sequence[str]) -> Iterator[FieldError]:
    for i, name in enumerate(finalizers):
        if why := formats.qualified(name):
            yield invalid_value(f"metadata.finalizers[{i}]", name, why)
        elif "/" not in name and name not in ("orphan", "foregroundDeletion", "kubernetes"):
            why = "name is neither a standard finalizer name nor is it fully qualified"
            yield invalid_value(f"metadata.finalizers[{i}]", name, why)


_FIXED = ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")


def _unchanged(new: Json, old: Json) -> Iterator[FieldError]:
    for field in _FIXED:
        if field in new and field in old and new[field] != old[field]:
            yield invalid_value(f"metadata.{field}", new[field], formats.IMMUTABLE)
    if old.get("deletionTimestamp"):
        added = sorted(set(new.get("finalizers") or ()) - set(old.get("finalizers") or ()))
        if added:
            names = ", ".join(f'"{a}"' for a in added)
            why = f"no new finalizers can be added if the object is being deleted, found new finalizers []string{{{names}}}"
            yield forbidden_field("metadata.finalizers", why)
