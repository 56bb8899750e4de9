"""YAML request bodies, read as Kubernetes reads them: YAML to JSON's types.

Kept apart from `decode`, which imports this on the first YAML body, because PyYAML costs start-up time. Time stamps stay
strings (JSON has no other type for them) and keys become strings, as in a conversion to JSON. The value is built from the
parser's events with a stack of our own and stops at a depth and a number of values: PyYAML's own construction recurses, in C as
well, so a body of brackets would end the whole process, and one of aliases would grow without end once it is written as JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

_Base: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

MAX_DEPTH = 250
"""Deeper than any object of Kubernetes, and shallow enough for every function that walks the value."""
MAX_VALUES = 100_000 if _Base is not yaml.SafeLoader else 10_000
"""Half a second of the event loop with libyaml's parser, a second with the one in Python."""

_TAG = "tag:yaml.org,2002:"
_STR, _MERGE = _TAG + "str", _TAG + "merge"
_TEXT = (_STR, _TAG + "timestamp", _MERGE, _TAG + "value")
"""What JSON has no type for is text there, as in Kubernetes: times, a lone "=", a "<<" that is no key."""
_PLAIN_MAP, _PLAIN_LIST = (None, "!", _TAG + "map"), (None, "!", _TAG + "seq")


class BrokenYaml(Exception):
    """The text is no YAML document that JSON could say, or one that is too large or too deep."""


def parse(body: bytes) -> tuple[Any, list[str]]:
    """The value and the keys that stand twice in one mapping."""
    if body[:1] == b"{":  # a server-side apply sends JSON under YAML's name
        try:
            return _json(body)
        except (ValueError, RecursionError):
            pass
    builder = _Builder()
    try:
        for event in yaml.parse(body, Loader=_Base):
            builder.take(event)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as e:
        raise BrokenYaml(_words(e)) from None
    return builder.value, builder.doubled


def _json(body: bytes) -> tuple[Any, list[str]]:
    doubled: list[str] = []

    def mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for key, value in pairs:
            if key in made:
                doubled.append(key)
            made[key] = value
        return made

    def no_constant(word: str) -> None:
        raise ValueError(word)

    return json.loads(body, object_pairs_hook=mapping, parse_constant=no_constant), doubled


@dataclass(slots=True)
class _Open:
    """A mapping or list whose end has not come. `merges` are what its "<<" keys name, in their order."""

    value: dict[str, Any] | list[Any]
    anchor: str | None
    first: int
    key: str | None = None
    merging: bool = False
    merges: list[dict[str, Any]] = field(default_factory=list)


class _Builder:
    """Takes the events of one document."""

    def __init__(self) -> None:
        self.value: Any = None
        self.doubled: list[str] = []
        self._open: list[_Open] = []
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._count = 0
        self._documents = 0

    def take(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, yaml.MappingStartEvent):
            self._begin(event, {}, _PLAIN_MAP)
        elif isinstance(event, yaml.SequenceStartEvent):
            self._begin(event, [], _PLAIN_LIST)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._end()
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)
        elif isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise _at(event, "expected a single document in the stream")

    def _spend(self, values: int, event: yaml.Event) -> None:
        self._count += values
        if self._count > MAX_VALUES:
            raise _at(event, f"more than {MAX_VALUES} values: send it as JSON, or as several objects")

    def _begin(self, event: Any, value: dict[str, Any] | list[Any], tags: Iterable[str | None]) -> None:
        self._spend(1, event)
        if event.tag not in tags:
            raise _at(event, f"the tag {event.tag!r} has no meaning in JSON")
        if len(self._open) >= MAX_DEPTH:
            raise _at(event, f"exceeded max depth of {MAX_DEPTH}")
        if self._wants_key():
            raise _at(event, "invalid map key: a list or mapping")
        self._anchors.pop(event.anchor, None)  # until its end, an alias to it is one to itself
        self._open.append(_Open(value, event.anchor, self._count))

    def _end(self) -> None:
        done = self._open.pop()
        if isinstance(done.value, dict) and done.merges:
            own = dict(done.value)
            done.value.clear()
            for source in reversed(done.merges):  # the first that names a key wins, and the mapping itself over all
                done.value.update(source)
            done.value.update(own)
        if done.anchor:
            self._anchors[done.anchor] = (done.value, self._count - done.first + 1)
        self._place(done.value)

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        self._spend(1, event)
        tag = _tag_of(event)
        if tag == _MERGE and self._wants_key():
            self._open[-1].merging, self._open[-1].key = True, "<<"
            return
        value = _scalar(event, tag)
        if event.anchor:
            self._anchors[event.anchor] = (value, 1)
        self._place(value)

    def _alias(self, event: yaml.AliasEvent) -> None:
        if event.anchor not in self._anchors:
            inside = any(o.anchor == event.anchor for o in self._open)
            raise _at(
                event,
                f"anchor {event.anchor!r} value contains itself" if inside else f"unknown anchor {event.anchor!r}",
            )
        value, size = self._anchors[event.anchor]
        self._spend(size, event)
        self._place(value)

    def _wants_key(self) -> bool:
        return bool(self._open) and isinstance(self._open[-1].value, dict) and self._open[-1].key is None

    def _place(self, value: Any) -> None:
        if not self._open:
            self.value = value
            return
        at = self._open[-1]
        if isinstance(at.value, list):
            at.value.append(value)
        elif at.key is None:
            at.key = _key(value)
        elif at.merging:
            at.merges.extend(_merged(value))
            at.merging, at.key = False, None
        else:
            if at.key in at.value:
                self.doubled.append(at.key)
            at.value[at.key] = value
            at.key = None


