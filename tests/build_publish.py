"""A network to publish from: this one with loopback, or a namespace of its own where that may be made."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from socket import socket as Socket
from typing import cast

import pytest

from build_netns import why_no_namespaces
from portway.lab.state import PublishRecord
from portway.netns.kernel import Namespace
from portway.netns.plan import Link, Plan


class SameNetwork:
    """As much of a `Namespace` as a relay needs, without leaving this network. `refuse` is what the next sockets get."""

    def __init__(self) -> None:
        self.refuse: OSError | None = None

    def run(self, work: Callable[[], Socket]) -> Socket:
        return work()

    def socket(self, family: int, kind: int, protocol: int = 0) -> Socket:
        if self.refuse is not None:
            raise self.refuse
        return Socket(family, kind, protocol)


class Inside:
    """Where the published addresses are: servers are made here, and the relay connects from here."""

    def __init__(self, network: SameNetwork | Namespace) -> None:
        self.network = network
        self._servers: list[socket.socket] = []

    @property
    def namespace(self) -> Namespace:
        return cast(Namespace, self.network)

    def server(self, kind: int) -> socket.socket:
        """A server on a free port of 127.0.0.1."""

        def make() -> socket.socket:
            made = socket.socket(socket.AF_INET, kind)
            made.bind(("127.0.0.1", 0))
            if kind == socket.SOCK_STREAM:
                made.listen(16)
            made.setblocking(False)
            return made

        self._servers.append(self.network.run(make))
        return self._servers[-1]

    def close(self) -> None:
        for server in self._servers:
            server.close()


@contextmanager
def inside(kind: str) -> Iterator[Inside]:
    """`kind`: "same network" or "another network". The second is skipped where it may not be made."""
    if kind == "same network":
        found = Inside(SameNetwork())
        try:
            yield found
        finally:
            found.close()
        return
    if why := why_no_namespaces():
        pytest.skip(f"no network namespaces here: {why}")
    with Namespace.new("published") as namespace:
        namespace.apply(Plan(links=(Link("lo"),)))
        found = Inside(namespace)
        try:
            yield found
        finally:
            found.close()


def record(server: socket.socket, protocol: str = "tcp", port: int = 0) -> PublishRecord:
    return PublishRecord(port, "127.0.0.1", int(server.getsockname()[1]), protocol)


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    """A port of 127.0.0.1 that nobody listened on a moment ago."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
