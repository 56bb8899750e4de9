"""The seam to whoever answers for addresses: the lab's edge today, one node by ARP or all nodes by BGP later.

A provider carries out what `intent` plans and says for each Service what stands in the way. `run` gives no address out
while there is no provider that would answer for it, and repeats the provider's reason in the Service's condition.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from portway.balancer.reasons import Reason, Refused
from portway.objects.core import Service

Listener = Callable[[], None]


class Announcer(Protocol):
    """Who answers for addresses."""

    def refuses(self, service: Service) -> Refused | None:
        """Why nobody would answer for an address of the Service; None when somebody does."""
        ...

    def obstacle(self, service: Service) -> Refused | None:
        """Why nobody answers at the address that the Service has; None when somebody does."""
        ...

    def subscribe(self, listener: Listener) -> None:
        """Call when an answer may have changed."""
        ...


class Nobody:
    """No provider at all."""

    def refuses(self, service: Service) -> Refused | None:
        return Refused(Reason.NO_ANNOUNCER)

    def obstacle(self, service: Service) -> Refused | None:
        return Refused(Reason.NO_ANNOUNCER)

    def subscribe(self, listener: Listener) -> None:
        """Nothing ever changes."""
