"""The OpenAPI documents: what kubectl looks for in them, that every reference is there, and that the hash is stable."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from portway.apiserver import openapi
from portway.objects.kinds import DEPLOYMENT, KINDS, POD, SERVICE, Kind

Json = dict[str, Any]


def document(group_version: str) -> Json:
    found = openapi.document(group_version)
    assert found is not None
    parsed: Json = json.loads(found[0])
    return parsed


def of(kind: Kind) -> Json:
    return document(kind.root.removeprefix("/"))


def test_the_index_names_every_group_version_with_its_hash() -> None:
    paths = json.loads(openapi.root())["paths"]
    assert set(paths) == {k.root.removeprefix("/") for k in KINDS}
    for name, entry in paths.items():
        found = openapi.document(name)
        assert found is not None
        assert entry["serverRelativeURL"] == f"/openapi/v3/{name}?hash={found[1]}"
        assert re.fullmatch("[0-9A-F]{64}", found[1])


@pytest.mark.parametrize("name", ["api/v2", "apis/apps/v9", "", "apis/apps/v1/"])
def test_what_is_not_served_has_no_document(name: str) -> None:
    assert openapi.document(name) is None


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.kind)
def test_a_patch_takes_field_validation_so_that_kubectl_leaves_it_to_us(kind: Kind) -> None:
    where = f"{kind.root}/namespaces/{{namespace}}/" if kind.namespaced else f"{kind.root}/"
    patch = of(kind)["paths"][f"{where}{kind.plural}/{{name}}"]["patch"]
    assert {p["name"] for p in patch["parameters"]} >= {"fieldValidation", "dryRun", "fieldManager", "force"}
    assert patch["x-kubernetes-action"] == "patch"
    assert patch["x-kubernetes-group-version-kind"] == {"group": kind.group, "version": kind.version, "kind": kind.kind}


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.kind)
def test_explain_finds_the_schema_by_group_version_kind(kind: Kind) -> None:
    schema = of(kind)["components"]["schemas"][kind.schema]
    assert {"group": kind.group, "version": kind.version, "kind": kind.kind} in schema[
        "x-kubernetes-group-version-kind"
    ]
    assert schema["description"]


@pytest.mark.parametrize("group_version", openapi.group_versions())
def test_every_reference_is_in_the_same_document(group_version: str) -> None:
    content = document(group_version)
    wanted = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(content)))
    assert wanted <= set(content["components"]["schemas"])


def test_every_field_that_has_a_description_keeps_it() -> None:
    port = of(SERVICE)["components"]["schemas"]["io.k8s.api.core.v1.ServicePort"]
    assert all(p["description"] for p in port["properties"].values())
    assert port["required"] == ["port"]


def test_merge_keys_are_there_for_kubectl_apply() -> None:
    ports = of(SERVICE)["components"]["schemas"]["io.k8s.api.core.v1.ServiceSpec"]["properties"]["ports"]
    assert ports["x-kubernetes-patch-merge-key"] == "port"
    assert ports["x-kubernetes-patch-strategy"] == "merge"
    assert ports["x-kubernetes-list-map-keys"] == ["port", "protocol"]


def test_int_or_string_is_one_of_both() -> None:
    schema = of(SERVICE)["components"]["schemas"]["io.k8s.apimachinery.pkg.util.intstr.IntOrString"]
    assert schema["oneOf"] == [{"type": "integer"}, {"type": "string"}]
    assert schema["format"] == "int-or-string"
    assert "type" not in schema


def test_subresources_have_paths_of_their_own() -> None:
    paths = of(DEPLOYMENT)["paths"]
    scale = paths["/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"]
    assert scale["get"]["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].endswith(
        "autoscaling.v1.Scale"
    )
    assert set(of(POD)["paths"]["/api/v1/namespaces/{namespace}/pods/{name}/log"]) == {"get", "parameters"}


def test_a_document_is_made_once() -> None:
    assert openapi.document("api/v1") is openapi.document("api/v1")
