"""Who owns which field: server-side apply, and the bookkeeping (`metadata.managedFields`) that every other write needs for it.

`apply` merges an applied configuration into the stored object; `track_update` notes what an ordinary write changed. Both are
pure but for the dictionary that `track_update` is given. `server` calls one of them for each write, before validation of the
result. Rules: KEP-555 and structured-merge-diff; the words of a conflict are Kubernetes'.
"""

from __future__ import annotations

import copy
from typing import Any

from portway.apiserver import errors
from portway.apiserver import fieldsets as sets
from portway.apiserver.fieldsets import Trie
from portway.objects.kinds import Kind
from portway.objects.schema import ANYTHING, ARRAY, MAP, OBJECT, Node, schemas

Json = dict[str, Any]

APPLY, UPDATE = "Apply", "Update"
BEFORE = "before-first-apply"
# The system's own fields have no owner.
_SYSTEM = frozenset({
    "creationTimestamp",
    "generation",
    "managedFields",
    "name",
    "namespace",
    "resourceVersion",
    "selfLink",
    "uid",
})  # fmt: skip


def _owned_part(kind: Kind, obj: Json, subresource: str) -> Json:
    """The object without what nobody owns, and without the half that this endpoint cannot write."""
    result = {k: v for k, v in obj.items() if k not in ("apiVersion", "kind", "metadata")}
    metadata = obj.get("metadata") or {}
    result["metadata"] = {k: v for k, v in metadata.items() if k not in _SYSTEM}
    if subresource == "status":
        result.pop("spec", None)
    elif "status" in kind.subresources:
        result.pop("status", None)
    return result


# A create is compared with an object that has these parts, so that nobody owns the parts themselves.
_FRAME = ("metadata", "spec", "status")


def _frame(obj: Json) -> Json:
    return {k: {} for k in _FRAME if isinstance(obj.get(k), dict)}


def track_update(
    kind: Kind,
    old: Json | None,
    new: Json,
    *,
    manager: str,
    operation: str = UPDATE,
    now: str,
    subresource: str = "",
) -> None:
    """Set `new["metadata"]["managedFields"]`, in place, after an ordinary write; `old` is None for a create.

    What changed is taken from its former owners. A writer who sends a list of its own replaces the stored one, and `[{}]`
    clears it, as documented for Kubernetes; a list that cannot be read is ignored.
    """
    metadata = new.setdefault("metadata", {})
    stored = ((old or {}).get("metadata") or {}).get("managedFields") or []
    entries = metadata.get("managedFields") or stored
    if entries == [{}]:
        metadata.pop("managedFields", None)
        return
    if entries is not stored and entries != stored and not all(sets.is_trie(e.get("fieldsV1", {})) for e in entries):
        entries = stored
    before = _owned_part(kind, old, subresource) if old is not None else {}
    after = _owned_part(kind, new, subresource)
    changed, removed = sets.compare(schemas().get(kind.schema), _frame(after) | before, after)
    if changed or removed:
        mine = {"manager": manager, "operation": operation, "apiVersion": kind.api_version, "subresource": subresource}
        entries = _record(entries, mine, now, (changed, removed))
    if entries:
        metadata["managedFields"] = entries
    else:
        metadata.pop("managedFields", None)


def _same(entry: Json, mine: Json) -> bool:
    return all((entry.get(k) or "") == v for k, v in mine.items())


def _record(entries: list[Json], mine: Json, now: str, difference: tuple[Trie, Trie]) -> list[Json]:
    """The entries after `mine` changed and removed fields."""
    changed, removed = difference
    result: list[Json] = []
    own: Trie = {}
    for entry in entries:
        fields = sets.subtract_roots(entry.get("fieldsV1") or {}, removed) if removed else entry.get("fieldsV1") or {}
        if _same(entry, mine):
            own = fields
            continue
        if changed:
            fields = sets.subtract_roots(fields, changed)
        if fields:
            result.append(entry if fields is entry.get("fieldsV1") else {**entry, "fieldsV1": fields})
    own = sets.merge_roots(own, changed)
    if own:
        result.append(_entry(mine, now, own))
    return _sorted(result)


