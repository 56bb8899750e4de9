"""Give an object the shape of its schema: drop unknown fields and nulls, refuse values of the wrong type.

Pure; called by `decode` for each object that is written. A mismatch is worded as Go's JSON decoder words it
(`json: cannot unmarshal string into Go struct field ServicePort.spec.ports.port of type int32`).
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from portway.objects import schema
from portway.objects.schema import Node

_INT32 = 1 << 31
_INT64 = 1 << 63
_QUANTITY = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+|[numkMGTPE]|[KMGTPE]i)?")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


class Mismatch(Exception):
    """A value whose type is not the field's."""


def prune(name: str, obj: dict[str, Any], unknown: list[str]) -> dict[str, Any]:
    """A copy of `obj` in the shape of definition `name`; paths of dropped fields are added to `unknown`."""
    node = schema.schemas().get(name)
    return _object(node, obj, "", node, unknown)


def _object(node: Node, value: dict[str, Any], path: str, owner: Node, unknown: list[str]) -> dict[str, Any]:
    fields = node.fields
    result: dict[str, Any] = {}
    for key, part in value.items():
        field = fields.get(key)
        if field is None:
            unknown.append(f"{path}.{key}" if path else key)
        elif part is not None:
            kind = field.type
            if kind == "string" and not field.format and part.__class__ is str:
                result[key] = part
            else:
                result[key] = _value(field, part, f"{path}.{key}" if path else key, node, unknown)
    return result


def _value(node: Node, value: Any, path: str, owner: Node, unknown: list[str]) -> Any:
    kind = node.type
    if kind == "object" and isinstance(value, dict):
        return _object(node, value, path, owner, unknown)
    if kind == "array" and isinstance(value, list) and node.items is not None:
        item = node.items
        return [_element(item, v, f"{path}[{i}]", owner, unknown) for i, v in enumerate(value)]
    if kind == "map" and isinstance(value, dict) and node.items is not None:
        item = node.items
        if item.type in schema.SCALARS:  # Go's decoder names the map and not the key
            return {k: _element(item, v, path, owner, unknown) for k, v in value.items()}
        return {k: _element(item, v, f"{path}.{k}", owner, unknown) for k, v in value.items()}
    if kind == "any":
        return value
    return _scalar(node, value, path, owner)


def _element(node: Node, value: Any, path: str, owner: Node, unknown: list[str]) -> Any:
    """An element of a list or map: null is the type's zero, as a Go decoder has it."""
    if value is None:
        return _ZERO.get(node.type)
    return _value(node, value, path, owner, unknown)


_ZERO: dict[str, Any] = {
    "string": "",
    "integer": 0,
    "boolean": False,
    "object": {},
    "array": [],
    "map": {},
    "quantity": "0",
}


def _scalar(node: Node, value: Any, path: str, owner: Node) -> Any:
    kind = node.type
    if kind == "string" and isinstance(value, str):
        return _formatted(node, value)
    if kind == "boolean" and isinstance(value, bool):
        return value
    if isinstance(value, bool):
        raise _mismatch(node, value, path, owner)
    if kind == "integer" and isinstance(value, int):
        limit = _INT32 if node.format == "int32" else _INT64
        if not -limit <= value < limit:
            raise _mismatch(node, value, path, owner)
        return value
    if kind == "number" and isinstance(value, (int, float)):
        return value
    if kind == schema.INT_OR_STRING and isinstance(value, (int, str)):
        return value
    if kind == schema.QUANTITY and isinstance(value, (int, float, str)):
        return _quantity(value)
    raise _mismatch(node, value, path, owner)


def _quantity(value: float | str) -> str:
    text = value if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)
    if not _QUANTITY.fullmatch(text):
        raise Mismatch("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")
    return text


def _formatted(node: Node, value: str) -> str:
    if node.format == "byte":
        try:
            base64.b64decode(value.replace("\n", "").replace("\r", ""), validate=True)
        except binascii.Error:
            raise Mismatch(f"illegal base64 data at input byte {_bad_base64(value)}") from None
    elif node.format == "date-time" and not _TIME.fullmatch(value):
        raise Mismatch(f'parsing time "{value}" as "2006-01-02T15:04:05Z07:00": cannot parse "{value}" as "2006"')
    return value


def _bad_base64(value: str) -> int:
    found = re.search(r"[^A-Za-z0-9+/]", value)
    return found.start() if found else len(value) - len(value) % 4


def json_type(value: Any) -> str:
    """The name that Go's decoder has for a JSON value's type."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object" if isinstance(value, dict) else "null"


def _mismatch(node: Node, value: Any, path: str, owner: Node) -> Mismatch:
    plain = re.sub(r"\[\d+\]", "", path)
    wanted = go_type(node)
    given = json_type(value)
    if given == "number" and wanted.startswith("int"):
        given = f"number {value}"
    return Mismatch(f"json: cannot unmarshal {given} into Go struct field {_short(owner)}.{plain} of type {wanted}")


def _short(node: Node) -> str:
    return node.name.rsplit(".", 1)[-1]


def go_type(node: Node) -> str:
    """The Go type of a field, as error messages name it."""
    if node.type == "array" and node.items is not None:
        return "[]" + go_type(node.items)
    if node.type == "map" and node.items is not None:
        return "map[string]" + go_type(node.items)
    if node.type == "integer":
        return node.format or "int64"
    if node.type == "object":
        return ".".join(node.name.rsplit(".", 2)[-2:])
    return {"boolean": "bool", "number": "float64", schema.INT_OR_STRING: "intstr.IntOrString"}.get(node.type, "string")
