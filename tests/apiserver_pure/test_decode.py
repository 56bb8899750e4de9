"""Bodies as clients send them: what is accepted, what is dropped with a warning, and the words of a refusal."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from build_pure import pod, refused, service
from portway.apiserver import decode
from portway.apiserver.errors import ApiError
from portway.objects.kinds import CONFIG_MAP, DEPLOYMENT, KINDS, POD, SECRET, SERVICE, Kind

JSON = "application/json"


def read(
    kind: Kind, body: str | bytes | dict[str, Any], validation: str = "Strict", media: str = JSON
) -> dict[str, Any]:
    raw = json.dumps(body) if isinstance(body, dict) else body
    return decode.read(kind, media, raw.encode() if isinstance(raw, str) else raw, validation)[0]


def test_a_complete_object_comes_back_as_it_is() -> None:
    assert read(POD, pod()) == pod()


def test_absent_type_meta_is_filled_in_and_stands_first() -> None:
    assert list(read(SERVICE, {"metadata": {"name": "x"}})) == ["apiVersion", "kind", "metadata"]


def test_nulls_are_dropped_at_every_depth() -> None:
    body = {"metadata": {"name": "x", "creationTimestamp": None}, "spec": {"ports": [{"port": 1, "name": None}]}}
    assert read(SERVICE, body)["spec"] == {"ports": [{"port": 1}]}


def test_a_null_in_a_list_or_map_is_the_zero_of_its_type() -> None:
    body = {"data": {"a": None}}
    assert read(CONFIG_MAP, body)["data"] == {"a": ""}


@pytest.mark.parametrize("media", ["application/json", "application/json;charset=utf-8", "APPLICATION/JSON", ""])
def test_json_has_several_spellings(media: str) -> None:
    assert read(SERVICE, service(), media=media) == service()


YAML = """
metadata:
  name: x
  annotations: {when: 2026-01-01T00:00:00Z, yes: "1"}
data:
  a: "1"
  1: text
