"""`labelSelector` and `fieldSelector` of a list or watch: parsed once, asked for every object.

The grammar is that of apimachinery's `labels.Parse` and `fields.ParseSelector`. A selector that cannot be parsed is
400. Which fields may be selected is declared per kind below; every kind has metadata.name and metadata.namespace.
`rest` and `watch` call `Selection`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from portway.apiserver.errors import bad_request
from portway.objects.kinds import Kind

Value = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Requirement:
    """One term of a label selector. Operators: In, NotIn, Exists, DoesNotExist, Gt, Lt."""

    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def matches(self, labels: dict[str, str]) -> bool:
        has = self.key in labels
        if self.operator == "In":
            return has and labels[self.key] in self.values
        if self.operator == "NotIn":
            return not has or labels[self.key] not in self.values
        if self.operator == "Exists":
            return has
        if self.operator == "DoesNotExist":
            return not has
        return has and self._compare(labels[self.key])

    def _compare(self, label: str) -> bool:
        try:
            value, bound = int(label), int(next(iter(self.values)))
        except ValueError:
            return False
        return value > bound if self.operator == "Gt" else value < bound


@dataclass(frozen=True, slots=True)
class FieldTerm:
    """`path=value`, or `path!=value` when `negated`."""

    path: str
    value: str
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Selection:
    """What a list or watch asked for; without terms it selects everything."""

    labels: tuple[Requirement, ...] = ()
    fields: tuple[FieldTerm, ...] = ()

    @property
    def everything(self) -> bool:
        return not self.labels and not self.fields

    @property
    def name(self) -> str:
        """The one name that can match (`metadata.name=X`), or empty."""
        return next((t.value for t in self.fields if t.path == "metadata.name" and not t.negated), "")

    def matches(self, value: Value) -> bool:
        if self.labels:
            labels = value["metadata"].get("labels") or {}
            if not all(r.matches(labels) for r in self.labels):
                return False
        return all((field_value(value, t.path) == t.value) is not t.negated for t in self.fields)


EVERYTHING = Selection()

_COMMON = ("metadata.name", "metadata.namespace")
_INVOLVED = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
FIELDS: dict[str, tuple[str, ...]] = {
    "pods": (
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.podIPs",
        "status.nominatedNodeName",
    ),
    "events": (*(f"involvedObject.{f}" for f in _INVOLVED), "reason", "reportingComponent", "source", "type"),
    "nodes": ("spec.unschedulable",),
    "secrets": ("type",),
    "namespaces": ("status.phase",),
    "services": ("spec.clusterIP", "spec.type"),
    "replicasets.apps": ("status.replicas",),
}
"""Selectable fields beyond the common ones, by resource (kubernetes pkg/apis/*/v1/conversion.go)."""


def field_value(value: Value, path: str) -> str:
    """The field as a selector sees it: absent is empty, booleans are `true` and `false`."""
    if path == "source":
        return str((value.get("source") or {}).get("component") or value.get("reportingComponent") or "")
    here: Any = value
    for step in path.split("."):
        here = here.get(step) if isinstance(here, dict) else None
    if here is None:
        return _ABSENT.get(path, "")
    if isinstance(here, bool):
        return "true" if here else "false"
    if isinstance(here, list):
        return str(here[0].get("ip", "")) if here else ""
    return str(here)


_ABSENT = {"spec.unschedulable": "false", "spec.hostNetwork": "false", "status.replicas": "0"}


def selection(kind: Kind, labels: str, fields: str) -> Selection:
    """Both selectors of a request. 400 for what cannot be parsed or is not selectable."""
    if not labels and not fields:
        return EVERYTHING
    return Selection(parse_labels(labels), parse_fields(kind, fields))


# labels

_TOKEN = re.compile(r"\s*(?:(?P<op>!=|==|=|!|>|<|\(|\)|,)|(?P<word>[^\s,!=()<>]+))")
_KEY = re.compile(r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")
_VALUE = re.compile(r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$")


def parse_labels(text: str) -> tuple[Requirement, ...]:
    """`a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1` as requirements that must all hold."""
    return _LabelParser(text).parse() if text.strip() else ()


class _LabelParser:
    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._at = 0

    def parse(self) -> tuple[Requirement, ...]:
        terms = [self._term()]
        while self._peek():
            if self._next() != ",":
                raise self._error(f"found '{self._tokens[self._at - 1]}', expected: ',' or 'end of string'")
            terms.append(self._term())
        return tuple(terms)

    def _term(self) -> Requirement:
        if self._peek() == "!":
            self._next()
            return Requirement(self._key(), "DoesNotExist")
        key = self._key()
        operator = self._peek()
        if operator in ("", ","):
            return Requirement(key, "Exists")
        self._next()
        make = _OPERATORS.get(operator)
        if make is None:
            raise self._error(f"found '{operator}', expected: in, notin, =, ==, !=, gt, lt")
        return Requirement(
            key, make, self._set() if operator in ("in", "notin") else frozenset({self._word(key, make)})
        )

    def _set(self) -> frozenset[str]:
        if self._next() != "(":
            raise self._error(f"found '{self._tokens[self._at - 1]}' expected: '('")
        values = set()
        while True:
            token = self._next()
            if token in (",", ")"):
                values.add("")
            else:
                values.add(_checked(token))
                token = self._next()
            if token == ")":
                return frozenset(values - {""} or values)
            if token != ",":
                raise self._error(f"found '{token}', expected: ',' or ')'")

    def _word(self, key: str, operator: str) -> str:
        value = "" if self._peek() in ("", ",") else self._next()
        if operator in ("Gt", "Lt") and not re.fullmatch(r"-?\d+", value):
            raise self._error(
                f"values[0][{key}]: Invalid value: \"{value}\": for 'Gt', 'Lt' operators, the value must be an integer"
            )
        return _checked(value)

    def _key(self) -> str:
        key = self._next()
        if not _KEY.match(key):
            raise self._error(
                f"key: Invalid value: \"{key}\": name part must consist of alphanumeric characters, '-', '_' or '.'"
            )
        return key

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _next(self) -> str:
        token = self._peek()
        self._at += 1
        if not token:
            raise self._error("found '', expected: identifier")
        return token

    @staticmethod
    def _error(why: str) -> Exception:
        return bad_request(f"unable to parse requirement: {why}")


_OPERATORS = {"=": "In", "==": "In", "!=": "NotIn", "in": "In", "notin": "NotIn", ">": "Gt", "<": "Lt"}


def _tokens(text: str) -> list[str]:
    found, at = [], 0
    text = text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise bad_request(f"unable to parse requirement: found '{text[at:]}', expected: identifier")
        found.append(match["op"] or match["word"])
        at = match.end()
    return found


def _checked(value: str) -> str:
    if not _VALUE.match(value):
        raise bad_request(
            f'unable to parse requirement: values[0]: Invalid value: "{value}": a valid label must be an empty string '
            "or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
        )
    return value


# fields


def parse_fields(kind: Kind, text: str) -> tuple[FieldTerm, ...]:
    """`a=b,c!=d`; a backslash escapes a comma, an equals sign or itself in a value."""
    return tuple(_field_term(kind, part) for part in _split(text) if part)


def _split(text: str) -> list[str]:
    return re.split(r"(?<!\\),", text)


def _field_term(kind: Kind, part: str) -> FieldTerm:
    match = re.match(r"^(.*?)(!=|==|=)(.*)$", part, re.S)
    if match is None:
        raise bad_request(f"invalid selector: '{part}'; can't understand '{part}'")
    path, operator, value = match.groups()
    if path not in _COMMON and path not in FIELDS.get(kind.resource, ()):
        raise bad_request(f"field label not supported: {path}")
    return FieldTerm(path, re.sub(r"\\([\\,=])", r"\1", value), operator == "!=")
