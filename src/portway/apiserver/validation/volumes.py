"""Volumes of a pod: a name each, and exactly one source."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from portway.apiserver.errors import FieldError, duplicate, forbidden_field, required
from portway.apiserver.validation import formats

Json = dict[str, Any]

# The field that a source cannot do without.
_NEEDED = {"configMap": "name", "secret": "secretName", "hostPath": "path", "persistentVolumeClaim": "claimName"}


def check(path: str, volumes: list[Json]) -> Generator[FieldError, None, set[str]]:
    """Yields the errors; the generator's value is the set of names, for the mounts."""
    names: set[str] = set()
    for i, volume in enumerate(volumes):
        at, name = f"{path}[{i}]", volume.get("name", "")
        yield from formats.needed(f"{at}.name", name, formats.label(name))
        if name in names:
            yield duplicate(f"{at}.name", name)
        names.add(name)
        sources = [f for f in volume if f != "name"]
        if not sources:
            yield required(at, "must specify a volume type")
        for extra in sources[1:]:
            yield forbidden_field(f"{at}.{extra}", "may not specify more than 1 volume type")
        for source in sources[:1]:
            field = _NEEDED.get(source)
            if field and not volume[source].get(field):
                yield required(f"{at}.{source}.{field}")
    return names
