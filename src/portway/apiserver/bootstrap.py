"""What every cluster has from the start: the namespaces, the Service `kubernetes`, which leads to this server, and the
Service `kube-dns`, whose address every pod's resolv.conf names. Who answers for the latter writes its EndpointSlice.

Called once by `ApiServer.bootstrap`; a second start finds everything and changes only what is different (the address).
"""

from __future__ import annotations

import logging
from ipaddress import IPv4Network
from typing import Any

from portway.apiserver.requests import Target, WriteOptions
from portway.apiserver.rest import Rest
from portway.apiserver.services import addresses_of
from portway.objects.kinds import ENDPOINT_SLICE, ENDPOINTS, NAMESPACE, SERVICE, Kind

Value = dict[str, Any]
log = logging.getLogger("portway.apiserver")
NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
_OPTIONS = WriteOptions("portway-apiserver", "Ignore")
_LABELS = {"component": "apiserver", "provider": "kubernetes"}
_DNS = "kube-dns"
_DNS_HOST = 10
"""kube-dns is the tenth address of the Service network, as kubeadm has it."""


def ensure(rest: Rest, services: IPv4Network, advertise: tuple[str, int] | None) -> None:
    """`advertise` is the address and port that the Service's endpoint has."""
    for name in NAMESPACES:
        if rest.store.get(NAMESPACE, "", name) is None:
            _create(rest, NAMESPACE, {"metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}}})
    port = advertise[1] if advertise else 6443
    if rest.store.get(SERVICE, "default", "kubernetes") is None:
        _create(rest, SERVICE, _service(str(services.network_address + 1), port))
    if services.num_addresses > _DNS_HOST + 1:  # a smaller network has no such address
        _ensure_dns(rest, str(services.network_address + _DNS_HOST))
    if advertise is not None:
        _ensure_equal(rest, ENDPOINTS, _endpoints(*advertise), "subsets")
        _ensure_equal(rest, ENDPOINT_SLICE, _slice(*advertise), "endpoints", "ports")


def _ensure_dns(rest: Rest, address: str) -> None:
    if rest.store.get(SERVICE, "kube-system", _DNS) is not None:
        return
    if any(address in addresses_of(stored.value) for stored in rest.store.items(SERVICE)):
        log.warning(
            "no Service %s: its address %s is another Service's; delete that one and start again", _DNS, address
        )
        return
    _create(rest, SERVICE, _dns(address), "kube-system")


def _create(rest: Rest, kind: Kind, value: Value, namespace: str = "default") -> None:
    value = {"apiVersion": kind.api_version, "kind": kind.kind, **value}
    rest.create_value(Target(kind, namespace if kind.namespaced else ""), value, _OPTIONS)


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


def _dns(address: str) -> Value:
    """Without a selector: the agents of names are no pods here. A query stays on the node where it is asked."""
    ports = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]
    labels = {"k8s-app": _DNS, "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"}
    spec = {
        "type": "ClusterIP",
        "clusterIP": address,
        "clusterIPs": [address],
        "ports": ports,
        "sessionAffinity": "None",
        "internalTrafficPolicy": "Local",
    }
    return {"metadata": {"name": _DNS, "labels": labels}, "spec": spec}


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
