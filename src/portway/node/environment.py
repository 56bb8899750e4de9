"""The environment of a container, and `$(VAR)` in its command, arguments and values. Pure; called by `pod`.

The rules are those of the API reference for `EnvVar` and `Container`: a reference to a defined variable is replaced,
to an undefined one stays as it is written, `$$` is a dollar sign. Later entries win: envFrom, then env; the variables
of Services only fill gaps.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from portway.objects.core import ConfigMap, Container, EnvVarSource, KeyRef, Pod, Secret, Service

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_REFERENCE = re.compile(r"\$(?:(\$)|\(([^)]*)\))")
_KEYED = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")
_VARIABLE = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")


class ConfigError(Exception):
    """Something that the container's configuration refers to is not there (CreateContainerConfigError)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where values come from. The maps and secrets are those of the pod's namespace, by name."""

    pod: Pod
    pod_ip: str = ""
    host_ip: str = ""
    node: str = ""
    config_maps: Mapping[str, ConfigMap] = field(default_factory=dict)
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    services: Mapping[str, str] = field(default_factory=dict)


def expand(text: str, variables: Mapping[str, str]) -> str:
    def replace(found: re.Match[str]) -> str:
        return "$" if found[1] else variables.get(found[2], found[0])

    return _REFERENCE.sub(replace, text)


def environment(container: Container, sources: Sources) -> dict[str, str]:
    """The variables that the manifest asks for. Raises ConfigError."""
    made: dict[str, str] = {}
    for source in container.env_from or ():
        if source.config_map_ref:
            values = _data("configmap", source.config_map_ref.name, source.config_map_ref.optional, sources)
        elif source.secret_ref:
            values = _data("secret", source.secret_ref.name, source.secret_ref.optional, sources)
        else:
            continue
        made |= {source.prefix + k: v for k, v in values.items() if _VARIABLE.fullmatch(source.prefix + k)}
    for variable in container.env or ():
        if variable.value_from:
            value = _value_from(variable.value_from, sources, container)
            if value is None:
                continue
        else:
            value = expand(variable.value, {**sources.services, **made})
        made[variable.name] = value
    return {**sources.services, **made}


def field_value(path: str, sources: Sources) -> str:
    """The value of a `fieldRef`. Raises ConfigError for a path that the API does not name."""
    meta = sources.pod.metadata
    keyed = _KEYED.fullmatch(path)
    if keyed:
        return ((meta.labels if keyed[1] == "labels" else meta.annotations) or {}).get(keyed[2], "")
    values = {
        "metadata.name": meta.name,
        "metadata.namespace": meta.namespace,
        "metadata.uid": meta.uid,
        "metadata.labels": _lines(meta.labels),
        "metadata.annotations": _lines(meta.annotations),
        "spec.nodeName": sources.node,
        "spec.serviceAccountName": sources.pod.spec.service_account_name or "default",
        "status.hostIP": sources.host_ip,
        "status.hostIPs": sources.host_ip,
        "status.podIP": sources.pod_ip,
        "status.podIPs": sources.pod_ip,
    }
    if path not in values:
        raise ConfigError(f"fieldRef.fieldPath {path!r} is not one that the API knows: {', '.join(values)}")
    return values[path]


def service_variables(services: Iterable[Service], default_host: str = "") -> dict[str, str]:
    """`{SVC}_SERVICE_HOST`, `_SERVICE_PORT`, `_SERVICE_PORT_NAME`; `kubernetes` is always there when `default_host` is given."""
    made: dict[str, str] = {}
    if default_host:
        made |= {
            "KUBERNETES_SERVICE_HOST": default_host,
            "KUBERNETES_SERVICE_PORT": "443",
            "KUBERNETES_SERVICE_PORT_HTTPS": "443",
        }
    for service in sorted(services, key=lambda s: s.ref):
        address, ports = service.spec.cluster_ip, service.spec.ports or ()
        if not ports or address in ("", "None"):
            continue
        name = service.name.upper().replace("-", "_")
        made |= {f"{name}_SERVICE_HOST": address, f"{name}_SERVICE_PORT": str(ports[0].port)}
        for port in ports:
            if port.name:
                made[f"{name}_SERVICE_PORT_{port.name.upper().replace('-', '_')}"] = str(port.port)
    return made


def secret_bytes(text: str, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as e:
        raise ConfigError(f"{what}: the value is not base64: {e}") from e


def _value_from(source: EnvVarSource, sources: Sources, container: Container) -> str | None:
    if source.field_ref:
        return field_value(source.field_ref.field_path, sources)
    if source.config_map_key_ref:
        return _key("configmap", source.config_map_key_ref, sources)
    if source.secret_key_ref:
        return _key("secret", source.secret_key_ref, sources)
    if source.resource_field_ref:
        raise ConfigError("env valueFrom.resourceFieldRef is not supported: containers have no resource limits here")
    return None


def _key(kind: str, ref: KeyRef, sources: Sources) -> str | None:
    values = _data(kind, ref.name, ref.optional, sources)
    if ref.key in values:
        return values[ref.key]
    if ref.optional:
        return None
    raise ConfigError(f"couldn't find key {ref.key} in {kind} {sources.pod.namespace}/{ref.name}")


def _data(kind: str, name: str, optional: bool | None, sources: Sources) -> Mapping[str, str]:
    if kind == "configmap" and name in sources.config_maps:
        return sources.config_maps[name].data or {}
    if kind == "secret" and name in sources.secrets:
        data = sources.secrets[name].data or {}
        return {k: secret_bytes(v, f"secret {name}, key {k}").decode("utf-8", "replace") for k, v in data.items()}
    if optional:
        return {}
    raise ConfigError(f'{kind} "{name}" not found')


def _lines(values: Mapping[str, str] | None) -> str:
    return "\n".join(f'{k}="{v}"' for k, v in sorted((values or {}).items()))
