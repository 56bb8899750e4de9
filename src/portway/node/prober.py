"""Ask a container whether it is well: HTTP, TCP or a command, from the node's network namespace, within a time-out.

The edge of `probes`, and what postStart and preStop hooks of the same shape go through. Called by `pod`. A probe is
ours: its connection carries no Service address and meets no netfilter rule of the node but the pod's own route.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from portway.netlink.namespace import socket_in
from portway.node.lifecycle import Exit
from portway.node.probes import ProbeReason, ProbeResult, port_number
from portway.node.runtime import Run, RuntimeRefused, Sandbox
from portway.objects.core import Container, HTTPGetAction, LifecycleHandler, Probe, TCPSocketAction

_MOST_OUTPUT = 10 << 10


@dataclass(frozen=True, slots=True)
class Target:
    """Where a container is asked. `run` is the id of its process in the sandbox, `network` the node's namespace."""

    sandbox: Sandbox
    run: str
    container: Container
    env: dict[str, str]
    pod_ip: str
    network: int


async def ask(action: Probe | LifecycleHandler, target: Target, timeout: float) -> ProbeResult:
    """One question; a time-out is a failure. Other errors of the network are failures too, with their words."""
    try:
        async with asyncio.timeout(timeout):
            if action.exec:
                return await _command(action.exec.command or (), target)
            if action.http_get:
                return await _http(action.http_get, target)
            if action.tcp_socket:
                return await _tcp(action.tcp_socket, target)
    except TimeoutError:
        return ProbeResult(False, f"{ProbeReason.TIMEOUT}: no answer within {timeout:g} s")
    except (OSError, EOFError, asyncio.IncompleteReadError) as e:
        return ProbeResult(False, f"{ProbeReason.REFUSED}: {e}")
    return ProbeResult(True)


async def _tcp(action: TCPSocketAction, target: Target) -> ProbeResult:
    port = port_number(action.port, target.container)
    if port is None:
        return _unknown_port(action.port)
    with await _connect(action.host or target.pod_ip, port, target.network):
        return ProbeResult(True)


async def _http(action: HTTPGetAction, target: Target) -> ProbeResult:
    """Any status from 200 to 399 is a success; a redirect is not followed."""
    port = port_number(action.port, target.container)
    if port is None:
        return _unknown_port(action.port)
    host = action.host or target.pod_ip
    sock = await _connect(host, port, target.network)
    tls = _unverified() if action.scheme.upper() == "HTTPS" else None
    reader, writer = await asyncio.open_connection(sock=sock, ssl=tls, server_hostname=host if tls else None)
    try:
        writer.write(_request(action, host, port))
        line = await reader.readline()
    finally:
        writer.transport.abort()
    words = line.split(None, 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        raise EOFError("no HTTP answer" if line else "the connection was closed without an answer")
    status = int(words[1])
    return ProbeResult(True) if 200 <= status < 400 else ProbeResult(False, f"{ProbeReason.STATUS}: {status}")


def _request(action: HTTPGetAction, host: str, port: int) -> bytes:
    headers = {"Host": f"{host}:{port}", "User-Agent": "kube-probe/portway", "Accept": "*/*", "Connection": "close"}
    headers |= {
        h.name.title() if h.name.lower() in ("host", "accept", "user-agent") else h.name: h.value
        for h in action.http_headers or ()
    }
    path = action.path if action.path.startswith("/") else f"/{action.path}"
    return "\r\n".join((f"GET {path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items()), "", "")).encode()


async def _command(command: tuple[str, ...], target: Target) -> ProbeResult:
    output = bytearray()
    try:
        exit_ = await run_command(target.sandbox, target.run, command, target.env, output.extend)
    except RuntimeRefused as e:
        return ProbeResult(False, str(e))
    text = output[:_MOST_OUTPUT].decode("utf-8", "replace").strip()
    return ProbeResult(True) if exit_.code == 0 else ProbeResult(False, text or f"{ProbeReason.COMMAND} {exit_.code}")


async def run_command(
    sandbox: Sandbox, container: str, command: tuple[str, ...], env: dict[str, str], heard: Callable[[bytes], object]
) -> Exit:
    """Run a command in a container and hear what it prints; killed when the caller is cancelled. Raises StartFailed."""
    loop = asyncio.get_running_loop()
    read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.set_blocking(write, True)
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    run: Run | None = None

    def readable() -> None:
        try:
            data = os.read(read, 1 << 16)
        except BlockingIOError:
            return
        if data:
            heard(data)
        else:
            loop.remove_reader(read)

    loop.add_reader(read, readable)
    try:
        run = sandbox.exec(container, command, env, stdio=(null, write, write))
        os.close(write)
        write = -1
        await asyncio.shield(run.started)
        exit_ = await asyncio.shield(run.exited)
        readable()
        return exit_
    finally:
        loop.remove_reader(read)
        for fd in (read, write, null):
            if fd >= 0:
                os.close(fd)
        if run is not None and not run.exited.done():
            sandbox.kill(run)


async def _connect(host: str, port: int, network: int) -> socket.socket:
    sock = socket_in(network, socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    sock.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(sock, (host, port))
    except BaseException:
        sock.close()
        raise
    return sock


def _unverified() -> ssl.SSLContext:
    """Kubernetes does not verify a pod's certificate in a probe either."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _unknown_port(name: int | str) -> ProbeResult:
    return ProbeResult(False, f"{ProbeReason.PORT}: no port of the container is named {name!r}")
