"""`kubectl logs`, `exec` and `attach` over HTTP: query and container checked here, the stream itself from
`streams.PodStreams`.

exec and attach speak WebSocket with the sub-protocols v5.channel.k8s.io and v4.channel.k8s.io: the first byte of a
message is its channel (0 standard input, 1 output, 2 error output, 3 the final Status, 4 the terminal's size), and in
v5 `0xFF n` ends channel n. Loaded when first needed.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from aiohttp import WSMsgType, web

from portway.apiserver.errors import ApiError, Reason, bad_request, invalid_value
from portway.apiserver.requests import Target, flag, number
from portway.apiserver.store import Stored
from portway.apiserver.streams import ExecRequest, ExecSession, LogRequest, PodContainer, PodStreams, StreamRefused
from portway.apiserver.times import Clock, parse
from portway.objects.kinds import Kind

Value = dict[str, Any]
PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
STDIN, _, _, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
_LOOK_SECONDS = 5.0
_LOG_OPTIONS = Kind("", "v1", "PodLogOptions", "podlogoptions", "")


def _refused(refused: StreamRefused) -> ApiError:
    reasons = {400: Reason.BAD_REQUEST, 404: Reason.NOT_FOUND, 503: Reason.UNAVAILABLE}
    return ApiError(refused.code, reasons.get(refused.code, Reason.INTERNAL), str(refused))


def container(pod: Value, asked: str) -> str:
    """The container that is meant. 400 when it is not in the pod, or when there are several and none was named."""
    spec, metadata = pod.get("spec") or {}, pod["metadata"]
    names = [c["name"] for c in spec.get("containers") or ()]
    early = [c["name"] for c in spec.get("initContainers") or ()]
    if asked:
        if asked not in (*names, *early, *(c.get("name") for c in spec.get("ephemeralContainers") or ())):
            raise bad_request(f"container {asked} is not valid for pod {metadata['name']}")
        return asked
    default = (metadata.get("annotations") or {}).get("kubectl.kubernetes.io/default-container")
    if default in names:
        return str(default)
    if len(names) == 1:
        return str(names[0])
    hint = f" or one of the init containers: [{' '.join(early)}]" if early else ""
    text = f"a container name must be specified for pod {metadata['name']}, choose one of: [{' '.join(names)}]"
    raise bad_request(text + hint)


def _target(pod: Stored, asked: str) -> PodContainer:
    value = pod.value
    return PodContainer(
        namespace=pod.namespace,
        pod=pod.name,
        uid=value["metadata"].get("uid", ""),
        node=(value.get("spec") or {}).get("nodeName", ""),
        container=container(value, asked),
    )


# logs


def log_request(pod: Stored, query: Any, now: float) -> LogRequest:
    """400 or 422 for options that make no sense."""
    tail, seconds = number(query, "tailLines"), number(query, "sinceSeconds")
    stamp = query.get("sinceTime", "")
    for name, value, least in (
        ("tailLines", tail, 0),
        ("sinceSeconds", seconds, 1),
        ("limitBytes", number(query, "limitBytes"), 1),
    ):
        if value is not None and value < least:
            raise _invalid_option(
                pod.name,
                name,
                value,
                f"must be greater than or equal to {least}" if not least else "must be greater than 0",
            )
    if seconds is not None and stamp:
        raise _invalid_option(
            pod.name, "sinceSeconds", seconds, "at most one of sinceTime or sinceSeconds may be specified"
        )
    since = datetime.fromtimestamp(now - seconds, UTC) if seconds is not None else None
    if stamp:
        try:
            since = datetime.fromtimestamp(parse(stamp), UTC)
        except ValueError as error:
            raise bad_request(f'sinceTime: Invalid value: "{stamp}": must be RFC 3339') from error
    return LogRequest(
        target=_target(pod, query.get("container", "")),
        follow=flag(query, "follow"),
        previous=flag(query, "previous"),
        tail_lines=tail,
        since=since,
        timestamps=flag(query, "timestamps"),
    )


def _invalid_option(pod: str, name: str, value: Any, words: str) -> ApiError:
    from portway.apiserver.errors import invalid

    return invalid(_LOG_OPTIONS, pod, [invalid_value(name, value, words)])


async def logs(request: web.Request, pod: Stored, streams: PodStreams, clock: Clock) -> web.StreamResponse:
    """A refusal is answered as a Status; after the first bytes only the end of the body can tell."""
    wanted = log_request(pod, request.query, clock())
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    if not wanted.target.node:
        await response.prepare(request)
        return response
    items = _while_connected(request, streams.logs(wanted))
    left = number(request.query, "limitBytes")
    try:
        first = await anext(items, b"")
        await response.prepare(request)
        left = await _send(response, first, left)
        async for data in items:
            if left is not None and left <= 0:
                break
            left = await _send(response, data, left)
    except StreamRefused as refused:
        raise _refused(refused) from refused
    finally:
        await items.aclose()
    return response


async def _send(response: web.StreamResponse, data: bytes, left: int | None) -> int | None:
    if left is None:
        if data:
            await response.write(data)
        return None
    if data[:left]:
        await response.write(data[:left])
    return left - len(data)


async def _while_connected(request: web.Request, items: AsyncIterator[bytes]) -> Any:
    """The items until the source ends or the client goes: a quiet log must not keep a dead connection."""
    task: asyncio.Task[bytes] | None = None
    try:
        while True:
            task = asyncio.ensure_future(_next(items))
            while not task.done():
                await asyncio.wait({task}, timeout=_LOOK_SECONDS)
                if not task.done() and (request.transport is None or request.transport.is_closing()):
                    return
            try:
                yield task.result()
            except StopAsyncIteration:
                return
    finally:
        if task is not None and not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        close = getattr(items, "aclose", None)
        if close is not None:
            await close()


async def _next(items: AsyncIterator[bytes]) -> bytes:
    return await anext(items)


# exec and attach


async def run(request: web.Request, target: Target, pod: Stored, streams: PodStreams) -> web.StreamResponse:
    """The whole session; returns when the command has ended or the client has gone."""
    query = request.query
    wanted = ExecRequest(
        target=_target(pod, query.get("container", "")),
        command=tuple(query.getall("command", [])),
        stdin=flag(query, "stdin"),
        stdout=flag(query, "stdout"),
        stderr=flag(query, "stderr"),
        tty=flag(query, "tty"),
    )
    _check_run(request, target, wanted)
    try:
        session = await (streams.exec(wanted) if target.subresource == "exec" else streams.attach(wanted))
    except StreamRefused as refused:
        return await _refuse(request, _refused(refused))
    socket = web.WebSocketResponse(protocols=PROTOCOLS, max_msg_size=0, autoping=True)
    try:
        await socket.prepare(request)
        await _join(socket, session)
    finally:
        await session.close()
        await socket.close()
    return socket


async def _refuse(request: web.Request, refused: ApiError) -> web.StreamResponse:
    """As the kubelet does: the socket is opened, and the first thing it says is why there is none. kubectl would take an HTTP
    status for a server that speaks no WebSocket, ask again for SPDY, and show only what that got."""
    socket = web.WebSocketResponse(protocols=PROTOCOLS)
    await socket.prepare(request)
    await socket.send_bytes(bytes([ERROR]) + json.dumps(refused.status()).encode())
    await socket.close()
    return socket


def _check_run(request: web.Request, target: Target, wanted: ExecRequest) -> None:
    if target.subresource == "exec" and not wanted.command:
        raise bad_request("you must specify at least one command for the container")
    if not (wanted.stdin or wanted.stdout or wanted.stderr):
        raise bad_request("you must specify at least one of stdin, stdout, stderr")
    if not wanted.target.node:
        raise bad_request(f"pod {wanted.target.pod} does not have a host assigned")
    offered = {p.strip() for p in request.headers.get("Sec-WebSocket-Protocol", "").split(",")}
    if request.headers.get("Upgrade", "").lower() != "websocket":
        raise bad_request("Upgrade request required: this server speaks WebSocket (v5.channel.k8s.io)")
    if not offered & set(PROTOCOLS):
        raise bad_request(
            f"unable to upgrade: none of the sub-protocols is supported, this server speaks {', '.join(PROTOCOLS)}"
        )


async def _join(socket: web.WebSocketResponse, session: ExecSession) -> None:
    feeding = asyncio.create_task(_feed(socket, session))
    showing = asyncio.create_task(_show(socket, session))
    try:
        await asyncio.wait({feeding, showing}, return_when=asyncio.FIRST_COMPLETED)
        if not showing.done() and not socket.closed:
            await showing
    finally:
        for task in (feeding, showing):
            task.cancel()
        await asyncio.gather(feeding, showing, return_exceptions=True)


async def _show(socket: web.WebSocketResponse, session: ExecSession) -> None:
    """Output to the client, and at the end how it ended."""
    while (item := await session.read()) is not None:
        channel, data = item
        await socket.send_bytes(bytes([channel]) + data)
    code = await session.wait()
    await socket.send_bytes(bytes([ERROR]) + json.dumps(exit_status(code)).encode())
    await socket.close()


async def _feed(socket: web.WebSocketResponse, session: ExecSession) -> None:
    """Input from the client, until it goes."""
    async for message in socket:
        if message.type is not WSMsgType.BINARY or not message.data:
            continue
        channel, data = message.data[0], message.data[1:]
        if channel == STDIN and data:
            await session.write(data)
        elif channel == CLOSE and data[:1] == bytes([STDIN]):
            await session.close_stdin()
        elif channel == RESIZE:
            await _resize(session, data)


async def _resize(session: ExecSession, data: bytes) -> None:
    try:
        size = json.loads(data)
        await session.resize(int(size["Width"]), int(size["Height"]))
    except (ValueError, KeyError, TypeError):
        return


def exit_status(code: int) -> Value:
    """The last message: Success, or the exit code where kubectl looks for it."""
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }
