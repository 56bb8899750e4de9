"""What a load balancer's health check asks a node: are there endpoints of this Service here? Pure.

Only Services of type LoadBalancer with the Local policy have a port of their own for it; `apply` computes the answers and
`health_server` gives them. A pod that terminates does not count, though it still serves: the balancer must look elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from portway.cluster.endpoints import conditions
from portway.objects.core import Service
from portway.objects.discovery import EndpointSlice
from portway.proxy.config import NodeFacts


@dataclass(frozen=True, slots=True)
class HealthAnswer:
    """The answer of one Service's health port on this node."""

    service: str
    port: int
    local_endpoints: int

    @property
    def status(self) -> int:
        return 200 if self.local_endpoints else 503

    @property
    def body(self) -> bytes:
        """JSON with the fields that kube-proxy gives."""
        namespace, _, name = self.service.partition("/")
        return json.dumps(
            {
                "service": {"namespace": namespace, "name": name},
                "localEndpoints": self.local_endpoints,
                "serviceProxyHealthy": True,
            }
        ).encode()


def answer_of(service: Service, slices: Iterable[EndpointSlice], node: NodeFacts) -> HealthAnswer | None:
    """None for a Service that has no health port."""
    spec = service.spec
    if spec.type != "LoadBalancer" or spec.external_traffic_policy != "Local" or not spec.health_check_node_port:
        return None
    here = {
        endpoint.addresses[0]
        for item in slices
        for endpoint in item.endpoints or ()
        if endpoint.addresses and endpoint.node_name == node.name and conditions(endpoint.conditions)[0]
    }
    return HealthAnswer(service.ref, spec.health_check_node_port, len(here))
