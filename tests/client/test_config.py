"""Kubeconfigs as users have them, and what is said of those that cannot be used."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from build_certificates import make_certificates
from portway.client import Config, ConfigError, from_kubeconfig


def write(folder: Path, cluster: Any = None, user: Any = None, **more: Any) -> Path:
    loaded = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:6443/"} if cluster is None else cluster}],
        "users": [{"name": "u", "user": user or {}}],
    }
    path = folder / "config"
    path.write_text(yaml.safe_dump(loaded | more))
    return path


def test_relative_files_count_from_the_file(tmp_path: Path) -> None:
    cluster = {"server": "https://127.0.0.1:6443/", "certificate-authority": "ca.crt"}
    made = from_kubeconfig(write(tmp_path, cluster, {"client-certificate": "/pki/me.crt", "client-key": "me.key"}))
    assert made == Config(
        "https://127.0.0.1:6443",
        ca_file=str(tmp_path / "ca.crt"),
        cert_file="/pki/me.crt",
        key_file=str(tmp_path / "me.key"),
    )


def test_another_context_can_be_chosen(tmp_path: Path) -> None:
    clusters = [{"name": n, "cluster": {"server": f"https://{n}"}} for n in ("c", "d")]
    contexts = [{"name": "there", "context": {"cluster": "d", "user": "u"}}]
    assert from_kubeconfig(write(tmp_path, clusters=clusters, contexts=contexts), "there").server == "https://d"


def test_tokens_come_inline_or_from_a_file_and_are_never_shown(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-a-file\n")
    assert from_kubeconfig(write(tmp_path, user={"tokenFile": "token"})).token == "from-a-file"
    made = from_kubeconfig(write(tmp_path, user={"token": "inline-secret"}))
    assert made.headers() == {"Authorization": "Bearer inline-secret"}
    assert "inline-secret" not in repr(made)


def test_inline_certificates_make_a_context(tmp_path: Path) -> None:
    files = make_certificates(tmp_path)

    def inline(path: Path) -> str:
        return base64.b64encode(path.read_bytes()).decode()

    cluster = {"server": "https://127.0.0.1:1", "certificate-authority-data": inline(files.ca)}
    user = {"client-certificate-data": inline(files.client), "client-key-data": inline(files.client_key)}
    context = from_kubeconfig(write(tmp_path, cluster, user)).tls()
    assert context is not None
    assert len(context.get_ca_certs()) == 1


def test_a_plain_address_needs_no_context() -> None:
    assert Config("http://127.0.0.1:8001").tls() is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"current-context": "gone"}, "no entry 'gone' in contexts (it has: here)"),
        ({"clusters": []}, "no entry 'c' in clusters (it has: none)"),
        ({"clusters": [{"name": "c", "cluster": {}}]}, "names no server"),
        ({"users": [{"name": "u", "user": {"exec": {"command": "x"}}}]}, "signs in with `exec`"),
        ({"users": [{"name": "u", "user": {"tokenFile": "nowhere"}}]}, "token file nowhere"),
        ({"users": [{"name": "u", "user": {"client-key-data": "%%%"}}]}, "client-key-data is not base64"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as raised:
        from_kubeconfig(write(tmp_path, **change))
    assert words in str(raised.value)


@pytest.mark.parametrize(("text", "words"), [("", "empty"), ("a: [", "no YAML"), (None, "cannot read")])
def test_files_that_are_no_kubeconfig(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "config"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        from_kubeconfig(path)


def test_certificates_that_do_not_belong_together(tmp_path: Path) -> None:
    files = make_certificates(tmp_path)
    config = Config("https://127.0.0.1:1", str(files.ca), str(files.client), str(files.server_key))
    with pytest.raises(ConfigError, match="belong together"):
        config.tls()
