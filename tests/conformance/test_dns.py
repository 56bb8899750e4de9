"""Upstream's eight [sig-network] DNS cases, by their names, on a real cluster: real pods ask by getaddrinfo, and by raw
queries over UDP and TCP as `dig` would send them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from build_manifests import Object
from lab_driver import Lab

pytestmark = pytest.mark.lab

# Inside a pod, standard library only: NAME TYPE udp|tcp [search] → the records' data, or the response code.
DIG = r"""
import json, socket, struct, sys
name, type_, proto, *search = sys.argv[1:]
number = {"A": 1, "CNAME": 5, "PTR": 12, "SRV": 33}[type_]
lines = [l.split() for l in open("/etc/resolv.conf")]
server = next(l[1] for l in lines if l[0] == "nameserver")
suffixes = next(l[1:] for l in lines if l[0] == "search") if search else []

def read(packet, at):
    labels, end = [], None
    while packet[at]:
        if packet[at] >= 192:
            end = end or at + 2
            at = struct.unpack_from("!H", packet, at)[0] & 16383
            continue
        labels.append(packet[at + 1 : at + 1 + packet[at]].decode())
        at += 1 + packet[at]
    return ".".join(labels), end or at + 1

def exactly(s, n):
    data = b""
    while len(data) < n:
        data += s.recv(n - len(data))
    return data

def exchange(query):
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM if proto == "tcp" else socket.SOCK_DGRAM) as s:
        s.settimeout(2)
        s.connect((server, 53))
        if proto == "udp":
            s.send(query)
            return s.recv(4096)
        s.sendall(struct.pack("!H", len(query)) + query)
        return exactly(s, struct.unpack("!H", exactly(s, 2))[0])

def ask(name):
    wire = b"".join(bytes((len(l),)) + l.encode() for l in name.split(".")) + b"\0"
    packet = exchange(b"\x12\x34\1\0\0\1\0\0\0\0\0\0" + wire + struct.pack("!HH", number, 1))
    rcode, count = packet[3] & 15, struct.unpack_from("!H", packet, 6)[0]
    at, found = 12 + len(wire) + 4, []
    for _ in range(count):
        _, at = read(packet, at)
        kind, _, _, length = struct.unpack_from("!HHIH", packet, at)
        at += 10
        if kind == number:
            if kind == 1:
                found.append(socket.inet_ntoa(packet[at : at + 4]))
            elif kind == 33:
                found.append("%d " % struct.unpack_from("!H", packet, at + 4) + read(packet, at + 6)[0])
            else:
                found.append(read(packet, at)[0])
        at += length
    return sorted(found) if rcode == 0 else rcode

