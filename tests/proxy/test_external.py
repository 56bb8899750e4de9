"""What a LoadBalancer Service's fields mean for a node: addresses, source ranges, local targets."""

from __future__ import annotations

from ipaddress import ip_network

import msgspec
import pytest

from build_proxy import CONFIG, NODE_1, NODE_2, addresses, endpoint, port, service, slice_of
from portway.nft.tables import Family
from portway.objects.core import LoadBalancerIngress, LoadBalancerStatus, Service, ServiceStatus
from portway.objects.meta import ObjectMeta
from portway.proxy.intent import RANGES_ANNOTATION, external_addresses, service_intents, source_ranges


def balanced(*ingress: LoadBalancerIngress, annotations: dict[str, str] | None = None, **spec: object) -> Service:
    made = service("shop/web", "10.3.240.9", port(80, node_port=30080), **{"type": "LoadBalancer"} | spec)
    return msgspec.structs.replace(
        made,
        metadata=ObjectMeta(name="web", namespace="shop", annotations=annotations),
        status=ServiceStatus(load_balancer=LoadBalancerStatus(ingress=ingress or None)),
    )


def ip(text: str, mode: str | None = "VIP") -> LoadBalancerIngress:
    return LoadBalancerIngress(ip=text, ip_mode=mode)


@pytest.mark.parametrize(
    ("sentence", "made", "found"),
    [
        ("none yet", balanced(), set()),
        ("one", balanced(ip("203.0.113.2")), {"203.0.113.2"}),
        ("a mode that nobody said is VIP", balanced(ip("203.0.113.2", None)), {"203.0.113.2"}),
        ("Proxy is left alone", balanced(ip("203.0.113.2", "Proxy"), ip("203.0.113.3")), {"203.0.113.3"}),
        ("a name is no address", balanced(LoadBalancerIngress(hostname="a.example.com")), set()),
        ("the other family's", balanced(ip("2001:db8::1")), set()),
        ("no load balancer any more", balanced(ip("203.0.113.2"), type="NodePort"), set()),
    ],
)
def test_external_addresses(sentence: str, made: Service, found: set[str]) -> None:
    assert set(external_addresses(made, Family.IP)) == addresses(found), sentence


@pytest.mark.parametrize(
    ("sentence", "made", "found"),
    [
        ("everybody", balanced(), []),
        ("by the field", balanced(load_balancer_source_ranges=("192.0.2.0/24",)), ["192.0.2.0/24"]),
        ("by the annotation", balanced(annotations={RANGES_ANNOTATION: "192.0.2.0/24, 198.51.100.1/32"}),
         ["192.0.2.0/24", "198.51.100.1/32"]),
        ("the field goes before", balanced(load_balancer_source_ranges=("192.0.2.0/24",),
                                           annotations={RANGES_ANNOTATION: "198.51.100.0/24"}), ["192.0.2.0/24"]),
        ("ranges within others say nothing", balanced(load_balancer_source_ranges=("192.0.2.0/24", "192.0.2.7/32")),
         ["192.0.2.0/24"]),
        ("neighbours are one", balanced(load_balancer_source_ranges=("192.0.2.0/25", "192.0.2.128/25")), ["192.0.2.0/24"]),
        ("host bits do not matter", balanced(load_balancer_source_ranges=("192.0.2.7/24",)), ["192.0.2.0/24"]),
        ("only the other family's: nobody of this one", balanced(load_balancer_source_ranges=("2001:db8::/32",)),
         ["0.0.0.0/32"]),
        ("a node port Service has none", balanced(load_balancer_source_ranges=("192.0.2.0/24",), type="NodePort"), []),
    ],
)  # fmt: skip
def test_source_ranges(sentence: str, made: Service, found: list[str]) -> None:
    assert list(source_ranges(made, Family.IP)) == [ip_network(n) for n in found], sentence


def test_local_targets_are_those_that_the_slice_puts_here() -> None:
    made = balanced(ip("203.0.113.2"), external_traffic_policy="Local")
    slices = [
        slice_of("shop/web", endpoint("10.0.1.2"), endpoint("10.0.2.2", node="node-2"), endpoint("10.0.9.9", node=None))
    ]
    (here,) = service_intents(made, slices, NODE_1, CONFIG.family)
    (there,) = service_intents(made, slices, NODE_2, CONFIG.family)
    assert here.external_local and len(here.targets) == 3
    assert [str(t.address) for t in here.local_targets] == ["10.0.1.2"], "nowhere is not here"
    assert [str(t.address) for t in there.local_targets] == ["10.0.2.2"]


def test_the_policy_of_a_plain_service_means_nothing() -> None:
    made = service("shop/web", external_traffic_policy="Local")
    (found,) = service_intents(made, [slice_of("shop/web", endpoint("10.0.1.2"))], NODE_1, CONFIG.family)
    assert not found.external_local and found.local_targets == () == found.external_addresses
