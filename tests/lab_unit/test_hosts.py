"""The hosts as real namespaces: the client reaches a node over the edge, until its plug is pulled."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from build_netns import needs_namespaces
from portway.lab.hosts import Hosts
from portway.lab.topology import CLIENT, EDGE, OUTER, first_nodes, node
from portway.netns.kernel import Namespace
from portway.netns.plan import Route

pytestmark = needs_namespaces


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    hosts = Hosts()
    try:
        hosts.build(first_nodes(2))
        yield hosts
    finally:
        hosts.close()


def reaches(source: Namespace, address: str, seconds: float = 5.0) -> str:
    """ "refused" when `address` answers that nobody listens on port 9 (so the packet got there and back), else the error."""
    with source.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(seconds)  # a first packet may be lost while a new link settles; TCP repeats it after a second
        try:
            probe.connect((address, 9))
        except ConnectionRefusedError:
            return "refused"
        except OSError as e:
            return type(e).__name__ if isinstance(e, TimeoutError) else os.strerror(e.errno or 0)
    return "answered"


def test_everybody_reaches_everybody(hosts: Hosts) -> None:
    for source in (CLIENT, EDGE, "node-1", "node-2"):
        for address in ("198.51.100.10", "10.100.0.1", "10.100.0.2", "10.100.0.3"):
            assert reaches(hosts[source], address) == "refused", f"{source} to {address}"


def test_the_lab_has_no_way_out(hosts: Hosts) -> None:
    for host in (CLIENT, "node-1", EDGE):
        assert "unreachable" in reaches(hosts[host], "192.0.2.1"), host


def test_the_machine_itself_is_not_touched() -> None:
    before = socket.if_nameindex()
    hosts = Hosts()
    try:
        hosts.build(first_nodes(1))
        assert socket.if_nameindex() == before
    finally:
        hosts.close()


def test_a_node_that_is_unplugged_is_not_heard_though_somebody_holds_its_namespace(hosts: Hosts) -> None:
    held = os.dup(hosts["node-1"].fd)
    try:
        hosts.switch_off("node-1")
        assert reaches(hosts[CLIENT], "10.100.0.2", 0.3) != "refused"
        assert reaches(hosts[CLIENT], "10.100.0.3") == "refused"
        assert hosts.get("node-1") is None
        hosts.switch_off("node-1")
    finally:
        os.close(held)


def test_a_node_comes_back_with_its_address_in_a_new_namespace(hosts: Hosts) -> None:
    before = os.fstat(hosts["node-1"].fd).st_ino
    hosts["node-1"].route_add(Route("10.9.0.0/16", via="10.100.0.1"))
    hosts.switch_off("node-1")
    hosts.switch_on(node("node-1", 1))
    assert os.fstat(hosts["node-1"].fd).st_ino != before
    assert reaches(hosts[CLIENT], "10.100.0.2") == "refused"
    assert "10.9.0.0/16" not in {r.destination for r in hosts["node-1"].routes()}
    with pytest.raises(ValueError, match="is on"):
        hosts.switch_on(node("node-1", 1))


def test_a_third_node_joins(hosts: Hosts) -> None:
    hosts.switch_on(node("worker", 3))
    assert reaches(hosts["worker"], "10.100.0.2") == "refused"
    assert reaches(hosts[CLIENT], "10.100.0.4") == "refused"


def test_a_packet_that_a_node_sends_on_causes_no_redirect(hosts: Hosts) -> None:
    for host, link in ((EDGE, "eth0"), ("node-1", "eth0")):
        assert hosts[host].sysctl(f"net.ipv4.conf.{link}.send_redirects") == "0"
    assert hosts["node-1"].sysctl("net.ipv4.ip_forward") == "1"


def test_closing_lets_go_of_everything() -> None:
    before = set(os.listdir("/proc/self/fd"))
    hosts = Hosts()
    hosts.build(first_nodes(2))
    assert hosts.get(OUTER) is not None
    hosts.close()
    assert set(os.listdir("/proc/self/fd")) == before
    assert hosts.get(OUTER) is None