answers = [ask(n) for n in ([f"{name}.{s}" for s in suffixes] or [name])]
print(json.dumps(next((a for a in answers if isinstance(a, list) and a), answers[-1])))
"""

LOOK_UP = "import socket, sys; print(*sorted({r[4][0] for r in socket.getaddrinfo(sys.argv[1], 80)}))"
ALL_READY = ("--for=condition=Ready", "--timeout=20s")


def pod(name: str, labels: dict[str, str] | None = None, **spec: Any) -> Object:
    probe = {"exec": {"command": ["true"]}, "periodSeconds": 1}
    command = ["/bin/bash", "-c", "exec python3 -m http.server 80"]
    container = {"name": "querier", "image": "python:3.11", "command": command, "readinessProbe": probe}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0, **spec},
    }


def service(name: str, **spec: Any) -> Object:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


class Querier:
    """A pod that asks."""

    def __init__(self, lab: Lab, namespace: str, name: str) -> None:
        self.lab, self.namespace, self.name = lab, namespace, name

    def sh(self, *command: str) -> str:
        return self.lab.kubectl("exec", "-n", self.namespace, self.name, "--", *command).strip()

    def dig(self, name: str, type_: str = "A", proto: str = "udp", *, search: bool = False) -> Any:
        return json.loads(self.sh("python3", "-c", DIG, name, type_, proto, *(["search"] if search else [])))

    def look_up(self, name: str) -> str:
        return self.sh("python3", "-c", LOOK_UP, name)

    def both(self, name: str, expected: list[str], type_: str = "A", *, search: bool = False) -> None:
        """Over UDP and TCP, and from then on: what was just written may take a moment."""
        for proto in ("udp", "tcp"):
            what = f"{type_} {name} over {proto}"
            self.lab.eventually(what, lambda p=proto: self.dig(name, type_, p, search=search) == sorted(expected))  # type: ignore[misc]


def start(lab: Lab, namespace: str, *pods: Object) -> list[Querier]:
    lab.apply(namespace, *pods)
    names = [str(p["metadata"]["name"]) for p in pods]
    lab.kubectl("wait", "-n", namespace, *(f"pod/{n}" for n in names), *ALL_READY)
    return [Querier(lab, namespace, name) for name in names]


def ip(lab: Lab, namespace: str, kind: str, name: str) -> str:
    found = lab.get(kind, name, "-n", namespace)
    return str(found["spec"]["clusterIP"] if kind == "service" else found["status"]["podIP"])


def test_should_provide_dns_for_the_cluster(lab: Lab, namespace: str) -> None:
    """DNS should provide DNS for the cluster [Conformance]"""
    (querier,) = start(lab, namespace, pod("dns-test"))
    for name in ("kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"):
        querier.both(name, ["10.3.240.1"], search=not name.endswith(".local"))
        assert querier.look_up(name) == "10.3.240.1"
    own = ip(lab, namespace, "pod", "dns-test")
    querier.both(f"{own.replace('.', '-')}.{namespace}.pod.cluster.local", [own])
    querier.both("1.240.3.10.in-addr.arpa", ["kubernetes.default.svc.cluster.local"], "PTR")


def test_should_provide_etc_hosts_entries_for_the_cluster(lab: Lab, namespace: str) -> None:
    """DNS should provide /etc/hosts entries for the cluster [Conformance]"""
    lab.apply(namespace, service("dns-test-service", clusterIP="None", selector={"dns-test": "true"}))
    (querier,) = start(
        lab,
        namespace,
        pod("dns-test", {"dns-test": "true"}, hostname="dns-querier-1", subdomain="dns-test-service"),
    )
    own = ip(lab, namespace, "pod", "dns-test")
    full = f"dns-querier-1.dns-test-service.{namespace}.svc.cluster.local"
    for name in (full, "dns-querier-1"):
        assert querier.sh("getent", "-s", "files", "hosts", name).split()[0] == own


def test_should_provide_dns_for_services(lab: Lab, namespace: str) -> None:
    """DNS should provide DNS for services [Conformance]"""
    selector, ports = {"dns-test": "true"}, [{"name": "http", "port": 80, "protocol": "TCP"}]
    lab.apply(
        namespace,
        service("dns-test-service", clusterIP="None", selector=selector, ports=ports),
        service("test-service-2", selector=selector, ports=ports),
    )
    querier, other = start(lab, namespace, pod("dns-test", selector), pod("dns-other", selector))
    pods = [ip(lab, namespace, "pod", q.name) for q in (querier, other)]
    cluster_ip = ip(lab, namespace, "service", "test-service-2")
    for suffix in ("", f".{namespace}", f".{namespace}.svc"):
        querier.both(f"dns-test-service{suffix}", pods, search=True)
    zone = f"{namespace}.svc.cluster.local"
    targets = [f"80 {p.replace('.', '-')}.dns-test-service.{zone}" for p in pods]
    querier.both(f"_http._tcp.dns-test-service.{namespace}.svc", targets, "SRV", search=True)
    querier.both(f"_http._tcp.test-service-2.{namespace}.svc", [f"80 test-service-2.{zone}"], "SRV", search=True)
    querier.both(reverse(cluster_ip), [f"test-service-2.{zone}"], "PTR")
    querier.both(reverse(pods[1]), [f"{pods[1].replace('.', '-')}.dns-test-service.{zone}"], "PTR")
    assert querier.look_up("test-service-2") == cluster_ip
    fetched = "import urllib.request as u; print(u.urlopen('http://test-service-2/', timeout=5).status)"
    assert querier.sh("python3", "-c", fetched) == "200"


def reverse(address: str) -> str:
    return ".".join(reversed(address.split("."))) + ".in-addr.arpa"


def test_should_provide_dns_for_pods_for_hostname(lab: Lab, namespace: str) -> None:
    """DNS should provide DNS for pods for Hostname [Conformance]"""
    selector = {"dns-test-hostname-attribute": "true"}
    lab.apply(namespace, service("dns-test-service-2", clusterIP="None", selector=selector, ports=[{"port": 80}]))
    described = pod("dns-test", selector, hostname="dns-querier-2", subdomain="dns-test-service-2")
    querier, other = start(lab, namespace, described, pod("other"))
    own = ip(lab, namespace, "pod", "dns-test")
    full = f"dns-querier-2.dns-test-service-2.{namespace}.svc.cluster.local"
    assert querier.sh("getent", "-s", "files", "hosts", "dns-querier-2").split()[0] == own
    assert querier.sh("hostname", "-f") == full
    for one in (querier, other):
        one.both(full, [own])
        assert one.look_up(full) == own


def test_should_provide_dns_for_pods_for_subdomain(lab: Lab, namespace: str) -> None:
    """DNS should provide DNS for pods for Subdomain [Conformance]"""
    selector = {"dns-test-hostname-attribute": "true"}
    lab.apply(namespace, service("dns-test-service-2", clusterIP="None", selector=selector, ports=[{"port": 80}]))
    described = pod("dns-test", selector, hostname="dns-querier-2", subdomain="dns-test-service-2")
    (querier,) = start(lab, namespace, described)
    own = ip(lab, namespace, "pod", "dns-test")
    for name in ("dns-querier-2.dns-test-service-2", "dns-test-service-2"):
        querier.both(f"{name}.{namespace}.svc.cluster.local", [own])


def test_should_provide_dns_for_external_name_services(lab: Lab, namespace: str) -> None:
    """DNS should provide DNS for ExternalName services [Conformance]"""
    lab.apply(namespace, service("dns-test-service-3", type="ExternalName", externalName="foo.example.com"))
    (querier,) = start(lab, namespace, pod("dns-test"))
    full = f"dns-test-service-3.{namespace}.svc.cluster.local"
    querier.both(full, ["foo.example.com"], "CNAME")
    patch(lab, namespace, externalName="bar.example.com")
    querier.both(full, ["bar.example.com"], "CNAME")
    patch(lab, namespace, externalName="kubernetes.default.svc.cluster.local")
    querier.both(full, ["10.3.240.1"])
    assert querier.look_up("dns-test-service-3") == "10.3.240.1", "an alias into the cluster is followed"
    patch(lab, namespace, type="ClusterIP", externalName=None, ports=[{"port": 80, "name": "http", "protocol": "TCP"}])
    querier.both(full, [ip(lab, namespace, "service", "dns-test-service-3")])


def patch(lab: Lab, namespace: str, **spec: Any) -> None:
    body = json.dumps({"spec": spec})
    lab.kubectl("patch", "service", "dns-test-service-3", "-n", namespace, "--type=merge", "-p", body)


def test_should_support_configurable_pod_dns_nameservers(lab: Lab, namespace: str) -> None:
    """DNS should support configurable pod DNS nameservers [Conformance]"""
    config = {
        "nameservers": ["192.0.2.53"],
        "searches": ["resolv.conf.local"],
        "options": [{"name": "ndots", "value": "2"}],
    }
    querier, added = start(
        lab, namespace, pod("dns-test", dnsPolicy="None", dnsConfig=config), pod("added", dnsConfig=config)
    )
    own = "search resolv.conf.local\nnameserver 192.0.2.53\noptions ndots:2"
    assert querier.sh("cat", "/etc/resolv.conf") == own
    search = f"{namespace}.svc.cluster.local svc.cluster.local cluster.local resolv.conf.local"
    both = f"search {search}\nnameserver 10.3.240.10\nnameserver 192.0.2.53\noptions ndots:2"
    assert added.sh("cat", "/etc/resolv.conf") == both


def test_should_resolve_dns_of_partial_qualified_names_for_services(lab: Lab, namespace: str) -> None:
    """DNS should resolve DNS of partial qualified names for services [LinuxOnly] [Conformance]"""
    selector, ports = {"dns-test": "true"}, [{"name": "http", "port": 80, "protocol": "TCP"}]
    lab.apply(
        namespace,
        service("dns-test-service", clusterIP="None", selector=selector, ports=ports),
        service("test-service-2", selector=selector, ports=ports),
    )
    (querier,) = start(lab, namespace, pod("dns-test", selector))
    expected = {
        "dns-test-service": ip(lab, namespace, "pod", "dns-test"),
        "test-service-2": ip(lab, namespace, "service", "test-service-2"),
    }
    for name, address in expected.items():
        for suffix in ("", f".{namespace}", f".{namespace}.svc"):
            querier.both(f"{name}{suffix}", [address], search=True)
            assert querier.look_up(f"{name}{suffix}") == address
        target = f"{address.replace('.', '-')}.{name}" if name == "dns-test-service" else name
        srv = [f"80 {target}.{namespace}.svc.cluster.local"]
        querier.both(f"_http._tcp.{name}.{namespace}.svc", srv, "SRV", search=True)
