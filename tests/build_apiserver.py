"""Builders for the API server's tests: a server on a socket (plain or TLS), a small JSON client, and the real kubectl.

`serving(tmp_path)` gives a `Served` with a clock that tests move by hand and a seeded chance, so that names and numbers repeat.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import ssl
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from portway.apiserver.auth import User
from portway.apiserver.server import ApiServer, ServerConfig
from portway.apiserver.store import Store
from portway.apiserver.streams import PodStreams
from portway.objects.kinds import KINDS

TOKEN = "a-token-of-the-tests"
NOON = 1_800_000_000.0
Value = dict[str, Any]


class Clock:
    """Stands still until `advance`."""

    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Answer:
    code: int
    body: Any
    headers: Mapping[str, str]
    warnings: list[str]


@dataclass
class Served:
    """A running server and a client for it."""

    server: ApiServer
    clock: Any
    url: str
    session: aiohttp.ClientSession
    folder: Path
    headers: dict[str, str] = field(default_factory=lambda: {"Authorization": f"Bearer {TOKEN}"})

    async def call(self, method: str, path: str, body: Any = None, **options: Any) -> Answer:
        """`body` is encoded as JSON unless it is bytes; `headers` are added to the token's."""
        headers = {**self.headers, **options.pop("headers", {})}
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if data is not None:
            headers.setdefault("Content-Type", "application/json")
        async with self.session.request(method, self.url + path, data=data, headers=headers, **options) as response:
            raw = await response.read()
            parsed = json.loads(raw) if "json" in response.content_type and raw else raw.decode()
            return Answer(response.status, parsed, response.headers, response.headers.getall("Warning", []))

    async def get(self, path: str, **options: Any) -> Answer:
        return await self.call("GET", path, **options)

    async def create(self, path: str, body: Value, **options: Any) -> Value:
        """The created object; fails loudly when it was refused."""
        answer = await self.call("POST", path, body, **options)
        if answer.code != 201:
            raise RuntimeError(f"POST {path}: {answer.code} {answer.body}")
        created: Value = answer.body
        return created

    async def patch(self, path: str, body: Any, kind: str = "merge-patch+json", **options: Any) -> Answer:
        return await self.call("PATCH", path, body, headers={"Content-Type": f"application/{kind}"}, **options)

    @asynccontextmanager
    async def watch(self, path: str, **options: Any) -> AsyncIterator[Watching]:
        headers = {**self.headers, **options.pop("headers", {})}
        async with self.session.get(self.url + path, headers=headers, **options) as response:
            yield Watching(response)


