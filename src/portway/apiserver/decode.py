"""Request bodies → plain objects: the media type, the type meta, unknown and doubled fields, values of the wrong type.

`server` calls `read` for POST and PUT bodies and `recheck` for what a patch made; both give the object, pruned to the fields
of its schema, and the warnings for the client. Next come `defaults` and `validation`. The sentences are those of Kubernetes'
decoders, because people search for them: `json: cannot unmarshal string into Go struct field …`.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any, NoReturn

from portway.apiserver import errors, protobuf, shape
from portway.objects.kinds import KINDS, Kind, by_kind

JSON = "application/json"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"
ACCEPTED = (JSON, YAML, PROTOBUF)

SCALE = Kind("autoscaling", "v1", "Scale", "scales", "io.k8s.api.autoscaling.v1.Scale")
EVICTION = Kind("policy", "v1", "Eviction", "evictions", "io.k8s.api.policy.v1.Eviction")
BINDING = Kind("", "v1", "Binding", "bindings", "io.k8s.api.core.v1.Binding")
DELETE_OPTIONS = Kind(
    "", "v1", "DeleteOptions", "deleteoptions", "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions", namespaced=False
)
ACCESS_REVIEW = Kind(
    "authorization.k8s.io",
    "v1",
    "SelfSubjectAccessReview",
    "selfsubjectaccessreviews",
    "io.k8s.api.authorization.v1.SelfSubjectAccessReview",
    namespaced=False,
)
SUBJECT_REVIEW = Kind(
    "authentication.k8s.io",
    "v1",
    "SelfSubjectReview",
    "selfsubjectreviews",
    "io.k8s.api.authentication.v1.SelfSubjectReview",
    namespaced=False,
)
TOKEN_REQUEST = Kind(
    "authentication.k8s.io", "v1", "TokenRequest", "tokenrequests", "io.k8s.api.authentication.v1.TokenRequest"
)
# Bodies that are read and answered but never stored.
TRANSIENT = (SCALE, EVICTION, BINDING, DELETE_OPTIONS, ACCESS_REVIEW, SUBJECT_REVIEW, TOKEN_REQUEST)


class FieldValidation(StrEnum):
    """The query parameter `fieldValidation`: what happens on unknown and doubled fields."""

    STRICT = "Strict"
    WARN = "Warn"
    IGNORE = "Ignore"


def field_validation(value: str) -> FieldValidation:
    """The parameter's value; absent means Warn (Kubernetes 1.27). 400 for another word."""
    try:
        return FieldValidation(value or "Warn")
    except ValueError:
        words = '"", "Ignore", "Strict", "Warn"'
        raise errors.bad_request(f'fieldValidation: Unsupported value: "{value}": supported values: {words}') from None


def media_type(content_type: str) -> str:
    """The media type without parameters; an absent header means JSON."""
    return content_type.partition(";")[0].strip().lower() or JSON


def read(
    kind: Kind, content_type: str, body: bytes, validation: str = FieldValidation.WARN
) -> tuple[dict[str, Any], list[str]]:
    """The object of a request body and the warnings to send. ApiError 400, 413 or 415."""
    obj, doubled = _decode(content_type, body, kind)
    return recheck(kind, obj, validation, doubled)


def recheck(
    kind: Kind, obj: dict[str, Any], validation: str = FieldValidation.WARN, doubled: list[str] | None = None
) -> tuple[dict[str, Any], list[str]]:
    """Prune an object (one that a patch made, say), refuse or report unknown fields. ApiError 400."""
    unknown: list[str] = []
    pruned = _prune(kind, type_meta(kind, obj), unknown)
    found = [*(f'duplicate field "{d}"' for d in doubled or ()), *(f'unknown field "{u}"' for u in unknown)]
    if found and validation == FieldValidation.STRICT:
        _refuse(kind, kind, "strict decoding error: " + ", ".join(found))
    return pruned, found if validation == FieldValidation.WARN else []


