"""Every "no" of the API server as a Status object, compared with the whole object that Kubernetes sends."""

from __future__ import annotations

from typing import Any

import pytest

from portway.apiserver import errors
from portway.apiserver.errors import ApiError, FieldError, FieldReason
from portway.objects.kinds import DEPLOYMENT, SERVICE

ROWS: list[tuple[str, ApiError, int, str, str, dict[str, Any]]] = [
    (
        "a name that is not there",
        errors.not_found(SERVICE, "web"),
        404,
        "NotFound",
        'services "web" not found',
        {"name": "web", "kind": "services"},
    ),
    (
        "a name of a group that is not there",
        errors.not_found(DEPLOYMENT, "web"),
        404,
        "NotFound",
        'deployments.apps "web" not found',
        {"name": "web", "group": "apps", "kind": "deployments"},
    ),
    (
        "a name that is taken",
        errors.already_exists(SERVICE, "web"),
        409,
        "AlreadyExists",
        'services "web" already exists',
        {"name": "web", "kind": "services"},
    ),
    (
        "a stale resource version",
        errors.conflict(SERVICE, "web"),
        409,
        "Conflict",
        'Operation cannot be fulfilled on services "web": the object has been modified; please apply your changes to '
        "the latest version and try again",
        {"name": "web", "kind": "services"},
    ),
    (
        "something that admission forbids",
        errors.forbidden(SERVICE, "web", "namespace is being terminated"),
        403,
        "Forbidden",
        'services "web" is forbidden: namespace is being terminated',
        {"name": "web", "kind": "services"},
    ),
    (
        "one wrong field",
        errors.invalid(
            SERVICE, "x", [errors.invalid_value("spec.ports[0].port", 0, "must be between 1 and 65535, inclusive")]
        ),
        422,
        "Invalid",
        'Service "x" is invalid: spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive',
        {
            "name": "x",
            "kind": "Service",
            "causes": [
                {
                    "reason": "FieldValueInvalid",
                    "message": "Invalid value: 0: must be between 1 and 65535, inclusive",
                    "field": "spec.ports[0].port",
                }
            ],
        },
    ),
    (
        "two wrong fields of a group's kind",
        errors.invalid(DEPLOYMENT, "x", [errors.required("a"), errors.duplicate("b", "c")]),
        422,
        "Invalid",
        'Deployment.apps "x" is invalid: [a: Required value, b: Duplicate value: "c"]',
        {
            "name": "x",
            "group": "apps",
            "kind": "Deployment",
            "causes": [
                {"reason": "FieldValueRequired", "message": "Required value", "field": "a"},
                {"reason": "FieldValueDuplicate", "message": 'Duplicate value: "c"', "field": "b"},
            ],
        },
    ),
    (
        "a verb that the resource has not",
        errors.method_not_allowed(SERVICE, "deletecollection"),
        405,
        "MethodNotAllowed",
        'deletecollection is not supported on resources of kind "services"',
        {"kind": "services"},
    ),
]


@pytest.mark.parametrize(("code", "reason", "message", "details", "error"), [
    pytest.param(code, reason, message, details, error, id=sentence)
    for sentence, error, code, reason, message, details in ROWS
])  # fmt: skip
def test_status(code: int, reason: str, message: str, details: dict[str, Any], error: ApiError) -> None:
    assert error.status() == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "details": details,
        "code": code,
    }


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (errors.bad_request("x"), 400, "BadRequest"),
        (errors.unauthorized(), 401, "Unauthorized"),
        (errors.no_such_resource(), 404, "NotFound"),
        (errors.not_acceptable(["a/b"]), 406, "NotAcceptable"),
        (errors.expired("x"), 410, "Expired"),
        (errors.too_large(3), 413, "RequestEntityTooLarge"),
        (errors.unsupported_media_type(["a/b"]), 415, "UnsupportedMediaType"),
        (errors.internal("x"), 500, "InternalError"),
        (errors.not_implemented("x"), 501, "NotImplemented"),
    ],
)
def test_code_and_reason_belong_together(error: ApiError, code: int, reason: str) -> None:
    assert (error.code, error.reason, error.status()["code"]) == (code, reason, code)


def test_an_answer_without_details_has_no_details() -> None:
    assert "details" not in errors.bad_request("x").status()


def test_retry_after_is_in_the_details_too() -> None:
    error = ApiError(503, errors.Reason.UNAVAILABLE, "later", retry_after=5)
    assert error.retry_after == 5
    assert error.status()["details"] == {"retryAfterSeconds": 5}


def test_the_same_mistake_twice_is_said_once_and_counted_twice() -> None:
    error = errors.invalid(SERVICE, "x", [errors.required("a"), errors.required("a")])
    assert error.message == 'Service "x" is invalid: a: Required value'
    assert len(error.causes) == 2


def test_an_unprocessable_patch_keeps_its_reason_as_a_cause() -> None:
    assert errors.unprocessable("no such path").causes == [
        {"reason": "UnexpectedServerResponse", "message": "no such path"}
    ]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (errors.required("a"), "a: Required value"),
        (errors.required("a", "say it"), "a: Required value: say it"),
        (errors.invalid_value("a", "x", "no"), 'a: Invalid value: "x": no'),
        (errors.invalid_value("a", True, "no"), "a: Invalid value: true: no"),
        (errors.invalid_value("a", {"b": 1}, "no"), 'a: Invalid value: {"b":1}: no'),
        (errors.invalid_value("a", None, "no"), "a: Invalid value: null: no"),
        (errors.not_supported("a", "x", ["p", "q"]), 'a: Unsupported value: "x": supported values: "p", "q"'),
        (errors.forbidden_field("a", "no"), "a: Forbidden: no"),
        (errors.missing_reference("a", "v"), 'a: Not found: "v"'),
        (errors.too_long("a", 63), "a: Too long: may not be more than 63 bytes"),
        (errors.too_many("a", 65, 64), "a: Too many: 65: must have at most 64 items"),
        (FieldError("a", FieldReason.INTERNAL, 1, "x"), "a: Internal error: x"),
    ],
)
def test_field_errors_read_as_kubernetes_words_them(error: FieldError, text: str) -> None:
    assert str(error) == text


@pytest.mark.parametrize("reason", list(FieldReason))
def test_every_field_reason_has_words(reason: FieldReason) -> None:
    assert reason.words
