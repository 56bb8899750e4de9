"""YAML as Kubernetes reads it: JSON's types, every doubled key told, and bodies that are built to hurt refused at once."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from portway.apiserver import yamlbody
from portway.apiserver.yamlbody import MAX_DEPTH, MAX_VALUES, BrokenYaml, parse

TYPES = [
    ("text", "web", "web"),
    ("quoted, so text", "'80'", "80"),
    ("a number", "80", 80),
    ("a number in octal", "0644", 0o644),
    ("a float", "1.5", 1.5),
    ("true", "true", True),
    ("yes, as YAML 1.1 has it", "yes", True),
    ("nothing", "", None),
    ("a tilde", "~", None),
    ("a date stays text", "2026-01-02", "2026-01-02"),
    ("ports are no number in base sixty", "1:30", "1:30"),
    ("a tag decides", "!!str 80", "80"),
    ("and so does another", "!!int '80'", 80),
    ("the exclamation mark alone", "! 80", "80"),
    ("binary is text that is packed", "!!binary aGk=", "hi"),
    ("an equals sign", "=", "="),
    ("a merge sign that is no key", "<<", "<<"),
    ("a block", "|\n  one\n  two\n", "one\ntwo\n"),
    ("a flow", "{a: [1, b]}", {"a": [1, "b"]}),
]


@pytest.mark.parametrize(("what", "text", "want"), TYPES, ids=[t[0] for t in TYPES])
def test_the_types_are_those_of_json(what: str, text: str, want: Any) -> None:
    value, doubled = parse(f"a: {text}\n".encode())
    assert value == {"a": want} and type(value["a"]) is type(want), what
    assert doubled == []


@pytest.mark.parametrize(
    ("key", "want"), [("true", "true"), ("~", "null"), ("80", "80"), ("1.5", "1.5"), ("'80'", "80"), ("a b", "a b")]
)
def test_keys_are_text(key: str, want: str) -> None:
    assert parse(f"{key}: 1\n".encode())[0] == {want: 1}


@pytest.mark.parametrize(
    ("what", "text", "value", "doubled"),
    [
        ("in the first mapping", "a: 1\na: 2\n", {"a": 2}, ["a"]),
        ("further down", "m: {x: 1, y: 2, x: 3}\n", {"m": {"x": 3, "y": 2}}, ["x"]),
        ("three times", "a: 1\na: 2\na: 3\n", {"a": 3}, ["a", "a"]),
        ("once as text and once as a number", "1: a\n'1': b\n", {"1": "b"}, ["1"]),
        ("in two mappings is not twice", "l: [{a: 1}, {a: 2}]\n", {"l": [{"a": 1}, {"a": 2}]}, []),
        (
            "what a merge brings may be overridden",
            "b: &b {x: 1}\nm: {x: 2, <<: *b}\n",
            {"b": {"x": 1}, "m": {"x": 2}},
            [],
        ),
        ("in JSON", '{"a": {"b": 1, "b": 2}}', {"a": {"b": 2}}, ["b"]),
    ],
)
def test_a_key_that_stands_twice_is_told(what: str, text: str, value: Any, doubled: list[str]) -> None:
    assert parse(text.encode()) == (value, doubled), what


def test_anchors_stand_for_their_values() -> None:
    assert parse(b"a: &x [1, 2]\nb: *x\nc: &k key\nd: {*k : 1}\n")[0] == {
        "a": [1, 2], "b": [1, 2], "c": "key", "d": {"key": 1},
    }  # fmt: skip


def test_the_first_of_several_merges_wins_and_the_mapping_itself_over_all() -> None:
    text = b"one: &one {a: 1, b: 1, c: 1}\ntwo: &two {b: 2, c: 2, d: 2}\nm:\n  <<: [*one, *two]\n  c: 3\n"
    assert parse(text)[0]["m"] == {"a": 1, "b": 1, "c": 3, "d": 2}


def test_an_empty_document_is_nothing() -> None:
    assert parse(b"") == (None, [])
    assert parse(b"# only a comment\n") == (None, [])


def test_bytes_that_begin_like_json_and_are_yaml() -> None:
    assert parse(b"{a: [b, c]}\n")[0] == {"a": ["b", "c"]}


BROKEN = [
    ("no end", b"a: [1, 2", "line 2: did not find"),
    ("two documents", b"a: 1\n---\na: 2\n", "line 2: expected a single document"),
    ("a list as a key", b"? [a]\n: b\n", "invalid map key"),
    ("an alias of a list as a key", b"a: &l [1]\n*l : b\n", "invalid map key"),
    ("an alias of nothing", b"a: *nowhere\n", "unknown anchor 'nowhere'"),
    ("a list in itself", b"a: &l [1, *l]\n", "'l' value contains itself"),
    ("a mapping in itself", b"a: &m {b: *m}\n", "'m' value contains itself"),
    ("an anchor that is taken again, in itself", b"a: &l 1\nb: &l [*l]\n", "'l' value contains itself"),
    ("a Python object", b"a: !!python/object/apply:os.system [ls]\n", "no meaning in JSON"),
    ("a set", b"a: !!set {x, y}\n", "no meaning in JSON"),
    ("a tag of one's own", b"a: !secret x\n", "'!secret' has no meaning in JSON"),
    ("a word as a number", b"a: !!int web\n", "'web' is no int"),
    ("a broken truth", b"a: !!bool maybe\n", "'maybe' is no bool"),
    ("bytes that are no text", b"a: !!binary /w==\n", "is no binary"),
    ("infinity", b"a: .inf\n", "JSON cannot say"),
    ("not a number", b"a: .nan\n", "JSON cannot say"),
    ("a merge of a word", b"<<: web\n", "map merge requires"),
    ("a merge of words", b"<<: [web]\n", "map merge requires"),
    ("bytes that are no UTF-8", b"a: \xff\xfe\n", "yaml: "),
    ("a control character", b"a: \x00\n", "yaml: "),
]


@pytest.mark.parametrize(("what", "text", "says"), BROKEN, ids=[b[0] for b in BROKEN])
def test_what_is_refused_and_where(what: str, text: bytes, says: str) -> None:
    with pytest.raises(BrokenYaml, match="yaml: ") as caught:
        parse(text)
    assert says in str(caught.value), what


NESTED = [
    ("lists", b"a: " + b"[" * 200_000),
    ("lists that end", b"a: " + b"[" * 50_000 + b"]" * 50_000),
    ("mappings", b"a: " + b"{a: " * 50_000),
    ("a line each", b"".join(b" " * depth + b"a:\n" for depth in range(1_000))),
    ("dashes", b"- " * 50_000 + b"a"),
    ("lists that look like JSON", b'{"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}"),
]


@pytest.mark.parametrize(("what", "text"), NESTED, ids=[n[0] for n in NESTED])
def test_what_is_too_deep_is_refused_before_it_is_built(what: str, text: bytes) -> None:
    with pytest.raises(BrokenYaml, match=f"exceeded max depth of {MAX_DEPTH}"):
        parse(text)


def test_the_deepest_that_is_allowed() -> None:
    text = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    value, depth = parse(text)[0], 1
    while value:
        value, depth = value[0], depth + 1
    assert depth == MAX_DEPTH
    with pytest.raises(BrokenYaml, match="max depth"):
        parse(b"[" + text + b"]")


def test_too_many_values_are_refused_with_the_cure() -> None:
    assert len(parse(b"[" + b"1," * (MAX_VALUES - 1) + b"]")[0]) == MAX_VALUES - 1
    with pytest.raises(BrokenYaml, match=f"more than {MAX_VALUES} values: send it as JSON"):
        parse(b"[" + b"1," * MAX_VALUES + b"]")


@pytest.mark.parametrize("kind", ["lists", "merges"])
def test_aliases_count_as_often_as_they_stand(kind: str) -> None:
    row = "[{}]" if kind == "lists" else "{{<<: [{}]}}"
    first = "[x, x, x]" if kind == "lists" else "{x: 1, y: 2}"
    lines = [f"a0: &a0 {first}"]
    lines += [f"a{n}: &a{n} " + row.format(", ".join([f"*a{n - 1}"] * 9)) for n in range(1, 30)]
    with pytest.raises(BrokenYaml, match="more than"):
        parse("\n".join(lines).encode())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_what_a_yaml_writer_wrote_is_read_back(value: Any) -> None:
    text = yaml.safe_dump(value).encode()
    assert parse(text) == (value, [])


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_json_is_yaml(value: dict[str, Any]) -> None:
    assert parse(json.dumps(value).encode()) == (value, [])


@given(st.binary(max_size=60) | st.text("[]{}:,-?&*!|>'\"#%@ \nab<", max_size=60).map(str.encode))
def test_no_bytes_do_anything_but_read_or_be_refused(text: bytes) -> None:
    try:
        value, _ = parse(text)
    except BrokenYaml as e:
        assert str(e).startswith("yaml: ")
    else:
        json.dumps(value, allow_nan=False)


def test_the_parser_in_c_is_used_where_there_is_one() -> None:
    assert hasattr(yaml, "CSafeLoader") is (yamlbody._Base is not yaml.SafeLoader)
