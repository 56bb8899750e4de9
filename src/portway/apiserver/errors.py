"""What the API server answers when it says no: `ApiError`, and `FieldError` for one field of an object.

An `ApiError` is raised by every module of this package and becomes a `Status` object (`status()`) at the HTTP edge. Reasons,
codes, details and the wording of the first sentence are those of Kubernetes (apimachinery, `StatusReason` and field errors),
because kubectl and client libraries decide by them. The constructors below are the only places that word a message.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from portway.objects.kinds import Kind


class Reason(StrEnum):
    """`Status.reason`, the machine-readable half of an answer."""

    BAD_REQUEST = "BadRequest"
    UNAUTHORIZED = "Unauthorized"
    FORBIDDEN = "Forbidden"
    NOT_FOUND = "NotFound"
    ALREADY_EXISTS = "AlreadyExists"
    CONFLICT = "Conflict"
    INVALID = "Invalid"
    METHOD_NOT_ALLOWED = "MethodNotAllowed"
    UNSUPPORTED_MEDIA_TYPE = "UnsupportedMediaType"
    NOT_ACCEPTABLE = "NotAcceptable"
    EXPIRED = "Expired"
    NOT_IMPLEMENTED = "NotImplemented"
    TOO_LARGE = "RequestEntityTooLarge"
    TIMEOUT = "Timeout"
    UNAVAILABLE = "ServiceUnavailable"
    INTERNAL = "InternalError"


class FieldReason(StrEnum):
    """What is wrong with a field. The value is the reason in `details.causes`; `words` is what a person reads."""

    REQUIRED = "FieldValueRequired"
    INVALID = "FieldValueInvalid"
    DUPLICATE = "FieldValueDuplicate"
    NOT_SUPPORTED = "FieldValueNotSupported"
    FORBIDDEN = "FieldValueForbidden"
    NOT_FOUND = "FieldValueNotFound"
    TOO_LONG = "FieldValueTooLong"
    TOO_MANY = "FieldValueTooMany"
    TYPE_INVALID = "FieldValueTypeInvalid"
    INTERNAL = "InternalError"

    @property
    def words(self) -> str:
        return _WORDS[self]


_WORDS = {
    FieldReason.REQUIRED: "Required value",
    FieldReason.INVALID: "Invalid value",
    FieldReason.DUPLICATE: "Duplicate value",
    FieldReason.NOT_SUPPORTED: "Unsupported value",
    FieldReason.FORBIDDEN: "Forbidden",
    FieldReason.NOT_FOUND: "Not found",
    FieldReason.TOO_LONG: "Too long",
    FieldReason.TOO_MANY: "Too many",
    FieldReason.TYPE_INVALID: "Invalid value",
    FieldReason.INTERNAL: "Internal error",
}
_WITHOUT_VALUE = frozenset({FieldReason.REQUIRED, FieldReason.FORBIDDEN, FieldReason.TOO_LONG, FieldReason.INTERNAL})


@dataclass(frozen=True, slots=True)
class FieldError:
    """One field's mistake: `FieldError("spec.ports[0].port", FieldReason.INVALID, 0, "must be between …")`."""

    path: str
    type: FieldReason
    value: Any = None
    detail: str = ""

    @property
    def body(self) -> str:
        """The sentence without the path: `Invalid value: 0: must be between 1 and 65535, inclusive`."""
        parts = [self.type.words]
        if self.type not in _WITHOUT_VALUE:
            parts.append(_quoted(self.value))
        if self.detail:
            parts.append(self.detail)
        return ": ".join(parts)

    def __str__(self) -> str:
        return f"{self.path}: {self.body}"


def required(path: str, detail: str = "") -> FieldError:
    return FieldError(path, FieldReason.REQUIRED, None, detail)


def invalid_value(path: str, value: Any, detail: str) -> FieldError:
    return FieldError(path, FieldReason.INVALID, value, detail)


def duplicate(path: str, value: Any) -> FieldError:
    return FieldError(path, FieldReason.DUPLICATE, value)


def not_supported(path: str, value: Any, supported: Iterable[str]) -> FieldError:
    names = ", ".join(json.dumps(s) for s in supported)
    return FieldError(path, FieldReason.NOT_SUPPORTED, value, f"supported values: {names}" if names else "")


def forbidden_field(path: str, detail: str) -> FieldError:
    return FieldError(path, FieldReason.FORBIDDEN, None, detail)


def missing_reference(path: str, value: Any) -> FieldError:
    return FieldError(path, FieldReason.NOT_FOUND, value)


def too_long(path: str, limit: int) -> FieldError:
    return FieldError(path, FieldReason.TOO_LONG, None, f"may not be more than {limit} bytes")


def too_many(path: str, count: int, limit: int) -> FieldError:
    return FieldError(path, FieldReason.TOO_MANY, count, f"must have at most {limit} items")


def _quoted(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, (bool, int, float, str, list, dict, tuple)):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return str(value)


