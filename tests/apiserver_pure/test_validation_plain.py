"""Metadata of every kind, endpoints, and the plain kinds: what is refused, and with which sentence."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from build_pure import plain, problems, service
from portway.apiserver.validation import formats
from portway.objects.kinds import (
    CONFIG_MAP,
    ENDPOINT_SLICE,
    ENDPOINTS,
    EVENT,
    KINDS,
    LEASE,
    NAMESPACE,
    NODE,
    SECRET,
    Kind,
)

Json = dict[str, Any]


def named(kind: Kind, **metadata: Any) -> Json:
    obj = plain(kind)
    obj["metadata"] |= metadata
    return obj


IMMUTABLE = "field is immutable"
NOT_BOTH = 'Only one reference can have Controller set to true. Found "true" in references for a and b'


def owner(name: str, **fields: Any) -> Json:
    return {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": "u"} | fields


METADATA: list[tuple[str, Json, list[str]]] = [
    ("a plain name", named(CONFIG_MAP, name="kube-root-ca.crt"), []),
    ("no name", named(CONFIG_MAP, name=""), ["metadata.name: Required value: name or generateName is required"]),
    ("a prefix in place of a name", named(CONFIG_MAP, name="", generateName="web-"), []),
    ("capitals", named(CONFIG_MAP, name="Web"), [f'metadata.name: Invalid value: "Web": {formats.SUBDOMAIN_WORDS}']),
    ("a long name", named(CONFIG_MAP, name="a" * 254), [
        f'metadata.name: Invalid value: "{"a" * 254}": must be no more than 253 bytes'
    ]),
    ("a Namespace with a dot", named(NAMESPACE, name="a.b"), [
        f'metadata.name: Invalid value: "a.b": {formats.LABEL_WORDS}'
    ]),
    ("no namespace", named(CONFIG_MAP, namespace=""), ["metadata.namespace: Required value"]),
    ("a namespace for a cluster-wide kind", named(NODE, namespace="a"), [
        "metadata.namespace: Forbidden: not allowed on this type"
    ]),
    ("a label's key with a prefix", named(CONFIG_MAP, labels={"a.b/c_d": "E.f"}), []),
    ("a label's key of nothing", named(CONFIG_MAP, labels={"": "x"}), [
        'metadata.labels: Invalid value: "": name part must be non-empty'
    ]),
    ("a label's key with an empty prefix", named(CONFIG_MAP, labels={"/a": "x"}), [
        'metadata.labels: Invalid value: "/a": prefix part must be non-empty'
    ]),
    ("a label's value with a space", named(CONFIG_MAP, labels={"a": "b c"}), [
        f'metadata.labels: Invalid value: "b c": {formats.LABEL_VALUE_WORDS}'
    ]),
    ("a label's value that is long", named(CONFIG_MAP, labels={"a": "b" * 64}), [
        f'metadata.labels: Invalid value: "{"b" * 64}": must be no more than 63 bytes'
    ]),
    ("annotations of more than 256 KiB", named(CONFIG_MAP, annotations={"a": "b" * (1 << 18)}), [
        "metadata.annotations: Too long: may not be more than 262144 bytes"
    ]),
    ("an owner without a uid", named(CONFIG_MAP, ownerReferences=[owner("a", uid="")]), [
        'metadata.ownerReferences[0].uid: Invalid value: "": must not be empty'
    ]),
    ("a finalizer without a domain", named(CONFIG_MAP, finalizers=["mine"]), [
        'metadata.finalizers[0]: Invalid value: "mine": name is neither a standard finalizer name nor is it fully qualified'
    ]),
    ("a finalizer with one", named(CONFIG_MAP, finalizers=["portway.dev/x", "foregroundDeletion"]), []),
]  # fmt: skip


@pytest.mark.parametrize(("obj", "sentences"), [pytest.param(o, e, id=s) for s, o, e in METADATA])
def test_metadata(obj: Json, sentences: list[str]) -> None:
    assert problems(obj) == sentences


@pytest.mark.parametrize(
    ("name", "good"), [("web", True), ("1web", True), ("a.b", False), ("-a", False), ("a" * 64, False)]
)
def test_a_services_name_is_a_label_and_may_start_with_a_digit(name: str, good: bool) -> None:
    obj = service()
    obj["metadata"]["name"] = name
    assert bool(problems(obj)) != good


def test_two_controllers_are_one_too_many() -> None:
    obj = named(CONFIG_MAP, ownerReferences=[owner("a", controller=True), owner("b", controller=True)])
    (sentence,) = problems(obj)
    assert sentence.endswith(NOT_BOTH)


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.kind)
def test_metadata_is_checked_for_every_kind(kind: Kind) -> None:
    assert any(s.startswith("metadata.labels") for s in problems(named(kind, labels={"a b": "c"})))


@pytest.mark.parametrize("field", ["uid", "creationTimestamp", "deletionTimestamp"])
def test_what_an_update_cannot_change(field: str) -> None:
    found = problems(named(CONFIG_MAP, **{field: "b"}), named(CONFIG_MAP, **{field: "a"}))
    assert found == [f'metadata.{field}: Invalid value: "b": {IMMUTABLE}']


def test_no_new_finalizers_while_an_object_goes() -> None:
    old = named(CONFIG_MAP, deletionTimestamp="t", finalizers=["x/a"])
    (sentence,) = problems(named(CONFIG_MAP, deletionTimestamp="t", finalizers=["x/a", "x/b"]), old)
    assert sentence.startswith("metadata.finalizers: Forbidden: no new finalizers can be added")
    assert problems(named(CONFIG_MAP, deletionTimestamp="t", finalizers=[]), old) == []


def sliced(*addresses: str, kind: str = "IPv4", **fields: Any) -> Json:
    return plain(ENDPOINT_SLICE, addressType=kind, endpoints=[{"addresses": list(addresses)}]) | fields


SLICES: list[tuple[str, Json, list[str]]] = [
    ("one endpoint", sliced("10.0.1.2", ports=[{"name": "http", "port": 8080}]), []),
    ("no endpoints", plain(ENDPOINT_SLICE, addressType="IPv4", endpoints=[]), []),
    ("no family", plain(ENDPOINT_SLICE, endpoints=[]), ["addressType: Required value"]),
    ("an unknown family", plain(ENDPOINT_SLICE, addressType="IPX"), [
        'addressType: Unsupported value: "IPX": supported values: "FQDN", "IPv4", "IPv6"'
    ]),
    ("an endpoint without addresses", sliced(), ["endpoints[0].addresses: Required value: must contain at least 1 address"]),
    ("an address of the other family", sliced("fd00::1"), [
        'endpoints[0].addresses[0]: Invalid value: "fd00::1": must be an IPv4 address'
    ]),
    ("loopback", sliced("127.0.0.1"), [
        'endpoints[0].addresses[0]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)'
    ]),
    ("nowhere", sliced("0.0.0.0"), [
        'endpoints[0].addresses[0]: Invalid value: "0.0.0.0": may not be unspecified (0.0.0.0 or ::)'
    ]),
    ("link-local", sliced("169.254.1.1"), [
        'endpoints[0].addresses[0]: Invalid value: "169.254.1.1": may not be in the link-local range (169.254.0.0/16, '
        "fe80::/10)"
    ]),
    ("two ports of one name", sliced("10.0.1.2", ports=[{"name": "a", "port": 1}, {"name": "a", "port": 2}]), [
        'ports[1].name: Duplicate value: "a"'
    ]),
    ("a thousand and one endpoints", plain(ENDPOINT_SLICE, addressType="IPv4", endpoints=[{"addresses": ["10.0.0.1"]}] * 1001), [
        "endpoints: Too many: 1001: must have at most 1000 items"
    ]),
    ("names in place of addresses", sliced("a.example.com", kind="FQDN"), []),
]  # fmt: skip


@pytest.mark.parametrize(("obj", "sentences"), [pytest.param(o, e, id=s) for s, o, e in SLICES])
def test_endpoint_slices(obj: Json, sentences: list[str]) -> None:
    assert problems(obj) == sentences


def test_a_slices_family_cannot_change() -> None:
    assert problems(sliced("fd00::1", kind="IPv6"), sliced("10.0.0.1")) == [
        f'addressType: Invalid value: "IPv6": {IMMUTABLE}'
    ]


def subset(**fields: Any) -> Json:
    return plain(ENDPOINTS, subsets=[{"addresses": [{"ip": "10.0.1.2"}], "ports": [{"port": 80}]} | fields])


ENDPOINT_ROWS: list[tuple[str, Json, list[str]]] = [
    ("one address", subset(), []),
    (
        "no addresses",
        subset(addresses=[]),
        ["subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`"],
    ),
    (
        "a port of 0",
        subset(ports=[{"port": 0}]),
        ["subsets[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"],
    ),
    (
        "two ports without names",
        subset(ports=[{"port": 1}, {"port": 2}]),
        [
            "subsets[0].ports[0].name: Required value",
            "subsets[0].ports[1].name: Required value",
        ],
    ),
    (
        "an address that is none",
        subset(addresses=[{"ip": "x"}]),
        [f'subsets[0].addresses[0].ip: Invalid value: "x": {formats.IP_WORDS}'],
    ),
]


@pytest.mark.parametrize(("obj", "sentences"), [pytest.param(o, e, id=s) for s, o, e in ENDPOINT_ROWS])
def test_endpoints(obj: Json, sentences: list[str]) -> None:
    assert problems(obj) == sentences


def config(**fields: Any) -> Json:
    return plain(CONFIG_MAP, **fields)


def secret(**fields: Any) -> Json:
    return plain(SECRET, **fields)


B64 = base64.b64encode(b"x").decode()
BIG = "x" * (1 << 20)
SEALED = "Forbidden: field is immutable when `immutable` is set"
PLAIN: list[tuple[str, Json, list[str]]] = [
    ("a ConfigMap", config(data={"a.b-c_D": "x"}, binaryData={"y": B64}), []),
    ("a key with a space", config(data={"a b": "x"}), [f'data[a b]: Invalid value: "a b": {formats.KEY_WORDS}']),
    ("a key of two dots", config(data={"..": "x"}), ['data[..]: Invalid value: "..": must not be \'..\'']),
    ("a key twice", config(data={"a": "x"}, binaryData={"a": B64}), [
        'data[a]: Invalid value: "a": duplicate of key present in binaryData'
    ]),
    ("a ConfigMap of a MiB", config(data={"a": BIG}), []),
    ("a ConfigMap of more than a MiB", config(data={"a": BIG + "x"}), ["[]: Too long: may not be more than 1048576 bytes"]),
    ("a Secret", secret(data={"a": B64}), []),
    ("a Secret of plain text", secret(stringData={"a": "x"}), []),
    ("a TLS Secret without a key", secret(type="kubernetes.io/tls", data={"tls.crt": B64}), [
        "data[tls.key]: Required value"
    ]),
    ("a Node", plain(NODE, spec={"podCIDR": "10.0.1.0/24", "taints": [{"key": "a", "effect": "NoSchedule"}]}), []),
    ("a taint with an unknown effect", plain(NODE, spec={"taints": [{"key": "a", "effect": "Never"}]}), [
        'spec.taints[0].effect: Unsupported value: "Never": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"'
    ]),
    ("a taint twice", plain(NODE, spec={"taints": [{"key": "a", "effect": "NoSchedule"}] * 2}), [
        'spec.taints[1]: Duplicate value: {"key":"a","effect":"NoSchedule"}'
    ]),
    ("a pod CIDR that is none", plain(NODE, spec={"podCIDR": "10.0.1.0"}), [
        f'spec.podCIDRs[0]: Invalid value: "10.0.1.0": {formats.CIDR_WORDS}'
    ]),
    ("a Namespace", plain(NAMESPACE), []),
    ("a Lease", plain(LEASE, spec={"holderIdentity": "n", "leaseDurationSeconds": 40}), []),
    ("a Lease of no time", plain(LEASE, spec={"leaseDurationSeconds": 0}), [
        "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"
    ]),
    ("a Lease of nobody", plain(LEASE, spec={"holderIdentity": ""}), [
        'spec.holderIdentity: Invalid value: "": must not be empty'
    ]),
    ("an Event", plain(EVENT, involvedObject={"kind": "Pod", "namespace": "default"}), []),
    ("an Event about a Node", plain(EVENT, involvedObject={"kind": "Node"}), []),
    ("an Event about another namespace", plain(EVENT, involvedObject={"namespace": "shop"}), [
        'involvedObject.namespace: Invalid value: "shop": does not match event.namespace'
    ]),
]  # fmt: skip


@pytest.mark.parametrize(("obj", "sentences"), [pytest.param(o, e, id=s) for s, o, e in PLAIN])
def test_plain_kinds(obj: Json, sentences: list[str]) -> None:
    assert problems(obj) == sentences


UPDATES: list[tuple[str, Json, Json, list[str]]] = [
    ("a sealed ConfigMap", config(immutable=True, data={"a": "2"}), config(immutable=True, data={"a": "1"}), [f"data: {SEALED}"]),
    ("unsealing", config(data={"a": "1"}), config(immutable=True, data={"a": "1"}), [f"immutable: {SEALED}"]),
    ("sealing", config(immutable=True, data={"a": "1"}), config(data={"a": "1"}), []),
    ("a sealed Secret", secret(immutable=True, data={"a": B64}), secret(immutable=True), [f"data: {SEALED}"]),
    ("another type of Secret", secret(type="x/y"), secret(), [f'type: Invalid value: "x/y": {IMMUTABLE}']),
    ("another pod CIDR", plain(NODE, spec={"podCIDR": "10.0.2.0/24"}), plain(NODE, spec={"podCIDR": "10.0.1.0/24"}), [
        'spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid'
    ]),
    ("a first pod CIDR", plain(NODE, spec={"podCIDR": "10.0.2.0/24"}), plain(NODE), []),
]  # fmt: skip


@pytest.mark.parametrize(("new", "old", "sentences"), [pytest.param(n, o, e, id=s) for s, n, o, e in UPDATES])
def test_updates_of_plain_kinds(new: Json, old: Json, sentences: list[str]) -> None:
    assert problems(new, old) == sentences


@pytest.mark.parametrize(
    ("phase", "deleted", "good"),
    [("Active", False, True), ("Terminating", True, True), ("Active", True, False), ("Terminating", False, False)],
)
def test_a_namespaces_phase_goes_with_its_deletion(phase: str, deleted: bool, good: bool) -> None:
    obj = plain(NAMESPACE, status={"phase": phase})
    if deleted:
        obj["metadata"]["deletionTimestamp"] = "t"
    assert bool(problems(obj, obj, "status")) != good


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("http", True),
        ("a-1", True),
        ("8080", False),
        ("a--b", False),
        ("-a", False),
        ("a-", False),
        ("a" * 15, True),
        ("A", False),
    ],
)
def test_port_names(name: str, good: bool) -> None:
    assert (formats.port_name(name) == "") == good
