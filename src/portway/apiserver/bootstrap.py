"""What every cluster has from the start: the namespaces and the Service `kubernetes`, which leads to this server.

Called once by `ApiServer.bootstrap`; a second start finds everything and changes only what is different (the address).
"""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

from portway.apiserver.requests import Target, WriteOptions
from portway.apiserver.rest import Rest
from portway.objects.kinds import ENDPOINT_SLICE, ENDPOINTS, NAMESPACE, SERVICE, Kind

Value = dict[str, Any]
NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
_OPTIONS = WriteOptions("portway-apiserver", "Ignore")
_LABELS = {"component": "apiserver", "provider": "kubernetes"}


def ensure(rest: Rest, services: IPv4Network, advertise: tuple[str, int] | None) -> None:
    """`advertise` is the address and port that the Service's endpoint has."""
    for name in NAMESPACES:
        if rest.store.get(NAMESPACE, "", name) is None:
            _create(rest, NAMESPACE, {"metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}}})
    port = advertise[1] if advertise else 6443
    if rest.store.get(SERVICE, "default", "kubernetes") is None:
        _create(rest, SERVICE, _service(str(services.network_address + 1), port))
    if advertise is not None:
        _ensure_equal(rest, ENDPOINTS, _endpoints(*advertise), "subsets")
        _ensure_equal(rest, ENDPOINT_SLICE, _slice(*advertise), "endpoints", "ports")


def _create(rest: Rest, kind: Kind, value: Value) -> None:
    value = {"apiVersion": kind.api_version, "kind": kind.kind, **value}
    rest.create_value(Target(kind, "default" if kind.namespaced else ""), value, _OPTIONS)


def _ensure_equal(rest: Rest, kind: Kind, wanted: Value, *parts: str) -> None:
    live = rest.store.get(kind, "default", "kubernetes")
    if live is None:
        _create(rest, kind, wanted)
        return
    value = live.copy()
    value.update({p: wanted[p] for p in parts})
    rest.replace(Target(kind, "default", "kubernetes"), live, value, _OPTIONS)


def _service(address: str, port: int) -> Value:
    ports = [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}]
    spec = {
        "type": "ClusterIP",
        "clusterIP": address,
        "clusterIPs": [address],
        "ports": ports,
        "sessionAffinity": "None",
    }
    return {"metadata": {"name": "kubernetes", "labels": dict(_LABELS)}, "spec": spec}


def _endpoints(address: str, port: int) -> Value:
    subset = {"addresses": [{"ip": address}], "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}
    labels = {"endpointslice.kubernetes.io/skip-mirror": "true"}
    return {"metadata": {"name": "kubernetes", "labels": labels}, "subsets": [subset]}


def _slice(address: str, port: int) -> Value:
    return {
        "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    }
