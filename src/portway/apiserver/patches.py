"""The three patch types that take an object and give the next one: JSON patch, merge patch, strategic merge patch.

Pure: the object that is given stays as it was. `server` calls these with the stored object, and hands the result to
`decode.recheck`, defaults and validation. Server-side apply, the fourth type, is in `managed`. Rules: RFC 6902, RFC 7386, and
for strategic merge the directives of Kubernetes' documentation with merge keys from the schema.
"""

from __future__ import annotations

import copy
import json
from typing import Any

from portway.apiserver import errors
from portway.apiserver.strategic import PatchInvalid, merge_object
from portway.objects.schema import schemas

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
PATCH_TYPES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH, APPLY_PATCH)

MAX_OPERATIONS = 10_000
_TOO_DEEP = "error decoding patch: json: exceeded max depth"


def merge_patch(obj: Any, patch: Any) -> Any:
    """RFC 7386: null removes, objects merge, everything else replaces."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(obj) if isinstance(obj, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def strategic_merge(schema_name: str, obj: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """Merge by the merge keys of definition `schema_name`. ApiError 400 for a patch that breaks the rules."""
    if not isinstance(patch, dict):
        raise errors.bad_request(
            f"error decoding patch: json: cannot unmarshal {json.dumps(patch)[:40]} into an object"
        )
    try:
        return merge_object(schemas().get(schema_name), obj, patch)
    except PatchInvalid as e:
        raise errors.bad_request(str(e)) from None
    except RecursionError:
        raise errors.bad_request(_TOO_DEEP) from None


class _Refused(Exception):
    """An operation cannot be carried out on this object."""


def json_patch(obj: dict[str, Any], ops: list[dict[str, Any]]) -> dict[str, Any]:
    """RFC 6902. 400 when the patch is malformed, 413 when it is too long, 422 when an operation fails."""
    if not isinstance(ops, list) or not all(isinstance(op, dict) for op in ops):
        raise errors.bad_request(
            "error decoding patch: json: cannot unmarshal object into Go value of type jsonpatch.Patch"
        )
    if len(ops) > MAX_OPERATIONS:
        raise errors.ApiError(
            413,
            errors.Reason.TOO_LARGE,
            f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {len(ops)}",
        )
    try:
        document: Any = copy.deepcopy(obj)
        for op in ops:
            document = _operate(document, op)
    except _Refused as e:
        raise errors.unprocessable(str(e)) from None
    except RecursionError:
        raise errors.bad_request(_TOO_DEEP) from None
    if not isinstance(document, dict):
        raise errors.bad_request("json: cannot unmarshal array into Go value of type map[string]interface {}")
    return document


def _operate(document: Any, op: dict[str, Any]) -> Any:
    name, path = op.get("op"), op.get("path")
    if not isinstance(path, str):
        raise _Refused(f"{name} operation: missing path")
    if name in ("add", "replace", "test"):
        if "value" not in op:
            raise _Refused(f"{name} operation does not apply: missing value for path {path}")
        value = copy.deepcopy(op["value"])
        return {"add": _add, "replace": _replace, "test": _test}[name](document, path, value)
    if name == "remove":
        return _remove(document, path)[0]
    if name in ("move", "copy"):
        source = op.get("from")
        if not isinstance(source, str):
            raise _Refused(f"{name} operation: missing from")
        if name == "copy":
            return _add(document, path, copy.deepcopy(_find(document, source)))
        if path.startswith(source + "/"):
            raise _Refused(f"move operation does not apply: {source} is a prefix of {path}")
        document, value = _remove(document, source)
        return _add(document, path, value)
    raise _Refused(f"Unexpected kind: {name}")


def _tokens(path: str) -> list[str]:
    if not path:
        return []
    if not path.startswith("/"):
        raise _Refused(f"path {path} does not start with /")
    return [t.replace("~1", "/").replace("~0", "~") for t in path[1:].split("/")]


def _index(items: list[Any], token: str, path: str, *, end: int) -> int:
    """The position that a token names; `end` is the first one that is out of range."""
    if not (token.isascii() and token.isdigit()) or (len(token) > 1 and token[0] == "0"):
        raise _Refused(f"invalid array index {token!r} in path {path}")
    if int(token) >= end:
        raise _Refused(f"array index out of bounds: {token} in path {path}")
    return int(token)


def _step(value: Any, token: str, path: str) -> Any:
    if isinstance(value, dict) and token in value:
        return value[token]
    if isinstance(value, list):
        return value[_index(value, token, path, end=len(value))]
    raise _Refused(f"operation does not apply: doc is missing path: {path}: missing value")


def _find(document: Any, path: str) -> Any:
    for token in _tokens(path):
        document = _step(document, token, path)
    return document


def _parent(document: Any, path: str) -> tuple[Any, str]:
    *above, last = _tokens(path)
    for token in above:
        document = _step(document, token, path)
    return document, last


def _add(document: Any, path: str, value: Any) -> Any:
    if not path:
        return value
    parent, last = _parent(document, path)
    if isinstance(parent, dict):
        parent[last] = value
    elif isinstance(parent, list):
        at = len(parent) if last == "-" else _index(parent, last, path, end=len(parent) + 1)
        parent.insert(at, value)
    else:
        raise _Refused(f"add operation does not apply: doc is missing path: {path}: missing value")
    return document


def _remove(document: Any, path: str) -> tuple[Any, Any]:
    if not path:
        raise _Refused("remove operation does not apply: the whole document cannot be removed")
    value = _find(document, path)
    parent, last = _parent(document, path)
    del parent[int(last) if isinstance(parent, list) else last]
    return document, value


def _replace(document: Any, path: str, value: Any) -> Any:
    if not path:
        return value
    _find(document, path)
    parent, last = _parent(document, path)
    parent[int(last) if isinstance(parent, list) else last] = value
    return document


def _test(document: Any, path: str, value: Any) -> Any:
    found = _find(document, path) if value is not None else _find_or_none(document, path)
    if not same_json(found, value):
        raise _Refused(f"testing value {path} failed: test failed")
    return document


def _find_or_none(document: Any, path: str) -> Any:
    """A test for null passes on an absent field too, as the library that Kubernetes uses has it."""
    try:
        return _find(document, path)
    except _Refused:
        return None


def same_json(a: Any, b: Any) -> bool:
    """Equality of JSON values: 1 equals 1.0, true does not equal 1."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same_json(v, b[k]) for k, v in a.items())
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same_json, a, b))
    return (type(a) is type(b) and a == b) or (_number(a) and _number(b) and a == b)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float))
