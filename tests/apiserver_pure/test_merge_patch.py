"""JSON merge patch: the table of RFC 7386, appendix A, and its laws."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.apiserver.patches import merge_patch

RFC = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("obj", "patch", "result"), RFC)
def test_the_table_of_the_rfc(obj: Any, patch: Any, result: Any) -> None:
    before = copy.deepcopy(obj)
    assert merge_patch(obj, patch) == result
    assert obj == before


SCALARS = st.booleans() | st.integers() | st.text(max_size=3)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(st.sampled_from("abcd"), VALUES, max_size=4)


def difference(old: Any, new: Any) -> Any:
    """The merge patch from one object without nulls to another."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return new
    patch: dict[str, Any] = dict.fromkeys(old.keys() - new.keys())
    for key, value in new.items():
        if key not in old:
            patch[key] = value
        elif old[key] != value or type(old[key]) is not type(value):
            patch[key] = difference(old[key], value)
    return patch


@given(OBJECTS, OBJECTS)
def test_a_difference_applied_gives_the_new_object(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert merge_patch(old, difference(old, new)) == new


@given(OBJECTS, OBJECTS)
def test_applying_twice_is_applying_once(obj: dict[str, Any], patch: dict[str, Any]) -> None:
    once = merge_patch(obj, patch)
    assert merge_patch(once, patch) == once


@given(OBJECTS)
def test_the_empty_patch_changes_nothing(obj: dict[str, Any]) -> None:
    assert merge_patch(obj, {}) == obj


@given(OBJECTS, OBJECTS)
def test_neither_argument_is_changed(obj: dict[str, Any], patch: dict[str, Any]) -> None:
    before = copy.deepcopy((obj, patch))
    merge_patch(obj, patch)
    assert (obj, patch) == before
