"""What is there from the start besides `kubernetes`: the Service whose address every pod's resolv.conf names."""

from __future__ import annotations

import logging
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from build_apiserver import Served, serving
from portway.apiserver.server import ServerConfig

DNS = "/api/v1/namespaces/kube-system/services/kube-dns"


async def spec_of(api: Served) -> dict[str, Any]:
    found = await api.get(DNS)
    assert found.code == 200
    return dict(found.body["spec"])


async def test_the_service_kube_dns_is_the_tenth_address(tmp_path: Path) -> None:
    async with serving(tmp_path) as api:
        spec = await spec_of(api)
        assert spec["clusterIP"] == "10.3.240.10"
        assert spec["internalTrafficPolicy"] == "Local", "a question stays on the node where it is asked"
        assert "selector" not in spec, "its endpoints are the nodes, whose agents are no pods"
        assert [(p["name"], p["protocol"], p["port"]) for p in spec["ports"]] == [
            ("dns", "UDP", 53),
            ("dns-tcp", "TCP", 53),
        ]


async def test_a_second_start_keeps_what_the_user_made_of_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as api:
        await api.patch(DNS, {"metadata": {"labels": {"mine": "yes"}}})
    async with serving(tmp_path) as api:
        assert (await api.get(DNS)).body["metadata"]["labels"]["mine"] == "yes"


async def test_an_address_that_another_service_has_is_left_to_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path) as api:
        await api.call("DELETE", DNS)
        body = {"metadata": {"name": "mine"}, "spec": {"clusterIP": "10.3.240.10", "ports": [{"port": 80}]}}
        await api.create("/api/v1/namespaces/default/services", body)
    with caplog.at_level(logging.WARNING, "portway.apiserver"):
        async with serving(tmp_path) as api:
            assert (await api.get(DNS)).code == 404
    assert "its address 10.3.240.10 is another Service's" in caplog.text


async def test_a_network_too_small_for_it_has_none(tmp_path: Path) -> None:
    async with serving(tmp_path, config=ServerConfig(services=IPv4Network("10.3.240.0/29"))) as api:
        assert (await api.get(DNS)).code == 404