def decode_body(content_type: str, body: bytes, kind: Kind) -> dict[str, Any]:
    """The object in a body, with apiVersion and kind checked and filled in; fields are not looked at."""
    return type_meta(kind, _decode(content_type, body, kind)[0])


def strict(kind: Kind, obj: dict[str, Any], body: bytes = b"") -> list[str]:
    """Sentences about doubled (seen in the JSON `body`) and unknown fields."""
    unknown: list[str] = []
    _prune(kind, obj, unknown)
    doubled = parse_json(body)[1] if body[:1] == b"{" else []
    return [*(f'duplicate field "{d}"' for d in doubled), *(f'unknown field "{u}"' for u in unknown)]


def prune(kind: Kind, obj: dict[str, Any]) -> dict[str, Any]:
    """A new object without unknown fields and nulls. 400 for a value of the wrong type."""
    return _prune(kind, obj, [])


def _prune(kind: Kind, obj: dict[str, Any], unknown: list[str]) -> dict[str, Any]:
    try:
        return shape.prune(kind.schema, obj, unknown)
    except shape.Mismatch as e:
        _refuse(kind, kind, str(e))


def _refuse(given: Kind, wanted: Kind, why: str) -> NoReturn:
    raise errors.bad_request(f'{given.kind} in version "{given.version}" cannot be handled as a {wanted.kind}: {why}')


def _decode(content_type: str, body: bytes, kind: Kind) -> tuple[dict[str, Any], list[str]]:
    media = media_type(content_type)
    doubled: list[str] = []
    try:
        if media == JSON:
            obj, doubled = parse_json(body)
        elif media in (YAML, "application/x-yaml", "text/yaml"):
            obj, doubled = parse_yaml(body)
        elif media == PROTOBUF:
            obj = protobuf.decode(body)
        else:
            raise errors.unsupported_media_type(ACCEPTED)
        if b"\\u" in body:
            obj = without_surrogates(obj)
    except RecursionError:
        raise errors.bad_request(
            f"the object provided is unrecognized (must be of type {kind.kind}): too deep"
        ) from None
    except Malformed as e:
        raise errors.bad_request(
            f"the object provided is unrecognized (must be of type {kind.kind}): {e} ({_summary(body)})"
        ) from None
    if not isinstance(obj, dict):
        why = (
            f"couldn't get version/kind; json parse error: json: cannot unmarshal {shape.json_type(obj)} into Go value"
        )
        raise errors.bad_request(f"the object provided is unrecognized (must be of type {kind.kind}): {why}")
    return obj, doubled


