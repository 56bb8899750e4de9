"""What the API fills in when a manifest is silent. `set_defaults` for every write, `admit_pod` for a new pod.

Works in place on an object that `decode` pruned. The values are those of Kubernetes' API machinery (pkg/apis/*/v1/defaults)
and of the admission plugins that every cluster has. Addresses and node ports are not defaults: allocation gives them.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from portway.objects import kinds
from portway.objects.kinds import Kind

Json = dict[str, Any]

UNREACHABLE_SECONDS = 300


def set_defaults(kind: Kind, obj: Json) -> None:
    """Fill in, in place, what the API defaults. Doing it twice changes nothing."""
    rule = _RULES.get(kind.kind)
    if rule is not None:
        rule(obj)


def admit_pod(pod: Json) -> None:
    """What admission adds to a new pod: an account, and five minutes of patience with a node that went away."""
    spec = pod.setdefault("spec", {})
    if not spec.get("serviceAccountName"):
        spec["serviceAccountName"] = spec.get("serviceAccount") or "default"
    spec["serviceAccount"] = spec["serviceAccountName"]
    tolerations = spec.setdefault("tolerations", [])
    for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
        if not any(_tolerates(t, key) for t in tolerations):
            tolerations.append(
                {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": UNREACHABLE_SECONDS}
            )
    spec.setdefault("priority", 0)
    spec.setdefault("preemptionPolicy", "PreemptLowerPriority")


def _tolerates(toleration: Json, key: str) -> bool:
    return toleration.get("key") in (None, "", key) and toleration.get("effect") in (None, "", "NoExecute")


def _service(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    _set(spec, "sessionAffinity", "None")
    _set(spec, "type", "ClusterIP")
    if spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    elif spec["sessionAffinity"] == "ClientIP":
        config = spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {})
        config.setdefault("timeoutSeconds", 10800)
    external = spec["type"] in ("NodePort", "LoadBalancer") or bool(spec.get("externalIPs"))
    if external and spec["type"] != "ExternalName":
        _set(spec, "externalTrafficPolicy", "Cluster")
    if spec["type"] in ("ClusterIP", "NodePort", "LoadBalancer"):
        _set(spec, "internalTrafficPolicy", "Cluster")
    if spec["type"] == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
    for port in spec.get("ports", ()):
        _set(port, "protocol", "TCP")
        if port.get("targetPort") in (None, 0, ""):
            port["targetPort"] = port.get("port", 0)
    balancer = obj.setdefault("status", {}).setdefault("loadBalancer", {})
    for ingress in balancer.get("ingress", ()):
        if ingress.get("ip"):
            ingress.setdefault("ipMode", "VIP")


def _set(part: Json, key: str, value: Any) -> None:
    """A default of a field for which the zero value means "not said"."""
    if not part.get(key):
        part[key] = value


def _pod(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    _pod_spec(spec)
    # A limit is a request, unless the request is said.
    for container in (*spec.get("initContainers", ()), *spec.get("containers", ())):
        resources = container["resources"]
        if limits := resources.get("limits"):
            requests = resources.setdefault("requests", {})
            for name, amount in limits.items():
                requests.setdefault(name, amount)
    spec.setdefault("enableServiceLinks", True)
    if spec.get("hostNetwork"):
        _host_ports(spec)
    obj.setdefault("status", {}).setdefault("phase", "Pending")


def _pod_spec(spec: Json) -> None:
    _set(spec, "restartPolicy", "Always")
    _set(spec, "dnsPolicy", "ClusterFirst")
    spec.setdefault("terminationGracePeriodSeconds", 30)
    _set(spec, "schedulerName", "default-scheduler")
    spec.setdefault("securityContext", {})
    if spec.get("serviceAccountName"):
        spec["serviceAccount"] = spec["serviceAccountName"]
    if spec.get("hostNetwork"):
        _host_ports(spec)
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(field, ()):
            _container(container)
    for volume in spec.get("volumes", ()):
        _volume(volume)


def _host_ports(spec: Json) -> None:
    for field in ("initContainers", "containers"):
        for container in spec.get(field, ()):
            for port in container.get("ports", ()):
                _set(port, "hostPort", port.get("containerPort", 0))


def _container(container: Json) -> None:
    container.setdefault("resources", {})
    _set(container, "terminationMessagePath", "/dev/termination-log")
    _set(container, "terminationMessagePolicy", "File")
    if not container.get("imagePullPolicy"):
        container["imagePullPolicy"] = _pull_policy(container.get("image", ""))
    for port in container.get("ports", ()):
        _set(port, "protocol", "TCP")
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        if probe in container:
            _probe(container[probe])
    for handler in container.get("lifecycle", {}).values():
        if isinstance(handler, dict) and "httpGet" in handler:
            _http_get(handler["httpGet"])
    for variable in container.get("env", ()):
        reference = variable.get("valueFrom", {})
        if "fieldRef" in reference:
            _set(reference["fieldRef"], "apiVersion", "v1")
        if "resourceFieldRef" in reference:
            reference["resourceFieldRef"].setdefault("divisor", "0")


def _pull_policy(image: str) -> str:
    """Always for `latest` and for no tag, IfNotPresent for a tag or a digest."""
    if "@" in image:
        return "IfNotPresent"
    tag = image.rsplit("/", 1)[-1].partition(":")[2]
    return "Always" if tag in ("", "latest") else "IfNotPresent"


def _probe(probe: Json) -> None:
    _set(probe, "timeoutSeconds", 1)
    _set(probe, "periodSeconds", 10)
    _set(probe, "successThreshold", 1)
    _set(probe, "failureThreshold", 3)
    if "httpGet" in probe:
        _http_get(probe["httpGet"])
    if "grpc" in probe:
        probe["grpc"].setdefault("service", "")


def _http_get(action: Json) -> None:
    _set(action, "path", "/")
    _set(action, "scheme", "HTTP")


_FILE_MODE = 0o644


def _volume(volume: Json) -> None:
    if volume.keys() == {"name"}:
        volume["emptyDir"] = {}
    for source in ("secret", "configMap", "downwardAPI", "projected"):
        if source in volume:
            volume[source].setdefault("defaultMode", _FILE_MODE)
    if "hostPath" in volume:
        volume["hostPath"].setdefault("type", "")
    items = [*volume.get("downwardAPI", {}).get("items", ())]
    for part in volume.get("projected", {}).get("sources", ()):
        items += part.get("downwardAPI", {}).get("items", ())
        if "serviceAccountToken" in part:
            part["serviceAccountToken"].setdefault("expirationSeconds", 3600)
    for item in items:
        if "fieldRef" in item:
            _set(item["fieldRef"], "apiVersion", "v1")


def _template(spec: Json) -> None:
    template = spec.setdefault("template", {})
    template.setdefault("metadata", {})
    _pod_spec(template.setdefault("spec", {}))


def _deployment(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    strategy = spec.setdefault("strategy", {})
    _set(strategy, "type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", "25%")
        rolling.setdefault("maxSurge", "25%")
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)
    _template(spec)
    obj.setdefault("status", {})


def _replica_set(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    _template(spec)
    obj.setdefault("status", {}).setdefault("replicas", 0)


def _endpoint_slice(obj: Json) -> None:
    for port in obj.get("ports", ()):
        port.setdefault("name", "")
        port.setdefault("protocol", "TCP")


def _endpoints(obj: Json) -> None:
    for subset in obj.get("subsets", ()):
        for port in subset.get("ports", ()):
            _set(port, "protocol", "TCP")


def _secret(obj: Json) -> None:
    _set(obj, "type", "Opaque")
    if texts := obj.pop("stringData", None):
        data = obj.setdefault("data", {})
        for key, text in texts.items():
            data[key] = base64.b64encode(text.encode()).decode()


def _namespace(obj: Json) -> None:
    metadata = obj.setdefault("metadata", {})
    if name := metadata.get("name"):
        metadata.setdefault("labels", {})["kubernetes.io/metadata.name"] = name
    if "deletionTimestamp" not in metadata:
        finalizers = obj.setdefault("spec", {}).setdefault("finalizers", [])
        if "kubernetes" not in finalizers:
            finalizers.append("kubernetes")
    _set(obj.setdefault("status", {}), "phase", "Active")


def _node(obj: Json) -> None:
    obj.setdefault("spec", {})
    status = obj.setdefault("status", {})
    if "capacity" in status:
        allocatable = status.setdefault("allocatable", {})
        for name, amount in status["capacity"].items():
            allocatable.setdefault(name, amount)


_RULES: dict[str, Callable[[Json], None]] = {
    kinds.SERVICE.kind: _service,
    kinds.POD.kind: _pod,
    kinds.DEPLOYMENT.kind: _deployment,
    kinds.REPLICA_SET.kind: _replica_set,
    kinds.ENDPOINT_SLICE.kind: _endpoint_slice,
    kinds.ENDPOINTS.kind: _endpoints,
    kinds.SECRET.kind: _secret,
    kinds.NAMESPACE.kind: _namespace,
    kinds.NODE.kind: _node,
}
