"""Stored objects → the JSON bytes of an answer: object, list, Table, metadata only. Used by `server` for answers, by
`watch` for events.

The stored bytes of an object are its JSON, so objects and lists are joined, not encoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from portway.apiserver import tables
from portway.apiserver.accept import Shape
from portway.apiserver.store import Stored
from portway.objects.kinds import Kind

Value = dict[str, Any]
encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Form:
    """How objects are shown: the shape, and for a Table what rides along in `object` (None, Metadata, Object)."""

    shape: Shape = Shape.OBJECT
    include: str = "Metadata"


@dataclass(frozen=True, slots=True)
class ListMeta:
    """`metadata` of a list. `remaining` is left out when 0."""

    revision: int
    token: str = ""
    remaining: int = 0

    @property
    def value(self) -> Value:
        value: Value = {"resourceVersion": str(self.revision)}
        if self.token:
            value["continue"] = self.token
        if self.remaining:
            value["remainingItemCount"] = self.remaining
        return value


def one(kind: Kind, stored: Stored, form: Form, now: float) -> bytes:
    """An answer that is one object."""
    if form.shape is Shape.OBJECT:
        return stored.data
    if form.shape is Shape.TABLE:
        return encode(_table(kind, [stored.value], {"resourceVersion": str(stored.revision)}, form, now))
    return encode(partial(stored.value))


def many(kind: Kind, items: Sequence[Stored], meta: ListMeta, form: Form, now: float) -> bytes:
    """An answer that is a list."""
    if form.shape is Shape.TABLE:
        values = tables.in_order(kind, (s.value for s in items))
        return encode(_table(kind, values, meta.value, form, now))
    if form.shape is Shape.OBJECT:
        head = {"kind": f"{kind.kind}List", "apiVersion": kind.api_version, "metadata": meta.value}
        return _joined(head, [s.data for s in items])
    head = {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": meta.value}
    return _joined(head, [encode(partial(s.value)) for s in items])


def _joined(head: Value, items: list[bytes]) -> bytes:
    return b"".join((encode(head)[:-1], b',"items":[', b",".join(items), b"]}\n"))


def partial(value: Value) -> Value:
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": value["metadata"]}


def _table(kind: Kind, values: Sequence[Value], meta: Value, form: Form, now: float) -> Value:
    rows = [_row(kind, value, form, now) for value in values]
    definitions = tables.definitions(kind)
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": meta,
        "columnDefinitions": definitions,
        "rows": rows,
    }


def _row(kind: Kind, value: Value, form: Form, now: float) -> Value:
    row: Value = {"cells": tables.cells(kind, value, now)}
    if form.include == "Object":
        row["object"] = value
    elif form.include != "None":
        row["object"] = partial(value)
    return row


def bookmark(kind: Kind, revision: int, form: Form, *, initial_end: bool) -> bytes:
    """A BOOKMARK event's line."""
    metadata: Value = {"resourceVersion": str(revision), "creationTimestamp": None}
    if initial_end:
        metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
    if form.shape is Shape.TABLE:
        row = {
            "cells": [],
            "object": {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata},
        }
        meta = {"resourceVersion": str(revision)}
        definitions = tables.definitions(kind)
        value = {
            "kind": "Table",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": meta,
            "columnDefinitions": definitions,
            "rows": [row],
        }
    elif form.shape is Shape.OBJECT:
        value = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": metadata}
    else:
        value = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}
    return encode({"type": "BOOKMARK", "object": value}) + b"\n"


def event(type_: str, body: bytes) -> bytes:
    """A watch event's line around an object's bytes."""
    return b"".join((b'{"type":"', type_.encode(), b'","object":', body, b"}\n"))
