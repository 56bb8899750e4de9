"""The connections that a namespace's kernel follows, over ctnetlink: which go to a node, and forgetting those that will not end.

The edge translates the first packet of a connection only; every later one follows what the kernel remembers. Two things
need a look there: a node that leaves is let go when its connections are over, and an attempt that got no answer from a
node which died must be chosen anew when it is repeated. Called by `edge`; blocks for as long as the kernel computes.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address

from portway.netlink import codec
from portway.netlink.socket import Netlink, NetlinkError

_SUBSYSTEM = 1 << 8
_NEW, _GET, _DELETE = 0, 1, 2
_AF_INET = 2
_TUPLE_ORIG, _TUPLE_REPLY, _STATUS, _PROTOINFO = 1, 2, 3, 4
_IP, _PROTO = 1, 2
_V4_SRC, _V4_DST = 1, 2
_NUMBER, _DPORT = 1, 3
_TCP_INFO, _TCP_STATE = 1, 1
_SEEN_REPLY = 2
_PROTOCOLS = {6: "tcp", 17: "udp", 132: "sctp"}
_TCP_OVER = frozenset({6, 7, 8})  # last ack, time wait, close


@dataclass(frozen=True, slots=True)
class Flow:
    """One connection. `door` is where the client sent its first packet, `node` who answers; `key` names it to the kernel."""

    door: tuple[IPv4Address, str, int]
    node: IPv4Address
    answered: bool
    over: bool
    key: bytes

    @property
    def stuck(self) -> bool:
        """Every later packet would go to the same node, and none of them ends the connection."""
        return self.protocol == "udp" or not self.answered

    @property
    def protocol(self) -> str:
        return self.door[1]


def flows(netlink: Netlink, nodes: Collection[object]) -> list[Flow]:
    """The IPv4 connections that one of the addresses `nodes` answers. NetlinkError where the kernel has no ctnetlink."""
    body = struct.pack("!BBH", _AF_INET, 0, 0)
    answers = netlink.request(_SUBSYSTEM | _GET, codec.NLM_F_DUMP, body, "list connections")
    return [flow for answer in answers for flow in _flow(answer.body) if flow.node in nodes]


def forget(netlink: Netlink, flow: Flow) -> None:
    """Drop what the kernel remembers. Nothing happens when the connection is gone already."""
    body = struct.pack("!BBH", _AF_INET, 0, 0) + codec.attr(_TUPLE_ORIG | codec.NLA_F_NESTED, flow.key)
    try:
        netlink.request(_SUBSYSTEM | _DELETE, 0, body, "forget a connection")
    except NetlinkError as e:
        if e.errno != 2:  # ENOENT: it ended meanwhile
            raise


def _flow(body: bytes) -> Iterator[Flow]:
    attributes = codec.attribute_map(body, 4)
    if _TUPLE_ORIG not in attributes or _TUPLE_REPLY not in attributes:
        return
    first, reply = (codec.attribute_map(attributes[t]) for t in (_TUPLE_ORIG, _TUPLE_REPLY))
    to, node = codec.attribute_map(first[_IP]).get(_V4_DST), codec.attribute_map(reply[_IP]).get(_V4_SRC)
    transport = codec.attribute_map(first[_PROTO])
    protocol, port = _PROTOCOLS.get(transport[_NUMBER][0]), transport.get(_DPORT)
    if to is None or node is None or protocol is None or port is None:
        return  # IPv6, or a protocol without ports
    status = int.from_bytes(attributes.get(_STATUS, b""), "big")
    over = protocol == "tcp" and _tcp_state(attributes) in _TCP_OVER
    door = (IPv4Address(to), protocol, int.from_bytes(port, "big"))
    yield Flow(door, IPv4Address(node), bool(status & _SEEN_REPLY), over, attributes[_TUPLE_ORIG])


def _tcp_state(attributes: dict[int, bytes]) -> int:
    info = codec.attribute_map(attributes.get(_PROTOINFO, b""))
    state = codec.attribute_map(info.get(_TCP_INFO, b"")).get(_TCP_STATE, b"\0")
    return state[0]
