"""Services that Kubernetes would refuse, and the sentence that it refuses them with; `[]` are those that it takes."""

from __future__ import annotations

from typing import Any

import pytest

from build_pure import problems, service

Json = dict[str, Any]
PORT_RANGE = "must be between 1 and 65535, inclusive"
IP = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"


def one(**port: Any) -> Json:
    return service(ports=[{"port": 80} | port])


ROWS: list[tuple[str, Json, list[str]]] = [
    ("the plainest Service", service(), []),
    ("no ports", service(ports=[]), ["spec.ports: Required value"]),
    ("no ports and headless", service(ports=[], clusterIP="None"), []),
    ("no ports and an external name", service(ports=[], type="ExternalName", externalName="a.b"), []),
    (
        "port 0",
        one(port=0, targetPort=1),
        [f"spec.ports[0].port: Invalid value: 0: {PORT_RANGE}"],
    ),
    ("port 65536", one(port=65536, targetPort=1), [f"spec.ports[0].port: Invalid value: 65536: {PORT_RANGE}"]),
    ("a target port by name", one(targetPort="http"), []),
    (
        "a target port by a bad name",
        one(targetPort="HTTP"),
        [
            'spec.ports[0].targetPort: Invalid value: "HTTP": '
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"  # codespell:ignore
        ],
    ),
    (
        "a target port by a name of digits",
        one(targetPort="8080"),
        ['spec.ports[0].targetPort: Invalid value: "8080": must contain at least one letter (a-z)'],
    ),
    (
        "a target port by a long name",
        one(targetPort="a" * 16),
        [f'spec.ports[0].targetPort: Invalid value: "{"a" * 16}": must be no more than 15 characters'],
    ),
    (
        "an unknown protocol",
        one(protocol="tcp"),
        ['spec.ports[0].protocol: Unsupported value: "tcp": supported values: "SCTP", "TCP", "UDP"'],
    ),
    (
        "two ports without names",
        service(ports=[{"port": 80}, {"port": 81}]),
        ["spec.ports[0].name: Required value", "spec.ports[1].name: Required value"],
    ),
    (
        "two ports of one name",
        service(ports=[{"port": 80, "name": "a"}, {"port": 81, "name": "a"}]),
        ['spec.ports[1].name: Duplicate value: "a"'],
    ),
    (
        "two ports of one number and protocol",
        service(ports=[{"port": 80, "name": "a"}, {"port": 80, "name": "b"}]),
        ['spec.ports[1]: Duplicate value: {"port":80,"protocol":"TCP"}'],
    ),
    (
        "one number for TCP and UDP",
        service(ports=[{"port": 53, "name": "a"}, {"port": 53, "name": "b", "protocol": "UDP"}]),
        [],
    ),
    (
        "an unknown type",
        service(type="Foo"),
        [
            'spec.type: Unsupported value: "Foo": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"'
        ],
    ),
    (
        "a node port without the type",
        one(nodePort=30000),
        ["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
    ),
    (
        "a node port with the type",
        one(nodePort=30000) | {"spec": {"type": "NodePort", "ports": [{"port": 1, "nodePort": 30000}]}},
        [],
    ),
    (
        "one node port twice",
        service(
            type="NodePort",
            ports=[{"port": 1, "name": "a", "nodePort": 30000}, {"port": 2, "name": "b", "nodePort": 30000}],
        ),
        ["spec.ports[1].nodePort: Duplicate value: 30000"],
    ),
    ("a cluster IP that is none", service(clusterIP="x"), [f'spec.clusterIPs[0]: Invalid value: "x": {IP}']),
    (
        "an octet with a leading zero",
        service(clusterIP="10.3.240.010"),
        [f'spec.clusterIPs[0]: Invalid value: "10.3.240.010": {IP}'],
    ),
    (
        "cluster IPs that contradict each other",
        service(clusterIP="10.3.240.9", clusterIPs=["10.3.240.8"]),
        ['spec.clusterIPs: Invalid value: ["10.3.240.8"]: first value must match `clusterIP`'],
    ),
    (
        "headless with node ports",
        service(type="NodePort", clusterIP="None"),
        ["spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services"],
    ),
    ("an external name without a name", service(type="ExternalName"), ["spec.externalName: Required value"]),
    ("an external name with a dot at the end", service(type="ExternalName", externalName="a.b."), []),
    (
        "an external name with a cluster IP",
        service(type="ExternalName", externalName="a.b", clusterIP="10.3.240.9"),
        ["spec.clusterIP: Forbidden: may not be set for ExternalName services"],
    ),
    (
        "an unknown affinity",
        service(sessionAffinity="Cookie"),
        ['spec.sessionAffinity: Unsupported value: "Cookie": supported values: "ClientIP", "None"'],
    ),
    ("affinity by client", service(sessionAffinity="ClientIP"), []),
    (
        "affinity for more than a day",
        service(sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": 86401}}),
        [
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 86401: must be greater than 0 and less than "
            "86400"
        ],
    ),
    (
        "an external traffic policy that nobody can meet",
        service(externalTrafficPolicy="Local"),
        [
            'spec.externalTrafficPolicy: Invalid value: "Local": may only be set for externally-accessible services',
        ],
    ),
    (
        "an unknown external traffic policy",
        service(type="NodePort", externalTrafficPolicy="Near"),
        ['spec.externalTrafficPolicy: Unsupported value: "Near": supported values: "Cluster", "Local"'],
    ),
    (
        "an unknown internal traffic policy",
        service(internalTrafficPolicy="Near"),
        ['spec.internalTrafficPolicy: Unsupported value: "Near": supported values: "Cluster", "Local"'],
    ),
    (
        "source ranges without a load balancer",
        service(loadBalancerSourceRanges=["10.0.0.0/8"]),
        ["spec.loadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'"],
    ),
    (
        "a source range that is an address",
        service(type="LoadBalancer", loadBalancerSourceRanges=["10.0.0.1"]),
        [
            'spec.loadBalancerSourceRanges[0]: Invalid value: "10.0.0.1": must be a valid CIDR value, (e.g. 10.9.8.0/24 or '
            "2001:db8::/64)"
        ],
    ),
    (
        "the kubelet's port behind a load balancer",
        service(type="LoadBalancer", ports=[{"port": 10250}]),
        ["spec.ports[0].port: Invalid value: 10250: may not expose port 10250 externally since it is used by kubelet"],
    ),
    (
        "a health check port without its policy",
        service(type="LoadBalancer", healthCheckNodePort=30001),
        [
            "spec.healthCheckNodePort: Invalid value: 30001: may only be set when `type` is 'LoadBalancer' and "
            "`externalTrafficPolicy` is 'Local'"
        ],
    ),
    (
        "an external IP that is loopback",
        service(externalIPs=["127.0.0.1"]),
        ['spec.externalIPs[0]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)'],
    ),
    (
        "an unknown distribution",
        service(trafficDistribution="Far"),
        [
            'spec.trafficDistribution: Unsupported value: "Far": supported values: "PreferClose", "PreferSameNode", '
            '"PreferSameZone"'
        ],
    ),
]


@pytest.mark.parametrize(("obj", "sentences"), [pytest.param(o, e, id=s) for s, o, e in ROWS])
def test_a_new_service(obj: Json, sentences: list[str]) -> None:
    assert problems(obj) == sentences


UPDATES: list[tuple[str, Json, Json, list[str]]] = [
    ("nothing changes", service(clusterIP="10.3.240.9"), service(clusterIP="10.3.240.9"), []),
    (
        "another cluster IP",
        service(clusterIP="10.3.240.8"),
        service(clusterIP="10.3.240.9"),
        ['spec.clusterIPs[0]: Invalid value: "10.3.240.8": may not change once set'],
    ),
    (
        "no cluster IP any more",
        service(),
        service(clusterIP="10.3.240.9"),
        ['spec.clusterIPs[0]: Invalid value: "": primary clusterIP can not be unset'],
    ),
    (
        "it becomes an external name",
        service(type="ExternalName", externalName="a.b"),
        service(clusterIP="10.3.240.9"),
        [],
    ),
    (
        "another load balancer class",
        service(type="LoadBalancer", loadBalancerClass="a/b"),
        service(type="LoadBalancer", loadBalancerClass="a/c"),
        ['spec.loadBalancerClass: Invalid value: "a/b": may not change once set'],
    ),
    (
        "a load balancer class after the fact",
        service(type="LoadBalancer", loadBalancerClass="a/b"),
        service(type="LoadBalancer"),
        ['spec.loadBalancerClass: Invalid value: "a/b": may not change once set'],
    ),
    (
        "another health check port",
        service(type="LoadBalancer", externalTrafficPolicy="Local", healthCheckNodePort=30002),
        service(type="LoadBalancer", externalTrafficPolicy="Local", healthCheckNodePort=30001),
        ["spec.healthCheckNodePort: Invalid value: 30002: field is immutable"],
    ),
    (
        "a health check port that comes with the policy",
        service(type="LoadBalancer", externalTrafficPolicy="Local", healthCheckNodePort=30002),
        service(type="LoadBalancer", externalTrafficPolicy="Cluster"),
        [],
    ),
]


@pytest.mark.parametrize(("new", "old", "sentences"), [pytest.param(n, o, e, id=s) for s, n, o, e in UPDATES])
def test_an_update_of_a_service(new: Json, old: Json, sentences: list[str]) -> None:
    assert problems(new, old) == sentences


INGRESS = "status.loadBalancer.ingress"
STATUSES: list[tuple[str, str, Json, list[str]]] = [
    ("an address", "LoadBalancer", {"ip": "203.0.113.1", "ipMode": "VIP"}, []),
    ("a name", "LoadBalancer", {"hostname": "a.b"}, []),
    ("an address that is none", "LoadBalancer", {"ip": "x"}, [f'{INGRESS}[0].ip: Invalid value: "x": {IP}']),
    (
        "a mode without an address",
        "LoadBalancer",
        {"hostname": "a.b", "ipMode": "VIP"},
        [f"{INGRESS}[0].ipMode: Forbidden: may not be specified when `ip` is not set"],
    ),
    (
        "an address for a plain Service",
        "ClusterIP",
        {"ip": "203.0.113.1"},
        [f'{INGRESS}: Forbidden: may only be used when `spec.type` is "LoadBalancer"'],
    ),
]


@pytest.mark.parametrize(("kind", "entry", "sentences"), [pytest.param(k, e, w, id=s) for s, k, e, w in STATUSES])
def test_the_status_of_a_service(kind: str, entry: Json, sentences: list[str]) -> None:
    obj = service(type=kind) | {"status": {"loadBalancer": {"ingress": [entry]}}}
    assert problems(obj, service(type=kind), "status") == sentences
