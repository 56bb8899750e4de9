"""What can go wrong between us and an API server, as one type: an HTTP code, Kubernetes' reason word, a sentence.

Raised by `client.http` for every answer that is not a success and for every connection that fails. Whoever calls
the client reads `retryable`: the loop tries again on its own, anything else is a mistake in the request and goes up.
"""

from __future__ import annotations

import msgspec


class Status(msgspec.Struct, frozen=True):
    """The body of an error, `meta/v1 Status`."""

    reason: str | None = None
    message: str | None = None
    code: int | None = None


class ApiError(Exception):
    """An answer that is not a success. `code` is the HTTP status, `reason` Kubernetes' word for it."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(f"{code} {reason}: {message}")
        self.code = code
        self.reason = reason
        self.message = message

    @property
    def retryable(self) -> bool:
        """Whether the same intention can succeed later: conflicts (read again first), overload, no server."""
        return self.reason == "Conflict" or self.code in (0, 429, 500, 502, 503, 504)

    @property
    def gone(self) -> bool:
        """The resourceVersion is too old to go on from: list again."""
        return self.code == 410 or self.reason in ("Expired", "Gone")

    @property
    def not_found(self) -> bool:
        return self.code == 404

    @property
    def already_exists(self) -> bool:
        return self.reason == "AlreadyExists"


class Unreachable(ApiError):
    """No answer at all: refused, reset, timed out, or a TLS handshake that failed. Code 0."""

    def __init__(self, message: str) -> None:
        super().__init__(0, "Unreachable", message)


class ConfigError(Exception):
    """A kubeconfig, certificate or key that cannot be used; the message names the file and the cure."""


def from_answer(code: int, body: bytes) -> ApiError:
    """The error of an answer: its Status when it has one, otherwise the start of its text."""
    try:
        status = msgspec.json.decode(body, type=Status)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ApiError(code, "Unknown", body[:200].decode("utf-8", "replace") or "an answer without a body")
    return ApiError(code, status.reason or "Unknown", status.message or "an answer without a message")
