"""Strategic merge: lists of objects merge by a key, lists of plain values as sets, directives delete, replace and order.

Pure; called by `patches.strategic_merge` with the schema's node. Directives: `$patch` (replace, merge, delete),
`$deleteFromPrimitiveList/f`, `$setElementOrder/f`, `$retainKeys`. An object without a schema (a map, or unknown fields)
merges as a plain map, and its lists are replaced.
"""

from __future__ import annotations

import copy
import json
from typing import Any

from portway.objects.schema import ANYTHING, ARRAY, Node

DIRECTIVE = "$patch"
RETAIN = "$retainKeys"
DELETE_FROM = "$deleteFromPrimitiveList/"
ORDER = "$setElementOrder/"

Json = dict[str, Any]


class PatchInvalid(Exception):
    """A patch that breaks the rules of strategic merge."""


def merge_object(node: Node, original: Json, patch: Json) -> Json:
    """The merged object. Neither argument is changed."""
    directive = patch.get(DIRECTIVE)
    if directive == "replace":
        replacement: Json = _clean(node, {k: v for k, v in patch.items() if k != DIRECTIVE})
        return replacement
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise PatchInvalid(f"invalid value for $patch: {directive!r}, expected 'replace', 'merge' or 'delete'")
    result = dict(original)
    if RETAIN in patch:
        result = _retain(result, patch)
    for key, value in patch.items():
        if key in (DIRECTIVE, RETAIN) or key.startswith((ORDER, DELETE_FROM)):
            continue
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merge_value(node.child(key) or ANYTHING, result.get(key), value, _order(patch, key))
    _plain_lists(node, result, patch)
    return result


def _retain(original: Json, patch: Json) -> Json:
    keep = patch[RETAIN]
    if not isinstance(keep, list):
        raise PatchInvalid("invalid patch format of retainKeys: it must be a list")
    strangers = [k for k in patch if not k.startswith("$") and patch[k] is not None and k not in keep]
    if strangers:
        raise PatchInvalid("the retainKeys list does not contain the patched field " + ", ".join(strangers))
    return {k: v for k, v in original.items() if k in keep}


def _order(patch: Json, key: str) -> list[Any] | None:
    order = patch.get(ORDER + key)
    if order is not None and not isinstance(order, list):
        raise PatchInvalid(f"invalid format of {ORDER}{key}: it must be a list")
    return order


def _merge_value(node: Node, original: Any, value: Any, order: list[Any] | None) -> Any:
    if isinstance(value, dict):
        # A union's other members go when the patch retains its own keys; without the directive objects merge.
        return merge_object(node, original if isinstance(original, dict) else {}, value)
    if isinstance(value, list) and node.type == ARRAY and "merge" in node.strategies:
        return _merge_list(node, original if isinstance(original, list) else [], value, order)
    return _clean(node, value)


def _clean(node: Node, value: Any) -> Any:
    """A value that replaces: a deep copy without nulls in objects, and without directives."""
    if isinstance(value, dict):
        return {
            k: _clean(node.child(k) or ANYTHING, v)
            for k, v in value.items()
            if v is not None and not k.startswith((DIRECTIVE, RETAIN, ORDER, DELETE_FROM))
        }
    if isinstance(value, list):
        return [_clean(node.items or ANYTHING, v) for v in value]
    return copy.copy(value)


def _merge_list(node: Node, original: list[Any], patch: list[Any], order: list[Any] | None) -> list[Any]:
    item = node.items or ANYTHING
    if not node.merge_key:
        merged = [*original, *(v for v in patch if v not in original)]
        return _ordered(merged, original, [_identity(p, "") for p in dict.fromkeys(patch)], order, "")
    if any(isinstance(p, dict) and p.get(DIRECTIVE) == "replace" for p in patch):
        return [_clean(item, p) for p in patch if not (isinstance(p, dict) and DIRECTIVE in p)]
    merged = list(original)
    touched: list[Any] = []
    for part in patch:
        _merge_element(item, node.merge_key, merged, touched, part)
    return _ordered(merged, original, touched, order, node.merge_key)


def _merge_element(item: Node, key: str, merged: list[Any], touched: list[Any], part: Any) -> None:
    if not isinstance(part, dict):
        raise PatchInvalid(f"expected an object in a list that merges by {key}, found {json.dumps(part)}")
    if key not in part:
        raise PatchInvalid(f"map: {json.dumps(part)} does not contain declared merge key: {key}")
    same = [i for i, m in enumerate(merged) if isinstance(m, dict) and m.get(key) == part[key]]
    if part.get(DIRECTIVE) == "delete":
        merged[:] = [m for i, m in enumerate(merged) if i not in same]
        return
    touched.append(_identity(part, key))
    at = _closest(item, merged, same, part)
    if at is None:
        merged.append(merge_object(item, {}, part))
    else:
        merged[at] = merge_object(item, merged[at], part)


def _closest(item: Node, merged: list[Any], same: list[int], part: Json) -> int | None:
    """The element that a patch means. With one key and several candidates (port 53 of TCP and of UDP) the first one.

    Kubernetes merges by `port` alone, and so do we, except where the patch names a protocol that another candidate has:
    then that one is meant, and the answer is what the person who wrote the patch expects.
    """
    if len(same) > 1 and (protocol := part.get("protocol")) is not None:
        return next((i for i in same if merged[i].get("protocol", "TCP") == protocol), same[0])
    return same[0] if same else None


def _identity(value: Any, key: str) -> Any:
    found = value.get(key) if key and isinstance(value, dict) else value
    return json.dumps(found, sort_keys=True) if isinstance(found, (dict, list)) else found


def _ordered(merged: list[Any], server: list[Any], touched: list[Any], order: list[Any] | None, key: str) -> list[Any]:
    """Elements that the patch names, in the order that it gives, woven into those that only the server has.

    A server's element stands before a named one when it did so before; in all other cases the named one comes first.
    """
    wanted = touched if order is None else [_identity(entry, key) for entry in order]
    rank = {name: i for i, name in reversed(list(enumerate(wanted)))}
    missing = [t for t in touched if t not in rank]
    if missing:
        raise PatchInvalid(f"the order in {ORDER[:-1]} does not contain {json.dumps(missing)}")
    place = {name: i for i, name in reversed(list(enumerate(_identity(m, key) for m in server)))}
    named = sorted((m for m in merged if _identity(m, key) in rank), key=lambda m: rank[_identity(m, key)])
    others = [m for m in merged if _identity(m, key) not in rank]
    result: list[Any] = []
    for element in named:
        limit = place.get(_identity(element, key), -1)
        while others and place.get(_identity(others[0], key), limit) < limit:
            result.append(others.pop(0))
        result.append(element)
    return result + others


def _plain_lists(node: Node, result: Json, patch: Json) -> None:
    """`$deleteFromPrimitiveList/f`, and an order for a list that the patch does not otherwise touch."""
    for key, value in patch.items():
        if key.startswith(DELETE_FROM):
            field = key.removeprefix(DELETE_FROM)
            if not isinstance(value, list):
                raise PatchInvalid(f"invalid format of {key}: it must be a list")
            if isinstance(result.get(field), list):
                result[field] = [v for v in result[field] if v not in value]
        elif key.startswith(ORDER) and key.removeprefix(ORDER) not in patch:
            field = key.removeprefix(ORDER)
            child = node.child(field) or ANYTHING
            if isinstance(server := result.get(field), list):
                result[field] = _ordered(server, server, [], _order(patch, field), child.merge_key)
