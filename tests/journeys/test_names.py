"""A question for a name on its way: from a pod to `kube-dns`, and what the table of its node does to it."""

from __future__ import annotations

import msgspec
import pytest

from build_journey import CLIENT, NODE_1_IP, NODE_2_IP, POD_A, UNREACHABLE, Ends, check, packet
from build_journey import host as host_of
from build_proxy import port, ruleset, service
from portway.dns.announce import slice_of
from portway.nft.tables import Ruleset
from portway.nft.walk import End, Packet, outcomes
from portway.objects.core import Node
from portway.objects.discovery import EndpointSlice

DNS = "10.3.240.10"


def node(name: str, address: str, ready: str = "True") -> Node:
    addresses = [{"type": "InternalIP", "address": address}]
    status = {"addresses": addresses, "conditions": [{"type": "Ready", "status": ready}]}
    return msgspec.convert({"metadata": {"name": name}, "status": status}, Node)


def table_of(*nodes: Node) -> Ruleset:
    written = msgspec.convert(slice_of(nodes), EndpointSlice)
    return ruleset(service("kube-system/kube-dns", DNS, port(53, "dns", "UDP"), port(53, "dns-tcp")), written)


HERE = table_of(node("node-1", NODE_1_IP), node("node-2", NODE_2_IP, "False"))
NOWHERE = table_of(node("node-1", NODE_1_IP, "Unknown"))


@pytest.mark.parametrize(
    ("sentence", "sent"),
    [
        ("a pod's question", packet(POD_A, DNS, 53, "udp")),
        ("the same over TCP, after an answer that was cut", packet(POD_A, DNS, 53)),
        ("the node's own", packet(NODE_1_IP, DNS, 53, "udp")),
    ],
)
def test_a_question_reaches_an_agent_of_a_node_that_is_ready(sentence: str, sent: Packet) -> None:
    found = outcomes(HERE, sent, host_of())
    assert {o.end for o in found} == {End.LOCAL}, sentence
    assert {f"{o.dnat[0]}:{o.dnat[1]}" for o in found if o.dnat} == {f"{NODE_1_IP}:10053"}, sentence


@pytest.mark.parametrize("source", [POD_A, CLIENT])
def test_without_a_ready_node_it_is_refused_at_once(source: str) -> None:
    check("a resolver need not wait", NOWHERE, packet(source, DNS, 53, "udp"), UNREACHABLE)


def test_the_agents_own_port_is_open_to_the_node_network() -> None:
    """Who asks a node directly, past the Service, is answered as well."""
    check("no rule", HERE, packet(CLIENT, NODE_1_IP, 10053, "udp"), Ends(End.LOCAL))
