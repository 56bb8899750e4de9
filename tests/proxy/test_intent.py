"""What each field of a Service asks of the network."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from build_proxy import (
    CONFIG,
    DRAINING,
    NODE_1,
    NODE_2,
    NOT_READY,
    endpoint,
    intents,
    picture,
    port,
    service,
    slice_of,
)
from portway.cluster.origin import Origin
from portway.nft.tables import Family
from portway.objects.core import Service, ServiceSpec
from portway.proxy.intent import (
    ServicePortIntent,
    Target,
    cluster_addresses,
    ignored,
    intents_of,
    service_intents,
)
from portway.proxy.reasons import Reason

WEB_SLICE = slice_of("shop/web", endpoint("10.0.1.2"))


def targets(intent: ServicePortIntent) -> list[str]:
    return [f"{t.address}:{t.port}" for t in intent.targets]


def test_a_service_port_in_network_words() -> None:
    (found,) = intents(service("shop/web", "10.3.240.9", port(80, "http", node_port=30080)), slice_of(
        "shop/web", endpoint("10.0.1.2"), endpoint("10.0.2.2", node="node-2"), ports={"http": 8080}
    ))  # fmt: skip
    assert found == ServicePortIntent(
        service="shop/web",
        port_name="http",
        protocol="tcp",
        port=80,
        cluster_addresses=(ip_address("10.3.240.9"),),
        node_port=30080,
        targets=(
            Target(ip_address("10.0.1.2"), 8080, local=True),
            Target(ip_address("10.0.2.2"), 8080, local=False),
        ),
        origin=Origin("Service", "shop/web", "spec.ports[0]"),
    )


@pytest.mark.parametrize("protocol", ["TCP", "UDP", "SCTP"])
def test_every_protocol(protocol: str) -> None:
    (found,) = intents(
        service("shop/web", "10.3.240.9", port(80, protocol=protocol)),
        slice_of("shop/web", endpoint("10.0.1.2"), protocol=protocol),
    )
    assert (found.protocol, targets(found)) == (protocol.lower(), ["10.0.1.2:8080"])


def test_several_ports_each_with_its_own_place_in_the_manifest() -> None:
    http, metrics = intents(
        service("shop/web", "10.3.240.9", port(80, "http"), port(9090, "metrics")),
        slice_of("shop/web", endpoint("10.0.1.2"), ports={"http": 8080, "metrics": 9091}),
    )
    assert (targets(http), targets(metrics)) == (["10.0.1.2:8080"], ["10.0.1.2:9091"])
    assert [i.origin.field for i in (http, metrics)] == ["spec.ports[0]", "spec.ports[1]"]


def test_a_named_target_port_may_be_another_number_in_every_slice() -> None:
    (found,) = intents(
        service("shop/web", "10.3.240.9", port(80, "http")),
        slice_of("shop/web", endpoint("10.0.1.2"), ports={"http": 8080}, suffix="a"),
        slice_of("shop/web", endpoint("10.0.1.3"), ports={"http": 8081}, suffix="b"),
    )
    assert targets(found) == ["10.0.1.2:8080", "10.0.1.3:8081"]


@pytest.mark.parametrize(
    ("sentence", "item", "reason"),
    [
        ("an ordinary Service", service(), None),
        ("headless", service("shop/db", "None"), Reason.HEADLESS),
        ("an alias", service("shop/alias", "", type="ExternalName"), Reason.EXTERNAL_NAME),
        ("not allocated yet", service("shop/new", ""), Reason.NO_ADDRESS),
        ("no address that we can read", service("shop/odd", "ten"), Reason.NO_ADDRESS),
        ("another family", service("shop/six", "fd00::9"), Reason.NO_ADDRESS),
        ("no ports", Service(spec=ServiceSpec(cluster_ip="10.3.240.9")), Reason.NO_PORTS),
        ("a protocol that nobody knows", service("shop/odd", "10.3.240.9", port(80, protocol="QUIC")),
         Reason.UNKNOWN_PROTOCOL),
        ("another proxy's", service(labels={"service.kubernetes.io/service-proxy-name": "mesh"}), Reason.OTHER_PROXY),
        ("another proxy's, even with an empty name", service(labels={"service.kubernetes.io/service-proxy-name": ""}),
         Reason.OTHER_PROXY),
        ("labelled headless", service(labels={"service.kubernetes.io/headless": ""}), Reason.HEADLESS_LABEL),
    ],
)  # fmt: skip
def test_who_is_ignored_and_why(sentence: str, item: Service, reason: Reason | None) -> None:
    assert ignored(item, Family.IP) is reason, sentence
    made = service_intents(item, (WEB_SLICE,), NODE_1, CONFIG.family)
    assert bool(made) == (reason is None), sentence


def test_a_port_with_an_unknown_protocol_leaves_the_others() -> None:
    (found,) = intents(service("shop/web", "10.3.240.9", port(1, protocol="QUIC"), port(80)), WEB_SLICE)
    assert (found.port, found.origin.field) == (80, "spec.ports[1]")


def test_no_endpoints_is_an_intent_too() -> None:
    (found,) = intents(service(), slice_of("shop/web", endpoint("10.0.1.2", NOT_READY)))
    assert found.targets == ()


def test_all_drain_so_they_get_the_connections() -> None:
    (found,) = intents(service(), slice_of("shop/web", endpoint("10.0.1.2", DRAINING)))
    assert targets(found) == ["10.0.1.2:8080"]


@pytest.mark.parametrize(
    ("sentence", "node", "local"),
    [
        ("the pod is here", "node-1", True),
        ("the pod is elsewhere", "node-2", False),
        ("nobody says where", None, True),
    ],
)
def test_which_targets_are_local(sentence: str, node: str | None, local: bool) -> None:
    (found,) = intents(service(), slice_of("shop/web", endpoint("10.0.1.2", node=node)), node=NODE_1)
    assert found.targets[0].local is local, sentence


def test_both_nodes_want_the_same_but_for_what_is_local() -> None:
    objects = (service(), slice_of("shop/web", endpoint("10.0.1.2"), endpoint("10.0.2.2", node="node-2")))
    here, there = intents(*objects, node=NODE_1), intents(*objects, node=NODE_2)
    assert [targets(i) for i in here] == [targets(i) for i in there]
    assert [t.local for t in here[0].targets] == [not t.local for t in there[0].targets]


def test_a_service_that_became_a_cluster_ip_one_has_no_node_port() -> None:
    """The API server clears nodePort; a foreign object may still carry one."""
    (found,) = intents(service("shop/web", "10.3.240.9", port(80, node_port=30080), type="ClusterIP"))
    assert found.node_port == 0


def test_dual_stack_addresses_are_split_by_family() -> None:
    both = service("shop/web", "10.3.240.9")
    spec = ServiceSpec(cluster_ip="10.3.240.9", cluster_ips=("10.3.240.9", "fd00::9"), ports=both.spec.ports)
    two = Service(metadata=both.metadata, spec=spec)
    assert cluster_addresses(two, Family.IP) == (ip_address("10.3.240.9"),)
    assert cluster_addresses(two, Family.IP6) == (ip_address("fd00::9"),)
    six = slice_of("shop/web", endpoint("fd00:1::2"), address_type="IPv6")
    (found,) = service_intents(two, (six, WEB_SLICE), NODE_1, Family.IP6)
    assert targets(found) == ["fd00:1::2:8080"]


def test_a_slice_that_lies_about_its_type_is_left_out() -> None:
    lie = slice_of("shop/web", endpoint("fd00:1::2"), address_type="IPv4")
    (found,) = intents(service(), lie)
    assert found.targets == ()


def test_a_service_that_is_gone_wants_nothing() -> None:
    assert intents_of(picture(WEB_SLICE), "shop/web", NODE_1, Family.IP) == ()


def test_internal_policy_local_asks_the_nodes_own_endpoints_only() -> None:
    here, there = endpoint("10.0.1.5"), endpoint("10.0.2.5", node="node-2")
    item = service("shop/web", "10.3.240.9", port(80, "http"), internal_traffic_policy="Local")
    (wanted,) = intents(item, slice_of("shop/web", here, there, ports={"http": 8080}), node=NODE_1)
    assert targets(wanted) == ["10.0.1.5:8080"]
    (nobody,) = intents(item, slice_of("shop/web", there, ports={"http": 8080}), node=NODE_1)
    assert targets(nobody) == []
