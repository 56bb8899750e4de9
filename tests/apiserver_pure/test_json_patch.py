"""JSON patch: the examples of RFC 6902, appendix A, and the rules that they leave open."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from build_pure import refused
from portway.apiserver.patches import MAX_OPERATIONS, json_patch, same_json

Ops = list[dict[str, Any]]

WORKS: list[tuple[str, Any, Ops, Any]] = [
    ("A.1 adding a member", {"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux"}], {"baz": "qux", "foo": "bar"}),
    ("A.2 adding an element", {"foo": ["bar", "baz"]}, [{"op": "add", "path": "/foo/1", "value": "q"}],
     {"foo": ["bar", "q", "baz"]}),
    ("A.3 removing a member", {"baz": "qux", "foo": "bar"}, [{"op": "remove", "path": "/baz"}], {"foo": "bar"}),
    ("A.4 removing an element", {"foo": ["a", "b", "c"]}, [{"op": "remove", "path": "/foo/1"}], {"foo": ["a", "c"]}),
    ("A.5 replacing a value", {"baz": "q", "foo": 1}, [{"op": "replace", "path": "/baz", "value": "b"}], {"baz": "b", "foo": 1}),
    (
        "A.6 moving a value",
        {"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}},
        [{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}],
        {"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}},
    ),
    (
        "A.7 moving an element",
        {"foo": ["all", "grass", "cows", "eat"]},
        [{"op": "move", "from": "/foo/1", "path": "/foo/3"}],
        {"foo": ["all", "cows", "eat", "grass"]},
    ),
    (
        "A.8 testing a value",
        {"baz": "qux", "foo": ["a", 2, "c"]},
        [{"op": "test", "path": "/baz", "value": "qux"}, {"op": "test", "path": "/foo/1", "value": 2}],
        {"baz": "qux", "foo": ["a", 2, "c"]},
    ),
    ("A.10 adding a nested object", {"foo": "bar"}, [{"op": "add", "path": "/child", "value": {"g": {}}}],
     {"foo": "bar", "child": {"g": {}}}),
    ("A.11 unknown members are ignored", {"foo": 1}, [{"op": "add", "path": "/b", "value": 2, "xyz": 3}], {"foo": 1, "b": 2}),
    ("A.14 escapes", {"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": 10}], {"/": 9, "~1": 10}),
    ("A.16 adding an array at the end", {"foo": ["bar"]}, [{"op": "add", "path": "/foo/-", "value": ["a"]}],
     {"foo": ["bar", ["a"]]}),
    ("copying", {"a": {"b": [1]}}, [{"op": "copy", "from": "/a", "path": "/c"}], {"a": {"b": [1]}, "c": {"b": [1]}}),
    ("replacing the whole", {"a": 1}, [{"op": "replace", "path": "", "value": {"b": 2}}], {"b": 2}),
    ("adding over a value replaces it", {"a": 1}, [{"op": "add", "path": "/a", "value": 2}], {"a": 2}),
    ("a slash in a label's key", {"l": {"a/b": "1"}}, [{"op": "remove", "path": "/l/a~1b"}], {"l": {}}),
    ("an absent field passes a test for null", {}, [{"op": "test", "path": "/a", "value": None}], {}),
    ("nothing to do", {"a": 1}, [], {"a": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("obj", "ops", "result"), [pytest.param(o, p, r, id=s) for s, o, p, r in WORKS])
def test_what_works(obj: Any, ops: Ops, result: Any) -> None:
    before = copy.deepcopy(obj)
    assert json_patch(obj, ops) == result
    assert obj == before


FAILS: list[tuple[str, Any, Ops, str]] = [
    ("A.9 a test that fails", {"baz": "qux"}, [{"op": "test", "path": "/baz", "value": "bar"}], "testing value /baz failed"),
    ("A.12 adding below what is not there", {"foo": "bar"}, [{"op": "add", "path": "/baz/bat", "value": 1}], "missing path"),
    ("A.15 text is no number", {"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": "10"}], "test failed"),
    ("true is not 1", {"a": 1}, [{"op": "test", "path": "/a", "value": True}], "test failed"),
    ("removing what is not there", {}, [{"op": "remove", "path": "/a"}], "missing path"),
    ("replacing what is not there", {}, [{"op": "replace", "path": "/a", "value": 1}], "missing path"),
    ("an index beyond the end", {"a": [1]}, [{"op": "add", "path": "/a/2", "value": 1}], "out of bounds"),
    ("a negative index", {"a": [1]}, [{"op": "remove", "path": "/a/-1"}], "invalid array index"),
    ("an index with a leading zero", {"a": [1, 2]}, [{"op": "remove", "path": "/a/01"}], "invalid array index"),
    ("the element behind the last cannot be removed", {"a": [1]}, [{"op": "remove", "path": "/a/-"}], "invalid array index"),
    ("a path without a slash", {"a": 1}, [{"op": "remove", "path": "a"}], "does not start with /"),
    ("no path", {"a": 1}, [{"op": "remove"}], "missing path"),
    ("no value", {"a": 1}, [{"op": "add", "path": "/b"}], "missing value"),
    ("no source", {"a": 1}, [{"op": "copy", "path": "/b"}], "missing from"),
    ("moving into itself", {"a": {"b": 1}}, [{"op": "move", "from": "/a", "path": "/a/b"}], "is a prefix"),
    ("an unknown operation", {"a": 1}, [{"op": "frob", "path": "/a"}], "Unexpected kind: frob"),
    ("below a text", {"a": "x"}, [{"op": "add", "path": "/a/b", "value": 1}], "missing path"),
    ("removing everything", {"a": 1}, [{"op": "remove", "path": ""}], "whole document"),
]  # fmt: skip


@pytest.mark.parametrize(("obj", "ops", "words"), [pytest.param(o, p, w, id=s) for s, o, p, w in FAILS])
def test_what_fails_is_a_422_and_changes_nothing(obj: Any, ops: Ops, words: str) -> None:
    before = copy.deepcopy(obj)
    error = refused(lambda: json_patch(obj, [{"op": "add", "path": "/first", "value": 1}, *ops]))
    assert error.code == 422
    assert words in error.message
    assert obj == before


@pytest.mark.parametrize("ops", [{}, "x", [1], [[]], None])
def test_what_is_no_patch_is_a_400(ops: Any) -> None:
    assert refused(lambda: json_patch({}, ops)).code == 400


def test_the_result_must_be_an_object() -> None:
    assert refused(lambda: json_patch({}, [{"op": "replace", "path": "", "value": []}])).code == 400


def test_a_patch_may_be_too_long() -> None:
    ops = [{"op": "test", "path": "/a", "value": None}] * (MAX_OPERATIONS + 1)
    assert refused(lambda: json_patch({}, ops)).code == 413


def test_a_value_that_is_nested_too_deeply_is_a_400() -> None:
    value: Any = 1
    for _ in range(5000):
        value = [value]
    assert refused(lambda: json_patch({}, [{"op": "add", "path": "/a", "value": value}])).code == 400


def test_a_copy_shares_nothing() -> None:
    ops: Ops = [{"op": "copy", "from": "/a", "path": "/b"}, {"op": "add", "path": "/b/-", "value": 2}]
    assert json_patch({"a": [1]}, ops) == {"a": [1], "b": [1, 2]}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=3), JSON, max_size=3), st.text(max_size=3), JSON)
def test_what_was_added_is_there_and_can_be_removed(obj: dict[str, Any], key: str, value: Any) -> None:
    path = "/" + key.replace("~", "~0").replace("/", "~1")
    added = json_patch(obj, [{"op": "add", "path": path, "value": value}, {"op": "test", "path": path, "value": value}])
    assert same_json(added[key], value)
    removed = json_patch(added, [{"op": "remove", "path": path}])
    assert removed == {k: v for k, v in obj.items() if k != key}


@given(JSON)
def test_every_value_equals_itself(value: Any) -> None:
    assert same_json(value, copy.deepcopy(value))
