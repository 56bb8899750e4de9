"""Every "no" of the names by its name: why an object has no record, and why a query has no answer."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    # Why a Service, or a part of it, has no record
    NO_ADDRESS = "the Service has no cluster address yet"
    NO_ENDPOINTS = "the headless Service has no ready endpoints"
    BAD_EXTERNAL_NAME = "spec.externalName is no name that DNS can carry"
    BAD_NAME = "the name is longer than DNS can carry: use a shorter cluster domain"

    # Why a query gets no answer
    NO_NAME = "nothing in the cluster has this name"
    NO_DATA = "the name is there, but has no record of this type"
    NO_UPSTREAM = "the name is not the cluster's, and no upstream server is configured"
    UPSTREAM_SILENT = "no upstream server answered in time"
    LOOP = "ExternalName Services lead to each other in a circle"
    ANY_REFUSED = "queries for all types at once are refused (RFC 8482): ask for the type you need"
    TRANSFER_REFUSED = "zone transfers are refused: list Services through the API"
    CLASS_REFUSED = "only the Internet class (IN) is served"
    NOT_A_QUERY = "only standard queries are served"
    MALFORMED = "the message is not DNS as RFC 1035 has it"
    BAD_VERSION = "EDNS of this version is not known (RFC 6891)"
