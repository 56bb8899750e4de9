"""The image `portway/echo`: a server that answers HTTP, TCP and UDP on one port with what it saw, as JSON.

Standard library only, small and quick to start, because a test cluster runs it by the dozen. A connection whose first
line is no HTTP request gets one JSON line for that line (or at half-close). `?status=503`, `?delay=MS` and
`?size=BYTES` change the HTTP answer. On SIGTERM it stops listening, finishes what is in flight and ends. Configured
by PORT (8080), POD_NAME, POD_NAMESPACE, NODE_NAME.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

_REQUEST = re.compile(rb"([A-Z]+) (\S+) HTTP/1\.([01])\r?\n")
_METHODS = (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"TRACE", b"CONNECT")
_LONGEST = 1 << 20
_LAST_WORDS = 10.0
_PHRASES = {
    200: "OK",
    204: "No Content",
    404: "Not Found",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


@dataclass(slots=True)
class Connection:
    """One TCP connection. `due` is when the answer in `held` may leave (?delay=), on the monotonic clock."""

    sock: socket.socket
    peer: tuple[Any, ...]
    received: bytearray = field(default_factory=bytearray)
    out: bytearray = field(default_factory=bytearray)
    held: bytes = b""
    due: float = 0.0
    ended: bool = False  # the peer sends no more
    closing: bool = False  # close once `out` is sent

    @property
    def idle(self) -> bool:
        return not (self.received or self.out or self.held)


def identity() -> dict[str, str]:
    return {
        "pod": os.environ.get("POD_NAME", socket.gethostname()),
        "namespace": os.environ.get("POD_NAMESPACE", ""),
        "node": os.environ.get("NODE_NAME", ""),
    }


def seen(peer: tuple[Any, ...], protocol: str, **more: Any) -> bytes:
    address = str(peer[0]).removeprefix("::ffff:")
    return (
        json.dumps(
            {**identity(), "protocol": protocol, "source": {"address": address, "port": peer[1]}, **more}
        ).encode()
        + b"\n"
    )


def looks_like_http(data: bytes) -> bool | None:
    """None while it is too early to tell: HTTP is a known method, a blank, and a first line that names the version."""
    word, blank, _ = data.partition(b" ")
    if not blank:
        return None if any(m.startswith(word) for m in _METHODS) and b"\n" not in data else False
    if word not in _METHODS:
        return False
    return bool(_REQUEST.match(data)) if b"\n" in data else None


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    target: str
    minor: int
    headers: dict[str, str]
    size: int  # bytes of `received` that it takes

    @property
    def keep(self) -> bool:
        wish = self.headers.get("connection", "").lower()
        return "close" not in wish if self.minor else "keep-alive" in wish


def parse(data: bytes) -> Request | None:
    """The first whole request in `data`; None when it is not whole yet. Raises ValueError for a length that is no number."""
    head, blank, rest = data.partition(b"\r\n\r\n")
    found = _REQUEST.match(head + b"\r\n")
    if not blank or not found:
        return None
    headers: dict[str, str] = {}
    for line in head.decode("latin-1").split("\r\n")[1:]:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    length = _body_length(headers, rest)
    if length is None or length > len(rest):
        return None
    return Request(found[1].decode(), found[2].decode("latin-1"), int(found[3]), headers, len(head) + 4 + length)


def _body_length(headers: dict[str, str], rest: bytes) -> int | None:
    if "chunked" not in headers.get("transfer-encoding", "").lower():
        return int(headers.get("content-length", "0"))
    at = 0
    while (end := rest.find(b"\r\n", at)) >= 0:
        size = int(rest[at:end].split(b";")[0], 16)
        at = end + 2 + size + 2
        if size == 0:
            return at if len(rest) >= at else None
    return None


def respond(request: Request, peer: tuple[Any, ...], *, last: bool = False) -> tuple[bytes, float]:
    """The answer, and how many seconds to hold it back."""
    parts = urlsplit(request.target)
    query = {k: v[-1] for k, v in parse_qs(parts.query).items()}
    status = _number(query.get("status"), 200, 599)
    host = request.headers.get("host", "")
    body = seen(peer, "HTTP", method=request.method, path=request.target, host=host, headers=request.headers)
    if "size" in query:
        body = b"x" * _number(query["size"], 0, _LONGEST)
    head = [
        f"HTTP/1.1 {status} {_PHRASES.get(status, 'Status')}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        f"Connection: {'keep-alive' if request.keep and not last else 'close'}",
    ]
    text = "\r\n".join(head).encode() + b"\r\n\r\n"
    return (text if request.method == "HEAD" else text + body), _number(query.get("delay"), 0, 600_000) / 1000


def _number(text: str | None, default: int, most: int) -> int:
    return min(int(text), most) if text and text.isdigit() else default


class Server:
    """One poll loop for everything."""

    def __init__(self, port: int) -> None:
        self._poll = select.poll()
        self._listeners: dict[int, socket.socket] = {}
        self._datagrams: dict[int, socket.socket] = {}
        self._open: dict[int, Connection] = {}
        self._stopping = 0.0
        self.port = port
        for family, address in ((socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0")):
            self._bind(family, address)
        if not self._listeners:
            raise SystemExit(f"echo: port {port} is taken, or there is no IP here; choose another with PORT")

    def _bind(self, family: int, address: str) -> None:
        """Both families on sockets of their own, so that a machine without IPv6 serves IPv4 all the same."""
        try:
            tcp, udp = socket.socket(family, socket.SOCK_STREAM), socket.socket(family, socket.SOCK_DGRAM)
            for sock in (tcp, udp):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind((address, self.port))
                self.port = sock.getsockname()[1]
                sock.setblocking(False)
            tcp.listen(1024)
        except OSError:
            return
        self._listeners[tcp.fileno()] = tcp
        self._datagrams[udp.fileno()] = udp
        self._poll.register(tcp, select.POLLIN)
        self._poll.register(udp, select.POLLIN)

    def stop(self) -> None:
        """Stop listening; `run` returns when what is in flight is answered."""
        self._stopping = time.monotonic() + _LAST_WORDS
        for fd in [*self._listeners, *self._datagrams]:
            self._poll.unregister(fd)
        for sock in [*self._listeners.values(), *self._datagrams.values()]:
            sock.close()
        self._listeners.clear()
        self._datagrams.clear()
        for connection in [c for c in self._open.values() if c.idle]:
            self._close(connection)

    def run(self, wake: int) -> None:
        """Serve until `wake` (a descriptor that SIGTERM writes to) is readable, then finish."""
        self._poll.register(wake, select.POLLIN)
        while not self._stopping or (self._open and time.monotonic() < self._stopping):
            for fd, events in self._poll.poll(self._patience()):
                if fd == wake:
                    self._poll.unregister(wake)
                    self.stop()
                elif fd in self._listeners:
                    self._accept(self._listeners[fd])
                elif fd in self._datagrams:
                    self._answer_datagram(self._datagrams[fd])
                elif fd in self._open:
                    self._serve(self._open[fd], events)
            self._release()

    def _patience(self) -> float | None:
        """Milliseconds until something is due without any traffic."""
        due = [c.due for c in self._open.values() if c.held]
        if self._stopping:
            due.append(self._stopping)
        return max(0.0, min(due) - time.monotonic()) * 1000 + 1 if due else None

    def _release(self) -> None:
        now = time.monotonic()
        for connection in [c for c in self._open.values() if c.held and c.due <= now]:
            connection.out += connection.held
            connection.held = b""
            self._work(connection)
            self._flush(connection)

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, peer = listener.accept()
        except OSError:
            return
        sock.setblocking(False)
        self._open[sock.fileno()] = Connection(sock, peer)
        self._poll.register(sock, select.POLLIN)

    def _answer_datagram(self, sock: socket.socket) -> None:
        try:
            data, peer = sock.recvfrom(1 << 16)
            sock.sendto(seen(peer, "UDP", data=data[:1024].decode("utf-8", "replace")), peer)
        except OSError:
            return  # an ICMP error of an earlier answer, or a full buffer: UDP may lose

    def _serve(self, connection: Connection, events: int) -> None:
        if events & (select.POLLIN | select.POLLHUP | select.POLLERR):
            try:
                data = connection.sock.recv(1 << 16)
            except BlockingIOError:
                data = None
            except OSError:
                self._close(connection)
                return
            if data == b"":
                connection.ended = True
            elif data:
                connection.received += data
            self._work(connection)
        self._flush(connection)

    def _work(self, connection: Connection) -> None:
        """Answer what is whole in `received`; one request at a time, in order."""
        while connection.received and not connection.held and not connection.closing:
            http = looks_like_http(bytes(connection.received))
            if http is None and not connection.ended:
                return
            if not (self._http(connection) if http else self._plain(connection)):
                break
        if connection.ended and not connection.held:
            connection.closing = True

    def _http(self, connection: Connection) -> bool:
        try:
            request = parse(bytes(connection.received))
        except ValueError:
            connection.out += b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            connection.closing = True
            return False
        if request is None:
            connection.closing = len(connection.received) > 2 * _LONGEST
            return False
        del connection.received[: request.size]
        answer, delay = respond(request, connection.peer, last=bool(self._stopping))
        if delay:
            connection.held, connection.due = answer, time.monotonic() + delay
        else:
            connection.out += answer
        connection.closing = not request.keep or bool(self._stopping)
        return not connection.closing

    def _plain(self, connection: Connection) -> bool:
        line, newline, rest = bytes(connection.received).partition(b"\n")
        if not newline and not connection.ended and len(line) < 4096:
            return False
        connection.received[:] = rest
        connection.out += seen(connection.peer, "TCP", data=line[:1024].decode("utf-8", "replace").rstrip("\r"))
        return True

    def _flush(self, connection: Connection) -> None:
        if connection.sock.fileno() < 0:
            return
        try:
            if connection.out:
                del connection.out[: connection.sock.send(connection.out)]
        except BlockingIOError:
            pass
        except OSError:
            self._close(connection)
            return
        if not connection.out and not connection.held and (connection.closing or (self._stopping and connection.idle)):
            self._close(connection)
            return
        reading = 0 if connection.ended else select.POLLIN
        self._poll.modify(connection.sock, reading | (select.POLLOUT if connection.out else 0))

    def _close(self, connection: Connection) -> None:
        if self._open.pop(connection.sock.fileno(), None) is not None:
            self._poll.unregister(connection.sock)
            connection.sock.close()


def main() -> None:
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    server = Server(int(os.environ.get("PORT") or 8080))
    print(f"echo: HTTP, TCP and UDP on port {server.port}", flush=True)
    server.run(read)


if __name__ == "__main__":
    main()
