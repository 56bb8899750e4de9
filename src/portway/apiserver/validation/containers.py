"""Containers of a pod: names, images, ports, environment, mounts, probes, resources."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from decimal import Decimal
from typing import Any

from portway.apiserver.errors import (
    FieldError,
    duplicate,
    forbidden_field,
    invalid_value,
    missing_reference,
    not_supported,
    required,
)
from portway.apiserver.validation import formats

Json = dict[str, Any]

PULL_POLICIES = ("Always", "IfNotPresent", "Never")
MESSAGE_POLICIES = ("FallbackToLogsOnError", "File")
HANDLERS = ("exec", "grpc", "httpGet", "sleep", "tcpSocket")
PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_COUNTS = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")
_NO_SIDECAR = "may not be set for init containers without restartPolicy=Always"


def check(path: str, spec: Json, volumes: Set[str]) -> Iterator[FieldError]:
    """All containers of the pod spec at `path`; `volumes` are the names that a mount may use."""
    main, first = spec.get("containers") or [], spec.get("initContainers") or []
    if not main:
        yield required(f"{path}.containers")
    names: set[str] = set()
    for field, group in (("initContainers", first), ("containers", main)):
        for i, container in enumerate(group):
            yield from _container(f"{path}.{field}[{i}]", container, names, volumes)
    for i, container in enumerate(first):
        yield from _init(f"{path}.initContainers[{i}]", container)
    yield from _host_ports(path, main, host=bool(spec.get("hostNetwork")))


def _container(path: str, container: Json, names: set[str], volumes: Set[str]) -> Iterator[FieldError]:
    name = container.get("name", "")
    yield from formats.needed(f"{path}.name", name, formats.label(name))
    if name and name in names:
        yield duplicate(f"{path}.name", name)
    names.add(name)
    yield from image(f"{path}.image", container.get("image", ""))
    yield from formats.one_of(f"{path}.imagePullPolicy", container.get("imagePullPolicy"), PULL_POLICIES)
    policy = container.get("terminationMessagePolicy")
    if policy and policy not in MESSAGE_POLICIES:
        yield not_supported(f"{path}.terminationMessagePolicy", policy, MESSAGE_POLICIES)
    yield from _ports(f"{path}.ports", container.get("ports") or ())
    yield from _environment(path, container)
    yield from _mounts(f"{path}.volumeMounts", container.get("volumeMounts") or (), volumes)
    for field in PROBES:
        if field in container:
            yield from _probe(f"{path}.{field}", container[field], once=field != "readinessProbe")
    for field in ("postStart", "preStop"):
        handler = (container.get("lifecycle") or {}).get(field)
        if handler is not None:
            yield from _handler(f"{path}.lifecycle.{field}", handler)
    yield from _resources(f"{path}.resources", container.get("resources") or {})


def image(path: str, name: str) -> Iterator[FieldError]:
    if not name:
        yield required(path)
    elif name != name.strip():
        yield invalid_value(path, name, "must not have leading or trailing whitespace")


def _ports(path: str, ports: Sequence[Json]) -> Iterator[FieldError]:
    names: set[str] = set()
    for i, port in enumerate(ports):
        if name := port.get("name", ""):
            yield from formats.text(f"{path}[{i}].name", name, formats.port_name(name))
            if name in names:
                yield duplicate(f"{path}[{i}].name", name)
            names.add(name)
        number = port.get("containerPort", 0)
        if number == 0:
            yield required(f"{path}[{i}].containerPort")
        else:
            yield from formats.text(f"{path}[{i}].containerPort", number, formats.port_number(number))
        if host := port.get("hostPort"):
            yield from formats.text(f"{path}[{i}].hostPort", host, formats.port_number(host))
        yield from formats.one_of(f"{path}[{i}].protocol", port.get("protocol"), formats.PROTOCOLS)
        if address := port.get("hostIP"):
            yield from formats.text(f"{path}[{i}].hostIP", address, formats.ip(address))


def _host_ports(path: str, containers: list[Json], *, host: bool) -> Iterator[FieldError]:
    taken: set[str] = set()
    for i, container in enumerate(containers):
        for j, port in enumerate(container.get("ports") or ()):
            number, at = port.get("hostPort", 0), f"{path}.containers[{i}].ports[{j}]"
            if host and number != port.get("containerPort"):
                why = "must match `hostPort` when `hostNetwork` is true"
                yield invalid_value(f"{at}.containerPort", port.get("containerPort"), why)
            if number:
                key = f"{port.get('protocol', 'TCP')}/{port.get('hostIP', '')}/{number}"
                if key in taken:
                    yield duplicate(f"{at}.hostPort", key)
                taken.add(key)


_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")


def _environment(path: str, container: Json) -> Iterator[FieldError]:
    for i, variable in enumerate(container.get("env") or ()):
        at, name = f"{path}.env[{i}]", variable.get("name", "")
        yield from formats.needed(f"{at}.name", name, formats.variable(name))
        if "valueFrom" in variable:
            yield from _source(f"{at}.valueFrom", variable)
    for i, source in enumerate(container.get("envFrom") or ()):
        at, given = f"{path}.envFrom[{i}]", [f for f in ("configMapRef", "secretRef") if f in source]
        if not given:
            yield invalid_value(at, "", "must specify one of: `configMapRef` or `secretRef`")
        elif len(given) > 1:
            yield invalid_value(at, "", "may not have more than one field specified at a time")
        for field in given:
            yield from formats.needed(f"{at}.{field}.name", source[field].get("name", ""), "")


def _source(path: str, variable: Json) -> Iterator[FieldError]:
    source = variable["valueFrom"]
    given = [f for f in _SOURCES if f in source]
    if not given:
        names = "`fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        yield invalid_value(path, "", f"must specify one of: {names}")
    elif variable.get("value"):
        yield invalid_value(path, "", "may not be specified when `value` is not empty")
    elif len(given) > 1:
        yield invalid_value(path, "", "may not have more than one field specified at a time")
    for field, needed in (("fieldRef", "fieldPath"), ("resourceFieldRef", "resource")):
        if field in source:
            yield from formats.needed(f"{path}.{field}.{needed}", source[field].get(needed, ""), "")
    for field in ("configMapKeyRef", "secretKeyRef"):
        if field in source:
            key = source[field].get("key", "")
            yield from formats.needed(f"{path}.{field}.key", key, formats.config_key(key))


def _mounts(path: str, mounts: Sequence[Json], volumes: Set[str]) -> Iterator[FieldError]:
    places: set[str] = set()
    for i, mount in enumerate(mounts):
        name, place = mount.get("name", ""), mount.get("mountPath", "")
        if not name:
            yield required(f"{path}[{i}].name")
        elif name not in volumes:
            yield missing_reference(f"{path}[{i}].name", name)
        if not place:
            yield required(f"{path}[{i}].mountPath")
        elif place in places:
            yield invalid_value(f"{path}[{i}].mountPath", place, "must be unique")
        places.add(place)
        below = mount.get("subPath", "")
        if below.startswith("/"):
            yield invalid_value(f"{path}[{i}].subPath", below, "must be a relative path")
        if ".." in below.split("/"):
            yield invalid_value(f"{path}[{i}].subPath", below, "must not contain '..'")


def _probe(path: str, probe: Json, *, once: bool) -> Iterator[FieldError]:
    yield from _handler(path, probe)
    for field in _COUNTS:
        yield from formats.not_negative(f"{path}.{field}", probe.get(field))
    grace = probe.get("terminationGracePeriodSeconds")
    if grace is not None and grace <= 0:
        yield invalid_value(f"{path}.terminationGracePeriodSeconds", grace, formats.POSITIVE)
    if grace is not None and not once:
        why = "must not be set for readinessProbes"
        yield invalid_value(f"{path}.terminationGracePeriodSeconds", grace, why)
    if once and probe.get("successThreshold", 1) != 1:
        yield invalid_value(f"{path}.successThreshold", probe["successThreshold"], "must be 1")


def _handler(path: str, handler: Json) -> Iterator[FieldError]:
    given = [f for f in HANDLERS if f in handler]
    if not given:
        yield required(path, "must specify a handler type")
    for extra in given[1:]:
        yield forbidden_field(f"{path}.{extra}", "may not specify more than 1 handler type")
    if not given:
        return
    action, at = handler[given[0]], f"{path}.{given[0]}"
    if given[0] == "exec" and not action.get("command"):
        yield required(f"{at}.command")
    elif given[0] == "httpGet":
        yield from formats.needed(f"{at}.path", action.get("path", ""), "")
        yield from _port(at, action)
        yield from formats.one_of(f"{at}.scheme", action.get("scheme"), ("HTTP", "HTTPS"))
    elif given[0] == "tcpSocket":
        yield from _port(at, action)
    elif given[0] == "grpc":
        yield from formats.text(f"{at}.port", action.get("port", 0), formats.port_number(action.get("port", 0)))


def _port(path: str, action: Json) -> Iterator[FieldError]:
    port = action.get("port", 0)
    yield from formats.text(f"{path}.port", port, formats.port_or_name(port))


def _init(path: str, container: Json) -> Iterator[FieldError]:
    policy = container.get("restartPolicy")
    if policy == "Always":
        return
    for field in (*PROBES, "lifecycle"):
        if container.get(field):
            yield forbidden_field(f"{path}.{field}", _NO_SIDECAR)


def _resources(path: str, resources: Json) -> Iterator[FieldError]:
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for field, amounts in (("limits", limits), ("requests", requests)):
        for name, amount in amounts.items():
            if why := formats.qualified(name):
                yield invalid_value(f"{path}.{field}", name, why)
            if quantity(amount) < 0:
                yield invalid_value(f"{path}.{field}[{name}]", amount, formats.NOT_NEGATIVE)
    for name, amount in requests.items():
        if name in limits and quantity(amount) > quantity(limits[name]):
            why = f"must be less than or equal to {name} limit of {limits[name]}"
            yield invalid_value(f"{path}.requests", amount, why)


_DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}


def quantity(amount: str) -> Decimal:
    """The number behind "500m" or "1Gi"; the decoder has checked the form."""
    for suffix, power in _BINARY.items():
        if amount.endswith(suffix):
            return Decimal(amount.removesuffix(suffix)) * (1 << (10 * power))
    if amount[-1:] in _DECIMAL:
        return Decimal(amount[:-1]).scaleb(_DECIMAL[amount[-1]])
    return Decimal(amount)