def _entry(mine: Json, now: str, fields: Trie) -> Json:
    entry = {k: mine[k] for k in ("manager", "operation", "apiVersion")}
    entry |= {"time": now, "fieldsType": "FieldsV1", "fieldsV1": fields}
    if mine["subresource"]:
        entry["subresource"] = mine["subresource"]
    return entry


def _sorted(entries: list[Json]) -> list[Json]:
    return sorted(entries, key=lambda e: (e.get("operation", ""), e.get("time", ""), e.get("manager", "")))


def apply(
    kind: Kind,
    live: Json | None,
    applied: Json,
    *,
    manager: str,
    force: bool,
    now: str,
    subresource: str = "",
) -> Json:
    """The object after `manager` applied a configuration: merged, owned, and without what it no longer asks for.

    Nothing that is given is changed. An apply that changes nothing returns an object equal to `live`. ApiError 409 when
    another manager owns a field with another value and `force` is not set; 400 for a configuration with managedFields.
    """
    if (applied.get("metadata") or {}).get("managedFields"):
        raise errors.bad_request("metadata.managedFields must be nil")
    node = schemas().get(kind.schema)
    wanted = _owned_part(kind, applied, subresource)
    claim = sets.members(node, {k: v for k, v in wanted.items() if v or k not in _FRAME})
    mine = {"manager": manager, "operation": APPLY, "apiVersion": kind.api_version, "subresource": subresource}
    if live is None:
        result = copy.deepcopy(applied)
        result.setdefault("metadata", {})["managedFields"] = [_entry(mine, now, claim)] if claim else []
        return result
    entries = _entries(kind, live, now)
    others = [e for e in entries if not _same(e, mine)]
    former: Trie = next((e.get("fieldsV1") or {} for e in entries if _same(e, mine)), {})
    merged: Json = _merge(node, live, _with_system(live, wanted))
    others = _settle(others, _changes(kind, node, live, merged, subresource), force=force)
    kept = claim
    for entry in others:
        kept = sets.merge_roots(kept, entry.get("fieldsV1") or {})
    _prune(node, merged, sets.subtract_roots(former, claim), kept)
    metadata = merged["metadata"] = {k: v for k, v in merged["metadata"].items() if k != "managedFields"}
    if claim == former and others == [e for e in entries if not _same(e, mine)] and _plain(merged) == _plain(live):
        return live
    metadata["managedFields"] = _sorted([*others, _entry(mine, now, claim)] if claim else others)
    return merged


def _plain(obj: Json) -> Json:
    return {**obj, "metadata": {k: v for k, v in (obj.get("metadata") or {}).items() if k != "managedFields"}}


def _with_system(live: Json, wanted: Json) -> Json:
    """Type meta and the system's fields come from the stored object."""
    return {"apiVersion": live.get("apiVersion"), "kind": live.get("kind")} | wanted


def _entries(kind: Kind, live: Json, now: str) -> list[Json]:
    """The stored entries. An object that nobody tracked is owned by "before-first-apply", so that conflicts show."""
    entries: list[Json] = (live.get("metadata") or {}).get("managedFields") or []
    if entries:
        return entries
    after = _owned_part(kind, live, "")
    fields = sets.compare(schemas().get(kind.schema), _frame(after), after)[0]
    mine = {"manager": BEFORE, "operation": UPDATE, "apiVersion": kind.api_version, "subresource": ""}
    return [_entry(mine, now, fields)] if fields else []


def _changes(kind: Kind, node: Node, live: Json, merged: Json, subresource: str) -> Trie:
    before, after = _owned_part(kind, live, subresource), _owned_part(kind, merged, subresource)
    return sets.compare(node, before, after)[0]


