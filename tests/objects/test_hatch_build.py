"""The build hook: the normalised schemas, what is kept, and that building twice gives the same bytes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from portway.objects import schema
from portway.objects.kinds import KINDS


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "hatch_build.py"
    spec = importlib.util.spec_from_file_location("hatch_build", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def source() -> None:
    pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is needed only while building")


NORMALISED: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("a nullable type", {"type": ["string", "null"]}, {"type": "string"}),
    ("a plain type", {"type": "string"}, {"type": "string"}),
    (
        "a reference",
        {"$ref": "#/$defs/io.k8s.X", "description": "d"},
        {"allOf": [{"$ref": "#/components/schemas/io.k8s.X"}], "description": "d"},
    ),
    ("an enumerated kind", {"type": ["string", "null"], "enum": ["Pod"]}, {"type": "string"}),
    (
        "parts",
        {
            "type": ["object", "null"],
            "properties": {"a": {"type": ["array", "null"], "items": {"type": ["integer", "null"]}}},
        },
        {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "integer"}}}},
    ),
    (
        "a map",
        {"type": ["object", "null"], "additionalProperties": {"type": ["string", "null"]}},
        {"type": "object", "additionalProperties": {"type": "string"}},
    ),
    ("an extension", {"x-kubernetes-list-type": "set"}, {"x-kubernetes-list-type": "set"}),
]


@pytest.mark.parametrize(("given", "result"), [pytest.param(g, r, id=s) for s, g, r in NORMALISED])
def test_normalising(hook: ModuleType, given: dict[str, Any], result: dict[str, Any]) -> None:
    assert hook.normalise(given) == result


def test_int_or_string_and_quantity_get_their_format_back(hook: ModuleType) -> None:
    assert hook.definition(hook.INT_OR_STRING, {"oneOf": []})["format"] == "int-or-string"
    assert hook.definition(hook.QUANTITY, {"oneOf": []})["format"] == "quantity"


def test_only_what_is_reached_is_kept(hook: ModuleType) -> None:
    definitions = {"a": {"items": {"$ref": "x/b"}}, "b": {"$ref": "x/a"}, "c": {}}
    assert hook.reachable(definitions, ["a", "gone"]) == ["a", "b"]


def test_the_kinds_are_read_without_the_package(hook: ModuleType) -> None:
    assert [k.kind for k in hook.load_kinds().KINDS] == [k.kind for k in KINDS]


@pytest.mark.usefixtures("source")
def test_the_table_that_is_installed_is_the_one_that_the_hook_makes(hook: ModuleType) -> None:
    built = hook.build()
    assert built == hook.build()
    assert schema.parse(built).fingerprint == schema.schemas().fingerprint, "run `python hatch_build.py`"


@pytest.mark.usefixtures("source")
def test_writing_again_leaves_the_file_alone(hook: ModuleType, tmp_path: Path) -> None:
    target = tmp_path / "schema.bin"
    size = hook.write(target)
    before = target.stat().st_mtime_ns
    assert hook.write(target) == size == target.stat().st_size
    assert target.stat().st_mtime_ns == before
