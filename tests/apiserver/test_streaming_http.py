"""logs, exec and attach over HTTP and WebSocket, with a fake behind the seam."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from build_apiserver import NOON, Served, serving
from build_streams import FakeStreams
from portway.apiserver.streaming import container, exit_status
from portway.apiserver.streams import StreamRefused

PODS = "/api/v1/namespaces/default/pods"
V5 = "v5.channel.k8s.io"


@pytest.fixture
def streams() -> FakeStreams:
    return FakeStreams([b"one\n", b"two\n", b"three\n"])


@pytest.fixture
async def api(tmp_path: Path, streams: FakeStreams) -> AsyncIterator[Served]:
    async with serving(tmp_path, streams=streams) as served:
        await make_pod(served, "p", "c")
        yield served


async def make_pod(api: Served, name: str, *containers: str, node: str = "node-1", **spec: Any) -> None:
    body = {
        "containers": [{"name": c, "image": "nginx"} for c in containers],
        **({"nodeName": node} if node else {}),
        **spec,
    }
    await api.create(PODS, {"metadata": {"name": name}, "spec": body})


async def test_a_log_is_text(api: Served, streams: FakeStreams) -> None:
    answer = await api.get(f"{PODS}/p/log")
    assert (answer.code, answer.body, answer.headers["Content-Type"]) == (200, "one\ntwo\nthree\n", "text/plain")
    asked = streams.asked[0]
    assert (asked.target.container, asked.target.node, asked.follow, asked.tail_lines) == ("c", "node-1", False, None)


async def test_the_options_of_a_log_reach_whoever_has_it(api: Served, streams: FakeStreams) -> None:
    await api.get(f"{PODS}/p/log?container=c&previous=true&tailLines=1&timestamps=true&sinceSeconds=60")
    asked = streams.asked[0]
    assert (asked.previous, asked.tail_lines, asked.timestamps) == (True, 1, True)
    assert asked.since == datetime.fromtimestamp(NOON - 60, UTC)
    await api.get(f"{PODS}/p/log?sinceTime=2026-01-02T03:04:05Z")
    assert streams.asked[1].since == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


async def test_a_log_is_cut_at_limit_bytes(api: Served) -> None:
    assert (await api.get(f"{PODS}/p/log?limitBytes=6")).body == "one\ntw"


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("tailLines=-1", 422),
        ("tailLines=x", 400),
        ("sinceSeconds=0", 422),
        ("limitBytes=0", 422),
        ("sinceTime=yesterday", 400),
        ("sinceSeconds=1&sinceTime=2026-01-02T03:04:05Z", 422),
        ("container=no", 400),
    ],
)
async def test_options_that_make_no_sense(api: Served, query: str, code: int) -> None:
    assert (await api.get(f"{PODS}/p/log?{query}")).code == code


async def test_a_follower_gets_lines_as_they_come_and_its_leaving_ends_the_source(
    api: Served, streams: FakeStreams
) -> None:
    async with api.session.get(f"{api.url}{PODS}/p/log?follow=true&tailLines=1", headers=api.headers) as response:
        assert await response.content.readline() == b"three\n"
        await streams.more.put(b"four\n")
        assert await response.content.readline() == b"four\n"
        response.close()
    await asyncio.wait_for(streams.ended.wait(), 10)


async def test_a_refusal_of_the_node_is_a_status(api: Served, streams: FakeStreams) -> None:
    streams.refuse = StreamRefused('container "c" in pod "p" is waiting to start: ContainerCreating')
    answer = await api.get(f"{PODS}/p/log")
    assert (answer.code, answer.body["reason"]) == (400, "BadRequest")
    assert answer.body["message"].endswith("is waiting to start: ContainerCreating")


async def test_a_pod_without_a_node_has_an_empty_log(api: Served) -> None:
    await make_pod(api, "q", "c", node="")
    assert (await api.get(f"{PODS}/q/log")).body == ""
    assert (await api.get(f"{PODS}/nosuch/log")).code == 404


async def test_with_several_containers_one_must_be_named(api: Served) -> None:
    await make_pod(api, "two", "a", "b", initContainers=[{"name": "i", "image": "x"}])
    answer = await api.get(f"{PODS}/two/log")
    assert (answer.code, answer.body["message"]) == (
        400,
        "a container name must be specified for pod two, choose one of: [a b] or one of the init containers: [i]",
    )
    assert (await api.get(f"{PODS}/two/log?container=i")).code == 200


@pytest.mark.parametrize(
    ("annotations", "asked", "expected"),
    [({}, "b", "b"), ({"kubectl.kubernetes.io/default-container": "b"}, "", "b")],
)
def test_which_container_is_meant(annotations: dict[str, str], asked: str, expected: str) -> None:
    pod = {
        "metadata": {"name": "p", "annotations": annotations},
        "spec": {"containers": [{"name": "a"}, {"name": "b"}]},
    }
    assert container(pod, asked) == expected


# exec


async def converse(api: Served, query: str, *sent: bytes, protocol: str = V5, path: str = "p/exec") -> list[bytes]:
    """Send messages, collect those that come back until the server ends the session."""
    url = f"{api.url}{PODS}/{path}?{query}"
    async with api.session.ws_connect(url, protocols=(protocol,), headers=api.headers) as socket:
        assert socket.protocol == protocol
        for message in sent:
            await socket.send_bytes(message)
        return [m.data async for m in socket if m.type is aiohttp.WSMsgType.BINARY]


@pytest.mark.parametrize("protocol", [V5, "v4.channel.k8s.io"])
async def test_output_and_exit_code(api: Served, streams: FakeStreams, protocol: str) -> None:
    got = await converse(api, "command=fail&command=3&stdout=true&stderr=true", protocol=protocol)
    assert got[:2] == [b"\x01out\n", b"\x02err\n"]
    assert got[2][:1] == b"\x03" and json.loads(got[2][1:]) == exit_status(3)
    assert exit_status(3)["details"]["causes"] == [{"reason": "ExitCode", "message": "3"}]
    await asyncio.wait_for(streams.sessions[0].closed.wait(), 10)


async def test_success_is_a_status_too(api: Served) -> None:
    got = await converse(api, "command=echo&command=hello&stdout=true")
    assert got == [b"\x01hello\n", b'\x03{"metadata": {}, "status": "Success"}']


async def test_input_flows_until_it_is_closed(api: Served) -> None:
    got = await converse(api, "command=cat&stdin=true&stdout=true", b"\x00abc\n", b"\x00def\n", b"\xff\x00")
    assert got[:2] == [b"\x01abc\n", b"\x01def\n"] and b"Success" in got[2]


async def test_the_terminal_is_resized(api: Served) -> None:
    got = await converse(api, "command=size&stdout=true&tty=true", b"\x04nonsense", b'\x04{"Width":80,"Height":24}\n')
    assert got[0] == b"\x0180x24\n"


async def test_attach_is_a_session_without_a_command(api: Served, streams: FakeStreams) -> None:
    got = await converse(api, "stdin=true&stdout=true", b"\x00hi", b"\xff\x00", path="p/attach")
    assert got[0] == b"\x01hi" and streams.sessions[0].request.command == ()


async def test_a_client_that_goes_ends_the_session(api: Served, streams: FakeStreams) -> None:
    url = f"{api.url}{PODS}/p/exec?command=cat&stdin=true&stdout=true"
    async with api.session.ws_connect(url, protocols=(V5,), headers=api.headers):
        pass
    await asyncio.wait_for(streams.sessions[0].closed.wait(), 10)


@pytest.mark.parametrize(
    ("what", "path", "headers", "words"),
    [
        ("no command", "p/exec?stdout=true", {}, "at least one command"),
        ("no stream", "p/exec?command=ls", {}, "at least one of stdin"),
        ("no upgrade", "p/exec?command=ls&stdout=true", {}, "Upgrade request required"),
        ("another container", "p/exec?command=ls&stdout=true&container=x", {}, "container x is not valid for pod p"),
        (
            "another protocol",
            "p/exec?command=ls&stdout=true",
            {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Protocol": "channel.k8s.io"},
            "none of the sub-protocols is supported",
        ),
    ],
)
async def test_an_exec_that_is_refused(api: Served, what: str, path: str, headers: dict[str, str], words: str) -> None:
    answer = await api.get(f"{PODS}/{path}", headers=headers)
    assert answer.code == 400 and words in answer.body["message"], what


async def test_why_a_command_cannot_run_is_said_on_the_socket(api: Served, streams: FakeStreams) -> None:
    """An HTTP status would send kubectl to SPDY, and its user would read about protocols."""
    streams.refuse = StreamRefused("container c of pod p is not running")
    (got,) = await converse(api, "command=ls&stdout=true")
    assert got[:1] == b"\x03" and b'"message": "container c of pod p is not running"' in got


async def test_exec_in_a_pod_without_a_node(api: Served) -> None:
    await make_pod(api, "q", "c", node="")
    answer = await api.get(f"{PODS}/q/exec?command=ls&stdout=true")
    assert (answer.code, answer.body["message"]) == (400, "pod q does not have a host assigned")


async def test_without_a_node_agent_streams_are_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as api:
        await make_pod(api, "p", "c")
        answer = await api.get(f"{PODS}/p/log")
        assert (answer.code, answer.body["reason"]) == (503, "ServiceUnavailable")


async def test_a_server_that_stops_does_not_wait_for_followers_sessions_and_watches(
    tmp_path: Path, streams: FakeStreams
) -> None:
    async with aiohttp.ClientSession() as session:
        async with serving(tmp_path, streams=streams) as api:
            await make_pod(api, "p", "c")
            log = await session.get(f"{api.url}{PODS}/p/log?follow=true", headers=api.headers)
            watch = await session.get(f"{api.url}{PODS}?watch=true", headers=api.headers)
            url = f"{api.url}{PODS}/p/exec?command=cat&stdin=true&stdout=true"
            socket = await session.ws_connect(url, protocols=(V5,), headers=api.headers)
            await log.content.readline()
            await watch.content.readline()
        await asyncio.wait_for(streams.ended.wait(), 1)
        await asyncio.wait_for(streams.sessions[0].closed.wait(), 1)
        assert (await socket.receive()).type in (
            aiohttp.WSMsgType.CLOSE,
            aiohttp.WSMsgType.CLOSED,
            aiohttp.WSMsgType.CLOSING,
        )
