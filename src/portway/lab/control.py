"""The supervisor's half of the control socket: one JSON request and one JSON answer per connection.

The socket lies in the state folder and is for its owner alone. `ask` is the command line's half, and defines what both share.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from portway.lab.ask import Refused, short

log = logging.getLogger("portway.lab")

Handler = Callable[[Mapping[str, Any]], Awaitable[Any]]
"""An operation: the request's fields in, anything that JSON can say out. Raises Refused for the user's mistakes."""

_LIMIT = 1 << 20


async def serve(path: Path, operations: Mapping[str, Handler]) -> asyncio.AbstractServer:
    """Listen on `path` (replacing a socket that a killed supervisor left) and answer with `operations`."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answer = await _answer(await reader.readline(), operations)
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        except (ConnectionError, ValueError) as e:
            log.info("control connection: %s", e)
        finally:
            writer.close()

    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    with short(path) as name:
        listener.bind(name)
    path.chmod(0o600)
    return await asyncio.start_unix_server(connected, sock=listener, limit=_LIMIT)


async def _answer(line: bytes, operations: Mapping[str, Handler]) -> dict[str, Any]:
    try:
        request = json.loads(line)
        handler = operations[request["op"]]
    except (ValueError, KeyError, TypeError) as e:
        return {
            "error": f"no such request ({e}): the command line and the supervisor differ in version; run portway down"
        }
    try:
        return {"result": await handler(request)}
    except Refused as e:
        return {"error": str(e)}
    except Exception as e:
        log.exception("request %s", request["op"])
        return {"error": f"{type(e).__name__}: {e}; this is a bug, please report it", "bug": True}
