"""Bytes of the API ↔ structs: objects, lists and lines of a watch.

The fast path decodes straight into the struct. Real servers also send `null` where a field is absent (Go's nil slices
and maps), which a strict decoder refuses: then the text is decoded once more, nulls dropped. Called by `client.http`;
pure.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Generic, TypeVar

import msgspec

from portway.objects.kinds import KINDS, Kind
from portway.objects.meta import Object

T = TypeVar("T", bound=Object)
Body = Object | dict[str, Any] | list[Any]
encoder = msgspec.json.Encoder()


class Undecodable(Exception):
    """An object that does not fit its struct. The rest of a list or watch goes on without it."""


class ListMeta(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str | None = None
    continue_: str | None = msgspec.field(default=None, name="continue")


class RawList(msgspec.Struct, frozen=True):
    metadata: ListMeta = ListMeta()
    items: tuple[msgspec.Raw, ...] | None = None


class WatchLine(msgspec.Struct, frozen=True):
    type: str
    object: msgspec.Raw


class Listed(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """One whole list, all its pages."""

    items: tuple[T, ...] = ()
    resource_version: str = ""
    undecodable: tuple[str, ...] = ()


lines = msgspec.json.Decoder(WatchLine)
raw_lists = msgspec.json.Decoder(RawList)


@cache
def kind_of(kind: type[Object]) -> Kind:
    """The declaration of a struct, by its KIND."""
    for row in KINDS:
        if row.kind == kind.KIND:
            return row
    raise LookupError(f"{kind.__name__}.KIND is {kind.KIND!r}, which objects.kinds does not declare: add a row there")


@cache
def decoder(kind: type[T]) -> Callable[[bytes | msgspec.Raw], T]:
    """A function from the text of one object to its struct; raises Undecodable."""
    fast = msgspec.json.Decoder(kind).decode

    def decode(text: bytes | msgspec.Raw) -> T:
        try:
            return fast(text)
        except msgspec.ValidationError:
            return _without_nulls(text, kind)
        except msgspec.DecodeError as e:
            raise Undecodable(f"{kind.KIND}: {e}") from e

    return decode


def _without_nulls(text: bytes | msgspec.Raw, kind: type[T]) -> T:
    plain = _drop_nulls(msgspec.json.decode(text))
    try:
        return msgspec.convert(plain, kind)
    except msgspec.ValidationError as e:
        meta = plain.get("metadata", {}) if isinstance(plain, dict) else {}
        raise Undecodable(f"{kind.KIND} {meta.get('namespace', '')}/{meta.get('name', '')}: {e}") from e


def _drop_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _drop_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_drop_nulls(v) for v in value if v is not None]
    return value


def encode(body: Body, kind: Kind | None = None) -> bytes:
    """A body as JSON. A struct gets the apiVersion and kind that it may lack."""
    if isinstance(body, Object) and kind and not body.kind:
        body = msgspec.structs.replace(body, api_version=kind.api_version, kind=kind.kind)
    elif isinstance(body, dict) and kind and "kind" not in body:
        body = {"apiVersion": kind.api_version, "kind": kind.kind, **body}
    return encoder.encode(body)
