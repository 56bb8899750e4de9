"""Reader of `application/vnd.kubernetes.protobuf`, the form in which `kubectl create <generator>` posts.

An envelope (`k8s\\0`, then runtime.Unknown) names the type; the object follows. Field numbers come from `prototable`, types
from the schema. `decode` (module) calls us and goes on with the plain object. We never answer in protobuf: every client lists
JSON too. Numbers that the table does not know are skipped, as protobuf readers do.
"""

from __future__ import annotations

import base64
import json
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from portway.apiserver import errors
from portway.apiserver.prototable import MESSAGES
from portway.objects.schema import (
    ANY,
    ANYTHING,
    ARRAY,
    BOOLEAN,
    INT_OR_STRING,
    INTEGER,
    MAP,
    OBJECT,
    QUANTITY,
    Node,
    schemas,
)

Json = dict[str, Any]

MAGIC = b"k8s\x00"
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_DEPTH_LIMIT = 64


class Truncated(Exception):
    """The bytes end, or make no sense, in the middle of a field."""


def decode(body: bytes) -> Json:
    """The object in an envelope. ApiError 400 for anything else."""
    if not body.startswith(MAGIC):
        raise errors.bad_request("provided data does not appear to be a protobuf message, expected prefix 6b 38 73 00")
    try:
        envelope = dict(_fields(body[len(MAGIC) :]))
        type_meta = {n: _text(v) for n, v in _fields(_chunk(envelope.get(1, b"")))}
        version, kind = type_meta.get(1, ""), type_meta.get(2, "")
        name = _definitions().get((version, kind))
        if name is None:
            raise errors.bad_request(f'no kind "{kind}" is registered for version "{version}" in protobuf')
        obj = _message(schemas().get(name), _chunk(envelope.get(2, b"")), 0)
    except Truncated as e:
        raise errors.bad_request(f"unable to decode protobuf: {e}") from None
    return {"apiVersion": version, "kind": kind} | obj


@cache
def _definitions() -> dict[tuple[str, str], str]:
    """(apiVersion, kind) → definition, of what the table can read."""
    result: dict[tuple[str, str], str] = {}
    for name, raw in schemas().raw.items():
        if _short(name) in MESSAGES:
            for gvk in raw.get("x-kubernetes-group-version-kind", ()):
                version = f"{gvk['group']}/{gvk['version']}" if gvk["group"] else gvk["version"]
                result[version, gvk["kind"]] = name
    return result


def _short(name: str) -> str:
    """`io.k8s.api.core.v1.Service` → `core.v1.Service`."""
    return ".".join(name.rsplit(".", 3)[1:])


@dataclass(frozen=True, slots=True)
class _Field:
    """`inline` names the message whose fields stand among the owner's."""

    name: str = ""
    pointer: bool = False
    inline: str = ""


_ENTRY = re.compile(r"(\d+)(\*?)([=>])(.+)")


@cache
def _table(message: str) -> dict[int, _Field]:
    result: dict[int, _Field] = {}
    for entry in MESSAGES.get(message, "").split():
        found = _ENTRY.fullmatch(entry)
        if found is None:
            raise ValueError(f"malformed entry {entry!r} of {message}: this is a bug, please report it")
        number, pointer, sign, name = found.groups()
        result[int(number)] = _Field(inline=name) if sign == ">" else _Field(name, bool(pointer))
    return result


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise Truncated("unexpected EOF in a number")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, number or bytes) in the order of the message."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        if kind == _BYTES:
            size, at = _varint(data, at)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise Truncated(f"illegal wire type {kind}")
        if at + size > len(data):
            raise Truncated("unexpected EOF")
        yield tag >> 3, data[at : at + size]
        at += size


def _chunk(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise Truncated("a number where bytes are wanted")
    return value


def _number(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise Truncated("bytes where a number is wanted")
    return value - (1 << 64) if value >= 1 << 63 else value


def _text(value: int | bytes) -> str:
    try:
        return _chunk(value).decode()
    except UnicodeDecodeError:
        raise Truncated("a string that is not UTF-8") from None


def _message(node: Node, data: bytes, depth: int, message: str = "") -> Json:
    """The fields of one message; `node` is its schema, or that of the owner for an inline message."""
    if depth > _DEPTH_LIMIT:
        raise Truncated("nested too deeply")
    result: Json = {}
    table = _table(message or _short(node.name))
    for number, raw in _fields(data):
        field = table.get(number)
        if field is None:
            continue
        if field.inline:
            result |= _message(node, _chunk(raw), depth + 1, field.inline)
            continue
        child = node.child(field.name) or ANYTHING
        if child.type == ARRAY:
            result.setdefault(field.name, []).append(_value(child.items or ANYTHING, raw, depth))
        elif child.type == MAP:
            key, value = _entry(child.items or ANYTHING, _chunk(raw), depth)
            result.setdefault(field.name, {})[key] = value
        else:
            value = _value(child, raw, depth)
            if field.pointer or value not in ("", 0, False, None, {}):
                result[field.name] = value
    return result


def _entry(node: Node, data: bytes, depth: int) -> tuple[str, Any]:
    pair = dict(_fields(data))
    if node.type == ARRAY:  # a list as a map's value is a message of its own
        items = [v for n, v in _fields(_chunk(pair.get(2, b""))) if n == 1]
        return _text(pair.get(1, b"")), [_value(node.items or ANYTHING, v, depth) for v in items]
    return _text(pair.get(1, b"")), _value(node, pair.get(2, b""), depth)


def _value(node: Node, raw: int | bytes, depth: int) -> Any:
    kind = node.type
    if kind == INTEGER:
        return _number(raw)
    if kind == BOOLEAN:
        return bool(raw)
    if kind == OBJECT:
        return _message(node, _chunk(raw), depth + 1)
    if kind == INT_OR_STRING:
        parts = dict(_fields(_chunk(raw)))
        return _text(parts.get(3, b"")) if parts.get(1) else _number(parts.get(2, 0))
    if kind == QUANTITY:
        return _text(dict(_fields(_chunk(raw))).get(1, b""))
    if kind == ANY:
        return _raw_json(dict(_fields(_chunk(raw))).get(1, b""))
    if node.format == "byte":
        return base64.b64encode(_chunk(raw)).decode()
    if node.format == "date-time":
        return _time(_chunk(raw))
    if node.format == "double":
        return struct.unpack("<d", _chunk(raw))[0]
    return _text(raw)


def _raw_json(raw: int | bytes) -> Any:
    try:
        return json.loads(_chunk(raw) or b"null")
    except ValueError:
        raise Truncated("embedded JSON is broken") from None


def _time(data: bytes) -> str | None:
    """RFC 3339 in whole seconds; None for the zero time, which stands for "not said"."""
    seconds = _number(dict(_fields(data)).get(1, 0))
    if not data or seconds < 0:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError):
        raise Truncated("a time out of range") from None
