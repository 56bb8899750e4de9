"""Protobuf bodies: those that the real kubectl 1.37 posts (captured), the fields of the table, and broken bytes."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from build_pure import refused
from portway.apiserver import decode, protobuf
from portway.apiserver.errors import ApiError
from portway.apiserver.prototable import MESSAGES
from portway.objects.kinds import CONFIG_MAP, SERVICE

Json = dict[str, Any]
CAPTURED: dict[str, str] = json.loads(Path(__file__).with_name("captured_bodies.json").read_text())


def service(name: str, spec: Json) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": spec | {"selector": {"app": name}},
    }


EXPECTED: dict[str, Json] = {
    # kubectl create configmap cm1 --from-literal=a=b --from-literal=empty=
    "ConfigMap/cm1": {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "cm1"},
        "data": {"a": "b", "empty": ""},
    },
    # kubectl create secret generic s1 --from-literal=pw=x
    "Secret/s1": {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s1"}, "data": {"pw": "eA=="}},
    # kubectl create deployment web --image=nginx:1 --replicas=0 --port=80
    "Deployment/web": {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "nginx", "image": "nginx:1", "ports": [{"containerPort": 80}]}]},
            },
        },
    },
    # kubectl create service clusterip c1 --tcp=80:8080 --tcp=81:http
    "Service/c1": service(
        "c1",
        {
            "type": "ClusterIP",
            "ports": [
                {"name": "80-8080", "protocol": "TCP", "port": 80, "targetPort": 8080},
                {"name": "81-http", "protocol": "TCP", "port": 81, "targetPort": "http"},
            ],
        },
    ),
    # kubectl create service nodeport n1 --tcp=80 --node-port=30080
    "Service/n1": service(
        "n1",
        {
            "type": "NodePort",
            "ports": [{"name": "80", "protocol": "TCP", "port": 80, "targetPort": 80, "nodePort": 30080}],
        },
    ),
    # kubectl create service loadbalancer l1 --tcp=5678:8080
    "Service/l1": service(
        "l1",
        {"type": "LoadBalancer", "ports": [{"name": "5678-8080", "protocol": "TCP", "port": 5678, "targetPort": 8080}]},
    ),
    # kubectl create service externalname e1 --external-name=bar.com
    "Service/e1": service("e1", {"type": "ExternalName", "externalName": "bar.com"}),
    # kubectl create service clusterip h1 --clusterip=None
    "Service/h1": service("h1", {"type": "ClusterIP", "clusterIP": "None"}),
    # kubectl create namespace foo
    "Namespace/foo": {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "foo"}},
    # kubectl auth can-i get pods
    "SelfSubjectAccessReview/can-i": {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"namespace": "default", "verb": "get", "resource": "pods"}},
    },
}


@pytest.mark.parametrize("name", list(CAPTURED))
def test_what_kubectl_posts(name: str) -> None:
    assert protobuf.decode(base64.b64decode(CAPTURED[name])) == EXPECTED[name]


def test_no_captured_body_is_without_its_expectation() -> None:
    assert CAPTURED.keys() == EXPECTED.keys()


def test_the_whole_decoder_takes_it_without_a_warning() -> None:
    body = base64.b64decode(CAPTURED["Service/n1"])
    obj, warnings = decode.read(SERVICE, decode.PROTOBUF, body, "Strict")
    assert (obj, warnings) == (EXPECTED["Service/n1"], [])


def test_another_kind_than_the_urls_is_a_400() -> None:
    body = base64.b64decode(CAPTURED["Service/n1"])
    assert refused(lambda: decode.read(CONFIG_MAP, decode.PROTOBUF, body)).code == 400


def varint(value: int) -> bytes:
    """A second, independent writer: enough to build messages by hand."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    raw = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(raw)) + raw


def envelope(version: str, kind: str, raw: bytes) -> bytes:
    return protobuf.MAGIC + field(1, field(1, version) + field(2, kind)) + field(2, raw)


def of_deployment(template_spec: bytes) -> Json:
    raw = field(2, field(3, field(2, template_spec)))
    found: Json = protobuf.decode(envelope("apps/v1", "Deployment", raw))["spec"]["template"]["spec"]
    return found


