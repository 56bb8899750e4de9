"""Every "no" of the balancer by its name: the reason of a Service's condition and Event, and the line in an explanation.

The value is what stands in `status.conditions[].reason`, so it is one word, as Kubernetes asks for; `words` is the
sentence behind it. `assign` and `intent` give them out inside a `Refused` with a message that names both sides.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why a Service has no address, or why nobody answers at the address that it has."""

    # Why there is no address
    OTHER_CLASS = "OtherClass"
    NO_ANNOUNCER = "NoAnnouncer"
    NO_POOL = "NoPool"
    UNKNOWN_POOL = "UnknownPool"
    POOL_USED_UP = "PoolUsedUp"
    NOT_AN_ADDRESS = "NotAnAddress"
    OUTSIDE_POOLS = "OutsidePools"
    ADDRESS_TAKEN = "AddressTaken"
    PORT_TAKEN = "PortTaken"
    POLICY_DIFFERS = "PolicyDiffers"

    # Why nobody answers at the address
    NO_NODES = "NoNodes"
    NO_NODE_PORTS = "NoNodePorts"
    ALL_UNHEALTHY = "AllUnhealthy"

    # What a packet to the address is told
    UNDEFINED_PORT = "UndefinedPort"
    SOURCE_NOT_ALLOWED = "SourceNotAllowed"

    @property
    def words(self) -> str:
        return _WORDS[self]


_WORDS = {
    Reason.OTHER_CLASS: "spec.loadBalancerClass gives the Service to another load balancer",
    Reason.NO_ANNOUNCER: "nobody would answer for an address, so none is given out",
    Reason.NO_POOL: "no pool gives out addresses by itself",
    Reason.UNKNOWN_POOL: "there is no pool of that name",
    Reason.POOL_USED_UP: "every address of the pool is in use",
    Reason.NOT_AN_ADDRESS: "what is asked for is no address",
    Reason.OUTSIDE_POOLS: "the address that is asked for is in no pool",
    Reason.ADDRESS_TAKEN: "the address that is asked for belongs to another Service",
    Reason.PORT_TAKEN: "the address is shared, and another Service has the port there",
    Reason.POLICY_DIFFERS: "an address is shared only by Services of the Cluster policy or with the same pods",
    Reason.NO_NODES: "there is no node to forward to",
    Reason.NO_NODE_PORTS: "no port has a node port to forward to",
    Reason.ALL_UNHEALTHY: "no node passes its health check",
    Reason.UNDEFINED_PORT: "no Service has this port at the address",
    Reason.SOURCE_NOT_ALLOWED: "spec.loadBalancerSourceRanges does not hold the client",
}

READY = "Ready"


@dataclass(frozen=True, slots=True)
class Refused:
    """A "no" with the sentence that a person reads: it names the object, the field and both colliding values."""

    reason: Reason
    message: str = ""

    def __str__(self) -> str:
        return self.message or self.reason.words
