"""A load balancer's address on a node: the short way for pods and nodes, the Local policy and source ranges for the rest.

One pod on node-1, one on node-2, none on node-3; the Cluster Service `web`, the Local Service `local`.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from build_journey import (
    CLIENT,
    DROPPED,
    NODE_1_IP,
    NODE_2_IP,
    POD_A,
    POD_B,
    POD_FAR,
    RESET,
    UNTOUCHED_ON,
    Ends,
    arrives,
    check,
    packet,
)
from build_proxy import DRAINING, NODE_1, endpoint, port, ruleset, service, slice_of
from portway.nft.tables import Ruleset
from portway.nft.walk import Packet
from portway.objects.core import LoadBalancerIngress, LoadBalancerStatus, Service, ServiceStatus
from portway.proxy.config import NodeFacts

WEB, LOCAL, GUARDED, EMPTY, PROXIED = (f"203.0.113.{n}" for n in (10, 11, 12, 13, 14))
NODE_3_IP = "10.100.0.4"


def balanced(name: str, cluster: str, address: str, node_port: int, *, mode: str = "VIP", **spec: object) -> Service:
    made = service(name, cluster, port(80, node_port=node_port), type="LoadBalancer", **spec)
    ingress = (LoadBalancerIngress(ip=address, ip_mode=mode),)
    return Service(
        metadata=made.metadata,
        spec=made.spec,
        status=ServiceStatus(load_balancer=LoadBalancerStatus(ingress=ingress)),
    )


OBJECTS = (
    balanced("shop/web", "10.3.240.9", WEB, 30080),
    slice_of("shop/web", endpoint(POD_A), endpoint(POD_FAR, node="node-2")),
    balanced("shop/local", "10.3.240.10", LOCAL, 30081, external_traffic_policy="Local"),
    slice_of("shop/local", endpoint(POD_A), endpoint(POD_FAR, node="node-2")),
    balanced("shop/guarded", "10.3.240.11", GUARDED, 30082, load_balancer_source_ranges=("198.51.100.0/24", "10.0.1.3/32")),
    slice_of("shop/guarded", endpoint(POD_A), endpoint(POD_FAR, node="node-2")),
    balanced("shop/empty", "10.3.240.12", EMPTY, 30083, external_traffic_policy="Local"),
    balanced("shop/proxied", "10.3.240.13", PROXIED, 30084, mode="Proxy"),
    slice_of("shop/proxied", endpoint(POD_A)),
)  # fmt: skip
TABLES = {n: ruleset(*OBJECTS, node=NodeFacts(name=f"node-{n}")) for n in (1, 2, 3)}
BOTH = (f"{POD_A}:8080", f"{POD_FAR}:8080")


@pytest.mark.parametrize(
    ("sentence", "sent", "expected"),
    [
        # The Cluster policy
        ("a pod takes the short way, as itself", packet(POD_B, WEB, 80), arrives(*BOTH)),
        ("so does the node, by its address", packet(NODE_1_IP, WEB, 80), arrives(*BOTH, masqueraded=True)),
        ("a client whose packet is handed on as it is", packet(CLIENT, WEB, 80), arrives(*BOTH, masqueraded=True)),
        ("a port that the address has not is the balancer's to refuse", packet(POD_B, WEB, 81), UNTOUCHED_ON),
        # The Local policy
        ("a client stays here and keeps its address", packet(CLIENT, LOCAL, 80), arrives(f"{POD_A}:8080")),
        ("by the node port, too", packet(CLIENT, NODE_1_IP, 30081), arrives(f"{POD_A}:8080")),
        ("a pod may go to all pods", packet(POD_B, LOCAL, 80), arrives(*BOTH)),
        ("so may the node", packet(NODE_1_IP, LOCAL, 80), arrives(*BOTH, masqueraded=True)),
        ("and by its node port", packet(NODE_1_IP, NODE_1_IP, 30081), arrives(*BOTH, masqueraded=True)),
        ("the other node is outside", packet(NODE_2_IP, LOCAL, 80), arrives(f"{POD_A}:8080")),
        ("nobody anywhere: the client is told", packet(CLIENT, EMPTY, 80), RESET),
        ("by the node port as well", packet(CLIENT, NODE_1_IP, 30083), RESET),
        # Source ranges
        ("a client of the range", packet(CLIENT, GUARDED, 80), arrives(*BOTH, masqueraded=True)),
        ("a client of none", packet("192.0.2.1", GUARDED, 80), DROPPED),
        ("a pod of the range", packet(POD_B, GUARDED, 80), arrives(*BOTH)),
        ("another pod", packet(POD_A, GUARDED, 80), DROPPED),
        ("the node is in no range", packet(NODE_1_IP, GUARDED, 80), DROPPED),
        ("they say nothing of node ports", packet("192.0.2.1", NODE_1_IP, 30082), arrives(*BOTH, masqueraded=True)),
        ("nor of the ClusterIP", packet(POD_A, "10.3.240.11", 80), arrives(*BOTH, masqueraded=None)),
        # ipMode Proxy
        ("an address whose balancer must see the packet is left alone", packet(POD_B, PROXIED, 80), UNTOUCHED_ON),
        ("its node port works", packet(CLIENT, NODE_1_IP, 30084), arrives(f"{POD_A}:8080", masqueraded=True)),
    ],
)  # fmt: skip
def test_on_node_1(sentence: str, sent: Packet, expected: Ends) -> None:
    check(sentence, TABLES[1], sent, expected)


@pytest.mark.parametrize(
    ("sentence", "sent", "expected"),
    [
        ("the Cluster policy does not mind", packet(CLIENT, NODE_3_IP, 30080, at=3), arrives(*BOTH, masqueraded=True)),
        ("the Local policy drops: the balancer must not come here", packet(CLIENT, NODE_3_IP, 30081, at=3), DROPPED),
        ("also at the address", packet(CLIENT, LOCAL, 80, at=3), DROPPED),
        ("but a pod here has its way", packet("10.0.3.2", LOCAL, 80, at=3), arrives(*BOTH)),
        ("nobody anywhere is still refused", packet(CLIENT, NODE_3_IP, 30083, at=3), RESET),
    ],
)
def test_on_a_node_without_a_pod(sentence: str, sent: Packet, expected: Ends) -> None:
    check(sentence, TABLES[3], sent, expected, at=3)


def test_a_pod_that_terminates_serves_its_node_while_no_other_there_is_ready() -> None:
    """The choice between ready and terminating is made among the pods of the node (KEP-1669)."""
    slices = slice_of("shop/local", endpoint(POD_A, DRAINING), endpoint(POD_FAR, node="node-2"))
    table = ruleset(OBJECTS[2], slices, node=NODE_1)
    check("it goes to the last one here", table, packet(CLIENT, LOCAL, 80), arrives(f"{POD_A}:8080"))
    check("a pod goes to the ready one", table, packet(POD_B, LOCAL, 80), arrives(f"{POD_FAR}:8080"))


def test_no_service_makes_a_chain_of_its_own() -> None:
    def chains(table: Ruleset) -> set[str]:
        return {c.name for c in table.chains}

    more = [
        balanced(f"shop/l{n}", f"10.3.241.{n}", f"203.0.113.{n}", 31000 + n, external_traffic_policy="Local")
        for n in range(20, 40)
    ]
    slices = [slice_of(s.ref, endpoint(POD_A), endpoint(POD_FAR, node="node-2")) for s in more]
    assert chains(ruleset(*OBJECTS, *more, *slices)) == chains(TABLES[1])


def test_a_later_packet_of_a_refused_source_is_not_looked_at_again() -> None:
    later = replace(packet("192.0.2.1", GUARDED, 80), ct_state="established")
    check("a change of ranges cuts no connection", TABLES[1], later, UNTOUCHED_ON)