class Watching:
    """One watch, event by event."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def next(self, timeout: float = 5.0) -> Value:
        line = await asyncio.wait_for(self.response.content.readline(), timeout)
        if not line:
            raise EOFError("the server ended the watch")
        event: Value = json.loads(line)
        return event

    async def names(self, count: int) -> list[tuple[str, str]]:
        """The next events as (type, name)."""
        events = [await self.next() for _ in range(count)]
        return [(e["type"], e["object"]["metadata"]["name"]) for e in events]


@asynccontextmanager
async def serving(
    folder: Path,
    *,
    config: ServerConfig | None = None,
    clock: Any = None,
    streams: PodStreams | None = None,
    tls: ssl.SSLContext | None = None,
    history: int = 5000,
) -> AsyncIterator[Served]:
    """A server on 127.0.0.1, bootstrapped, with its file in `folder`."""
    store = Store(folder / "store.db", KINDS, history=history)
    clock = clock or Clock()
    users = {TOKEN: User("tester", ("system:masters",))}
    server = ApiServer(store, config=config, clock=clock, users=users, streams=streams, chance=random.Random(7))
    await server.bootstrap()
    runner = server.runner()
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    port = runner.addresses[0][1]
    try:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            yield Served(server, clock, f"{'https' if tls else 'http'}://127.0.0.1:{port}", session, folder)
    finally:
        await runner.cleanup()
        await store.close()


# TLS and kubectl


@dataclass(frozen=True)
class Certificates:
    """PEM files: an authority, a server's pair for 127.0.0.1, a user's pair."""

    authority: Path
    server: tuple[Path, Path]
    user: tuple[Path, Path]

    def server_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(self.authority))
        context.load_cert_chain(*map(str, self.server))
        context.verify_mode = ssl.CERT_OPTIONAL
        return context

    def client_context(self, *, with_user: bool = True) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.authority))
        if with_user:
            context.load_cert_chain(*map(str, self.user))
        return context


def certificates(folder: Path, name: str = "alice", groups: tuple[str, ...] = ("system:masters",)) -> Certificates:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    def write(label: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> tuple[Path, Path]:
        paths = folder / f"{label}.crt", folder / f"{label}.key"
        paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        form = serialization.PrivateFormat.PKCS8
        paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
        return paths

    now = datetime.now(UTC)
    authority_key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])

    def issue(
        subject: x509.Name, key: ec.EllipticCurvePrivateKey, *extensions: tuple[x509.ExtensionType, bool]
    ) -> x509.Certificate:
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(authority_key, hashes.SHA256())

    authority = issue(issuer, authority_key, (x509.BasicConstraints(ca=True, path_length=None), True))
    server_key, user_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    from ipaddress import IPv4Address

    names = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1")), x509.DNSName("localhost")])
    server = issue(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")]), server_key, (names, False))
    subject = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
    subject += [x509.NameAttribute(NameOID.ORGANIZATION_NAME, g) for g in groups]
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    user = issue(x509.Name(subject), user_key, (usage, False))
    pairs = (
        write("authority", authority_key, authority),
        write("server", server_key, server),
        write("user", user_key, user),
    )
    return Certificates(pairs[0][0], pairs[1], pairs[2])


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[list[str]]:
        return [line.split() for line in self.out.splitlines()]


@dataclass
class Kubectl:
    """The real kubectl against a served API, with a client certificate and a cache of its own."""

    served: Served
    environment: dict[str, str]

    async def __call__(
        self, *arguments: str, stdin: str = "", code: int | None = 0, timeout: float = 30, **env: str
    ) -> Ran:
        """Run to the end; another exit code than `code` (None: any) fails with what kubectl said."""
        process = await self.start(*arguments, **env)
        try:
            out, err = await asyncio.wait_for(process.communicate(stdin.encode()), timeout)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        ran = Ran(process.returncode or 0, out.decode(), err.decode())
        if code is not None and ran.code != code:
            raise RuntimeError(f"kubectl {' '.join(arguments)}: exit {ran.code}\n{ran.out}{ran.err}")
        return ran

    async def start(self, *arguments: str, **env: str) -> asyncio.subprocess.Process:
        cache = str(self.served.folder / "cache")
        pipe = asyncio.subprocess.PIPE
        command = (str(Path(sys.executable).parent / "kubectl"), "--cache-dir", cache, *arguments)
        return await asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=pipe, stderr=pipe, env={**self.environment, **env}
        )


@asynccontextmanager
async def kubectl_serving(folder: Path, **options: Any) -> AsyncIterator[tuple[Served, Kubectl]]:
    """A TLS server and kubectl with a certificate for it."""
    import time

    made = certificates(folder)
    async with serving(folder, tls=made.server_context(), clock=options.pop("clock", time.time), **options) as served:
        await served.session.close()
        connector = aiohttp.TCPConnector(limit=0, ssl=made.client_context())
        async with aiohttp.ClientSession(connector=connector) as session:
            served.session = session
            config = folder / "kubeconfig"
            config.write_text(json.dumps(_kubeconfig(served.url, made)))
            environment = {k: v for k, v in os.environ.items() if "proxy" not in k.lower() and not k.startswith("KUBE")}
            yield served, Kubectl(served, {**environment, "KUBECONFIG": str(config), "HOME": str(folder)})


def _kubeconfig(url: str, made: Certificates) -> Value:
    cluster = {"server": url, "certificate-authority": str(made.authority)}
    user = {"client-certificate": str(made.user[0]), "client-key": str(made.user[1])}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "test", "user": user}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    }
