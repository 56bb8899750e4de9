"""Sets of field paths in the form of `fieldsV1`, and how two versions of an object differ in them.

A set is a tree of dictionaries: `{"f:spec": {"f:ports": {'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:port": {}}}}}`. A node
without entries is a member; a node with entries is a member only if "." is one of them. `f:` names a field, `k:` a list
element by its keys, `v:` an element of a set. Pure; `managed` computes ownership with it. Rules: structured-merge-diff.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from portway.objects.schema import ANYTHING, ARRAY, MAP, OBJECT, Node

Trie = dict[str, Any]
Json = dict[str, Any]

SELF = "."


def is_member(node: Trie) -> bool:
    return not node or SELF in node


def union(one: Trie, other: Trie) -> Trie:
    """All members of both."""
    if not one and not other:
        return {}
    result: Trie = {SELF: {}} if is_member(one) or is_member(other) else {}
    for key in one.keys() | other.keys():
        if key == SELF:
            continue
        if key in one and key in other:
            result[key] = union(one[key], other[key])
        else:
            result[key] = one[key] if key in one else other[key]
    return result


def merge_roots(one: Trie, other: Trie) -> Trie:
    """`union` of whole sets: the root is no path, so an empty set is empty and no member."""
    if not one or not other:
        return one or other
    return {k: v for k, v in union(one, other).items() if k != SELF}


def subtract(one: Trie, other: Trie) -> Trie | None:
    """Members of `one` that are not in `other`; None when nothing is left. Shares what is unchanged."""
    member = is_member(one) and not is_member(other)
    result: Trie = {}
    for key, sub in one.items():
        if key == SELF:
            continue
        left = subtract(sub, other[key]) if key in other else sub
        if left is not None:
            result[key] = left
    if not result:
        return {} if member else None
    if member:
        result = {SELF: {}} | result
    return result


def subtract_roots(one: Trie, other: Trie) -> Trie:
    result: Trie = {}
    for key, sub in one.items():
        left = subtract(sub, other[key]) if key in other else sub
        if left is not None:
            result[key] = left
    return result


def common(one: Trie, other: Trie) -> Iterator[tuple[str, ...]]:
    """Paths that are members of both."""
    for key, sub in one.items():
        if key != SELF and key in other:
            if is_member(sub) and is_member(other[key]):
                yield (key,)
            for path in common(sub, other[key]):
                yield (key, *path)


def from_paths(paths: list[tuple[str, ...]]) -> Trie:
    result: Trie = {}
    for path in paths:
        node = result
        for key in path:
            if key not in node and node is not result and not node:
                node[SELF] = {}  # it was a member without entries, and stays one
            node = node.setdefault(key, {})
    return _close(result, {()} | set(paths), ())


def _close(node: Trie, members: set[tuple[str, ...]], path: tuple[str, ...]) -> Trie:
    result: Trie = {SELF: {}} if path and path in members and any(k != SELF for k in node) else {}
    for key, sub in node.items():
        if key != SELF:
            result[key] = _close(sub, members, (*path, key))
    return result


def words(path: tuple[str, ...]) -> str:
    """`.spec.containers[name="c"].image`, as conflicts name a field."""
    text = ""
    for part in path:
        kind, _, rest = part.partition(":")
        if kind == "k":
            text += f"[{_key_words(rest)}]"
        elif kind == "v":
            text += f"[={rest}]"
        else:
            text += f".{rest}"
    return text


def _key_words(keys: str) -> str:
    try:
        parsed = json.loads(keys)
    except ValueError:  # a client may send any managedFields
        return keys
    return ",".join(f"{k}={json.dumps(v)}" for k, v in parsed.items()) if isinstance(parsed, dict) else keys


_DEPTH_LIMIT = 64


def is_trie(value: Any, depth: int = 0) -> bool:
    """Is this a set at all? A client may send any JSON as `fieldsV1`."""
    if not isinstance(value, dict) or depth > _DEPTH_LIMIT:
        return False
    return all(is_trie(below, depth + 1) for below in value.values())


def is_leaf(node: Node, value: Any) -> bool:
    """Is the value owned as a whole?"""
    if isinstance(value, dict):
        return node.atomic or node.type not in (OBJECT, MAP)
    if isinstance(value, list):
        return node.type != ARRAY or node.list_type not in ("map", "set")
    return True


def element_key(node: Node, element: Any) -> str:
    """The path element of one entry of a `map` or `set` list."""
    if node.list_type == "set" or not isinstance(element, dict):
        return "v:" + json.dumps(element, separators=(",", ":"))
    item = node.items or ANYTHING
    keys: Json = {}
    for key in sorted(node.map_keys):
        field = item.fields.get(key)
        value = element.get(key, field.default if field else None)
        if value is not None:
            keys[key] = value
    return "k:" + json.dumps(keys, separators=(",", ":"))


def members(node: Node, value: Any) -> Trie:
    """What applying `value` claims: its leaves, empty containers and list elements."""
    if is_leaf(node, value) or not value:
        return {}
    if isinstance(value, dict):
        return {"f:" + key: members(node.child(key) or ANYTHING, part) for key, part in value.items()}
    item = node.items or ANYTHING
    if node.list_type == "set":
        return {element_key(node, v): {} for v in value}
    return {element_key(node, v): {SELF: {}} | members(item, v) for v in value}


def everything(node: Node, value: Any, *, listed: bool = True) -> Trie:
    """What appears with `value`: as `members`, and each container itself, unless the schema always has it."""
    if is_leaf(node, value) or not value:
        return {}
    result: Trie = {SELF: {}} if listed else {}
    if isinstance(value, dict):
        for key, part in value.items():
            result["f:" + key] = everything(node.child(key) or ANYTHING, part, listed=key not in node.required)
        return result
    item = node.items or ANYTHING
    for element in value:
        result[element_key(node, element)] = {} if node.list_type == "set" else everything(item, element)
    return result


def compare(node: Node, old: Any, new: Any) -> tuple[Trie, Trie]:
    """(added or modified, removed) of two values of one container, as sets below it."""
    changed: Trie = {}
    removed: Trie = {}
    if isinstance(new, dict):
        for key, part in new.items():
            before = old.get(key)
            if before is part or before == part:
                continue
            child = node.child(key) or ANYTHING
            if before is None:
                changed["f:" + key] = everything(child, part, listed=key not in node.required)
            else:
                _descend(child, "f:" + key, (before, part), changed, removed)
        for key in old.keys() - new.keys():
            removed["f:" + key] = everything(node.child(key) or ANYTHING, old[key])
        return changed, removed
    _compare_lists(node, old, new, (changed, removed))
    return changed, removed


def _descend(child: Node, key: str, pair: tuple[Any, Any], changed: Trie, removed: Trie) -> None:
    old, new = pair
    if type(old) is not type(new) or is_leaf(child, new):
        changed[key] = {}
        return
    below, gone = compare(child, old, new)
    if below:
        changed[key] = below
    if gone:
        removed[key] = gone


def _compare_lists(node: Node, old: list[Any], new: list[Any], out: tuple[Trie, Trie]) -> None:
    changed, removed = out
    item = node.items or ANYTHING
    before = {element_key(node, v): v for v in old}
    after = {element_key(node, v): v for v in new}
    for key, part in after.items():
        if key not in before:
            changed[key] = {} if node.list_type == "set" else everything(item, part)
        elif before[key] != part:
            _descend(item, key, (before[key], part), changed, removed)
    for key in before.keys() - after.keys():
        removed[key] = {} if node.list_type == "set" else everything(item, before[key])
