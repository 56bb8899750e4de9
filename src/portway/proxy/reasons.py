"""Every "no" of the service proxy by its name: in the comment of the rule that says it, in logs and in explanations."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why a packet is refused or dropped, or why a Service has no rules."""

    # What the table does with a packet
    NO_ENDPOINTS = "the Service has no usable endpoints"
    UNDEFINED_PORT = "the Service has no such port"
    UNALLOCATED = "no Service has this address"
    NO_LOCAL_ENDPOINTS = "externalTrafficPolicy is Local, and no usable endpoint of the Service is on this node"
    SOURCE_NOT_ALLOWED = "loadBalancerSourceRanges does not hold the client"

    # Why a Service, or a port of it, is not in the table
    HEADLESS = "headless: names resolve to its pods, there is no address to rewrite"
    EXTERNAL_NAME = "ExternalName: an alias in DNS, there is no address to rewrite"
    OTHER_PROXY = "the label service.kubernetes.io/service-proxy-name gives it to another proxy"
    HEADLESS_LABEL = "the label service.kubernetes.io/headless tells proxies to ignore it"
    NO_ADDRESS = "it has no cluster address of this family"
    NO_PORTS = "it declares no ports"
    UNKNOWN_PROTOCOL = "the port's protocol is none of TCP, UDP, SCTP"
