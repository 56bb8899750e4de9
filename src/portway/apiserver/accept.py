"""Which shape an answer takes: the object, a Table for people, or metadata alone. Always JSON.

kubectl asks for `application/json;as=Table;v=v1;g=meta.k8s.io` and falls back down its Accept list; a client that names
no type that we can produce gets 406. `server` negotiates once per request.
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache

from portway.apiserver.errors import not_acceptable

JSON = "application/json"
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


class Shape(StrEnum):
    """The `as` parameter; OBJECT when absent."""

    OBJECT = ""
    TABLE = "Table"
    METADATA = "PartialObjectMetadata"
    METADATA_LIST = "PartialObjectMetadataList"


@lru_cache(maxsize=256)
def shape(accept: str) -> Shape:
    """The first entry that can be served. 406 when there is none."""
    for media, parameters in _entries(accept):
        if media not in (JSON, "*/*", "application/*"):
            continue
        wanted = parameters.get("as", "")
        if not wanted:
            return Shape.OBJECT
        known = parameters.get("g") == "meta.k8s.io" and parameters.get("v") in ("v1", "v1beta1")
        if known and wanted in Shape._value2member_map_:
            return Shape(wanted)
    raise not_acceptable([JSON])


@lru_cache(maxsize=64)
def wants_aggregated(accept: str) -> bool:
    """Whether discovery shall be one document (apidiscovery.k8s.io/v2)."""
    for media, parameters in _entries(accept):
        if media != JSON:
            continue
        if parameters.get("as") == "APIGroupDiscoveryList":
            if parameters.get("g") == "apidiscovery.k8s.io" and parameters.get("v") == "v2":
                return True
            continue
        return False
    return False


def _entries(accept: str) -> list[tuple[str, dict[str, str]]]:
    found = []
    for entry in (accept or "*/*").split(","):
        media, *pairs = (p.strip() for p in entry.split(";"))
        parameters = {k.strip(): v.strip() for k, _, v in (p.partition("=") for p in pairs)}
        found.append((media or "*/*", parameters))
    return found
