"""The compact OpenAPI table (`schema.bin`) as linked nodes: which fields an object has, of what type, merged how.

`hatch_build.py` makes the file at build time. The API server's decoder, patches, server-side apply and OpenAPI documents
walk these nodes; they are linked once for each kind, on first use, so that walking an object costs dictionary look-ups only.
Descriptions live in a second section that `descriptions()` reads when the first OpenAPI document is asked for.
"""

from __future__ import annotations

import struct
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

_MAGIC = b"PWS1"
_REF = "#/components/schemas/"

STRING, INTEGER, NUMBER, BOOLEAN = "string", "integer", "number", "boolean"
OBJECT, MAP, ARRAY = "object", "map", "array"
INT_OR_STRING, QUANTITY, ANY = "int-or-string", "quantity", "any"
SCALARS = frozenset({STRING, INTEGER, NUMBER, BOOLEAN, INT_OR_STRING, QUANTITY})

_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_ANY = frozenset({_META + "FieldsV1", "io.k8s.apimachinery.pkg.runtime.RawExtension", _META + "Patch"})


class SchemaMissing(Exception):
    """The table is not there or unreadable; the text says how to make it."""


class Node:
    """What may stand at one place of an object.

    `fields` are those of an `object`; `items` is the element of an `array` or the value of a `map`. `merge_key` and
    `strategies` rule strategic merge patches; `list_type` (atomic, set, map), `map_keys` and `atomic` rule server-side
    apply. `any` accepts every JSON value.
    """

    __slots__ = (
        "atomic",
        "default",
        "fields",
        "format",
        "items",
        "list_type",
        "map_keys",
        "merge_key",
        "name",
        "required",
        "strategies",
        "type",
    )

    def __init__(self, name: str, type: str) -> None:
        self.name = name
        self.type = type
        self.format = ""
        self.fields: dict[str, Node] = {}
        self.items: Node | None = None
        self.required: tuple[str, ...] = ()
        self.list_type = "atomic" if type == ARRAY else ""
        self.map_keys: tuple[str, ...] = ()
        self.merge_key = ""
        self.strategies: frozenset[str] = frozenset()
        self.atomic = False
        self.default: Any = None

    def __repr__(self) -> str:
        return f"Node({self.name or '-'}, {self.type})"

    def child(self, key: str) -> Node | None:
        """The node of one member: a field of an object, or the value type of a map."""
        return self.fields.get(key) if self.type == OBJECT else self.items


ANYTHING = Node("", ANY)


class Schemas:
    """All definitions by their OpenAPI name (`io.k8s.api.core.v1.Service`)."""

    def __init__(self, raw: dict[str, dict[str, Any]], packed_descriptions: bytes, fingerprint: str) -> None:
        self.raw = raw
        self.fingerprint = fingerprint
        self._packed = packed_descriptions
        self._nodes: dict[str, Node] = {}

    def __contains__(self, name: str) -> bool:
        return name in self.raw

    def get(self, name: str) -> Node:
        """The linked node of a definition. KeyError for a name that is not in the table."""
        node = self._nodes.get(name)
        return node if node is not None else self._link_definition(name)

    def at(self, name: str, path: str) -> Node | None:
        """The node at a dotted path: `at("io.k8s.api.core.v1.Service", "spec.ports.protocol")`; elements are skipped."""
        node: Node | None = self.get(name)
        for part in path.split("."):
            while node is not None and node.type == ARRAY:
                node = node.items
            node = node.child(part) if node is not None else None
        return node

    @property
    def descriptions(self) -> dict[str, tuple[str, dict[str, str]]]:
        """`{definition: (description, {field: description})}`; read anew on each use, because documents are made once."""
        return msgspec.json.decode(zlib.decompress(self._packed), type=dict[str, tuple[str, dict[str, str]]])

    def _link_definition(self, name: str) -> Node:
        raw = self.raw[name]
        node = Node(name, _type_of(name, raw))
        self._nodes[name] = node  # before its parts: a definition may contain itself
        self._fill(node, raw)
        return node

    def _link(self, raw: dict[str, Any]) -> Node:
        target = _target(raw)
        if not target:
            node = Node("", _type_of("", raw))
            self._fill(node, raw)
            return node
        node = self.get(target)
        if raw.keys() & _OWN_RULES:
            node = _copy(node)
            _set_rules(node, raw)
        return node

    def _fill(self, node: Node, raw: dict[str, Any]) -> None:
        node.format = raw.get("format", "")
        node.required = tuple(raw.get("required", ()))
        for field, part in raw.get("properties", {}).items():
            node.fields[field] = self._link(part)
        element = raw.get("items") or raw.get("additionalProperties")
        if isinstance(element, dict):
            node.items = self._link(element)
        _set_rules(node, raw)


_OWN_RULES = frozenset({
    "default",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
    "x-kubernetes-patch-merge-key",
    "x-kubernetes-patch-strategy",
})  # fmt: skip


def _target(raw: dict[str, Any]) -> str:
    parts = raw.get("allOf")
    return parts[0]["$ref"].removeprefix(_REF) if parts else ""


def _type_of(name: str, raw: dict[str, Any]) -> str:
    kind: str = raw.get("type", ANY)
    if name in _ANY:
        return ANY
    if kind == STRING and raw.get("format") in (INT_OR_STRING, QUANTITY):
        return str(raw["format"])
    if kind == OBJECT and "properties" not in raw:
        return MAP if "additionalProperties" in raw else (OBJECT if name else ANY)
    return kind


def _set_rules(node: Node, raw: dict[str, Any]) -> None:
    node.default = raw.get("default", node.default)
    node.list_type = raw.get("x-kubernetes-list-type", node.list_type)
    node.map_keys = tuple(raw.get("x-kubernetes-list-map-keys", node.map_keys))
    node.merge_key = raw.get("x-kubernetes-patch-merge-key", node.merge_key)
    if strategies := raw.get("x-kubernetes-patch-strategy"):
        node.strategies = frozenset(strategies.split(","))
    if "x-kubernetes-map-type" in raw:
        node.atomic = raw["x-kubernetes-map-type"] == "atomic"


def _copy(node: Node) -> Node:
    twin = Node(node.name, node.type)
    for slot in Node.__slots__:
        setattr(twin, slot, getattr(node, slot))
    return twin


def parse(content: bytes) -> Schemas:
    """The table from the bytes of `schema.bin`."""
    try:
        if content[:4] != _MAGIC:
            raise ValueError("it does not begin as a table does")
        (size,) = struct.unpack_from("<I", content, 4)
        raw = msgspec.json.decode(zlib.decompress(content[8 : 8 + size]))
    except (ValueError, struct.error, zlib.error, msgspec.DecodeError) as e:
        cure = "run `python hatch_build.py` or install portway again"
        raise SchemaMissing(f"schema.bin is damaged ({e}): {cure}") from e
    return Schemas(raw, content[8 + size :], f"{zlib.crc32(content):08x}")


@cache
def schemas() -> Schemas:
    """The table that ships with the package."""
    try:
        content = Path(__file__).with_name("schema.bin").read_bytes()
    except FileNotFoundError as e:
        raise SchemaMissing("schema.bin is missing: run `python hatch_build.py` or `pip install -e .`") from e
    return parse(content)
