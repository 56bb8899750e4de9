"""Does a server of names answer? One query over UDP, for whoever waits until a node is of use (`portway up`)."""

from __future__ import annotations

import asyncio
import secrets
import socket

from portway.dns import records, wire
from portway.dns.upstream import Sockets, is_answer

ATTEMPT_SECONDS = 0.2
_LARGEST = 65535


async def problem(sockets: Sockets, server: tuple[str, int], name: str) -> str:
    """Ask `server` for the address of `name`; "" when it has one, else what was wrong."""
    query = wire.question(records.name(name), records.Type.A, secrets.token_bytes(2))
    loop = asyncio.get_running_loop()
    try:
        with sockets(socket.SOCK_DGRAM) as link:
            link.setblocking(False)
            async with asyncio.timeout(ATTEMPT_SECONDS):
                await loop.sock_connect(link, server)
                await loop.sock_sendall(link, query)
                answer = await loop.sock_recv(link, _LARGEST)
        if not is_answer(query, answer):
            return "it answered something else"
        said = wire.read_answer(answer)
    except TimeoutError:
        return "no answer"
    except (OSError, wire.Malformed) as e:
        return str(e) or type(e).__name__
    return "" if said.records else f"it does not know {name} (code {said.rcode})"
