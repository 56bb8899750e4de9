"""`kubectl logs` and `kubectl exec` as the API server asks for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from build_node import NodeRoad, is_ready, manifest, needs_pods, node_road, shell
from portway.apiserver.streams import STDERR, STDOUT, ExecRequest, ExecSession, LogRequest, PodContainer, StreamRefused

pytestmark = [needs_pods, pytest.mark.lab]

TALKS = "echo up; echo oops >&2; exec sleep 1000"


@asynccontextmanager
async def running(script: str = TALKS) -> AsyncIterator[tuple[NodeRoad, PodContainer]]:
    """A node with one pod that is ready, and the name by which its container is asked for."""
    async with node_road() as road:
        await road.apply(manifest("web", shell(script)))
        shown = await road.until("web", is_ready)
        yield road, target(shown.metadata.uid)


def target(uid: str = "", container: str = "main", pod: str = "web") -> PodContainer:
    return PodContainer(namespace="default", pod=pod, uid=uid, node="node-1", container=container)


async def log_text(road: NodeRoad, request: LogRequest, enough: str = "") -> str:
    """The log; with `enough` only until that has been seen."""
    text = ""
    async with asyncio.timeout(10):
        async for piece in road.agent.streams.logs(request):
            text += piece.decode()
            if enough and enough in text:
                break
    return text


async def everything(session: ExecSession) -> tuple[str, str, int]:
    """(standard output, standard error, exit code) of a command."""
    out = {STDOUT: b"", STDERR: b""}
    async with asyncio.timeout(10):
        while (piece := await session.read()) is not None:
            out[piece[0]] += piece[1]
        code = await session.wait()
    await session.close()
    return out[STDOUT].decode(), out[STDERR].decode(), code


async def test_logs_of_a_running_container() -> None:
    async with running() as (road, where):
        text = await log_text(road, LogRequest(target=where, follow=True), enough="oops")
        assert sorted(text.split()) == ["oops", "up"]
        assert (await log_text(road, LogRequest(target=where, tail_lines=1))).count("\n") == 1


async def test_following_ends_with_the_container() -> None:
    async with node_road() as road:
        await road.apply(manifest("web", shell("echo one; sleep 0.2; echo two"), restartPolicy="Never"))
        await road.until("web", lambda p: p.status.phase != "Pending")
        assert await log_text(road, LogRequest(target=target(), follow=True)) == "one\ntwo\n"
        await road.until("web", lambda p: p.status.phase == "Succeeded")
        assert await log_text(road, LogRequest(target=target())) == "one\ntwo\n", "the log outlives the container"


async def test_the_log_of_the_previous_run() -> None:
    async with node_road() as road:
        script = "if test -e /v/again; then exec sleep 1000; fi; touch /v/again; echo first life; exit 1"
        container = shell(script, volumeMounts=[{"name": "v", "mountPath": "/v"}])
        await road.apply(manifest("web", container, volumes=[{"name": "v", "emptyDir": {}}]))
        await road.until("web", lambda p: is_ready(p) and (p.status.container_statuses or ())[0].restart_count == 1)
        assert await log_text(road, LogRequest(target=target(), previous=True)) == "first life\n"
        assert await log_text(road, LogRequest(target=target())) == ""


async def test_refusals_of_logs() -> None:
    async with running() as (road, where):
        rows = (
            (LogRequest(target=target(pod="nobody")), 404, "pod default/nobody is not on node node-1"),
            (LogRequest(target=target(uid="another-pod")), 404, "is not on node node-1"),
            (LogRequest(target=target(container="nobody")), 404, "container nobody is not in pod web"),
            (
                LogRequest(target=where, previous=True),
                400,
                'previous terminated container "main" in pod "web" not found',
            ),
        )
        for request, code, words in rows:
            with pytest.raises(StreamRefused, match=words) as caught:
                await log_text(road, request)
            assert caught.value.code == code


async def test_exec_keeps_the_streams_apart_and_gives_the_code() -> None:
    async with running() as (road, where):
        session = await road.agent.streams.exec(
            ExecRequest(target=where, command=("sh", "-c", "echo a; echo b >&2; exit 3"))
        )
        assert await everything(session) == ("a\n", "b\n", 3)


async def test_exec_reads_standard_input_to_its_end() -> None:
    async with running() as (road, where):
        session = await road.agent.streams.exec(ExecRequest(target=where, command=("wc", "-c"), stdin=True))
        for _ in range(20):
            await session.write(b"x" * 10_000)
        await session.close_stdin()
        assert (await everything(session))[0].strip() == "200000"


async def test_a_megabyte_comes_out_whole() -> None:
    async with running() as (road, where):
        session = await road.agent.streams.exec(
            ExecRequest(target=where, command=("head", "-c", "3000000", "/dev/zero"))
        )
        out, _, code = await everything(session)
        assert (len(out), code) == (3_000_000, 0)


async def test_without_input_a_reader_sees_the_end_at_once() -> None:
    async with running() as (road, where):
        assert await everything(await road.agent.streams.exec(ExecRequest(target=where, command=("cat",)))) == (
            "",
            "",
            0,
        )


async def test_a_session_ends_with_its_program_though_a_child_holds_the_output() -> None:
    async with running() as (road, where):
        command = ("sh", "-c", "sleep 1000 & echo done")
        assert await everything(await road.agent.streams.exec(ExecRequest(target=where, command=command))) == (
            "done\n",
            "",
            0,
        )


async def test_a_terminal() -> None:
    async with running() as (road, where):
        command = ("sh", "-c", "read line; stty size; echo got $line; exit 5")
        session = await road.agent.streams.exec(ExecRequest(target=where, command=command, stdin=True, tty=True))
        await session.resize(100, 40)
        await session.write(b"hello\n")
        out, err, code = await everything(session)
        assert "40 100" in out and "got hello" in out
        assert (err, code) == ("", 5)


async def test_a_user_who_goes_ends_the_command() -> None:
    async with running() as (road, where):
        session = await road.agent.streams.exec(ExecRequest(target=where, command=("sleep", "1000")))
        await session.close()
        await session.close()
        assert await asyncio.wait_for(session.wait(), 10) in (129, 137)


async def test_refusals_of_exec() -> None:
    async with running() as (road, where):
        with pytest.raises(StreamRefused, match="exec no-such-thing: No such file"):
            await road.agent.streams.exec(ExecRequest(target=where, command=("no-such-thing",)))
        with pytest.raises(StreamRefused, match="attach is not there yet") as caught:
            await road.agent.streams.attach(ExecRequest(target=where, command=()))
        assert caught.value.code == 501
    async with node_road() as road:
        await road.apply(manifest("web", {"name": "main", "image": "unknown"}))
        await road.events("Failed")
        with pytest.raises(StreamRefused, match="container main of pod web is not running"):
            await road.agent.streams.exec(ExecRequest(target=target(), command=("ls",)))
        with pytest.raises(StreamRefused, match='"main" in pod "web" is waiting to start'):
            await log_text(road, LogRequest(target=target()))