def _settle(others: list[Json], changed: Trie, *, force: bool) -> list[Json]:
    """The others' entries without what `force` takes from them; a conflict otherwise."""
    found = [(e, list(sets.common(e.get("fieldsV1") or {}, changed))) for e in others]
    if not any(paths for _, paths in found):
        return others
    if not force:
        raise _conflict([(e, p) for e, paths in found for p in paths])
    result = []
    for entry, paths in found:
        fields = sets.subtract_roots(entry["fieldsV1"], sets.from_paths(paths)) if paths else entry["fieldsV1"]
        if fields:
            result.append(entry if not paths else {**entry, "fieldsV1": fields})
    return result


def _who(entry: Json) -> str:
    text = f'"{entry.get("manager", "")}"'
    if entry.get("subresource"):
        text += f' with subresource "{entry["subresource"]}"'
    if entry.get("operation") == UPDATE:
        text += f" using {entry.get('apiVersion')}"
        if entry.get("time"):
            text += f" at {entry['time']}"
    return text


def _conflict(found: list[tuple[Json, tuple[str, ...]]]) -> errors.ApiError:
    causes = [
        {"reason": "FieldManagerConflict", "message": f"conflict with {_who(e)}", "field": sets.words(p)}
        for e, p in found
    ]
    if len(found) == 1:
        text = f"Apply failed with 1 conflict: {causes[0]['message']}: {causes[0]['field']}"
        return errors.apply_conflict(text, causes)
    groups: dict[str, list[str]] = {}
    for entry, path in found:
        groups.setdefault(_who(entry), []).append(sets.words(path))
    lines = [line for who in sorted(groups) for line in (f"conflicts with {who}:", *(f"- {p}" for p in groups[who]))]
    return errors.apply_conflict(f"Apply failed with {len(found)} conflicts: " + "\n".join(lines), causes)


def _merge(node: Node, live: Any, applied: Any) -> Any:
    """Applied values over live ones; containers and keyed lists merge, everything else is replaced. Copies what it gives."""
    if sets.is_leaf(node, applied) or type(live) is not type(applied):
        return copy.deepcopy(applied)
    if isinstance(applied, dict):
        result = copy.copy(live)
        for key, part in applied.items():
            child = node.child(key) or ANYTHING
            result[key] = _merge(child, live.get(key), part)
        return result
    return _merge_list(node, live, applied)


def _merge_list(node: Node, live: list[Any], applied: list[Any]) -> list[Any]:
    """The applied elements in their order; those that only the server has stay before the ones that they preceded."""
    item = node.items or ANYTHING
    place = {sets.element_key(node, v): i for i, v in enumerate(live)}
    wanted = {sets.element_key(node, v): v for v in applied}
    others = [(i, v) for i, v in enumerate(live) if sets.element_key(node, v) not in wanted]
    result: list[Any] = []
    for key, part in wanted.items():
        at = place.get(key, -1)
        while others and others[0][0] < at:
            result.append(others.pop(0)[1])
        result.append(_merge(item, live[at] if at >= 0 else None, part))
    return result + [v for _, v in others]


def _prune(node: Node, value: Any, gone: Trie, kept: Trie) -> None:
    """Remove, in place, the members of `gone` that `kept` does not have; containers on the way are copied first."""
    for key, below in gone.items():
        if key == sets.SELF:
            continue
        position = _locate(node, value, key)
        if position is None:
            continue
        child = (node.items if isinstance(value, list) else node.child(key[2:])) or ANYTHING
        if sets.is_member(below) and key not in kept:
            del value[position]
            continue
        part = value[position]
        if isinstance(part, (dict, list)):
            value[position] = part = copy.copy(part)
            _prune(child, part, below, kept.get(key) or {})
            if not part and child.type in (MAP, ARRAY) and not sets.is_member(kept.get(key, {"": {}})):
                del value[position]


def _locate(node: Node, value: Any, key: str) -> Any:
    """Where a path element is in its container: a key, an index, or None."""
    if isinstance(value, dict):
        return key[2:] if key.startswith("f:") and key[2:] in value else None
    if not isinstance(value, list) or node.type not in (ARRAY, OBJECT, MAP):
        return None
    return next((i for i, v in enumerate(value) if sets.element_key(node, v) == key), None)
