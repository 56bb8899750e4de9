"""A netlink socket: send requests, collect answers, raise what the kernel refused.

Blocking on purpose: the kernel answers a netlink request before `send` returns, so there is nothing to wait for, and a
caller in an event loop loses microseconds. A batch as large as a first sync is sent in one piece (SO_SNDBUFFORCE).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator

from portway.netlink import codec
from portway.netlink.codec import Message

NETLINK_ROUTE = 0
NETLINK_NETFILTER = 12

_SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10
_NETLINK_EXT_ACK = 11
_SO_SNDBUFFORCE = 32
_SO_RCVBUFFORCE = 33
_NLMSGERR_ATTR_MSG = 1
_NLM_F_ACK_TLVS = 0x200
_BUFFER = 1 << 20


class NetlinkError(OSError):
    """The kernel refused a request: its errno, what we asked for, and the kernel's own words when it gave some."""

    def __init__(self, number: int, request: str, kernel_says: str = "") -> None:
        words = f"{os.strerror(number)}{f' ({kernel_says})' if kernel_says else ''}"
        super().__init__(number, f"{request}: {words}")
        self.sequence = 0


def open_netlink(protocol: int) -> socket.socket:
    """A netlink socket of `protocol` in the calling thread's network namespace (see `namespace.socket_in` for another).

    Raises OSError (EPROTONOSUPPORT when the kernel was built without the protocol)."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    sock.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
    sock.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
    sock.bind((0, 0))
    return sock


def grow_buffer(sock: socket.socket, option: int, plain: int, size: int) -> None:
    """Give `sock` a buffer of `size` bytes, past the limit of an ordinary process where we may."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, option, size)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, plain, size)


class Netlink:
    """Requests and answers on one socket. Not thread-safe; one owner."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sequence = 1
        self._sent = 0

    def close(self) -> None:
        self._sock.close()

    def fileno(self) -> int:
        return self._sock.fileno()

    def next_sequence(self) -> int:
        self._sequence += 1
        return self._sequence

    def skip_to(self, sequence: int) -> None:
        """Numbers below `sequence` are in use by a batch: later requests are numbered behind it."""
        self._sequence = max(self._sequence, sequence)

    def send(self, data: bytes) -> None:
        """Send one datagram (one or many messages), growing the send buffer when it does not fit."""
        if len(data) > self._sent:
            grow_buffer(self._sock, _SO_SNDBUFFORCE, socket.SO_SNDBUF, len(data) * 2 + 65536)
            self._sent = len(data)
        self._sock.send(data)

    def request(self, type_: int, flags: int, body: bytes, what: str) -> list[Message]:
        """One request and all its answers. `what` names it in errors ("add route 10.0.2.0/24").

        With NLM_F_DUMP in `flags` the answers are the dump; otherwise an acknowledgement is asked for and awaited.
        Raises NetlinkError with the kernel's errno."""
        sequence = self.next_sequence()
        dump = flags & codec.NLM_F_DUMP == codec.NLM_F_DUMP
        flags |= codec.NLM_F_REQUEST | (0 if dump else codec.NLM_F_ACK)
        self.send(codec.message(type_, flags, sequence, body))
        return list(self.answers(sequence, lambda _: what))

    def batch(self, data: bytes, last: int, what: Callable[[int], str]) -> None:
        """Send messages that the kernel applies together, and wait for the acknowledgement of number `last`.

        The kernel reports every message that it refused; the first is raised, the others are read and forgotten."""
        try:
            self.send(data)
        except OSError as e:
            raise NetlinkError(e.errno or errno.EIO, f"{what(last)}, {len(data)} bytes") from e
        try:
            for _ in self.answers(last, what):
                pass
        except NetlinkError:
            self._drain()
            raise

    def _drain(self) -> None:
        """Read what is still in the socket: the kernel has answered before `send` returned."""
        while True:
            try:
                self._sock.recv(_BUFFER, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as e:
                if e.errno != errno.ENOBUFS:
                    raise

    def answers(self, last: int, what: Callable[[int], str]) -> Iterator[Message]:
        """Messages until the acknowledgement (or end of dump) with sequence number `last`.

        `what(sequence)` names the request for an error's message."""
        while True:
            data = self._sock.recv(_BUFFER)
            for msg in codec.messages(data):
                if msg.type == codec.NLMSG_ERROR:
                    error = parse_error(msg, what(msg.sequence))
                    if error is not None:
                        raise error
                    if msg.sequence == last:
                        return
                elif msg.type == codec.NLMSG_DONE:
                    if msg.sequence == last:
                        return
                elif msg.type == codec.NLMSG_OVERRUN:
                    raise NetlinkError(errno.ENOBUFS, what(msg.sequence))
                else:
                    yield msg


def parse_error(msg: Message, what: str) -> NetlinkError | None:
    """The error an NLMSG_ERROR message carries, or None when it is an acknowledgement."""
    (code,) = struct.unpack_from("=i", msg.body)
    if code == 0:
        return None
    says = ""
    if msg.flags & _NLM_F_ACK_TLVS:
        said = codec.attribute_map(msg.body, 4 + codec.HEADER_SIZE).get(_NLMSGERR_ATTR_MSG, b"")
        says = said.rstrip(b"\0").decode(errors="replace")
    error = NetlinkError(-code, what, says)
    error.sequence = msg.sequence
    return error
