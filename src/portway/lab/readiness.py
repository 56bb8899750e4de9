"""When is the cluster up? When every node is Ready and, from each, the Service `kubernetes` answers through netfilter.

`kubernetes_answers` is a real HTTPS request from a node's namespace to 10.3.240.1:443: the node's rules must have sent it to
the API server's address at the edge. The supervisor waits for it before `up` returns; `status` asks again.
"""

from __future__ import annotations

import asyncio
import socket
import ssl

from portway.lab import topology
from portway.netns.kernel import Namespace

_ATTEMPT_SECONDS = 0.3
"""Shorter than TCP's first repetition (1 s): a packet lost while a link settles costs less this way."""


async def kubernetes_answers(namespace: Namespace, tls: ssl.SSLContext) -> str:
    """ "" when it does, else what was wrong."""
    try:
        async with asyncio.timeout(_ATTEMPT_SECONDS):
            return await _ask(namespace, tls)
    except TimeoutError:
        return "no answer (is the node switched on?)"
    except (OSError, ssl.SSLError) as e:
        return str(e) or type(e).__name__


async def _ask(namespace: Namespace, tls: ssl.SSLContext) -> str:
    connection = namespace.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        await asyncio.get_running_loop().sock_connect(connection, (topology.KUBERNETES_SERVICE, 443))
        reader, writer = await asyncio.open_connection(sock=connection, ssl=tls, server_hostname="kubernetes")
    except BaseException:
        connection.close()
        raise
    try:
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: kubernetes\r\nConnection: close\r\n\r\n")
        first = await reader.readline()
    finally:
        writer.close()
    return "" if b" 200 " in first else f"it said {first.decode(errors='replace').strip()!r}"
