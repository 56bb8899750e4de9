"""The volumes of a pod as folders on this machine, below the pod's own folder in the agent's state.

`prepare` writes what configMap, secret, downwardAPI and projected volumes hold (as Kubernetes does: files are links
through `..data`), makes emptyDir folders, and checks hostPath. Called by `pod` before the first container;
`sandbox_root` binds the result into containers.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from portway.node.environment import ConfigError, Sources, field_value, secret_bytes
from portway.node.runtime import Mount
from portway.objects.core import Container, Pod

Raw = Mapping[str, Any]
Files = dict[str, tuple[bytes, int]]


class VolumeError(Exception):
    """A volume that cannot be had (FailedMount); the message names it and why."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """`sources`: a folder or file per volume name. `memory`: folders to be mounted as tmpfs, with mount options."""

    sources: Mapping[str, str]
    memory: dict[str, str] = field(default_factory=dict)


def prepare(pod: Pod, folder: Path, sources: Sources) -> Prepared:
    """Make the volumes below `folder`. Raises VolumeError."""
    made: dict[str, str] = {}
    memory: dict[str, str] = {}
    for volume in pod.spec.volumes or ():
        name, place = str(volume["name"]), folder / str(volume["name"])
        try:
            if "hostPath" in volume:
                made[name] = _host_path(volume["hostPath"])
                continue
            place.mkdir(mode=0o777, parents=True, exist_ok=True)
            made[name] = str(place)
            if volume.get("emptyDir") is not None:
                place.chmod(0o777)
                if volume["emptyDir"].get("medium") == "Memory":
                    memory[str(place)] = "mode=1777"
            else:
                write_files(place, volume_files(volume, sources))
        except (ConfigError, OSError) as e:
            raise VolumeError(f'volume "{name}": {e}') from e
    return Prepared(made, memory)


def mounts(container: Container, prepared: Prepared) -> tuple[Mount, ...]:
    """The container's volumeMounts, outer paths first. Raises VolumeError for a path that leaves its volume."""
    rows = []
    for mount in container.volume_mounts or ():
        source = prepared.sources.get(mount.name)
        if source is None:
            raise VolumeError(f'volumeMount {mount.mount_path}: the pod has no volume "{mount.name}"')
        if mount.sub_path:
            source = _sub_path(source, mount.sub_path)
        rows.append(Mount(source, mount.mount_path, mount.read_only))
    return tuple(sorted(rows, key=lambda m: m.target))


def volume_files(volume: Raw, sources: Sources) -> Files:
    """What a volume of generated files holds. Raises ConfigError."""
    for kind, read in _READERS.items():
        if volume.get(kind) is not None:
            return read(volume[kind], sources)
    if volume.get("projected") is not None:
        files: Files = {}
        for part in volume["projected"].get("sources") or ():
            files |= volume_files(part, sources)
        return files
    kinds = ", ".join(k for k in volume if k != "name")
    raise ConfigError(
        f"a volume of type {kinds} is not supported: use emptyDir, configMap, secret, downwardAPI, projected or hostPath"
    )


def write_files(folder: Path, files: Files) -> None:
    """All files change at once: the names are links to `..data`, which is a link to a folder of this generation."""
    generation = f"..{os.urandom(6).hex()}"
    for name, (data, mode) in files.items():
        path = folder / generation / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(mode)
    (folder / generation).mkdir(exist_ok=True)
    link = folder / "..next"
    link.symlink_to(generation)
    link.replace(folder / "..data")
    for top in {name.split("/")[0] for name in files}:
        if not (folder / top).is_symlink():
            (folder / top).symlink_to(f"..data/{top}")


def _config_map(raw: Raw, sources: Sources) -> Files:
    name = raw.get("name", "")
    found = sources.config_maps.get(name)
    if found is None:
        return _absent(raw, f'configmap "{name}" not found')
    data = {k: v.encode() for k, v in (found.data or {}).items()}
    data |= {k: base64.b64decode(v) for k, v in (found.binary_data or {}).items()}
    return _selected(raw, data, f'configmap "{name}"')


