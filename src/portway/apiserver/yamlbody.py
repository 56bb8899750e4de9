"""YAML request bodies, read as Kubernetes reads them: YAML to JSON's types.

Kept apart from `decode`, which imports this on the first YAML body, because PyYAML costs start-up time. Time stamps stay
strings (JSON has no other type for them) and keys become strings, as in a conversion to JSON.
"""

from __future__ import annotations

from typing import Any

import yaml

_Base: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class BrokenYaml(Exception):
    """The text is no YAML document."""


class _Loader(_Base):  # type: ignore[valid-type, misc]
    doubled: list[str]

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[str, Any]:
        self.flatten_mapping(node)
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = _key(self.construct_object(key_node, deep=True))
            if key in result:
                self.doubled.append(key)
            result[key] = self.construct_object(value_node, deep=True)
        return result


def _map(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    return loader.construct_mapping(node)


_Loader.add_constructor("tag:yaml.org,2002:map", _map)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in rules if tag != "tag:yaml.org,2002:timestamp"]
    for first, rules in _Base.yaml_implicit_resolvers.items()
}


def _key(key: Any) -> str:
    if isinstance(key, bool):
        return "true" if key else "false"
    if key is None:
        return "null"
    if isinstance(key, (str, int, float)):
        return str(key)
    raise BrokenYaml(f"yaml: invalid map key: {key!r}")


def parse(body: bytes) -> tuple[Any, list[str]]:
    """The value and the keys that stand twice in one mapping."""
    try:
        loader = _Loader(body)
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise BrokenYaml(_words(e)) from None
    loader.doubled = []
    try:
        return loader.get_single_data(), loader.doubled
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as e:
        raise BrokenYaml(_words(e)) from None
    finally:
        loader.dispose()


def _words(e: Exception) -> str:
    mark = getattr(e, "problem_mark", None)
    problem = getattr(e, "problem", None) or str(e)
    return f"yaml: line {mark.line + 1}: {problem}" if mark is not None else f"yaml: {problem}"