def without_surrogates(value: Any) -> Any:
    """Half a surrogate pair, which JSON can write and UTF-8 cannot, becomes U+FFFD."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {without_surrogates(k): without_surrogates(v) for k, v in value.items()}
    return [without_surrogates(v) for v in value] if isinstance(value, list) else value


def type_meta(kind: Kind, obj: dict[str, Any]) -> dict[str, Any]:
    """Check `apiVersion` and `kind` against what the URL says; absent ones are filled in."""
    version, name = obj.get("apiVersion") or kind.api_version, obj.get("kind") or kind.kind
    if not isinstance(version, str) or not isinstance(name, str):
        raise errors.bad_request("couldn't get version/kind; json parse error: apiVersion and kind must be strings")
    if (version, name) != (kind.api_version, kind.kind) and kind is not DELETE_OPTIONS:
        _wrong_type(kind, version, name)
    # Type meta goes first: people read the output.
    return {"apiVersion": version, "kind": name} | obj | {"apiVersion": version, "kind": name}


def _wrong_type(kind: Kind, version: str, name: str) -> NoReturn:
    given = by_kind(version, name)
    if name == kind.kind:
        raise errors.bad_request(
            f"the API version in the data ({version}) does not match the expected API version ({kind.api_version})"
        )
    if given is not None:
        why = f"converting ({given.version}.{given.kind}) to ({kind.group or 'core'}.{kind.kind}): unknown conversion"
        _refuse(given, kind, why)
    group, _, plain = version.rpartition("/")
    stranger = Kind(group, plain, name, "", "")
    _refuse(stranger, kind, f'no kind "{name}" is registered for version "{version}"')


class Malformed(Exception):
    """The bytes are no JSON, or no YAML."""


def _summary(body: bytes) -> str:
    if not body:
        return "<empty>"
    if body[:1] != b"{":
        return f"0x{body[:30].hex()}" + (" ..." if len(body) > 30 else "")
    return body[:30].decode("utf-8", "replace") + (" ..." if len(body) > 30 else "")


def parse_json(body: bytes) -> tuple[Any, list[str]]:
    """The value and the paths of doubled fields. Malformed, in the words of Go's decoder."""
    doubles: dict[int, list[str]] = {}

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(items)
        if len(result) != len(items):
            seen: set[str] = set()
            doubles[id(result)] = [k for k, _ in items if k in seen or seen.add(k)]  # type: ignore[func-returns-value]
        return result

    try:
        text = body.decode("utf-8")
        value = json.loads(text, object_pairs_hook=pairs, parse_constant=_no_constant)
    except UnicodeDecodeError:
        raise Malformed("couldn't get version/kind; json parse error: invalid UTF-8 in string") from None
    except json.JSONDecodeError as e:
        raise Malformed(f"couldn't get version/kind; json parse error: {_go_words(e)}") from None
    return value, list(_paths(value, doubles, "")) if doubles else []


def _no_constant(word: str) -> NoReturn:
    raise Malformed(f"couldn't get version/kind; json parse error: invalid character {word[0]!r} in numeric literal")


_GO_WORDS = {
    "Expecting value": "looking for beginning of value",
    "Expecting property name enclosed in double quotes": "looking for beginning of object key string",
    "Illegal trailing comma before end of object": "looking for beginning of object key string",
    "Expecting ':' delimiter": "after object key",
    "Extra data": "after top-level value",
    "Invalid control character at": "in string literal",
    "Invalid \\escape": "in string escape code",
}


def _go_words(e: json.JSONDecodeError) -> str:
    if e.pos >= len(e.doc.rstrip()) or e.msg.startswith("Unterminated string"):
        return "unexpected end of JSON input"
    where = _GO_WORDS.get(e.msg.rstrip(": "))
    if where is None:
        before = e.doc[: e.pos]
        in_list = before.rfind("[") > before.rfind("{")
        where = "after array element" if in_list else "after object key:value pair"
    return f"invalid character {e.doc[e.pos]!r} {where}"


def _paths(value: Any, doubles: dict[int, list[str]], path: str) -> list[str]:
    found: list[str] = []
    if isinstance(value, dict):
        prefix = f"{path}." if path else ""
        found += [prefix + key for key in doubles.get(id(value), ())]
        for key, part in value.items():
            found += _paths(part, doubles, prefix + key)
    elif isinstance(value, list):
        for i, part in enumerate(value):
            found += _paths(part, doubles, f"{path}[{i}]")
    return found


def parse_yaml(body: bytes) -> tuple[Any, list[str]]:
    """The value of one YAML document, with JSON's types, and the doubled keys."""
    from portway.apiserver import yamlbody  # PyYAML is slow to load and rarely needed

    try:
        return yamlbody.parse(body)
    except yamlbody.BrokenYaml as e:
        raise Malformed(f"couldn't get version/kind; json parse error: {e}") from None


def kind_of(obj: dict[str, Any]) -> Kind | None:
    """The declaration of the object's own type meta, stored or transient."""
    return _ALL.get((obj.get("apiVersion", ""), obj.get("kind", "")))


_ALL = {(k.api_version, k.kind): k for k in (*KINDS, *TRANSIENT)}
