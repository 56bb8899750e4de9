"""The UDP flows that a node's kernel remembers, over ctnetlink: those that lead past a host port that changed hands.

A nat chain sees the first datagram of a flow only; the later ones go where that one went. A client that sends from one
port without a pause would find a pod that is gone for ever, or, when it began before the pod did, the node itself. So
`portopener` forgets such flows when a UDP port opens or closes. TCP needs none of that: its connections end with their
pod. Blocks for as long as the kernel takes to list its flows.
"""

from __future__ import annotations

import errno
import logging
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Protocol

from portway.netlink import codec
from portway.netlink.socket import Netlink, NetlinkError

log = logging.getLogger("portway.node")

_GET, _DELETE = 0x0101, 0x0102  # IPCTNL_MSG_CT_GET and _DELETE of NFNL_SUBSYS_CTNETLINK
_TUPLE_ORIG, _TUPLE_REPLY = 1, 2
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_IP_V4_SRC, _IP_V4_DST = 1, 2
_PROTO_NUM, _PROTO_SRC_PORT, _PROTO_DST_PORT = 1, 2, 3
_UDP = 17
_HEADER = struct.pack("!BBH", socket.AF_INET, 0, 0)


@dataclass(frozen=True, slots=True)
class Flow:
    """One UDP flow: whom the sender addressed, and who answers. They differ where the destination was rewritten."""

    asked: tuple[IPv4Address, int]
    answers: tuple[IPv4Address, int]
    key: bytes = b""

    @property
    def rewritten(self) -> bool:
        return self.asked != self.answers


class Flows(Protocol):
    """What remembers flows: the kernel, or a test."""

    def forget(self, stale: Callable[[Flow], bool]) -> None:
        """Forget the UDP flows for which `stale` is true."""
        ...

    def close(self) -> None: ...


class KernelFlows:
    """The flows of one network namespace: that in which `sock`, a NETLINK_NETFILTER socket, was made."""

    def __init__(self, sock: socket.socket) -> None:
        self._netlink = Netlink(sock)

    def close(self) -> None:
        self._netlink.close()

    def forget(self, stale: Callable[[Flow], bool]) -> None:
        """A kernel without ctnetlink keeps them, until they time out: that is said in the log."""
        try:
            for message in self._netlink.request(_GET, codec.NLM_F_DUMP, _HEADER, "list flows"):
                for flow in parse(message.body):
                    if stale(flow):
                        self._delete(flow)
        except NetlinkError as e:
            log.info("UDP flows to a host port are not forgotten, their clients wait until they time out: %s", e)

    def _delete(self, flow: Flow) -> None:
        try:
            body = _HEADER + codec.attr(_TUPLE_ORIG | codec.NLA_F_NESTED, flow.key)
            self._netlink.request(_DELETE, 0, body, "forget a flow")
        except NetlinkError as e:
            if e.errno != errno.ENOENT:  # it ended by itself
                raise


def parse(body: bytes) -> Iterator[Flow]:
    """The flow of a message's body, when it is one of UDP over IPv4."""
    found = codec.attribute_map(body, len(_HEADER))
    asked = _end(found.get(_TUPLE_ORIG, b""), _IP_V4_DST, _PROTO_DST_PORT)
    answers = _end(found.get(_TUPLE_REPLY, b""), _IP_V4_SRC, _PROTO_SRC_PORT)
    if asked and answers:
        yield Flow(asked, answers, found[_TUPLE_ORIG])


def _end(tuple_: bytes, address: int, port: int) -> tuple[IPv4Address, int] | None:
    parts = codec.attribute_map(tuple_)
    ip, proto = (codec.attribute_map(parts.get(part, b"")) for part in (_TUPLE_IP, _TUPLE_PROTO))
    if proto.get(_PROTO_NUM) != bytes([_UDP]) or address not in ip or port not in proto:
        return None
    return IPv4Address(ip[address]), int.from_bytes(proto[port], "big")
