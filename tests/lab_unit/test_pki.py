"""The certificates are what a TLS library accepts, the files are private, and a second start keeps them."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from portway.lab import pki
from portway.lab.pki import Pki


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return pki.ensure(tmp_path_factory.mktemp("state") / "pki")


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


async def handshake(keys: Pki, name: str, *, with_certificate: bool) -> dict[str, object]:
    """The client's certificate as the server sees it after a handshake for `name`; ssl.SSLError when either side refuses."""
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(keys.ca))
    serving.load_cert_chain(str(keys.server_cert), str(keys.server_key))
    serving.verify_mode = ssl.CERT_OPTIONAL
    asking = ssl.create_default_context(cafile=str(keys.ca))
    if with_certificate:
        asking.load_cert_chain(str(keys.admin_cert), str(keys.admin_key))
    seen: asyncio.Future[dict[str, object]] = asyncio.get_running_loop().create_future()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.set_result(writer.get_extra_info("peercert") or {})
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=serving)
    async with server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=asking, server_hostname=name)
        await reader.read()
        writer.close()
        return await seen


@pytest.mark.parametrize("name", [*pki.SERVER_NAMES, *pki.SERVER_ADDRESSES])
async def test_the_server_is_trusted_under_every_name_that_leads_to_it(keys: Pki, name: str) -> None:
    assert await handshake(keys, name, with_certificate=False) == {}


async def test_another_name_is_refused(keys: Pki) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        await handshake(keys, "example.com", with_certificate=False)


async def test_the_administrator_is_in_system_masters(keys: Pki) -> None:
    seen = await handshake(keys, "localhost", with_certificate=True)
    assert seen["subject"] == ((("organizationName", "system:masters"),), (("commonName", "portway-admin"),))


def test_only_the_authority_can_sign(keys: Pki) -> None:
    for path, authority in ((keys.ca, True), (keys.server_cert, False), (keys.admin_cert, False)):
        constraints = certificate(path).extensions.get_extension_for_class(x509.BasicConstraints).value
        assert constraints.ca is authority
    issuer = certificate(keys.server_cert).issuer.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    assert issuer == "portway-ca"


def test_files_are_for_the_owner_alone(keys: Pki) -> None:
    assert keys.folder.stat().st_mode & 0o777 == 0o700
    for path in keys.files():
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_second_start_keeps_the_keys_and_a_missing_file_makes_new_ones(tmp_path: Path) -> None:
    first = pki.ensure(tmp_path)
    before = {p: p.read_bytes() for p in first.files()}
    assert {p: p.read_bytes() for p in pki.ensure(tmp_path).files()} == before
    first.server_key.unlink()
    after = {p: p.read_bytes() for p in pki.ensure(tmp_path).files()}
    assert all(after[p] != before[p] for p in first.files())


def test_two_clusters_share_no_secret(tmp_path: Path) -> None:
    one, two = pki.ensure(tmp_path / "one"), pki.ensure(tmp_path / "two")
    assert one.token != two.token
    assert len(one.token) >= 40


def test_the_kubeconfig_is_whole(keys: Pki) -> None:
    config = json.loads(pki.kubeconfig(keys, "https://127.0.0.1:6443", "portway"))
    (cluster,), (user,), (context,) = config["clusters"], config["users"], config["contexts"]
    assert config["current-context"] == context["name"] == "portway"
    assert context["context"]["cluster"] == cluster["name"]
    assert context["context"]["user"] == user["name"]
    assert cluster["cluster"]["server"] == "https://127.0.0.1:6443"
    inline = {**cluster["cluster"], **user["user"]}
    assert base64.b64decode(inline["certificate-authority-data"]) == keys.ca.read_bytes()
    assert base64.b64decode(inline["client-certificate-data"]) == keys.admin_cert.read_bytes()
    assert base64.b64decode(inline["client-key-data"]) == keys.admin_key.read_bytes()


def test_clusters_have_contexts_of_their_own(keys: Pki) -> None:
    assert json.loads(pki.kubeconfig(keys, "https://127.0.0.1:1", "test"))["current-context"] == "portway-test"