def _tag_of(event: yaml.ScalarEvent) -> str:
    """What a scalar is: by its tag, or a plain one by its look. 1:30 is a string here: only YAML 1.1 counts in sixties."""
    if event.tag == "!" or (event.tag is None and not event.implicit[0]):
        return _STR
    if event.tag is not None:
        return str(event.tag)
    text: str = event.value
    for tag, pattern in _RULES.get(text[:1], ()):
        if pattern.match(text):
            return _STR if ":" in text else str(tag)
    return _STR


_RULES = {
    first: [(tag, pattern) for tag, pattern in rules if tag != _TAG + "timestamp"]
    for first, rules in _Base.yaml_implicit_resolvers.items()
}
_SCALARS = yaml.constructor.SafeConstructor()


def _scalar(event: yaml.ScalarEvent, tag: str) -> Any:
    if tag in _TEXT:
        return event.value
    read = _READ.get(tag)
    if read is None:
        raise _at(event, f"the tag {tag!r} has no meaning in JSON")
    try:
        value = read(_SCALARS, yaml.ScalarNode(tag, event.value))
    except (ValueError, KeyError, IndexError, yaml.YAMLError):
        raise _at(event, f"{event.value[:40]!r} is no {tag.removeprefix(_TAG)}") from None
    if isinstance(value, float) and not math.isfinite(value):
        raise _at(event, f"{event.value} is a number that JSON cannot say")
    return value


def _binary(scalars: yaml.constructor.SafeConstructor, node: yaml.ScalarNode) -> str:
    return bytes(scalars.construct_yaml_binary(node)).decode()


_READ = {
    _TAG + "null": yaml.constructor.SafeConstructor.construct_yaml_null,
    _TAG + "bool": yaml.constructor.SafeConstructor.construct_yaml_bool,
    _TAG + "int": yaml.constructor.SafeConstructor.construct_yaml_int,
    _TAG + "float": yaml.constructor.SafeConstructor.construct_yaml_float,
    _TAG + "binary": _binary,
}


def _merged(value: Any) -> Iterator[dict[str, Any]]:
    for source in value if isinstance(value, list) else (value,):
        if not isinstance(source, dict):
            raise BrokenYaml("yaml: map merge requires map or sequence of maps as the value")
        yield source


def _key(key: Any) -> str:
    if isinstance(key, bool):
        return "true" if key else "false"
    if key is None:
        return "null"
    if isinstance(key, (str, int, float)):
        return str(key)
    raise BrokenYaml(f"yaml: invalid map key: {key!r:.40}")


def _at(event: yaml.Event, problem: str) -> BrokenYaml:
    line = event.start_mark.line + 1 if event.start_mark else "?"
    return BrokenYaml(f"yaml: line {line}: {problem}")


def _words(e: Exception) -> str:
    mark = getattr(e, "problem_mark", None)
    problem = getattr(e, "problem", None) or str(e)
    return f"yaml: line {mark.line + 1}: {problem}" if mark is not None else f"yaml: {problem}"
