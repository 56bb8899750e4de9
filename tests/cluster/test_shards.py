"""A ShardMap behaves as a dict that was copied for every change, and costs less."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from portway.cluster.shards import ShardMap

entries = st.dictionaries(st.integers(0, 2000), st.integers(0, 9))
edits = st.dictionaries(st.integers(0, 2000), st.none() | st.integers(0, 9))


@given(entries, edits)
def test_a_change_does_what_it_does_to_a_dict(start: dict[int, int], changes: dict[int, int | None]) -> None:
    before = ShardMap(start)
    expected = {k: v for k, v in (start | changes).items() if v is not None}

    after = before.changed(changes)

    assert after == expected
    assert len(after) == len(expected)
    assert sorted(after.items()) == sorted(expected.items())
    assert sorted(after) == sorted(expected)
    assert before == start, "the map that it was made from stays as it was"


@given(entries, edits)
def test_changed_since_names_exactly_the_keys_that_differ(
    start: dict[int, int], changes: dict[int, int | None]
) -> None:
    before = ShardMap(start)
    after = before.changed(changes)
    expected = {k for k in start.keys() | changes.keys() if before.get(k) != after.get(k)}
    assert sorted(after.changed_since(before)) == sorted(expected)
    assert sorted(ShardMap(dict(after.items())).changed_since(before)) == sorted(expected), "shared or not"


def test_what_is_not_touched_is_shared() -> None:
    before: ShardMap[int, str] = ShardMap(dict.fromkeys(range(10000), "x"))
    after = before.changed({7: "y"})
    copied = [a for a, b in zip(after._shards, before._shards, strict=True) if a is not b]
    assert len(copied) == 1
    assert before.changed({}) is before
    assert before.changed({10_001: None}) is before


def test_lookups() -> None:
    numbers = ShardMap({"one": 1})
    assert numbers["one"] == 1
    assert numbers.get("two") is None
    assert numbers.get("two", 2) == 2
    assert "one" in numbers
    assert "two" not in numbers
    assert repr(numbers) == "ShardMap({'one': 1})"


def test_an_edit_sees_its_own_changes() -> None:
    edit = ShardMap({1: "a"}).edit()
    edit.put(1, "b")
    edit.put(2, "c")
    edit.remove(3)
    assert (edit.get(1), edit.get(2), edit.get(3)) == ("b", "c", None)
    edit.remove(1)
    assert edit.done() == {2: "c"}
