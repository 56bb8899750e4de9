"""Listening sockets of the calling thread's network: the API server's and those of published addresses."""

from __future__ import annotations

import socket

_BACKLOG = 1024


def listen(address: str, port: int, protocol: str = "tcp") -> socket.socket:
    """A socket on `address`, tcp or udp; port 0 is a free one. OSError (EADDRINUSE) when the port is taken."""
    tcp = protocol == "tcp"
    listener = socket.socket(socket.AF_INET, (socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) | socket.SOCK_CLOEXEC)
    try:
        listener.setblocking(False)
        if tcp:  # a port is free at once when its last connections are over; for UDP it would let two share one
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        if tcp:
            listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
