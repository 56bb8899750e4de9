"""Who is asking, and whether they may.

A client certificate (checked by the TLS layer against the cluster's authority) gives the user from its CN and the
groups from its O fields; a bearer token is looked up in a table. Without either, only the health paths and the version
answer. There are no authorization rules yet: `authorize` is the one place where they will stand, and every request
passes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hmac import compare_digest
from typing import Any

from portway.apiserver.errors import unauthorized
from portway.objects.kinds import Kind

AUTHENTICATED = "system:authenticated"


@dataclass(frozen=True, slots=True)
class User:
    """`groups` include system:authenticated for everybody but the anonymous user."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""


ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))
OPEN_PATHS = frozenset({"healthz", "livez", "readyz", "version"})
"""First path segments that answer without credentials."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """What a request wants, in the words of a SubjectAccessReview; `kind` None for a path that is no resource."""

    verb: str
    path: str
    kind: Kind | None = None
    namespace: str = ""
    name: str = ""
    subresource: str = ""


def authenticate(authorization: str, certificate: Mapping[str, Any] | None, tokens: Mapping[str, User]) -> User:
    """The user of an Authorization header and a verified peer certificate (as `ssl` decodes it). 401 for a token nobody knows."""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return _with_token(token.strip(), tokens)
    if certificate:
        return _with_certificate(certificate)
    return ANONYMOUS


def _with_token(token: str, tokens: Mapping[str, User]) -> User:
    for known, user in tokens.items():
        if compare_digest(known.encode(), token.encode()):
            return _authenticated(user)
    raise unauthorized()


def _with_certificate(certificate: Mapping[str, Any]) -> User:
    subject = [pair for part in certificate.get("subject", ()) for pair in part]
    name = next((value for key, value in subject if key == "commonName"), "")
    if not name:
        raise unauthorized()
    return _authenticated(User(name, tuple(value for key, value in subject if key == "organizationName")))


def _authenticated(user: User) -> User:
    return user if AUTHENTICATED in user.groups else User(user.name, (*user.groups, AUTHENTICATED), user.uid)


def authorize(user: User, attributes: Attributes) -> None:
    """Raise 401 or 403 unless `user` may do this. Whoever has proved who they are may do everything; there are no roles yet."""
    if user is ANONYMOUS and attributes.path.strip("/").partition("/")[0] not in OPEN_PATHS:
        raise unauthorized()
