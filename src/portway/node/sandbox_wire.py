"""Messages between the node agent and a sandbox: one JSON object per line over a Unix stream socket, open files
beside it.

A message says with "fds" how many descriptors come with it. Both ends use `Channel`: the sandbox blocks on it, the
agent reads when its event loop says so. Standard library only (see `sandbox`).
"""

from __future__ import annotations

import json
import os
import socket
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

_MAX_FDS = 16
_CHUNK = 1 << 16

Message = dict[str, Any]


class Channel:
    """One end. `receive` gives what has arrived; `closed` is true once the other end is gone."""

    def __init__(self, sock: socket.socket, *, wait: bool = True) -> None:
        self.sock = sock
        self._flags = socket.MSG_CMSG_CLOEXEC | (0 if wait else socket.MSG_DONTWAIT)
        self.closed = False
        self._text = b""
        self._fds: deque[int] = deque()

    def fileno(self) -> int:
        return self.sock.fileno()

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Send, waiting for room. A message to an end that is gone is dropped: its reader has nothing more to do."""
        text = json.dumps({**message, "fds": len(fds)} if fds else message).encode() + b"\n"
        try:
            sent = socket.send_fds(self.sock, [text], list(fds)) if fds else self.sock.send(text)
            if sent < len(text):
                self.sock.sendall(text[sent:])
        except (BrokenPipeError, ConnectionResetError):
            self.closed = True

    def receive(self) -> Iterator[tuple[Message, list[int]]]:
        """The whole messages that one read brings, each with its descriptors (which the caller closes)."""
        try:
            data, fds, _, _ = socket.recv_fds(self.sock, _CHUNK, _MAX_FDS, self._flags)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data, fds = b"", []
        self._fds.extend(fds)
        if not data:
            self.closed = True
            return
        *lines, self._text = (self._text + data).split(b"\n")
        for line in lines:
            message: Message = json.loads(line)
            yield message, [self._fds.popleft() for _ in range(message.get("fds", 0))]

    def close(self) -> None:
        self.closed = True
        self.sock.close()
        while self._fds:
            os.close(self._fds.popleft())
