"""Every node answers for `kube-dns`, also while nodes come and go. (What the names are: tests/dns, tests/conformance.)"""

from __future__ import annotations

import sys
from collections import Counter

import pytest

from lab_driver import Lab

pytestmark = pytest.mark.lab

# SERVER PORT COUNT: ask as often over UDP and once over TCP, and print each answer's address or what went wrong.
ASK = """
import sys, dns.message, dns.query
server, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for ask in [dns.query.udp] * count + [dns.query.tcp]:
    try:
        asked = dns.message.make_query("kubernetes.default.svc.cluster.local", "A")
        print(ask(asked, server, port=port, timeout=1).answer[0][0])
    except Exception as e:
        print(type(e).__name__)
"""


def ask(lab: Lab, host: str, server: str = "10.3.240.10", port: int = 53, count: int = 10) -> Counter[str]:
    command = (sys.executable, "-c", ASK, server, str(port), str(count))
    return Counter(lab.portway("exec", host, "--", *command).stdout.split())


def endpoints(lab: Lab) -> dict[str, bool]:
    found = lab.get("endpointslice", "kube-dns", "-n", "kube-system")["endpoints"]
    return {e["nodeName"]: e["conditions"]["ready"] for e in found}


@pytest.mark.parametrize("host", ["node-1", "node-2"])
def test_names_are_answered_on_every_node_and_by_every_node(lab: Lab, host: str) -> None:
    for server, port in (("10.3.240.10", 53), ("10.100.0.2", 10053), ("10.100.0.3", 10053)):
        assert ask(lab, host, server, port) == {"10.3.240.1": 11}


def test_a_node_that_leaves_is_asked_no_more_and_one_that_comes_back_is(lab: Lab) -> None:
    lab.portway("node", "stop", "node-2")
    try:
        lab.eventually("node-2 is not ready", lambda: endpoints(lab) == {"node-1": True, "node-2": False})
        lab.eventually("node-1 asks itself", lambda: ask(lab, "node-1") == {"10.3.240.1": 11})
    finally:
        lab.portway("node", "start", "node-2")
    lab.eventually("node-2 is ready", lambda: endpoints(lab) == {"node-1": True, "node-2": True})
    assert ask(lab, "node-2") == {"10.3.240.1": 11}


def test_the_slice_of_kube_dns_is_restored(lab: Lab) -> None:
    lab.kubectl("delete", "endpointslice", "kube-dns", "-n", "kube-system")
    lab.eventually(
        "written again",
        lambda: lab.kubectl_run("get", "endpointslice", "kube-dns", "-n", "kube-system").returncode == 0,
    )
    lab.eventually("in use", lambda: ask(lab, "node-1") == {"10.3.240.1": 11})
