"""The question that `up` waits for: an HTTPS request to the Service's address, from inside a namespace."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from build_netns import needs_namespaces
from portway.lab import pki, readiness, topology
from portway.lab.pki import Pki
from portway.lab.sockets import listen
from portway.netns.kernel import Namespace
from portway.netns.plan import Address, Link, Plan

pytestmark = needs_namespaces


@pytest.fixture
def keys(tmp_path: Path) -> Pki:
    return pki.ensure(tmp_path)


@asynccontextmanager
async def answering(namespace: Namespace, keys: Pki, status: bytes) -> AsyncIterator[None]:
    """The Service's address on lo of the namespace, and a server behind it."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 " + status + b"\r\nConnection: close\r\n\r\n")
        writer.close()

    namespace.apply(Plan(links=(Link("lo"),), addresses=(Address("lo", f"{topology.KUBERNETES_SERVICE}/32"),)))
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(str(keys.server_cert), str(keys.server_key))
    listener = namespace.run(lambda: listen(topology.KUBERNETES_SERVICE, 443))
    async with await asyncio.start_server(connected, sock=listener, ssl=tls):
        yield


async def asked(namespace: Namespace, authority: Path) -> str:
    return await readiness.kubernetes_answers(namespace, ssl.create_default_context(cafile=str(authority)))


async def test_a_server_that_is_ready(keys: Pki) -> None:
    with Namespace.new("node") as namespace:
        async with answering(namespace, keys, b"200 OK"):
            assert await asked(namespace, keys.ca) == ""


async def test_a_server_that_is_not(keys: Pki) -> None:
    with Namespace.new("node") as namespace:
        async with answering(namespace, keys, b"503 Service Unavailable"):
            assert "503" in await asked(namespace, keys.ca)


async def test_somebody_elses_server(keys: Pki, tmp_path: Path) -> None:
    other = pki.ensure(tmp_path / "other")
    with Namespace.new("node") as namespace:
        async with answering(namespace, keys, b"200 OK"):
            assert "certificate" in await asked(namespace, other.ca)


async def test_an_address_that_nobody_has(keys: Pki) -> None:
    with Namespace.new("node") as namespace:
        assert "unreachable" in await asked(namespace, keys.ca)


async def test_a_port_that_is_taken_says_so() -> None:
    with Namespace.new("node") as namespace:
        namespace.apply(Plan(links=(Link("lo"),)))
        with namespace.run(lambda: listen("127.0.0.1", 6443)), pytest.raises(OSError, match="in use"):
            namespace.run(lambda: listen("127.0.0.1", 6443))
