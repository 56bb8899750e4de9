"""Host ports as elements of the node's table, what is warned of, and the table in a real kernel with real packets."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from build_hostports import NODE_PORTS, pod, port, table
from build_road import CLIENT, NODE, PODS, Road, Silence, road
from portway.cluster.hostports import HostPort, clash, host_ports
from portway.netlink.socket import NETLINK_NETFILTER, open_netlink
from portway.nft.canonical import canonical
from portway.nft.fake import FakeNft
from portway.nft.tables import Element, Family
from portway.nft.transaction import diff
from portway.node.flows import KernelFlows
from portway.node.hostports import ANY_ADDRESS, HAIRPIN, ONE_ADDRESS, TABLE, Reason, ports_of, uses_loopback, warnings
from portway.node.portopener import PortOpener, cleanup
from portway.node.wiring import Wiring

A, B = IPv4Address("10.0.1.2"), IPv4Address("10.0.1.3")


# Which ports a pod takes


def test_ports_are_taken_in_the_order_of_the_manifest() -> None:
    web = pod("web", port(80), port(81, 8081, "UDP", "10.100.0.2"), {"containerPort": 9})
    assert host_ports(web) == (
        HostPort(80, "tcp", "", "main", 8080),
        HostPort(81, "udp", "10.100.0.2", "main", 8081),
    )


def test_with_host_network_every_container_port_is_one() -> None:
    assert [p.port for p in host_ports(pod("web", {"containerPort": 9}, hostNetwork=True))] == [9]
    assert host_ports(pod("web", {"containerPort": 9})) == ()


def test_a_sidecar_takes_its_port_and_an_init_container_does_not() -> None:
    init = [
        {"name": "once", "ports": [port(80)]},
        {"name": "stays", "restartPolicy": "Always", "ports": [port(81)]},
    ]
    assert [(p.container, p.port) for p in host_ports(pod("web", initContainers=init))] == [("stays", 81)]


@pytest.mark.parametrize(
    ("sentence", "wanted", "held", "clashes"),
    [
        ("the same port", port(80), port(80), True),
        ("another port", port(80), port(81), False),
        ("another protocol", port(80), port(80, protocol="UDP"), False),
        ("two addresses", port(80, ip="127.0.0.1"), port(80, ip="10.100.0.2"), False),
        ("one address twice", port(80, ip="127.0.0.1"), port(80, ip="127.0.0.1"), True),
        ("all addresses against one", port(80), port(80, ip="127.0.0.1"), True),
        ("one against all", port(80, ip="127.0.0.1"), port(80), True),
        ("0.0.0.0 is all addresses", port(80, ip="0.0.0.0"), port(80, ip="10.100.0.2"), True),
        ("the container's port does not matter", port(80, 1), port(80, 2), True),
    ],
)
def test_who_is_in_the_way(sentence: str, wanted: dict[str, object], held: dict[str, object], clashes: bool) -> None:
    found = clash(pod("new", wanted), [pod("old", held)])
    assert (found is not None) is clashes, sentence


def test_a_clash_says_who_has_what() -> None:
    found = clash(pod("new", port(80, ip="127.0.0.1")), [pod("other"), pod("old", port(80))])
    assert str(found) == "host port 80/TCP of address 127.0.0.1 is held by pod shop/old (container main)"


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_finished_pod_is_in_nobodys_way(phase: str) -> None:
    assert clash(pod("new", port(80)), [pod("old", port(80), phase=phase)]) is None


# The table


def test_a_pod_is_a_few_elements() -> None:
    made = table((pod("web", port(80), port(53, 5353, "UDP", NODE)), "10.0.1.2"))
    assert made.elements == {
        ANY_ADDRESS: {("tcp", 80): Element((A, 8080), "shop/web:main")},
        ONE_ADDRESS: {(IPv4Address(NODE), "udp", 53): Element((A, 5353), "shop/web:main")},
        HAIRPIN: {(A, A, "tcp", 8080): Element(), (A, A, "udp", 5353): Element()},
    }
    assert made.chains == table().chains, "and no rule"


def test_a_host_network_pod_and_one_without_ports_are_none() -> None:
    assert ports_of(pod("agent", port(80, 80), hostNetwork=True), NODE) is None
    assert ports_of(pod("plain", {"containerPort": 80}), "10.0.1.2") is None


def test_the_table_does_not_depend_on_the_order_of_pods() -> None:
    web, dns = (pod("web", port(80)), "10.0.1.2"), (pod("dns", port(53)), "10.0.1.3")
    assert table(web, dns) == table(dns, web)


def test_who_was_first_keeps_a_port_that_two_want() -> None:
    made = table((pod("web", port(80)), "10.0.1.2"), (pod("late", port(80)), "10.0.1.3"))
    assert made.elements[ANY_ADDRESS] == {("tcp", 80): Element((A, 8080), "shop/web:main")}


def test_the_longest_names_fit_into_a_comment() -> None:
    made = table((pod("ä" * 200, port(80)), "10.0.1.2"))
    FakeNft().apply(diff(None, made))
    (element,) = made.elements[ANY_ADDRESS].values()
    assert len(element.comment.encode()) <= 127


@pytest.mark.parametrize(
    ("wanted", "loopback"),
    [(port(80), True), (port(80, ip="0.0.0.0"), True), (port(80, ip="127.0.0.1"), True), (port(80, ip=NODE), False)],
)
def test_which_pods_a_program_reaches_by_loopback(wanted: dict[str, object], loopback: bool) -> None:
    found = ports_of(pod("web", wanted), "10.0.1.2")
    assert found is not None
    assert uses_loopback(found) is loopback


# What the author is told


@pytest.mark.parametrize(
    ("wanted", "reason", "words"),
    [
        (
            port(30000),
            Reason.OVERLAP,
            "hostPort 30000/TCP of container main is in the range of node ports, 30000-32767",
        ),
        (port(32767), Reason.OVERLAP, "use a port outside of the range"),
        (port(80, ip="192.0.2.1"), Reason.NOT_HERE, "no interface of this node has hostIP 192.0.2.1"),
        (port(80, ip="fd00::1"), Reason.NO_IPV6, "hostIP fd00::1 is IPv6 and the pod's address is IPv4"),
    ],
)
def test_warnings(wanted: dict[str, object], reason: Reason, words: str) -> None:
    ((found, message),) = warnings(pod("web", wanted), node_ports=NODE_PORTS, addresses=[NODE])
    assert found is reason
    assert words in message


@pytest.mark.parametrize("wanted", [port(29999), port(32768), port(80, ip=NODE), port(80, ip="127.0.0.5"), port(80)])
def test_nothing_to_warn_of(wanted: dict[str, object]) -> None:
    assert list(warnings(pod("web", wanted), node_ports=NODE_PORTS, addresses=[NODE])) == []


def test_a_host_network_pod_is_warned_of_the_range_too() -> None:
    agent = pod("agent", port(30080, 30080, ip="192.0.2.1"), hostNetwork=True)
    assert [r for r, _ in warnings(agent, node_ports=NODE_PORTS, addresses=[NODE])] == [Reason.OVERLAP]


def test_an_ipv6_host_ip_opens_nothing() -> None:
    assert ports_of(pod("web", port(80, ip="fd00::1")), "10.0.1.2") is None


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_in_the_docs(reason: Reason) -> None:
    page = Path(__file__).parent.parent.parent / "docs" / "hostport.md"
    assert f"| `{reason}` |" in page.read_text()


# The kernel


WEB = pod("web", port(80), port(53, protocol="UDP"), port(81, ip=NODE), port(82, ip="127.0.0.1"))


@pytest.fixture
async def net() -> AsyncIterator[Road]:
    async with road() as made:
        with made.nft() as nft:
            nft.apply(diff(None, table((WEB, PODS["a"]))))
        made.hosts["node"].sysctl("net.ipv4.conf.pod-a.route_localnet", "1")
        yield made


@pytest.mark.lab
@pytest.mark.parametrize(
    ("sentence", "host", "address", "number", "expected"),
    [
        ("the pod sees the client", "client", NODE, 80, f"a {CLIENT}"),
        ("and its neighbour", "b", NODE, 80, f"a {PODS['b']}"),
        ("any address of the node", "b", "10.0.1.1", 80, f"a {PODS['b']}"),
        ("the pod itself sees the node", "a", NODE, 80, "a 10.0.1.1"),
        ("the node", "node", NODE, 80, f"a {NODE}"),
        ("the node by loopback", "node", "127.0.0.1", 80, "a 10.0.1.1"),
        ("a hostIP", "client", NODE, 81, f"a {CLIENT}"),
        ("no other address than the hostIP", "b", "10.0.1.1", 81, Silence.REFUSED),
        ("loopback alone", "node", "127.0.0.1", 82, "a 10.0.1.1"),
        ("not from outside", "client", NODE, 82, Silence.REFUSED),
        ("the next port", "client", NODE, 83, Silence.REFUSED),
    ],
)
async def test_tcp(net: Road, sentence: str, host: str, address: str, number: int, expected: str) -> None:
    assert await net.ask(host, address, number) == expected, sentence


@pytest.mark.lab
@pytest.mark.parametrize(
    ("host", "address", "expected"),
    [
        ("client", NODE, f"a {CLIENT}"),
        ("b", NODE, f"a {PODS['b']}"),
        ("a", NODE, "a 10.0.1.1"),
        ("node", "127.0.0.1", "a 10.0.1.1"),
    ],
)
async def test_udp(net: Road, host: str, address: str, expected: str) -> None:
    assert await net.ask(host, address, 53, socket.SOCK_DGRAM) == expected
    assert await net.ask("client", NODE, 80, socket.SOCK_DGRAM) == Silence.REFUSED, "TCP alone has 80"


def datagram(source: str, destination: str, number: int) -> bytes:
    """A UDP datagram "?" as a frame to everybody on the link: what a hostile pod would write by itself."""
    udp = struct.pack("!4H", 4000, number, 9, 0) + b"?"
    head = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0, *map(socket.inet_aton, (source, destination))
    )
    total = sum(struct.unpack("!10H", head))
    checksum = ~(total % 0xFFFF) & 0xFFFF
    return b"\xff" * 6 + b"\x02" * 6 + b"\x08\x00" + head[:10] + struct.pack("!H", checksum) + head[12:] + udp


@pytest.mark.lab
async def test_the_door_for_answers_to_loopback_lets_nothing_else_in(net: Road) -> None:
    loop = asyncio.get_running_loop()
    node, pod_a = net.hosts["node"], net.hosts["a"]
    frame = datagram(PODS["a"], "127.0.0.1", 9999)
    with node.socket(socket.AF_INET, socket.SOCK_DGRAM) as own, pod_a.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        own.bind(("127.0.0.1", 9999))
        own.setblocking(False)
        raw.bind(("eth0", 0x0800))
        raw.send(frame)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(loop.sock_recv(own, 10), 0.3)
        with net.nft() as nft:
            cleanup(nft)
        raw.send(frame)
        assert await asyncio.wait_for(loop.sock_recv(own, 10), 2) == b"?", "without the table it would come in"


@pytest.mark.lab
async def test_the_kernel_gives_back_what_was_compiled(net: Road) -> None:
    with net.nft() as nft:
        assert nft.read(Family.IP, TABLE) == canonical(table((WEB, PODS["a"])))
        cleanup(nft)
        assert nft.read(Family.IP, TABLE) is None
        cleanup(nft)
    assert await net.ask("client", NODE, 80) == Silence.REFUSED


@pytest.mark.lab
async def test_a_port_moves_from_pod_to_pod_and_answers_no_one_else(net: Road) -> None:
    with net.nft() as nft:
        opener = PortOpener(nft, flows_of(net))
        opener.adopt()
        assert await net.ask("client", NODE, 80) == Silence.REFUSED, "what an earlier agent had opened is closed"
        for name in "abab":
            found = ports_of(pod(name, port(80)), PODS[name])
            assert found is not None
            opener.open(name, found)
            assert set(await asyncio.gather(*(net.ask("client", NODE, 80) for _ in range(5)))) == {f"{name} {CLIENT}"}
            opener.close(name)
            assert await net.ask("client", NODE, 80) == Silence.REFUSED
        opener.stop()


def flows_of(net: Road) -> KernelFlows:
    return KernelFlows(net.hosts["node"].run(lambda: open_netlink(NETLINK_NETFILTER)))


@pytest.mark.lab
async def test_one_udp_sender_follows_the_port_from_nobody_to_pod_to_pod(net: Road) -> None:
    """It never changes its own port, so the kernel takes all its datagrams for one flow."""
    loop = asyncio.get_running_loop()
    flows = flows_of(net)
    with net.nft() as nft, net.hosts["client"].socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.connect((NODE, 53))

        async def ask() -> str:
            try:
                await loop.sock_sendall(sender, b"?")
                return (await asyncio.wait_for(loop.sock_recv(sender, 100), 1)).decode()
            except ConnectionRefusedError:
                return Silence.REFUSED

        try:
            opener = PortOpener(nft, flows)
            opener.adopt()
            assert await ask() == Silence.REFUSED
            for name in "ab":
                found = ports_of(pod(name, port(53, protocol="UDP")), PODS[name])
                assert found is not None
                opener.open(name, found)
                assert await ask() == f"{name} {CLIENT}"
                opener.close(name)
            assert await ask() == Silence.REFUSED
        finally:
            flows.close()


@pytest.mark.lab
async def test_the_wiring_knows_the_nodes_addresses(net: Road) -> None:
    wiring = Wiring(net.hosts["node"])
    assert {NODE, "10.0.1.1", "127.0.0.1"} <= wiring.own_addresses()
