"""Lists: selectors, pages and the revisions that a list may be asked for.

A list in pages shows one revision throughout: later pages are today's objects with what happened since undone
(`Store.as_of`). `server` calls `page`; `render` makes the bytes.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice

import msgspec

from portway.apiserver.errors import ApiError, Reason, bad_request, expired
from portway.apiserver.render import ListMeta
from portway.apiserver.requests import number
from portway.apiserver.selectors import Selection
from portway.apiserver.store import Key, Store, Stored, TooOld
from portway.apiserver.watch import Hub
from portway.objects.kinds import Kind

TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result; "
    "start a new list without the continue parameter"
)


@dataclass(frozen=True, slots=True)
class Page:
    items: list[Stored]
    meta: ListMeta


@dataclass(frozen=True, slots=True)
class Scope:
    """What a list is of; an empty namespace means all."""

    kind: Kind
    namespace: str
    selection: Selection


class _Token(msgspec.Struct):
    """Where a list goes on: the revision it shows and the last key it has shown."""

    revision: int
    namespace: str
    name: str


def page(store: Store, hub: Hub, scope: Scope, query: Mapping[str, str]) -> Page:
    """400 for a broken token or number, 410 for one that is too old, 504 for a revision that is still to come."""
    limit = number(query, "limit", 0) or 0
    token = query.get("continue", "")
    if token:
        return _next(store, scope, _read(token), limit)
    revision = _revision(store, query)
    if revision != store.revision:
        return _cut(_at(store, scope, revision, None), limit, revision, scope.selection)
    return _cut(list(hub.selected(scope.kind, scope.namespace, scope.selection)), limit, revision, scope.selection)


def revision_of(query: Mapping[str, str]) -> int | None:
    """`resourceVersion` of the query; None when there is none."""
    text = query.get("resourceVersion", "")
    if not text:
        return None
    if not text.isdecimal():
        raise bad_request(
            f'resourceVersion: Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax'
        )
    return int(text)


def _revision(store: Store, query: Mapping[str, str]) -> int:
    """The revision to show: the newest, but for resourceVersionMatch=Exact."""
    asked, match = revision_of(query), query.get("resourceVersionMatch", "")
    if match not in ("", "Exact", "NotOlderThan"):
        raise bad_request(
            f'resourceVersionMatch: Unsupported value: "{match}": supported values: "Exact", "NotOlderThan"'
        )
    if match and asked is None:
        raise bad_request(
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"
        )
    if match == "Exact" and asked == 0:
        raise bad_request(
            'resourceVersionMatch: Forbidden: resourceVersionMatch "Exact" is forbidden for resourceVersion "0"'
        )
    if asked is not None and asked > store.revision:
        raise _too_large(asked, store.revision)
    return asked if match == "Exact" and asked else store.revision


def _too_large(asked: int, current: int) -> ApiError:
    causes = [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
    text = f"Timeout: Too large resource version: {asked}, current: {current}"
    return ApiError(504, Reason.TIMEOUT, text, details={"causes": causes}, retry_after=1)


def _next(store: Store, scope: Scope, token: _Token, limit: int) -> Page:
    items = _at(store, scope, token.revision, (token.namespace, token.name))
    return _cut(items, limit, token.revision, scope.selection)


def _at(store: Store, scope: Scope, revision: int, after: Key | None) -> list[Stored]:
    found: Iterable[Stored]
    if revision == store.revision:
        found = store.items(scope.kind, scope.namespace, after)
    else:
        try:
            items = store.as_of(scope.kind, revision)
        except TooOld as error:
            raise expired(
                TOO_OLD if after else f"The resourceVersion for the provided list is too old: {error}"
            ) from error
        keys = sorted(
            k for k in items if (not scope.namespace or k[0] == scope.namespace) and (after is None or k > after)
        )
        found = (items[k] for k in keys)
    return [s for s in found if scope.selection.everything or scope.selection.matches(s.value)]


def _cut(items: list[Stored], limit: int, revision: int, selection: Selection) -> Page:
    if not limit or len(items) <= limit:
        return Page(items, ListMeta(revision))
    shown = list(islice(items, limit))
    last = _Token(revision, shown[-1].namespace, shown[-1].name)
    token = base64.urlsafe_b64encode(msgspec.json.encode(last)).decode().rstrip("=")
    return Page(shown, ListMeta(revision, token, len(items) - limit if selection.everything else 0))


def _read(token: str) -> _Token:
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)), type=_Token)
    except (binascii.Error, msgspec.DecodeError, ValueError) as error:
        raise bad_request(f"continue key is not valid: {error}") from error
