"""Build hook: makes `src/portway/objects/schema.bin`, the compact OpenAPI table that the API server reads.

The source is kubernetes-validate's JSON schema of Kubernetes 1.37 (a build-time dependency; nothing of it is committed). We
keep the definitions that the kinds in `portway/objects/kinds.py` reach, undo what the JSON-schema conversion did (nullable
types, absolute references, enumerated apiVersion and kind, `oneOf` for int-or-string) and write two sections: the structure,
which is on the start path, and the descriptions, which only OpenAPI documents need. Hatchling calls `CustomBuildHook`;
`python hatch_build.py` does the same by hand.
"""

from __future__ import annotations

import importlib.util
import json
import struct
import sys
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # by hand, in an environment without the build backend
    BuildHookInterface = object  # type: ignore[assignment, misc]

ROOT = Path(__file__).resolve().parent
TARGET = ROOT / "src" / "portway" / "objects" / "schema.bin"
KINDS = ROOT / "src" / "portway" / "objects" / "kinds.py"
DEFINITIONS = Path("kubernetes-json-schema") / "v1.37.0-local" / "_definitions.json"
MAGIC = b"PWS1"

_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
# Bodies that are never stored, but are read, answered or referred to by the OpenAPI documents.
EXTRA_ROOTS = (
    _META + "Status",
    _META + "DeleteOptions",
    _META + "WatchEvent",
    _META + "Patch",
    "io.k8s.api.autoscaling.v1.Scale",
    "io.k8s.api.policy.v1.Eviction",
    "io.k8s.api.core.v1.Binding",
    "io.k8s.api.core.v1.ServiceAccount",
    "io.k8s.api.authorization.v1.SelfSubjectAccessReview",
    "io.k8s.api.authentication.v1.SelfSubjectReview",
    "io.k8s.api.authentication.v1.TokenRequest",
)
INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
# The conversion drops defaults. These two are keys of `list-type: map` lists, so merging needs them.
DEFAULTS = {
    ("io.k8s.api.core.v1.ServicePort", "protocol"): "TCP",
    ("io.k8s.api.core.v1.ContainerPort", "protocol"): "TCP",
}

Schema = dict[str, Any]


def load_kinds() -> ModuleType:
    """The declarations, without importing the package (its dependencies are not there during a build)."""
    spec = importlib.util.spec_from_file_location("_portway_kinds", KINDS)
    if spec is None or spec.loader is None:
        raise RuntimeError(f"cannot read {KINDS}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def load_definitions() -> dict[str, Schema]:
    package = importlib.util.find_spec("kubernetes_validate")
    if package is None or package.origin is None:
        raise RuntimeError("kubernetes-validate 1.37 is needed to build: pip install 'kubernetes-validate>=1.37,<1.38'")
    source = Path(package.origin).parent / DEFINITIONS
    if not source.exists():
        raise RuntimeError(f"{source} is missing: another version of kubernetes-validate? 1.37 is needed")
    definitions: dict[str, Schema] = json.loads(source.read_text(encoding="utf-8"))["$defs"]
    return definitions


def roots(definitions: dict[str, Schema]) -> list[str]:
    names = list(EXTRA_ROOTS)
    for kind in load_kinds().KINDS:
        if kind.schema in definitions:
            names += [kind.schema, kind.schema + "List"]
    return names


def references(schema: Any) -> set[str]:
    if isinstance(schema, list):
        return set().union(*map(references, schema)) if schema else set()
    if not isinstance(schema, dict):
        return set()
    found = {schema["$ref"].rsplit("/", 1)[-1]} if "$ref" in schema else set()
    return found.union(*map(references, schema.values())) if schema else found


def reachable(definitions: dict[str, Schema], names: list[str]) -> list[str]:
    seen: set[str] = set()
    waiting = [n for n in names if n in definitions]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += references(definitions[name]) - seen
    return sorted(seen)


def normalise(schema: Schema) -> Schema:
    """One schema as an API server publishes it (OpenAPI v3), still with its descriptions."""
    result: Schema = {}
    for key, value in schema.items():
        if key == "type" and isinstance(value, list):
            result[key] = next(t for t in value if t != "null")
        elif key == "$ref":
            result["allOf"] = [{"$ref": "#/components/schemas/" + value.rsplit("/", 1)[-1]}]
        elif key == "properties":
            result[key] = {n: normalise(p) for n, p in value.items()}
        elif key in ("items", "additionalProperties") and isinstance(value, dict):
            result[key] = normalise(value)
        elif key not in ("enum", "oneOf"):
            result[key] = value
    return result


def definition(name: str, schema: Schema) -> Schema:
    if name == INT_OR_STRING:
        return {"description": schema.get("description", ""), "type": "string", "format": "int-or-string"}
    if name == QUANTITY:
        return {"description": schema.get("description", ""), "type": "string", "format": "quantity"}
    result = normalise(schema)
    for field, part in result.get("properties", {}).items():
        if (name, field) in DEFAULTS:
            part["default"] = DEFAULTS[name, field]
    return result


def split(schema: Schema) -> tuple[Schema, list[Any]]:
    """The structure, and `[description, {field: description}]`."""
    texts = {n: p.pop("description", "") for n, p in schema.get("properties", {}).items()}
    return {k: v for k, v in schema.items() if k != "description"}, [schema.get("description", ""), texts]


def build() -> bytes:
    definitions = load_definitions()
    structure: dict[str, Schema] = {}
    descriptions: dict[str, list[Any]] = {}
    for name in reachable(definitions, roots(definitions)):
        structure[name], descriptions[name] = split(definition(name, definitions[name]))
    first, second = (
        zlib.compress(json.dumps(part, separators=(",", ":")).encode(), 9) for part in (structure, descriptions)
    )
    return MAGIC + struct.pack("<I", len(first)) + first + second


def write(target: Path = TARGET) -> int:
    """Write the table; returns its size. Unchanged content is not written again, so that time stamps stay."""
    content = build()
    if not target.exists() or target.read_bytes() != content:
        target.write_bytes(content)
    return len(content)


class CustomBuildHook(BuildHookInterface):  # type: ignore[misc, type-arg, unused-ignore]
    """Hatchling's entry point. It runs for wheels (editable ones too) and not for the source distribution."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name == "wheel":
            write()
            build_data["artifacts"].append("src/portway/objects/schema.bin")


if __name__ == "__main__":
    print(f"{TARGET.relative_to(ROOT)}: {write()} bytes")
