"""7. Past the Services: a host port leads from one node straight to the pod, and the pod sees who asked.

Packets walk through the node agent's own table; the last test puts it beside the proxy's, as on a node.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from build_hostports import pod, port, table
from build_journey import (
    CLIENT,
    DROPPED,
    EDGE,
    NODE_1_IP,
    NODE_2_IP,
    POD_A,
    POD_B,
    POD_FAR,
    UNTOUCHED_HERE,
    UNTOUCHED_ON,
    Ends,
    arrives,
    check,
    packet,
)
from build_proxy import endpoint, ruleset, service, slice_of
from build_proxy import port as service_port
from portway.nft.tables import Ruleset
from portway.nft.walk import Packet

WEB = pod("web", port(80), port(53, 5353, "UDP"), port(8443, 443, ip=NODE_1_IP), port(9000, 9001, ip="127.0.0.1"))
NODE_1 = table((WEB, POD_A))
NODE_2 = table()


def by_loopback(number: int) -> Packet:
    """A program of the node asks 127.0.0.1."""
    return replace(packet("127.0.0.1", "127.0.0.1", number), iif="")


@pytest.mark.parametrize(
    ("sentence", "sent", "expected"),
    [
        ("the client reaches the pod, and the pod sees the client", packet(CLIENT, NODE_1_IP, 80), arrives(f"{POD_A}:8080")),
        ("so does the edge", packet(EDGE, NODE_1_IP, 80), arrives(f"{POD_A}:8080")),
        ("so does a pod of the other node", packet(POD_FAR, NODE_1_IP, 80), arrives(f"{POD_A}:8080")),
        ("and the other node", packet(NODE_2_IP, NODE_1_IP, 80), arrives(f"{POD_A}:8080")),
        ("and a neighbour", packet(POD_B, NODE_1_IP, 80), arrives(f"{POD_A}:8080")),
        ("any address of the node will do", packet(POD_B, "10.0.1.1", 80), arrives(f"{POD_A}:8080")),
        ("the pod itself is answered by the node, for it would not know an answer from itself",
         packet(POD_A, NODE_1_IP, 80), arrives(f"{POD_A}:8080", masqueraded=True)),
        ("the node reaches it by its own address", packet(NODE_1_IP, NODE_1_IP, 80), arrives(f"{POD_A}:8080")),
        ("the node reaches it by loopback, with an address that the pod can answer",
         by_loopback(80), arrives(f"{POD_A}:8080", masqueraded=True)),
        # Protocols
        ("UDP has its own target", packet(CLIENT, NODE_1_IP, 53, "udp"), arrives(f"{POD_A}:5353")),
        ("80 is not open for UDP", packet(CLIENT, NODE_1_IP, 80, "udp"), UNTOUCHED_HERE),
        ("53 is not open for TCP", packet(CLIENT, NODE_1_IP, 53), UNTOUCHED_HERE),
        # hostIP
        ("a hostIP opens that address", packet(CLIENT, NODE_1_IP, 8443), arrives(f"{POD_A}:443")),
        ("and no other", packet(POD_B, "10.0.1.1", 8443), UNTOUCHED_HERE),
        ("nor loopback", by_loopback(8443), UNTOUCHED_HERE),
        ("hostIP 127.0.0.1 is for the node", by_loopback(9000), arrives(f"{POD_A}:9001", masqueraded=True)),
        ("also when the program has bound the node's address", packet(NODE_1_IP, "127.0.0.1", 9000), arrives(f"{POD_A}:9001")),
        ("and for nobody else", packet(CLIENT, NODE_1_IP, 9000), UNTOUCHED_HERE),
        # What is not opened
        ("the next port is nobody's", packet(CLIENT, NODE_1_IP, 81), UNTOUCHED_HERE),
        ("the container's port is not the node's", packet(CLIENT, NODE_1_IP, 8080), UNTOUCHED_HERE),
        ("the same port of the other node is that node's affair", packet(POD_B, NODE_2_IP, 80), UNTOUCHED_ON),
        ("the pod's own port is reached as ever", packet(POD_FAR, POD_A, 8080), UNTOUCHED_ON),
    ],
)  # fmt: skip
def test_on_the_node_of_the_pod(sentence: str, sent: Packet, expected: Ends) -> None:
    check(sentence, NODE_1, sent, expected)


def test_no_other_node_opens_it() -> None:
    sent = packet(CLIENT, NODE_2_IP, 80, at=2)
    check("no pod is there, and no process listens", NODE_2, sent, UNTOUCHED_HERE, at=2)


def test_a_host_ip_of_another_node_catches_nothing_that_passes() -> None:
    wrong = table((pod("wrong", port(80, ip=NODE_2_IP)), POD_A))
    check("it goes to the other node", wrong, packet(POD_B, NODE_2_IP, 80), UNTOUCHED_ON)


@pytest.mark.parametrize(("sender", "iif"), [(POD_A, f"veth-{POD_A}"), (CLIENT, "eth0")])
def test_loopback_stays_the_nodes_own(sender: str, iif: str) -> None:
    """route_localnet, which the answers need, would let a neighbour ask programs that listen on 127.0.0.1 only."""
    sent = replace(packet(sender, "127.0.0.1", 22), iif=iif)
    check("dropped", NODE_1, sent, DROPPED)
    check("an answer passes", NODE_1, replace(sent, ct_state="established"), UNTOUCHED_HERE)
    check("the node itself is not asked", NODE_1, by_loopback(22), UNTOUCHED_HERE)


def beside_the_proxy(mine: Ruleset, proxied: Ruleset) -> Ruleset:
    """Both tables as one: what the kernel sees, since chains of all tables run by hook and priority."""
    return replace(
        proxied,
        sets=(*proxied.sets, *mine.sets),
        chains=(*proxied.chains, *mine.chains),
        elements={**proxied.elements, **mine.elements},
    )


def test_a_number_that_a_service_has_is_the_services() -> None:
    mine = table((pod("web", port(30080), port(30081)), POD_A))
    proxied = ruleset(
        service("shop/other", "10.3.240.9", service_port(80, "http", node_port=30080)),
        slice_of("shop/other", endpoint(POD_FAR, node="node-2"), ports={"http": 8080}),
    )
    both = beside_the_proxy(mine, proxied)
    assert len({c.name for c in both.chains}) == len(both.chains), "no name is in both tables"
    check(
        "the Service is asked first",
        both,
        packet(CLIENT, NODE_1_IP, 30080),
        arrives(f"{POD_FAR}:8080", masqueraded=True),
    )
    check("a number without a Service is the pod's", both, packet(CLIENT, NODE_1_IP, 30081), arrives(f"{POD_A}:8080"))
    check("a ClusterIP is not disturbed", both, packet(POD_B, "10.3.240.9", 80), arrives(f"{POD_FAR}:8080"))