class ApiError(Exception):
    """A request is refused. `status()` is the answer's body, `code` its HTTP status, `retry_after` seconds for a header."""

    def __init__(
        self,
        code: int,
        reason: Reason,
        message: str,
        *,
        details: dict[str, Any] | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details or {}
        self.retry_after = retry_after

    @property
    def causes(self) -> list[dict[str, str]]:
        causes: list[dict[str, str]] = self.details.get("causes", [])
        return causes

    def status(self) -> dict[str, Any]:
        """The `v1` Status object."""
        details = dict(self.details)
        if self.retry_after is not None:
            details["retryAfterSeconds"] = self.retry_after
        body: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": str(self.reason),
        }
        if details:
            body["details"] = details
        body["code"] = self.code
        return body


def _named(kind: Kind, name: str, *, by_kind: bool = False) -> dict[str, Any]:
    details: dict[str, Any] = {}
    if name:
        details["name"] = name
    if kind.group:
        details["group"] = kind.group
    details["kind"] = kind.kind if by_kind else kind.plural
    return details


def bad_request(message: str) -> ApiError:
    return ApiError(400, Reason.BAD_REQUEST, message)


def unauthorized(message: str = "Unauthorized") -> ApiError:
    return ApiError(401, Reason.UNAUTHORIZED, message)


def forbidden(kind: Kind, name: str, why: str) -> ApiError:
    """`why` ends the sentence: `User "x" cannot list resource …`, or the rule that admission enforces."""
    subject = f'{kind.resource} "{name}"' if name else kind.resource
    return ApiError(403, Reason.FORBIDDEN, f"{subject} is forbidden: {why}", details=_named(kind, name))


def not_found(kind: Kind, name: str) -> ApiError:
    return ApiError(404, Reason.NOT_FOUND, f'{kind.resource} "{name}" not found', details=_named(kind, name))


def no_such_resource() -> ApiError:
    """The path names nothing that is served."""
    return ApiError(404, Reason.NOT_FOUND, "the server could not find the requested resource")


def already_exists(kind: Kind, name: str) -> ApiError:
    return ApiError(409, Reason.ALREADY_EXISTS, f'{kind.resource} "{name}" already exists', details=_named(kind, name))


STALE = "the object has been modified; please apply your changes to the latest version and try again"


def conflict(kind: Kind, name: str, message: str = STALE) -> ApiError:
    text = f'Operation cannot be fulfilled on {kind.resource} "{name}": {message}'
    return ApiError(409, Reason.CONFLICT, text, details=_named(kind, name))


def apply_conflict(message: str, causes: list[dict[str, str]]) -> ApiError:
    """Server-side apply met fields that others own."""
    return ApiError(409, Reason.CONFLICT, message, details={"causes": causes})


def invalid(kind: Kind, name: str, errors: Sequence[FieldError]) -> ApiError:
    """422 with one cause per field."""
    label = f"{kind.kind}.{kind.group}" if kind.group else kind.kind
    texts = list(dict.fromkeys(str(e) for e in errors))
    message = f'{label} "{name}" is invalid'
    if texts:
        message += ": " + (texts[0] if len(texts) == 1 else "[" + ", ".join(texts) + "]")
    details = _named(kind, name, by_kind=True)
    if errors:
        details["causes"] = [{"reason": str(e.type), "message": e.body, "field": e.path} for e in errors]
    return ApiError(422, Reason.INVALID, message, details=details)


def unprocessable(why: str) -> ApiError:
    """422 for a patch that cannot be applied to this object."""
    text = f"the server rejected our request due to an error in our request: {why}"
    return ApiError(
        422, Reason.INVALID, text, details={"causes": [{"reason": "UnexpectedServerResponse", "message": why}]}
    )


def method_not_allowed(kind: Kind | None = None, action: str = "") -> ApiError:
    if kind is None or not action:
        text = "the server does not allow this method on the requested resource"
        return ApiError(405, Reason.METHOD_NOT_ALLOWED, text)
    text = f'{action} is not supported on resources of kind "{kind.resource}"'
    return ApiError(405, Reason.METHOD_NOT_ALLOWED, text, details=_named(kind, ""))


def unsupported_media_type(accepted: Iterable[str]) -> ApiError:
    text = "the body of the request was in an unknown format - accepted media types include: "
    return ApiError(415, Reason.UNSUPPORTED_MEDIA_TYPE, text + ", ".join(accepted))


def not_acceptable(accepted: Iterable[str]) -> ApiError:
    text = "only the following media types are accepted: " + ", ".join(accepted)
    return ApiError(406, Reason.NOT_ACCEPTABLE, text)


def expired(message: str) -> ApiError:
    """410: a resource version or a continue token that is too old to answer for."""
    return ApiError(410, Reason.EXPIRED, message)


def not_implemented(sentence: str) -> ApiError:
    """501: Kubernetes does this and we do not; the sentence says so."""
    return ApiError(501, Reason.NOT_IMPLEMENTED, sentence)


def too_large(limit: int) -> ApiError:
    return ApiError(413, Reason.TOO_LARGE, f"Request entity too large: limit is {limit}")


def internal(message: str) -> ApiError:
    return ApiError(500, Reason.INTERNAL, f"Internal error occurred: {message}")