def test_a_pointer_to_zero_counts_and_a_plain_zero_does_not() -> None:
    # terminationGracePeriodSeconds is a pointer, hostNetwork and nodeName are not
    spec = of_deployment(field(4, 0) + field(11, 0) + field(10, "") + field(16, "web"))
    assert spec == {"terminationGracePeriodSeconds": 0, "hostname": "web"}


def test_a_negative_number() -> None:
    assert of_deployment(field(25, -1)) == {"priority": -1}


def test_the_fields_of_a_volumes_source_stand_in_the_volume() -> None:
    volume = field(1, "v") + field(2, field(2, b""))
    assert of_deployment(field(1, volume)) == {"volumes": [{"name": "v", "emptyDir": {}}]}


def test_a_probe_with_its_handler() -> None:
    action = field(1, "/ready") + field(2, field(1, 1) + field(3, "http"))
    probe = field(1, field(2, action)) + field(4, 5)
    spec = of_deployment(field(2, field(1, "c") + field(11, probe)))
    assert spec["containers"][0]["readinessProbe"] == {
        "httpGet": {"path": "/ready", "port": "http"},
        "periodSeconds": 5,
    }


def test_quantities_are_a_map_of_messages() -> None:
    limits = field(1, field(1, "cpu") + field(2, field(1, "100m")))
    spec = of_deployment(field(2, field(1, "c") + field(8, limits)))
    assert spec["containers"][0]["resources"] == {"limits": {"cpu": "100m"}}


def test_a_time_is_written_out() -> None:
    raw = field(1, field(1, "x") + field(8, field(1, 1767225600)))
    assert protobuf.decode(envelope("v1", "ConfigMap", raw))["metadata"]["creationTimestamp"] == "2026-01-01T00:00:00Z"


def test_a_number_that_the_table_does_not_know_is_skipped() -> None:
    assert of_deployment(field(999, "x") + field(16, "web")) == {"hostname": "web"}


BROKEN = [
    ("no envelope", b"{}", "does not appear to be a protobuf message"),
    ("an empty envelope", protobuf.MAGIC, 'no kind ""'),
    ("a kind that the table does not have", envelope("v1", "Frob", b""), 'no kind "Frob"'),
    ("cut in a length", protobuf.MAGIC + b"\x0a\xff", "unexpected EOF"),
    ("longer than it is", protobuf.MAGIC + b"\x0a\x10a", "unexpected EOF"),
    ("a group", protobuf.MAGIC + b"\x0b", "illegal wire type 3"),
    ("a number where a message is wanted", protobuf.MAGIC + field(1, 5), "a number where bytes are wanted"),
    ("bytes where a number is wanted", envelope("v1", "ConfigMap", field(1, field(7, "x"))), "bytes where a number"),
    ("text that is not UTF-8", envelope("v1", "ConfigMap", field(1, field(1, b"\xff"))), "not UTF-8"),
]


@pytest.mark.parametrize(("body", "words"), [pytest.param(b, w, id=s) for s, b, w in BROKEN])
def test_broken_bytes_are_a_400(body: bytes, words: str) -> None:
    error = refused(lambda: protobuf.decode(body))
    assert error.code == 400
    assert words in error.message


@given(st.sampled_from(sorted(CAPTURED)), st.data())
def test_a_damaged_body_never_crashes(name: str, choose: st.DataObject) -> None:
    body = bytearray(base64.b64decode(CAPTURED[name]))
    body[choose.draw(st.integers(0, len(body) - 1))] = choose.draw(st.integers(0, 255))
    try:
        protobuf.decode(bytes(body[: choose.draw(st.integers(0, len(body)))]))
    except ApiError as e:
        assert e.code == 400


@pytest.mark.parametrize("message", sorted(MESSAGES))
def test_every_row_of_the_table_can_be_read(message: str) -> None:
    entries = protobuf._table(message)
    assert len(entries) == len(MESSAGES[message].split()), "two fields have one number"
    assert all(e.inline in MESSAGES for e in entries.values() if e.inline)
