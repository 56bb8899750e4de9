"""EndpointSlice (`discovery.k8s.io/v1`): the endpoints of a Service, in pieces of at most 1,000 (KEP-752)."""

from __future__ import annotations

from typing import ClassVar

from portway.objects.meta import Object, ObjectReference, Part

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
MANAGED_BY_LABEL = "endpointslice.kubernetes.io/managed-by"


class EndpointConditions(Part, frozen=True):
    """Unset `ready` means ready, unset `serving` means as `ready`, unset `terminating` means no (KEP-1672)."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class ForZone(Part, frozen=True):
    name: str = ""


class EndpointHints(Part, frozen=True):
    for_zones: tuple[ForZone, ...] | None = None
    for_nodes: tuple[ForZone, ...] | None = None


class Endpoint(Part, frozen=True):
    addresses: tuple[str, ...] = ()
    conditions: EndpointConditions = EndpointConditions()
    hostname: str | None = None
    node_name: str | None = None
    zone: str | None = None
    target_ref: ObjectReference | None = None
    hints: EndpointHints | None = None


class EndpointPort(Part, frozen=True):
    name: str | None = None
    protocol: str | None = None
    port: int | None = None
    app_protocol: str | None = None


class EndpointSlice(Object, frozen=True):
    KIND: ClassVar[str] = "EndpointSlice"
    address_type: str = "IPv4"
    endpoints: tuple[Endpoint, ...] | None = None
    ports: tuple[EndpointPort, ...] | None = None
