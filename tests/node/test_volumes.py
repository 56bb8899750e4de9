"""Volumes as folders: what is written, what is refused."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from build_node import pod
from portway.node.environment import ConfigError, Sources
from portway.node.runtime import Mount
from portway.node.volumes import Prepared, VolumeError, mounts, prepare, references, volume_files, write_files
from portway.objects.core import (
    ConfigMap,
    Container,
    EnvFromSource,
    EnvVar,
    EnvVarSource,
    KeyRef,
    Secret,
    SourceRef,
    VolumeMount,
)

SOURCES = Sources(
    pod=pod("web"),
    pod_ip="10.0.1.2",
    config_maps={"conf": ConfigMap(data={"a": "1", "b": "2"}, binary_data={"c": base64.b64encode(b"\xff").decode()})},
    secrets={"keys": Secret(data={"token": base64.b64encode(b"s3cret").decode()})},
)

FILES: tuple[tuple[str, dict[str, Any], dict[str, tuple[bytes, int]]], ...] = (
    ("a whole map", {"configMap": {"name": "conf"}}, {"a": (b"1", 0o644), "b": (b"2", 0o644), "c": (b"\xff", 0o644)}),
    ("some of a map", {"configMap": {"name": "conf", "items": [{"key": "a", "path": "x/y"}]}}, {"x/y": (b"1", 0o644)}),
    ("a secret with a mode", {"secret": {"secretName": "keys", "defaultMode": 0o400}}, {"token": (b"s3cret", 0o400)}),
    (
        "a mode of one file",
        {"configMap": {"name": "conf", "items": [{"key": "a", "path": "a", "mode": 0o755}]}},
        {"a": (b"1", 0o755)},
    ),
    ("an optional map that is missing", {"configMap": {"name": "none", "optional": True}}, {}),
    (
        "an optional key that is missing",
        {"secret": {"secretName": "keys", "optional": True, "items": [{"key": "k", "path": "k"}]}},
        {},
    ),
    (
        "fields of the pod",
        {"downwardAPI": {"items": [{"path": "ip", "fieldRef": {"fieldPath": "status.podIP"}}]}},
        {"ip": (b"10.0.1.2", 0o644)},
    ),
    (
        "several in one",
        {
            "projected": {
                "sources": [
                    {"configMap": {"name": "conf", "items": [{"key": "a", "path": "a"}]}},
                    {"secret": {"name": "keys"}},
                ]
            }
        },
        {"a": (b"1", 0o644), "token": (b"s3cret", 0o644)},
    ),
)


@pytest.mark.parametrize(("story", "volume", "expected"), FILES, ids=[row[0] for row in FILES])
def test_files(story: str, volume: dict[str, Any], expected: dict[str, tuple[bytes, int]]) -> None:
    assert volume_files(volume, SOURCES) == expected


REFUSALS = (
    ({"configMap": {"name": "none"}}, 'configmap "none" not found'),
    ({"secret": {"secretName": "none"}}, 'secret "none" not found'),
    ({"configMap": {"name": "conf", "items": [{"key": "z", "path": "z"}]}}, 'configmap "conf" has no key z'),
    ({"configMap": {"name": "conf", "items": [{"key": "a", "path": "../a"}]}}, "must stay inside its volume"),
    ({"nfs": {"server": "x"}}, "a volume of type nfs is not supported"),
    ({"downwardAPI": {"items": [{"path": "cpu", "resourceFieldRef": {}}]}}, "resourceFieldRef is not supported"),
)


@pytest.mark.parametrize(("volume", "words"), REFUSALS)
def test_refusals(volume: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        volume_files({"name": "v", **volume}, SOURCES)


def test_files_change_all_at_once(tmp_path: Path) -> None:
    write_files(tmp_path, {"a": (b"1", 0o644), "deep/b": (b"2", 0o600)})
    assert (tmp_path / "a").read_text() == "1"
    assert (tmp_path / "deep/b").read_text() == "2"
    assert ((tmp_path / "deep/b").stat().st_mode & 0o777) == 0o600
    before = (tmp_path / "..data").resolve()
    write_files(tmp_path, {"a": (b"new", 0o644)})
    assert (tmp_path / "a").read_text() == "new"
    assert (tmp_path / "..data").resolve() != before


def test_prepare_makes_folders(tmp_path: Path) -> None:
    wanted = pod(
        "web",
        volumes=(
            {"name": "empty", "emptyDir": {}},
            {"name": "memory", "emptyDir": {"medium": "Memory"}},
            {"name": "conf", "configMap": {"name": "conf"}},
            {"name": "host", "hostPath": {"path": str(tmp_path), "type": "Directory"}},
            {"name": "made", "hostPath": {"path": str(tmp_path / "new"), "type": "DirectoryOrCreate"}},
        ),
    )
    prepared = prepare(wanted, tmp_path / "volumes", SOURCES)
    assert sorted(prepared.sources) == ["conf", "empty", "host", "made", "memory"]
    assert prepared.memory == {str(tmp_path / "volumes/memory"): "mode=1777"}
    assert (tmp_path / "volumes/conf/a").read_text() == "1"
    assert prepared.sources["host"] == str(tmp_path)
    assert (tmp_path / "new").is_dir()


def test_a_host_path_that_is_not_there_names_the_volume(tmp_path: Path) -> None:
    wanted = pod("web", volumes=({"name": "host", "hostPath": {"path": str(tmp_path / "no"), "type": "Directory"}},))
    with pytest.raises(VolumeError, match=r'volume "host": hostPath .*/no is not there as a Directory'):
        prepare(wanted, tmp_path, SOURCES)


def test_mounts(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    prepared = Prepared({"v": str(tmp_path)})
    container = Container(
        name="main",
        volume_mounts=(
            VolumeMount("v", "/data/inner", sub_path="sub", read_only=True),
            VolumeMount("v", "/data"),
            VolumeMount("v", "/made", sub_path="new/deep"),
        ),
    )
    assert mounts(container, prepared) == (
        Mount(str(tmp_path), "/data"),
        Mount(str(tmp_path / "sub"), "/data/inner", True),
        Mount(str(tmp_path / "new/deep"), "/made"),
    )


@pytest.mark.parametrize("path", ["../x", "/etc", "a/../../b", "link"])
def test_a_sub_path_stays_in_its_volume(path: str, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "link").symlink_to("/etc")
    container = Container(name="main", volume_mounts=(VolumeMount("v", "/data", sub_path=path),))
    with pytest.raises(VolumeError, match="subPath"):
        mounts(container, Prepared({"v": str(volume)}))


def test_a_mount_without_a_volume() -> None:
    container = Container(name="main", volume_mounts=(VolumeMount("nobody", "/data"),))
    with pytest.raises(VolumeError, match='volumeMount /data: the pod has no volume "nobody"'):
        mounts(container, Prepared({}))


def test_references_of_a_whole_pod() -> None:
    container = Container(
        name="main",
        env_from=(EnvFromSource(config_map_ref=SourceRef("one")), EnvFromSource(secret_ref=SourceRef("two"))),
        env=(EnvVar("A", value_from=EnvVarSource(secret_key_ref=KeyRef("three", "k"))), EnvVar("B", "plain")),
    )
    init = Container(name="init", env=(EnvVar("A", value_from=EnvVarSource(config_map_key_ref=KeyRef("four", "k"))),))
    volumes = (
        {"name": "a", "configMap": {"name": "five"}},
        {"name": "b", "projected": {"sources": [{"secret": {"name": "six"}}, {"downwardAPI": {}}]}},
        {"name": "c", "secret": {"secretName": "seven"}},
    )
    assert references(pod("web", container, init_containers=(init,), volumes=volumes)) == {
        ("configmap", "one"),
        ("secret", "two"),
        ("secret", "three"),
        ("configmap", "four"),
        ("configmap", "five"),
        ("secret", "six"),
        ("secret", "seven"),
    }