"""


@pytest.mark.parametrize("media", ["application/yaml", "text/yaml", "application/x-yaml"])
def test_yaml_is_read_with_the_types_of_json(media: str) -> None:
    obj = read(CONFIG_MAP, YAML, media=media)
    assert obj["metadata"]["annotations"] == {"when": "2026-01-01T00:00:00Z", "true": "1"}
    assert obj["data"] == {"a": "1", "1": "text"}


def test_a_key_that_stands_twice_in_yaml_is_reported() -> None:
    _, warnings = decode.read(CONFIG_MAP, "application/yaml", b"data: {a: x}\ndata: {b: y}\n", "Warn")
    assert warnings == ['duplicate field "data"']


def test_other_media_types_are_refused_with_the_list_of_good_ones() -> None:
    error = refused(lambda: read(SERVICE, "{}", media="text/plain"))
    assert error.code == 415
    assert error.message.endswith("application/json, application/yaml, application/vnd.kubernetes.protobuf")


@pytest.mark.parametrize(
    ("text", "stored"), [(r"a\ud800b", "a\ufffdb"), (r"\ud83d\ude00", "\U0001f600"), (r"\u00fc", "ü")]
)
def test_half_a_surrogate_pair_is_replaced_so_that_it_can_be_written_again(text: str, stored: str) -> None:
    assert read(CONFIG_MAP, f'{{"data":{{"a":"{text}"}}}}')["data"] == {"a": stored}


BROKEN = [
    ("nothing at all", "", "unexpected end of JSON input (<empty>)"),
    ("cut in the middle", '{"a":1', "unexpected end of JSON input"),
    ("cut in a string", '{"a":"', "unexpected end of JSON input"),
    ("a bare word", "foo", "invalid character 'f' looking for beginning of value"),
    ("a key without quotes", "{a:1}", "invalid character 'a' looking for beginning of object key string"),
    ("no colon", '{"a" 1}', "invalid character '1' after object key"),
    ("no comma", '{"a":1 "b":2}', "invalid character '\"' after object key:value pair"),
    ("no comma in a list", '{"a":[1 2]}', "invalid character '2' after array element"),
    ("something behind", "{} x", "invalid character 'x' after top-level value"),
    ("NaN", '{"a":NaN}', "in numeric literal"),
]


@pytest.mark.parametrize(("body", "words"), [pytest.param(b, w, id=s) for s, b, w in BROKEN])
def test_broken_json_is_a_400_in_the_words_of_a_go_decoder(body: str, words: str) -> None:
    error = refused(lambda: read(SERVICE, body))
    assert error.code == 400
    assert error.message.startswith(
        "the object provided is unrecognized (must be of type Service): couldn't get version/kind"
    )
    assert words in error.message


@pytest.mark.parametrize("body", [b"\xff\xfe", b'{"a": ' + b"[" * 100_000, b"[]", b"3", b'"x"', b"null"])
def test_bytes_that_are_no_object_are_a_400(body: bytes) -> None:
    assert refused(lambda: read(SERVICE, body)).code == 400


@pytest.mark.parametrize("depth", [300, 600, 900, 5000])
@pytest.mark.parametrize("media", ["application/json", "application/yaml"])
def test_a_body_that_is_nested_too_deeply_is_a_400_or_loses_the_field(depth: int, media: str) -> None:
    body = b'{"x":1,"x":"\\u00e9","y":' + b"[" * depth + b"]" * depth + b"}"
    try:
        assert "y" not in decode.read(SERVICE, media, body, "Ignore")[0]
    except ApiError as e:
        assert e.code == 400


@pytest.mark.parametrize("body", [b"a: [1\nb: }", b"a: b: c", b"\x00", b"- 1", b"? [a]\n: b\n", b"&a [*a]"])
def test_broken_yaml_is_a_400(body: bytes) -> None:
    assert refused(lambda: read(SERVICE, body, media="application/yaml")).code == 400


@given(
    st.binary(max_size=200),
    st.sampled_from(["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"]),
)
def test_no_bytes_crash_the_decoder(body: bytes, media: str) -> None:
    try:
        decode.read(SERVICE, media, body)
    except ApiError as e:
        assert e.code == 400


WRONG_TYPE_META = [
    (
        "another version",
        {"apiVersion": "v2", "kind": "Service"},
        "the API version in the data (v2) does not match the expected API version (v1)",
    ),
    (
        "another kind that we know",
        {"apiVersion": "v1", "kind": "Pod"},
        'Pod in version "v1" cannot be handled as a Service: converting (v1.Pod) to (core.Service): unknown conversion',
    ),
    (
        "a kind that nobody knows",
        {"apiVersion": "x.io/v1", "kind": "Foo"},
        'Foo in version "v1" cannot be handled as a Service: no kind "Foo" is registered for version "x.io/v1"',
    ),
]


@pytest.mark.parametrize(("body", "message"), [pytest.param(b, m, id=s) for s, b, m in WRONG_TYPE_META])
def test_type_meta_must_be_that_of_the_url(body: dict[str, Any], message: str) -> None:
    error = refused(lambda: read(SERVICE, body))
    assert (error.code, error.message) == (400, message)


def test_delete_options_come_under_many_group_versions() -> None:
    options = read(decode.DELETE_OPTIONS, {"apiVersion": "policy/v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0})
    assert options["gracePeriodSeconds"] == 0


MISMATCHES = [
    (SERVICE, {"spec": {"ports": [{"port": "x"}]}}, "string into Go struct field ServicePort.spec.ports.port of type int32"),
    (SERVICE, {"spec": {"ports": [{"port": 1.5}]}}, "number 1.5 into Go struct field ServicePort.spec.ports.port of type int32"),
    (SERVICE, {"spec": {"ports": [{"port": 1 << 40}]}},
     "number 1099511627776 into Go struct field ServicePort.spec.ports.port of type int32"),
    (SERVICE, {"spec": {"ports": {}}}, "object into Go struct field ServiceSpec.spec.ports of type []v1.ServicePort"),
    (SERVICE, {"spec": {"ports": [1]}}, "number into Go struct field ServiceSpec.spec.ports of type v1.ServicePort"),
    (SERVICE, {"spec": "x"}, "string into Go struct field Service.spec of type v1.ServiceSpec"),
    (SERVICE, {"metadata": {"name": 5}}, "number into Go struct field ObjectMeta.metadata.name of type string"),
    (SERVICE, {"metadata": {"labels": {"a": 1}}}, "number into Go struct field ObjectMeta.metadata.labels of type string"),
    (SERVICE, {"metadata": {"labels": []}}, "array into Go struct field ObjectMeta.metadata.labels of type map[string]string"),
    (DEPLOYMENT, {"spec": {"paused": 1}}, "number into Go struct field DeploymentSpec.spec.paused of type bool"),
    (DEPLOYMENT, {"spec": {"replicas": True}}, "bool into Go struct field DeploymentSpec.spec.replicas of type int32"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "body", "words"), MISMATCHES)
def test_a_value_of_the_wrong_type_names_its_field(kind: Kind, body: dict[str, Any], words: str) -> None:
    error = refused(lambda: read(kind, body, "Ignore"))
    prefix = f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: json: cannot unmarshal '
    assert (error.code, error.message) == (400, prefix + words)


@pytest.mark.parametrize("value", ["x", "1Q", "", "--1", "1 Gi"])
def test_a_quantity_must_be_one(value: str) -> None:
    body = {"spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": value}}}]}}
    assert "quantities must match the regular expression" in refused(lambda: read(POD, body)).message


@pytest.mark.parametrize(
    ("value", "stored"), [("100m", "100m"), (2, "2"), (0.5, "0.5"), ("1Gi", "1Gi"), ("1e3", "1e3")]
)
def test_quantities_become_text(value: Any, stored: str) -> None:
    body = {"spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": value}}}]}}
    assert read(POD, body)["spec"]["containers"][0]["resources"]["limits"]["cpu"] == stored


@pytest.mark.parametrize(("value", "at"), [("a-b", 1), ("abc", 0), ("?", 0)])
def test_a_secrets_data_must_be_base64(value: str, at: int) -> None:
    message = refused(lambda: read(SECRET, {"data": {"k": value}})).message
    assert f"illegal base64 data at input byte {at}" in message


def test_a_time_must_be_one() -> None:
    body = {"metadata": {"creationTimestamp": "yesterday"}}
    assert 'parsing time "yesterday"' in refused(lambda: read(POD, body)).message


UNKNOWN = (
    b'{"metadata":{"name":"a","name":"b"},"spec":{"foo":1,"ports":[{"port":80},{"port":81,"bar":{"x":1}}]},"zip":[]}'
)
SENTENCES = [
    'duplicate field "metadata.name"',
    'unknown field "spec.foo"',
    'unknown field "spec.ports[1].bar"',
    'unknown field "zip"',
]


def test_strict_validation_refuses_unknown_and_doubled_fields() -> None:
    error = refused(lambda: read(SERVICE, UNKNOWN, "Strict"))
    assert error.message == (
        'Service in version "v1" cannot be handled as a Service: strict decoding error: ' + ", ".join(SENTENCES)
    )


def test_warnings_name_them_and_the_object_goes_on_without() -> None:
    obj, warnings = decode.read(SERVICE, JSON, UNKNOWN, "Warn")
    assert warnings == SENTENCES
    assert obj["spec"] == {"ports": [{"port": 80}, {"port": 81}]}
    assert obj["metadata"] == {"name": "b"}


def test_ignored_fields_are_dropped_in_silence() -> None:
    obj, warnings = decode.read(SERVICE, JSON, UNKNOWN, "Ignore")
    assert (warnings, "zip" in obj) == ([], False)


def test_strict_lists_the_same_sentences() -> None:
    obj = json.loads(UNKNOWN)
    assert decode.strict(SERVICE, obj, UNKNOWN) == SENTENCES
    assert decode.strict(SERVICE, obj) == SENTENCES[1:]


def test_recheck_treats_what_a_patch_made_alike() -> None:
    patched = service(foo=1)
    assert decode.recheck(SERVICE, patched, "Warn")[1] == ['unknown field "spec.foo"']
    assert refused(lambda: decode.recheck(SERVICE, patched, "Strict")).code == 400


def test_a_patch_cannot_make_another_kind_of_an_object() -> None:
    assert refused(lambda: decode.recheck(SERVICE, service() | {"kind": "Pod"})).code == 400
    assert refused(lambda: decode.recheck(SERVICE, service() | {"apiVersion": "v2"})).code == 400


def test_decode_body_looks_at_no_fields() -> None:
    assert decode.decode_body(JSON, b'{"frob":1}', SERVICE) == {"apiVersion": "v1", "kind": "Service", "frob": 1}


def test_prune_leaves_what_it_was_given() -> None:
    given_object = service(foo=1)
    decode.prune(SERVICE, given_object)
    assert given_object["spec"]["foo"] == 1


@pytest.mark.parametrize(("value", "meaning"), [("", "Warn"), ("Strict", "Strict"), ("Ignore", "Ignore")])
def test_the_query_parameter(value: str, meaning: str) -> None:
    assert decode.field_validation(value) == meaning


def test_another_word_in_the_query_parameter_is_a_400() -> None:
    assert "supported values" in refused(lambda: decode.field_validation("Loud")).message


@pytest.mark.parametrize("kind", [*KINDS, *decode.TRANSIENT], ids=lambda k: k.kind)
def test_every_kind_has_a_schema_and_is_found_by_its_type_meta(kind: Kind) -> None:
    obj = read(kind, {"metadata": {}} if kind is not decode.DELETE_OPTIONS else {})
    assert decode.kind_of(obj) == kind
