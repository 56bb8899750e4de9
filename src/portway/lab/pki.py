"""The lab's certificate authority, the API server's certificate, the administrator's, a token and the kubeconfig.

Made once per cluster in its state folder (keys readable by the owner alone) and reused when a killed cluster comes up again,
so a kubeconfig that a user copied goes on working. `supervisor` calls `ensure`; the API server and the agents get the files.
"""

from __future__ import annotations

import base64
import datetime
import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from portway.lab import topology
from portway.lab.files import write_private

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

SERVER_NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)
SERVER_ADDRESSES = ("127.0.0.1", topology.KUBERNETES_SERVICE, topology.EDGE_ADDRESS)
_LIFE = datetime.timedelta(days=3650)
_SKEW = datetime.timedelta(hours=1)  # clocks of containers that share the folder


@dataclass(frozen=True, slots=True)
class Pki:
    """The files of one cluster."""

    folder: Path

    @property
    def ca(self) -> Path:
        return self.folder / "ca.crt"

    @property
    def server_cert(self) -> Path:
        return self.folder / "server.crt"

    @property
    def server_key(self) -> Path:
        return self.folder / "server.key"

    @property
    def admin_cert(self) -> Path:
        return self.folder / "admin.crt"

    @property
    def admin_key(self) -> Path:
        return self.folder / "admin.key"

    @property
    def token_file(self) -> Path:
        return self.folder / "token"

    @property
    def token(self) -> str:
        return self.token_file.read_text().strip()

    def files(self) -> tuple[Path, ...]:
        return (self.ca, self.server_cert, self.server_key, self.admin_cert, self.admin_key, self.token_file)


def ensure(folder: Path) -> Pki:
    """The files in `folder`, made when one of them is missing."""
    pki = Pki(folder)
    if not all(path.exists() for path in pki.files()):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make(pki)
    return pki


def kubeconfig(pki: Pki, server: str, cluster: str) -> str:
    """A kubeconfig with everything inside: JSON, which is YAML too and needs no YAML writer."""

    def inline(path: Path) -> str:
        return base64.b64encode(path.read_bytes()).decode()

    name = f"portway-{cluster}" if cluster != "portway" else "portway"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": server, "certificate-authority-data": inline(pki.ca)}}],
        "users": [
            {
                "name": f"{name}-admin",
                "user": {
                    "client-certificate-data": inline(pki.admin_cert),
                    "client-key-data": inline(pki.admin_key),
                },
            }
        ],
        "contexts": [{"name": name, "context": {"cluster": name, "user": f"{name}-admin", "namespace": "default"}}],
        "current-context": name,
    }
    return json.dumps(config, indent=2) + "\n"


def _make(pki: Pki) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    ca_key, server_key, admin_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    ca_name = _name("portway-ca")
    ca = _certificate(ca_name, ca_key, ca_name, ca_key, authority=True)
    server = _certificate(
        _name("kube-apiserver"), server_key, ca_name, ca_key, usage=ExtendedKeyUsageOID.SERVER_AUTH, named=True
    )
    admin = _certificate(
        _name("portway-admin", "system:masters"), admin_key, ca_name, ca_key, usage=ExtendedKeyUsageOID.CLIENT_AUTH
    )
    for path, certificate in ((pki.ca, ca), (pki.server_cert, server), (pki.admin_cert, admin)):
        write_private(path, _pem(certificate))
    for path, key in ((pki.server_key, server_key), (pki.admin_key, admin_key)):
        write_private(path, _key_pem(key))
    write_private(pki.token_file, secrets.token_urlsafe(32).encode())


def _name(common: str, organisation: str = "") -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation)] if organisation else []
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _certificate(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    authority: bool = False,
    usage: x509.ObjectIdentifier | None = None,
    named: bool = False,
) -> x509.Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _LIFE)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(_key_usage(authority), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    if named:
        builder = builder.add_extension(_server_names(), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _key_usage(authority: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _server_names() -> x509.SubjectAlternativeName:
    from ipaddress import ip_address

    from cryptography import x509

    names: list[x509.GeneralName] = [x509.DNSName(name) for name in SERVER_NAMES]
    names += [x509.IPAddress(ip_address(address)) for address in SERVER_ADDRESSES]
    return x509.SubjectAlternativeName(names)


def _pem(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
