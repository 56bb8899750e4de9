"""The compact schema table: what it knows of the fields that merging and decoding turn on, and what a bad file gets."""

from __future__ import annotations

import pytest

from portway.objects import schema
from portway.objects.kinds import KINDS, Kind
from portway.objects.schema import schemas

SERVICE = "io.k8s.api.core.v1.Service"
POD = "io.k8s.api.core.v1.Pod"


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.kind)
def test_every_kind_has_its_definition_and_its_list(kind: Kind) -> None:
    assert {"apiVersion", "kind", "metadata"} <= schemas().get(kind.schema).fields.keys()
    items = schemas().get(kind.schema + "List").fields["items"].items
    assert items is not None
    assert items.name == kind.schema


TYPES = [
    (SERVICE, "spec.ports.port", "integer"),
    (SERVICE, "spec.ports.targetPort", "int-or-string"),
    (SERVICE, "spec.selector", "map"),
    (SERVICE, "spec.selector.anything", "string"),
    (SERVICE, "spec.publishNotReadyAddresses", "boolean"),
    (SERVICE, "metadata.creationTimestamp", "string"),
    (SERVICE, "metadata.managedFields.fieldsV1", "any"),
    (POD, "spec.containers.resources.limits.cpu", "quantity"),
    (POD, "spec.volumes.emptyDir", "object"),
]


@pytest.mark.parametrize(("name", "path", "type"), TYPES)
def test_types(name: str, path: str, type: str) -> None:
    node = schemas().at(name, path)
    assert node is not None
    assert node.type == type


LISTS = [
    (SERVICE, "spec.ports", "map", ("port", "protocol"), "port"),
    (SERVICE, "spec.clusterIPs", "atomic", (), ""),
    (SERVICE, "metadata.finalizers", "set", (), ""),
    (POD, "spec.containers", "map", ("name",), "name"),
    (POD, "spec.containers.ports", "map", ("containerPort", "protocol"), "containerPort"),
    (POD, "spec.containers.env", "map", ("name",), "name"),
    (POD, "spec.containers.command", "atomic", (), ""),
    (POD, "spec.containers.volumeMounts", "map", ("mountPath",), "mountPath"),
    (POD, "spec.tolerations", "atomic", (), ""),
    (POD, "status.conditions", "map", ("type",), "type"),
]


@pytest.mark.parametrize(("name", "path", "list_type", "keys", "merge_key"), LISTS)
def test_how_lists_merge(name: str, path: str, list_type: str, keys: tuple[str, ...], merge_key: str) -> None:
    node = schemas().at(name, path)
    assert node is not None
    assert (node.list_type, node.map_keys, node.merge_key) == (list_type, keys, merge_key)


def test_the_protocol_of_a_port_has_a_default_because_it_is_a_key() -> None:
    for name, path in ((SERVICE, "spec.ports.protocol"), (POD, "spec.containers.ports.protocol")):
        node = schemas().at(name, path)
        assert node is not None
        assert node.default == "TCP"


def test_strategies_and_atomic_maps() -> None:
    volumes, selector = schemas().at(POD, "spec.volumes"), schemas().at(SERVICE, "spec.selector")
    assert volumes is not None and selector is not None
    assert volumes.strategies == {"merge", "retainKeys"}
    assert selector.atomic


def test_a_path_that_leads_nowhere() -> None:
    assert schemas().at(SERVICE, "spec.frob") is None
    assert schemas().at(SERVICE, "spec.frob.x") is None


def test_an_unknown_definition() -> None:
    assert "io.x.Foo" not in schemas()
    with pytest.raises(KeyError):
        schemas().get("io.x.Foo")


def test_a_node_is_linked_once() -> None:
    assert schemas().get(SERVICE) is schemas().get(SERVICE)
    assert schemas() is schemas()


def test_descriptions_are_kept_apart() -> None:
    own, fields = schemas().descriptions[SERVICE]
    assert own.startswith("Service is")
    assert fields["spec"]
    assert "description" not in schemas().raw[SERVICE]


@pytest.mark.parametrize("content", [b"", b"PWS", b"xxxx" + bytes(8), b"PWS1\x04\x00\x00\x00abcd", b"PWS1"])
def test_a_damaged_file_is_named_with_the_cure(content: bytes) -> None:
    with pytest.raises(schema.SchemaMissing, match=r"hatch_build\.py"):
        schema.parse(content)
