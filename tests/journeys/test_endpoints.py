"""3. Who is behind a Service changes: readiness, termination, and nobody at all."""

from __future__ import annotations

import pytest

from build_journey import (
    CLIENT,
    NODE_1_IP,
    POD_A,
    POD_B,
    POD_FAR,
    RESET,
    UNREACHABLE,
    UNTOUCHED_HERE,
    Ends,
    arrives,
    check,
    packet,
)
from build_proxy import DRAINING, DYING, NOT_READY, READY, endpoint, port, ruleset, service, slice_of
from portway.objects.discovery import EndpointConditions, EndpointSlice

WEB = "10.3.240.9"
CLIENT_POD = "10.0.1.9"


def behind(a: EndpointConditions, b: EndpointConditions) -> EndpointSlice:
    return slice_of("shop/web", endpoint(POD_A, a), endpoint(POD_FAR, b, node="node-2"))


@pytest.mark.parametrize(
    ("sentence", "pods", "expected"),
    [
        ("both are ready", behind(READY, READY), arrives(f"{POD_A}:8080", f"{POD_FAR}:8080")),
        ("a probe failed: only the other one is reached", behind(NOT_READY, READY), arrives(f"{POD_FAR}:8080")),
        ("one drains: new connections go to the other one", behind(DRAINING, READY), arrives(f"{POD_FAR}:8080")),
        (
            "all drain: better those than nobody",
            behind(DRAINING, DRAINING),
            arrives(f"{POD_A}:8080", f"{POD_FAR}:8080"),
        ),
        ("one drains, one is not ready", behind(DRAINING, NOT_READY), arrives(f"{POD_A}:8080")),
        ("all terminate and do not serve", behind(DYING, DYING), RESET),
        ("nobody is ready", behind(NOT_READY, NOT_READY), RESET),
        ("nobody is behind the Service", slice_of("shop/web"), RESET),
    ],
)
def test_from_a_pod(sentence: str, pods: EndpointSlice, expected: Ends) -> None:
    check(sentence, ruleset(service("shop/web", WEB), pods), packet(CLIENT_POD, WEB, 80), expected)


@pytest.mark.parametrize(
    ("sentence", "source", "destination", "number", "proto", "expected"),
    [
        ("a pod is told at once", POD_B, WEB, 80, "tcp", RESET),
        ("the node is told", NODE_1_IP, WEB, 80, "tcp", RESET),
        ("the client is told", CLIENT, WEB, 80, "tcp", RESET),
        ("UDP is told by ICMP", POD_B, WEB, 80, "udp", UNREACHABLE),
        ("SCTP is told by ICMP", POD_B, WEB, 80, "sctp", UNREACHABLE),
        ("the node port tells the client", CLIENT, NODE_1_IP, 30080, "tcp", RESET),
        ("the node port tells by ICMP for UDP", CLIENT, NODE_1_IP, 30080, "udp", UNREACHABLE),
        ("the node port tells the node", NODE_1_IP, NODE_1_IP, 30080, "tcp", RESET),
        ("another node port is not ours to refuse", CLIENT, NODE_1_IP, 30081, "tcp", UNTOUCHED_HERE),
    ],
)
def test_nobody_is_behind_the_service(
    sentence: str, source: str, destination: str, number: int, proto: str, expected: Ends
) -> None:
    ports = (port(80, p.lower(), p, node_port=30080) for p in ("TCP", "UDP", "SCTP"))
    table = ruleset(service("shop/web", WEB, *ports))
    check(sentence, table, packet(source, destination, number, proto), expected)


def test_one_number_two_protocols_two_sets_of_pods() -> None:
    table = ruleset(
        service("kube-system/dns", WEB, port(53, "tcp"), port(53, "udp", "UDP")),
        slice_of("kube-system/dns", endpoint(POD_A), ports={"tcp": 53}),
        slice_of("kube-system/dns", endpoint(POD_B), ports={"udp": 5353}, protocol="UDP", suffix="udp"),
    )
    check("TCP has its own", table, packet(CLIENT_POD, WEB, 53, "tcp"), arrives(f"{POD_A}:53"))
    check("UDP has its own", table, packet(CLIENT_POD, WEB, 53, "udp"), arrives(f"{POD_B}:5353"))


def test_a_named_port_that_moves_during_a_rolling_update() -> None:
    table = ruleset(
        service("shop/web", WEB, port(80, "http")),
        slice_of("shop/web", endpoint(POD_A), ports={"http": 8080}, suffix="old"),
        slice_of("shop/web", endpoint(POD_B), ports={"http": 9090}, suffix="new"),
    )
    check("each at its own number", table, packet(CLIENT_POD, WEB, 80), arrives(f"{POD_A}:8080", f"{POD_B}:9090"))


def test_a_single_pod_reaches_itself_through_its_service() -> None:
    table = ruleset(service("shop/web", WEB), slice_of("shop/web", endpoint(POD_A)))
    check("by the node's address", table, packet(POD_A, WEB, 80), arrives(f"{POD_A}:8080", masqueraded=True))
    check("another pod by its own", table, packet(POD_B, WEB, 80), arrives(f"{POD_A}:8080"))


@pytest.mark.parametrize("label", ["service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"])
def test_a_service_that_is_not_ours_has_no_rule(label: str) -> None:
    table = ruleset(
        service("shop/web", WEB, port(80, node_port=30080), labels={label: "x"}), slice_of("shop/web", endpoint(POD_A))
    )
    check("the node port is not served", table, packet(CLIENT, NODE_1_IP, 30080), UNTOUCHED_HERE)
