"""Rules for single values: names, labels, ports, addresses. Each gives the sentence about what is wrong, or "".

Used by every other module of this package. Sources: RFC 1123, RFC 6335, and Kubernetes' `validation` utilities, whose
sentences users know.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Any

from portway.apiserver.errors import FieldError, invalid_value, not_supported, required

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = _LABEL + r"(\." + _LABEL + ")*"
_NAME_PART = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_is_label = re.compile(_LABEL).fullmatch
_is_subdomain = re.compile(_SUBDOMAIN).fullmatch
_is_name_part = re.compile(_NAME_PART).fullmatch
_is_key = re.compile("[-._a-zA-Z0-9]+").fullmatch
_is_variable = re.compile("[ -<>-~]+").fullmatch
_is_percent = re.compile("[0-9]+%").fullmatch

LABEL_LIMIT = 63
SUBDOMAIN_LIMIT = 253
PORT_NAME_LIMIT = 15

SUBDOMAIN_WORDS = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is '" + _SUBDOMAIN + "')"
)
LABEL_WORDS = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '" + _LABEL + "')"
)
_QUALIFIED = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character "
    "(e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '" + _NAME_PART + "')"
)
LABEL_VALUE_WORDS = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '("
    + _NAME_PART
    + ")?')"
)
KEY_WORDS = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or "
    "'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
)
IP_WORDS = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
CIDR_WORDS = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
PERCENT_WORDS = (
    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for "
    "validation is '[0-9]+%')"
)
IMMUTABLE = "field is immutable"
NOT_NEGATIVE = "must be greater than or equal to 0"
POSITIVE = "must be greater than 0"
PROTOCOLS = ("SCTP", "TCP", "UDP")


def _limit(count: int) -> str:
    return f"must be no more than {count} bytes"


def between(low: int, high: int) -> str:
    return f"must be between {low} and {high}, inclusive"


def label(value: str) -> str:
    """RFC 1123 label."""
    return _limit(LABEL_LIMIT) if len(value) > LABEL_LIMIT else "" if _is_label(value) else LABEL_WORDS


def subdomain(value: str) -> str:
    """RFC 1123 subdomain."""
    return _limit(SUBDOMAIN_LIMIT) if len(value) > SUBDOMAIN_LIMIT else "" if _is_subdomain(value) else SUBDOMAIN_WORDS


def qualified(value: str) -> str:
    """A label's or annotation's key: an optional DNS prefix, a slash and a name."""
    prefix, slash, name = value.rpartition("/")
    if "/" in prefix:
        return (
            f"a qualified name {_QUALIFIED} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        )
    if slash and not prefix:
        return "prefix part must be non-empty"
    if slash and (why := subdomain(prefix)):
        return "prefix part " + why
    if not name:
        return "name part must be non-empty"
    if len(name) > LABEL_LIMIT:
        return "name part " + _limit(LABEL_LIMIT)
    return "" if _is_name_part(name) else "name part " + _QUALIFIED


def label_value(value: str) -> str:
    if len(value) > LABEL_LIMIT:
        return _limit(LABEL_LIMIT)
    return "" if not value or _is_name_part(value) else LABEL_VALUE_WORDS


def config_key(value: str) -> str:
    if len(value) > SUBDOMAIN_LIMIT:
        return _limit(SUBDOMAIN_LIMIT)
    if value == ".":
        return "must not be '.'"
    if value.startswith(".."):
        return "must not be '..'" if value == ".." else "must not start with '..'"
    return "" if _is_key(value) else KEY_WORDS


def variable(value: str) -> str:
    """An environment variable's name (relaxed since Kubernetes 1.30: everything printable but '=')."""
    good = _is_variable(value)
    return (
        ""
        if good
        else "a valid environment variable name must consist only of printable ASCII characters other than '='"
    )


def port_number(value: Any) -> str:
    good = isinstance(value, int) and 1 <= value <= 65535
    return "" if good else between(1, 65535)


def port_name(value: str) -> str:
    """RFC 6335: the name of a port, as in a container and in a Service's `targetPort`."""
    if len(value) > PORT_NAME_LIMIT:
        return f"must be no more than {PORT_NAME_LIMIT} characters"
    if not re.fullmatch("[-a-z0-9]+", value):
        return "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"  # codespell:ignore
    if not re.search("[a-z]", value):
        return "must contain at least one letter (a-z)"
    if "--" in value:
        return "must not contain consecutive hyphens"
    return "must not begin or end with a hyphen" if "-" in (value[0], value[-1]) else ""


def port_or_name(value: Any) -> str:
    return port_name(value) if isinstance(value, str) else port_number(value)


def ip(value: str) -> str:
    return IP_WORDS if parse_ip(value) is None else ""


def parse_ip(value: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(value)
    except ValueError:
        return None


def cidr(value: str) -> str:
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        return CIDR_WORDS
    return "" if "/" in value else CIDR_WORDS


def endpoint_ip(value: str) -> str:
    """An address that may stand behind a Service."""
    address = parse_ip(value)
    if address is None:
        return IP_WORDS
    if address.is_unspecified:
        return "may not be unspecified (0.0.0.0 or ::)"
    if address.is_loopback:
        return "may not be in the loopback range (127.0.0.0/8, ::1/128)"
    if address.is_link_local:
        return "may not be in the link-local range (169.254.0.0/16, fe80::/10)"
    link_multicast = ipaddress.ip_network("224.0.0.0/24" if address.version == 4 else "ff02::/16")
    return "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)" if address in link_multicast else ""


def percent_or_count(path: str, value: Any, share_limit: int = 100) -> Iterator[FieldError]:
    """A number of pods, or a share of them up to `share_limit` percent (0: no limit)."""
    if isinstance(value, str):
        if not _is_percent(value):
            yield invalid_value(path, value, PERCENT_WORDS)
        elif share_limit and int(value[:-1]) > share_limit:
            yield invalid_value(path, value, f"must not be greater than {share_limit}%")
    elif isinstance(value, int) and value < 0:
        yield invalid_value(path, value, NOT_NEGATIVE)


def text(path: str, value: Any, why: str) -> Iterator[FieldError]:
    """The error of a rule's sentence, if there is one."""
    if why:
        yield invalid_value(path, value, why)


def needed(path: str, value: str, why: str) -> Iterator[FieldError]:
    """A string that must be there and be right; `why` is the rule's sentence."""
    if not value:
        yield required(path)
    elif why:
        yield invalid_value(path, value, why)


def not_negative(path: str, value: Any) -> Iterator[FieldError]:
    if isinstance(value, int) and value < 0:
        yield invalid_value(path, value, NOT_NEGATIVE)


def one_of(path: str, value: Any, supported: tuple[str, ...]) -> Iterator[FieldError]:
    """An enumeration; empty counts as not said and is an error too."""
    if not value:
        yield required(path)
    elif value not in supported:
        yield not_supported(path, value, supported)


def labels(path: str, values: Mapping[str, str] | None) -> Iterator[FieldError]:
    for key, value in (values or {}).items():
        if why := qualified(key):
            yield invalid_value(path, key, why)
        if why := label_value(value):
            yield invalid_value(path, value, why)
