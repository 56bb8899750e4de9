"""Where an API server is and who we are to it: an address, a CA, a client certificate or a token.

Made by the lab (which has the files), or by `from_kubeconfig` for a user's file; `client.http` opens its connections
with it. The token and the key never appear in a repr, a log line or an error.
"""

from __future__ import annotations

import base64
import binascii
import ssl
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from portway.client.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Config:
    """`ca_data`, `cert_data` and `key_data` are PEM, for a kubeconfig that carries them inline; files win over them."""

    server: str
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    token: str = field(default="", repr=False)
    ca_data: str = field(default="", repr=False)
    cert_data: str = field(default="", repr=False)
    key_data: str = field(default="", repr=False)
    insecure: bool = False

    def tls(self) -> ssl.SSLContext | None:
        """The TLS context, or None for a plain `http://` address."""
        if not self.server.startswith("https://"):
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca_file or None, cadata=self.ca_data or None)
            if self.insecure:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            if self.cert_file:
                context.load_cert_chain(self.cert_file, self.key_file or None)
            elif self.cert_data:
                _load_inline(context, self.cert_data, self.key_data)
        except (OSError, ssl.SSLError) as e:
            files = ", ".join(f for f in (self.ca_file, self.cert_file, self.key_file) if f) or "the kubeconfig"
            message = f"cannot use the certificates of {files}: {e}; check that they exist and belong together"
            raise ConfigError(message) from e
        return context

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


def from_kubeconfig(path: str | Path, context: str = "") -> Config:
    """The cluster and user of `context`, by default current-context. Relative file names count from the file's folder."""
    file = Path(path)
    try:
        loaded = yaml.safe_load(file.read_text())
    except OSError as e:
        raise ConfigError(f"cannot read the kubeconfig {file}: {e.strerror}; give another with --kubeconfig") from e
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise ConfigError(f"the kubeconfig {file} is no YAML: {e}") from e
    if not isinstance(loaded, dict):
        raise ConfigError(f"the kubeconfig {file} is empty or no mapping; write one with `kubectl config`")
    wanted = context or loaded.get("current-context") or ""
    link = _named(file, loaded, "contexts", wanted).get("context") or {}
    cluster = _named(file, loaded, "clusters", link.get("cluster", "")).get("cluster") or {}
    user = _named(file, loaded, "users", link.get("user", "")).get("user") or {}
    return _config(file, cluster, user)


def _config(file: Path, cluster: dict[str, Any], user: dict[str, Any]) -> Config:
    if not cluster.get("server"):
        raise ConfigError(f"the kubeconfig {file} names no server for its cluster; set clusters[].cluster.server")
    unusable = [k for k in ("exec", "auth-provider") if k in user]
    if unusable and not (user.get("token") or user.get("client-certificate-data") or user.get("client-certificate")):
        way = f"the kubeconfig {file} signs in with `{unusable[0]}`"
        raise ConfigError(f"{way}, which is not supported; use a token or a client certificate")
    token = user.get("token") or ""
    if not token and user.get("tokenFile"):
        token = _read(file, user["tokenFile"])
    return Config(
        server=str(cluster["server"]).rstrip("/"),
        ca_file=_beside(file, cluster.get("certificate-authority")),
        cert_file=_beside(file, user.get("client-certificate")),
        key_file=_beside(file, user.get("client-key")),
        token=token,
        ca_data=_inline(file, "certificate-authority-data", cluster),
        cert_data=_inline(file, "client-certificate-data", user),
        key_data=_inline(file, "client-key-data", user),
        insecure=bool(cluster.get("insecure-skip-tls-verify")),
    )


def _named(file: Path, loaded: dict[str, Any], section: str, name: str) -> dict[str, Any]:
    for entry in loaded.get(section) or ():
        if isinstance(entry, dict) and entry.get("name") == name:
            return entry
    have = ", ".join(str(e.get("name")) for e in loaded.get(section) or () if isinstance(e, dict)) or "none"
    raise ConfigError(f"the kubeconfig {file} has no entry {name!r} in {section} (it has: {have})")


def _beside(file: Path, name: str | None) -> str:
    return str(file.parent / name) if name else ""


def _read(file: Path, name: str) -> str:
    try:
        return (file.parent / name).read_text().strip()
    except OSError as e:
        message = f"the kubeconfig {file} names the token file {name}, which cannot be read: {e.strerror}"
        raise ConfigError(message) from e


def _inline(file: Path, key: str, section: dict[str, Any]) -> str:
    try:
        return base64.b64decode(section.get(key) or "", validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError) as e:
        raise ConfigError(f"the kubeconfig {file}: {key} is not base64 of a PEM text") from e


def _load_inline(context: ssl.SSLContext, cert: str, key: str) -> None:
    """OpenSSL reads a chain from files only: a private temporary one lives for the length of the call."""
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as pem:
        pem.write(cert.rstrip() + "\n" + key)
        pem.flush()
        context.load_cert_chain(pem.name)
