"""Health checks of the Local policy: what is counted, and what the node's ports say over HTTP."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from build_proxy import DRAINING, NODE_1, NODE_2, NOT_READY, Store, endpoint, service, slice_of
from portway.loop import Generation, SystemClock
from portway.nft.fake import FakeNft
from portway.objects.core import Service
from portway.objects.discovery import EndpointSlice
from portway.proxy.apply import Agent, Inputs, serve
from portway.proxy.health import HealthAnswer, answer_of
from portway.proxy.health_server import PROXY_PORT, HealthServers

LOCAL = service("shop/web", type="LoadBalancer", external_traffic_policy="Local", health_check_node_port=31000)
SLICES = (
    slice_of("shop/web", endpoint("10.0.1.2"), endpoint("10.0.1.3", NOT_READY), endpoint("10.0.2.2", node="node-2")),
    slice_of("shop/web", endpoint("10.0.1.2"), endpoint("10.0.1.4", DRAINING), suffix="more"),
)


def test_ready_pods_of_this_node_are_counted_once() -> None:
    assert answer_of(LOCAL, SLICES, NODE_1) == HealthAnswer("shop/web", 31000, 1)
    assert answer_of(LOCAL, SLICES, NODE_2) == HealthAnswer("shop/web", 31000, 1)


def test_a_pod_that_only_terminates_does_not_count_though_it_serves() -> None:
    found = answer_of(LOCAL, [slice_of("shop/web", endpoint("10.0.1.4", DRAINING))], NODE_1)
    assert found is not None and (found.local_endpoints, found.status) == (0, 503)


@pytest.mark.parametrize(
    "without",
    [
        service("shop/web", type="LoadBalancer", external_traffic_policy="Cluster"),
        service("shop/web", type="NodePort", external_traffic_policy="Local"),
        service("shop/web", type="LoadBalancer", external_traffic_policy="Local"),
    ],
)
def test_services_without_a_health_port(without: Service) -> None:
    assert answer_of(without, SLICES, NODE_1) is None


def split(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.split(": ", 1) for line in lines), body


class Ports:
    """Each health port as some free port of 127.0.0.1."""

    def __init__(self) -> None:
        self.real: dict[int, int] = {}
        self.busy: set[int] = set()

    def listen(self, port: int) -> socket.socket:
        if port in self.busy:
            raise OSError(98, "Address already in use")
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        self.real[port] = listener.getsockname()[1]
        return listener

    async def get(self, port: int, path: str = "/healthz") -> tuple[int, dict[str, str], bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.real[port])
        writer.write(f"GET {path} HTTP/1.1\r\nHost: node\r\n\r\n".encode())
        try:
            return split(await asyncio.wait_for(reader.read(), 5))
        finally:
            writer.close()


async def test_the_answers_over_http() -> None:
    ports = Ports()
    servers = HealthServers(ports.listen)
    try:
        assert await servers.sync([HealthAnswer("shop/web", 31000, 2), HealthAnswer("shop/api", 31001, 0)])
        status, headers, body = await ports.get(31000)
        assert (status, headers["X-Load-Balancing-Endpoint-Weight"]) == (200, "2")
        assert json.loads(body) == {
            "service": {"namespace": "shop", "name": "web"}, "localEndpoints": 2, "serviceProxyHealthy": True,
        }  # fmt: skip
        status, _, body = await ports.get(31001, "/whatever")
        assert (status, json.loads(body)["localEndpoints"]) == (503, 0)
        assert (await ports.get(PROXY_PORT))[0] == 200 == (await ports.get(PROXY_PORT, "/livez"))[0]
        assert (await ports.get(PROXY_PORT, "/metrics"))[0] == 404
    finally:
        servers.close()


async def test_ports_open_close_and_change_their_answer() -> None:
    ports = Ports()
    servers = HealthServers(ports.listen)
    try:
        await servers.sync([HealthAnswer("shop/web", 31000, 1)])
        await servers.sync([HealthAnswer("shop/web", 31000, 0)])
        assert (await ports.get(31000))[0] == 503
        await servers.sync([])
        with pytest.raises(ConnectionError):
            await ports.get(31000)
        assert (await ports.get(PROXY_PORT))[0] == 200
    finally:
        servers.close()


async def test_a_busy_port_is_tried_again_and_harms_no_other() -> None:
    ports = Ports()
    ports.busy = {31000}
    servers = HealthServers(ports.listen)
    answers = [HealthAnswer("shop/web", 31000, 1), HealthAnswer("shop/api", 31001, 1)]
    try:
        assert not await servers.sync(answers)
        assert (await ports.get(31001))[0] == 200
        ports.busy.clear()
        assert await servers.sync(answers)
        assert (await ports.get(31000))[0] == 200
    finally:
        servers.close()


@pytest.mark.parametrize("nonsense", [b"\r\n\r\n", b"x" * 20000, b""])
async def test_nonsense_gets_no_answer_and_the_port_lives_on(nonsense: bytes) -> None:
    ports = Ports()
    servers = HealthServers(ports.listen)
    try:
        await servers.sync([])
        reader, writer = await asyncio.open_connection("127.0.0.1", ports.real[PROXY_PORT])
        writer.write(nonsense)
        writer.write_eof()
        try:
            assert b"200 OK" not in await asyncio.wait_for(reader.read(), 5)
        except ConnectionResetError:
            pass  # more was sent than it reads
        writer.close()
        assert (await ports.get(PROXY_PORT))[0] == 200
    finally:
        servers.close()


async def test_the_agent_answers_what_its_pictures_say() -> None:
    ports, generation = Ports(), Generation()
    services: Store[Service] = Store(LOCAL)
    slices: Store[EndpointSlice] = Store(*SLICES)
    services.synced.set()
    slices.synced.set()
    servers = HealthServers(ports.listen)
    agent = Agent(Inputs(services, slices), FakeNft(), NODE_1, health=servers)
    task = asyncio.create_task(serve(agent, SystemClock(), generation))
    try:
        await asyncio.wait_for(generation.at_least(1), 5)
        assert (await ports.get(31000))[0] == 200
        slices.put(slice_of("shop/web", endpoint("10.0.2.2", node="node-2")))
        slices.remove(SLICES[1].ref)
        await asyncio.wait_for(generation.until(lambda: agent.answers["shop/web"].local_endpoints == 0), 5)
        await asyncio.wait_for(generation.at_least(generation.value), 5)
        assert (await ports.get(31000))[0] == 503
        services.remove(LOCAL.ref)
        await asyncio.wait_for(generation.until(lambda: not agent.answers), 5)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        servers.close()