def _secret(raw: Raw, sources: Sources) -> Files:
    name = raw.get("secretName") or raw.get("name", "")
    found = sources.secrets.get(name)
    if found is None:
        return _absent(raw, f'secret "{name}" not found')
    data = {k: secret_bytes(v, f"secret {name}, key {k}") for k, v in (found.data or {}).items()}
    return _selected(raw, data, f'secret "{name}"')


def _downward(raw: Raw, sources: Sources) -> Files:
    default, files = int(raw.get("defaultMode") or 0o644), Files()
    for item in raw.get("items") or ():
        if "fieldRef" not in item:
            raise ConfigError(f"downwardAPI item {item.get('path')}: resourceFieldRef is not supported")
        text = field_value(item["fieldRef"].get("fieldPath", ""), sources)
        files[_inside(item["path"])] = text.encode(), int(item.get("mode") or default)
    return files


_READERS: dict[str, Callable[[Raw, Sources], Files]] = {
    "configMap": _config_map,
    "secret": _secret,
    "downwardAPI": _downward,
}


def _absent(raw: Raw, message: str) -> Files:
    if raw.get("optional"):
        return {}
    raise ConfigError(message)


def _selected(raw: Raw, data: Mapping[str, bytes], what: str) -> Files:
    default = int(raw.get("defaultMode") or 0o644)
    items: Iterable[Raw] = raw.get("items") or [{"key": k, "path": k} for k in data]
    files: Files = {}
    for item in items:
        if item["key"] in data:
            files[_inside(item["path"])] = data[item["key"]], int(item.get("mode") or default)
        elif not raw.get("optional"):
            raise ConfigError(f"{what} has no key {item['key']}")
    return files


def _inside(path: str) -> str:
    if path.startswith("/") or ".." in path.split("/"):
        raise ConfigError(f"path {path!r} must stay inside its volume")
    return path


def _sub_path(source: str, sub_path: str) -> str:
    if sub_path.startswith("/") or ".." in sub_path.split("/"):
        raise VolumeError(f"subPath {sub_path!r} must stay inside its volume")
    path = Path(source, sub_path)
    if not path.resolve().is_relative_to(Path(source).resolve()):
        raise VolumeError(f"subPath {sub_path!r} leads out of its volume")
    if not path.exists():
        path.mkdir(parents=True)
    return str(path.resolve())


def _host_path(raw: Raw) -> str:
    path, kind = Path(raw.get("path", "")), raw.get("type") or ""
    if kind == "DirectoryOrCreate":
        path.mkdir(parents=True, exist_ok=True)
    elif kind == "FileOrCreate" and not path.exists():
        path.touch()
    good = {"": path.exists(), "Directory": path.is_dir(), "File": path.is_file(), "Socket": path.is_socket()}
    if not good.get(kind, path.exists()):
        raise ConfigError(f"hostPath {path} is not there{f' as a {kind}' if kind else ''}")
    return str(path.resolve())


def references(pod: Pod) -> frozenset[tuple[str, str]]:
    """("configmap" or "secret", name) of everything that the pod's volumes and environment refer to."""
    found: set[tuple[str, str]] = set()
    for volume in pod.spec.volumes or ():
        for part in [volume, *((volume.get("projected") or {}).get("sources") or ())]:
            if part.get("configMap"):
                found.add(("configmap", part["configMap"].get("name", "")))
            if part.get("secret"):
                found.add(("secret", part["secret"].get("secretName") or part["secret"].get("name", "")))
    for container in (*(pod.spec.init_containers or ()), *pod.spec.containers):
        for source in container.env_from or ():
            found |= {("configmap", source.config_map_ref.name)} if source.config_map_ref else set()
            found |= {("secret", source.secret_ref.name)} if source.secret_ref else set()
        for variable in container.env or ():
            value = variable.value_from
            found |= {("configmap", value.config_map_key_ref.name)} if value and value.config_map_key_ref else set()
            found |= {("secret", value.secret_key_ref.name)} if value and value.secret_key_ref else set()
    return frozenset(found)
