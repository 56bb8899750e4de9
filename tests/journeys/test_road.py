"""The road step by step: what the table of a node does to the packets of every step that it decides.

The example is that of the demo: a Deployment of two pods, one on each node, behind the NodePort Service `service-demo`.
"""

from __future__ import annotations

import pytest

from build_journey import (
    CLIENT,
    DROPPED,
    EDGE,
    NODE_1_IP,
    NODE_2_IP,
    POD_A,
    POD_B,
    POD_FAR,
    RESET,
    UNREACHABLE,
    UNTOUCHED_HERE,
    UNTOUCHED_ON,
    Ends,
    arrives,
    check,
    packet,
)
from build_proxy import NODE_1, NODE_2, endpoint, port, ruleset, service, slice_of
from portway.nft.walk import Packet
from portway.proxy.config import NodeFacts

DEMO = "10.3.240.9"
OBJECTS = (
    service("default/service-demo", DEMO, port(80, "http", node_port=30080)),
    slice_of("default/service-demo", endpoint(POD_A), endpoint(POD_FAR, node="node-2"), ports={"http": 8080}),
)
TABLES = {
    1: ruleset(*OBJECTS, node=NODE_1),
    2: ruleset(*OBJECTS, node=NODE_2),
    3: ruleset(*OBJECTS, node=NodeFacts(name="node-3")),
}
BOTH = (f"{POD_A}:8080", f"{POD_FAR}:8080")


@pytest.mark.parametrize(
    ("sentence", "sent", "expected"),
    [
        # 1. Pods, nodes and pods again
        ("a pod reaches a pod of the other node, as itself", packet(POD_B, POD_FAR, 8080), UNTOUCHED_ON),
        ("a pod reaches its neighbour, as itself", packet(POD_B, POD_A, 8080), UNTOUCHED_ON),
        ("a pod reaches its node", packet(POD_A, NODE_1_IP, 22), UNTOUCHED_HERE),
        ("a pod reaches the other node", packet(POD_A, NODE_2_IP, 22), UNTOUCHED_ON),
        ("a node reaches a pod of the other", packet(NODE_1_IP, POD_FAR, 8080), UNTOUCHED_ON),
        # 2. The ClusterIP
        ("from a pod the ClusterIP reaches both pods, and they see the pod", packet(POD_B, DEMO, 80), arrives(*BOTH)),
        ("from the node, by the node's address", packet(NODE_1_IP, DEMO, 80), arrives(*BOTH, masqueraded=True)),
        ("a pod that gets itself must see the node instead", packet(POD_A, DEMO, 80), arrives(*BOTH, masqueraded=None)),
        # 3. Readiness, replacement and draining: the tables of test_endpoints.py
        # 4. The client, through a route on the gateway
        ("the rule asks for no origin", packet(CLIENT, DEMO, 80), arrives(*BOTH, masqueraded=True)),
        ("nor does it of the edge", packet(EDGE, DEMO, 80), arrives(*BOTH, masqueraded=True)),
        # 5. A port of the node
        ("port 80 of a node: no rule matches, and no process listens", packet(CLIENT, NODE_1_IP, 80), UNTOUCHED_HERE),
        # 6. The node port
        ("the node port leads to both pods", packet(CLIENT, NODE_1_IP, 30080), arrives(*BOTH, masqueraded=True)),
        ("from a pod, too", packet(POD_B, NODE_1_IP, 30080), arrives(*BOTH, masqueraded=True)),
        ("from the node itself, too", packet(NODE_1_IP, NODE_1_IP, 30080), arrives(*BOTH, masqueraded=True)),
        ("any address of the node will do", packet(POD_B, "10.0.1.1", 30080), arrives(*BOTH, masqueraded=True)),
        ("another node's port is that node's affair", packet(POD_B, NODE_2_IP, 30080), UNTOUCHED_ON),
        ("the next port is nobody's", packet(CLIENT, NODE_1_IP, 30081), UNTOUCHED_HERE),
        ("the node port is no port of the ClusterIP", packet(CLIENT, DEMO, 30080), RESET),
        ("loopback is not served", packet(NODE_1_IP, "127.0.0.1", 30080), UNTOUCHED_HERE),
        # What nobody may expect to work
        ("the pods' port is no port of the Service", packet(POD_B, DEMO, 8080), RESET),
        ("nor is port 80 with UDP", packet(POD_B, DEMO, 80, "udp"), UNREACHABLE),
        ("the node is told as well", packet(NODE_1_IP, DEMO, 81), RESET),
        # 7. What was refused at the request is nobody's: the address that was asked for with it, and the port
        ("no Service has this address", packet(POD_B, "10.3.240.99", 80), DROPPED),
        ("no Service has this node port", packet(CLIENT, NODE_1_IP, 32767), UNTOUCHED_HERE),
        ("not for the node either", packet(NODE_1_IP, "10.3.240.99", 80), DROPPED),
        ("nor for the client", packet(CLIENT, "10.3.255.254", 80), DROPPED),
        ("an address outside of the Service range is not ours", packet(POD_B, "10.4.0.1", 80), UNTOUCHED_ON),
    ],
)  # fmt: skip
def test_on_node_1(sentence: str, sent: Packet, expected: Ends) -> None:
    check(sentence, TABLES[1], sent, expected)


@pytest.mark.parametrize(
    ("sentence", "sent", "expected"),
    [
        ("6. the other node answers as well", packet(CLIENT, NODE_2_IP, 30080, at=2), arrives(*BOTH, masqueraded=True)),
        ("a pod there is its own neighbour", packet(POD_FAR, DEMO, 80, at=2), arrives(*BOTH, masqueraded=None)),
        ("a pod's packet that only passes is left alone", packet(POD_A, POD_FAR, 8080, at=2), UNTOUCHED_ON),
    ],
)
def test_on_node_2(sentence: str, sent: Packet, expected: Ends) -> None:
    check(sentence, TABLES[2], sent, expected, at=2)


def test_a_node_that_joined_answers_though_it_has_no_pod() -> None:
    sent = packet(CLIENT, "10.100.0.4", 30080, at=3)
    check("8. node-3 leads to the pods of the others", TABLES[3], sent, arrives(*BOTH, masqueraded=True), at=3)


def test_the_answer_to_a_forwarded_packet_needs_no_rule() -> None:
    """A packet of a known connection meets no nat chain, and the filter chains look at new connections only."""
    later = Packet(packet(CLIENT, DEMO, 80).saddr, packet(CLIENT, "10.3.240.99", 80).daddr, ct_state="established")
    check("it passes", TABLES[1], later, UNTOUCHED_ON)
