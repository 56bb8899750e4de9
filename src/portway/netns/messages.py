"""rtnetlink messages for the objects of `plan`: a change as bytes, and the kernel's dumps as a `State`. Pure.

The layouts are those of the kernel's include/uapi/linux/{rtnetlink,if_link,if_addr,neighbour,veth}.h. Interface names become
indexes here, so the caller hands in the indexes that the namespace has at that moment. `kernel` sends and receives.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_address, ip_interface, ip_network
from typing import NamedTuple

from portway.netlink import codec
from portway.netlink.codec import Message, attr, attribute_map, nested, text, u32
from portway.netns.plan import Action, Address, Change, Link, LinkState, Neighbour, Route

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30

_LINK = struct.Struct("=BBHiII")  # family, pad, type, index, flags, change mask
_ADDRESS = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_ROUTE = struct.Struct("=BBBBBBBBI")  # family, dst length, src length, tos, table, protocol, scope, type, flags
_NEIGHBOUR = struct.Struct("=BBHiHBB")  # family, pad, pad, index, state, flags, type

_IFF_UP = 1
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_MASTER = 1, 3, 4, 5, 10
_IFLA_LINKINFO, _IFLA_GROUP, _IFLA_NET_NS_FD, _IFLA_EXT_MASK = 18, 27, 28, 29
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_SKIP_STATISTICS = 1 << 3
_IFA_ADDRESS, _IFA_LOCAL, _IFA_PROTO = 1, 2, 11
_IFA_F_NODAD = 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PREFSRC, _RTA_TABLE = 1, 4, 5, 7, 15
_RT_TABLE_MAIN, _RT_SCOPE_UNIVERSE, _RT_SCOPE_LINK, _RT_SCOPE_NOWHERE, _RTN_UNICAST = 254, 0, 253, 255, 1
_RTNH_F_ONLINK = 4
_NDA_DST, _NDA_LLADDR = 1, 2
_NUD_PERMANENT = 0x80
_AF_INET, _AF_INET6 = 2, 10
_CREATE = codec.NLM_F_CREATE | codec.NLM_F_EXCL
_PUT = codec.NLM_F_CREATE | codec.NLM_F_REPLACE


class Request(NamedTuple):
    """A message without its sequence number."""

    type: int
    flags: int
    body: bytes


class Context(NamedTuple):
    """What a change needs from the namespace: indexes by link name, descriptors by handle, and whose change it is."""

    indexes: Mapping[str, int]
    namespaces: Mapping[str, int]
    owner: int


def request(change: Change, context: Context) -> Request:
    """The message for `change`. KeyError for a link that has no index or a handle that has no descriptor (its name)."""
    match change.what:
        case Link():
            return _link_request(change.action, change.what, context)
        case Address():
            return _address_request(change.action, change.what, context)
        case Route():
            return _route_request(change.action, change.what, context)
        case Neighbour():
            return _neighbour_request(change.action, change.what, context)
        case _:
            raise TypeError(f"{change}: not a netlink object")


def dump(type_: int) -> bytes:
    """The body of a dump request of `type_`, for all address families."""
    match type_:
        case 18:
            return _LINK.pack(0, 0, 0, 0, 0, 0) + u32(_IFLA_EXT_MASK, _SKIP_STATISTICS)
        case 22:
            return _ADDRESS.pack(0, 0, 0, 0, 0)
        case 26:
            return _ROUTE.pack(0, 0, 0, 0, 0, 0, 0, 0, 0)
        case _:
            return _NEIGHBOUR.pack(0, 0, 0, 0, 0, 0, 0)


def one_link(name: str) -> bytes:
    """The body of a request for the link `name`."""
    return _LINK.pack(0, 0, 0, 0, 0, 0) + text(_IFLA_IFNAME, name) + u32(_IFLA_EXT_MASK, _SKIP_STATISTICS)


def _link_request(action: Action, link: Link, context: Context) -> Request:
    if action is Action.DELETE:
        return Request(RTM_DELLINK, 0, _LINK.pack(0, 0, 0, 0, 0, 0) + text(_IFLA_IFNAME, link.name))
    flags = _IFF_UP if link.up else 0
    parts = [text(_IFLA_IFNAME, link.name)]
    if link.mtu:
        parts.append(u32(_IFLA_MTU, link.mtu))
    if action is Action.SET:
        parts.append(u32(_IFLA_MASTER, context.indexes[link.master] if link.master else 0))
        head = _LINK.pack(0, 0, 0, context.indexes[link.name], flags, _IFF_UP)
        return Request(RTM_NEWLINK, 0, head + b"".join(parts))
    if link.master:
        parts.append(u32(_IFLA_MASTER, context.indexes[link.master]))
    parts.append(u32(_IFLA_GROUP, context.owner))
    parts.append(nested(_IFLA_LINKINFO, text(_IFLA_INFO_KIND, link.kind.value), _peer(link, context)))
    return Request(RTM_NEWLINK, _CREATE, _LINK.pack(0, 0, 0, 0, flags, _IFF_UP) + b"".join(parts))


def _peer(link: Link, context: Context) -> bytes:
    if link.peer is None:
        return b""
    # Not up: the kernel configures the far end before it knows its peer, and answers ENOTCONN.
    body = _LINK.pack(0, 0, 0, 0, 0, 0) + text(_IFLA_IFNAME, link.peer.name)
    if link.mtu:
        body += u32(_IFLA_MTU, link.mtu)
    if link.peer.namespace:
        body += u32(_IFLA_NET_NS_FD, context.namespaces[link.peer.namespace])
    return nested(_IFLA_INFO_DATA, attr(_VETH_INFO_PEER, body))


def _address_request(action: Action, address: Address, context: Context) -> Request:
    interface = ip_interface(address.address)
    raw, six = interface.ip.packed, interface.version == 6
    head = _ADDRESS.pack(
        _AF_INET6 if six else _AF_INET,
        interface.network.prefixlen,
        _IFA_F_NODAD if six else 0,
        _RT_SCOPE_LINK if address.link_scope else _RT_SCOPE_UNIVERSE,
        context.indexes[address.link],
    )
    body = head + attr(_IFA_LOCAL, raw) + attr(_IFA_ADDRESS, raw)
    if action is Action.DELETE:
        return Request(RTM_DELADDR, 0, body)
    return Request(RTM_NEWADDR, _PUT, body + attr(_IFA_PROTO, bytes((context.owner,))))


def _route_request(action: Action, route: Route, context: Context) -> Request:
    network = ip_network(route.destination)
    family = _AF_INET6 if network.version == 6 else _AF_INET
    delete = action is Action.DELETE
    scope = _RT_SCOPE_UNIVERSE if route.via or family == _AF_INET6 else _RT_SCOPE_LINK
    head = _ROUTE.pack(
        family,
        network.prefixlen,
        0,
        0,
        _RT_TABLE_MAIN,
        context.owner,
        _RT_SCOPE_NOWHERE if delete and family == _AF_INET else scope,
        _RTN_UNICAST,
        _RTNH_F_ONLINK if route.onlink else 0,
    )
    body = head + attr(_RTA_DST, network.network_address.packed)
    if route.via:
        body += attr(_RTA_GATEWAY, ip_address(route.via).packed)
    if route.link:
        body += u32(_RTA_OIF, context.indexes[route.link])
    if route.source:
        body += attr(_RTA_PREFSRC, ip_address(route.source).packed)
    return Request(RTM_DELROUTE, 0, body) if delete else Request(RTM_NEWROUTE, _PUT, body)


def _neighbour_request(action: Action, neighbour: Neighbour, context: Context) -> Request:
    address = ip_address(neighbour.address)
    family = _AF_INET6 if address.version == 6 else _AF_INET
    body = _NEIGHBOUR.pack(family, 0, 0, context.indexes[neighbour.link], _NUD_PERMANENT, 0, 0)
    body += attr(_NDA_DST, address.packed)
    if action is Action.DELETE:
        return Request(RTM_DELNEIGH, 0, body)
    return Request(RTM_NEWNEIGH, _PUT, body + attr(_NDA_LLADDR, bytes.fromhex(neighbour.mac.replace(":", ""))))


def links(dumped: Iterable[Message]) -> dict[str, LinkState]:
    """The links of a dump, by name, in the kernel's order."""
    raw: list[tuple[LinkState, int]] = []
    names: dict[int, str] = {}
    for message in dumped:
        _, _, _, index, flags, _ = _LINK.unpack_from(message.body)
        found = attribute_map(message.body, _LINK.size)
        names[index] = name = _text(found[_IFLA_IFNAME])
        state = LinkState(
            index=index,
            name=name,
            kind=_text(attribute_map(found.get(_IFLA_LINKINFO, b"")).get(_IFLA_INFO_KIND, b"")),
            up=bool(flags & _IFF_UP),
            mtu=_number(found.get(_IFLA_MTU)),
            mac=found.get(_IFLA_ADDRESS, b"").hex(":"),
            owner=_number(found.get(_IFLA_GROUP)),
            peer_index=_number(found.get(_IFLA_LINK)),
        )
        raw.append((state, _number(found.get(_IFLA_MASTER))))
    return {s.name: _with_master(s, names.get(master, "")) for s, master in raw}


def _with_master(state: LinkState, master: str) -> LinkState:
    if not master:
        return state
    return LinkState(
        state.index, state.name, state.kind, state.up, master, state.mtu, state.mac, state.owner, state.peer_index
    )


def addresses(dumped: Iterable[Message], name: Callable[[int], str]) -> dict[Address, int]:
    """The addresses of a dump and who added each (0: it does not say)."""
    result: dict[Address, int] = {}
    for message in dumped:
        family, prefix, _, scope, index = _ADDRESS.unpack_from(message.body)
        if family not in (_AF_INET, _AF_INET6):
            continue
        found = attribute_map(message.body, _ADDRESS.size)
        raw = found.get(_IFA_LOCAL, found.get(_IFA_ADDRESS, b""))
        owner = found.get(_IFA_PROTO, b"\0")[0]
        # IPv6 derives the scope from the address itself, so only IPv4's was somebody's choice.
        link_scope = family == _AF_INET and scope == _RT_SCOPE_LINK
        result[Address(name(index), f"{ip_address(raw)}/{prefix}", link_scope=link_scope)] = owner
    return result


def routes(dumped: Iterable[Message], name: Callable[[int], str]) -> dict[Route, int]:
    """The unicast routes of the main table in a dump, and the protocol number of each."""
    result: dict[Route, int] = {}
    for message in dumped:
        family, prefix, _, _, table, protocol, _, kind, flags = _ROUTE.unpack_from(message.body)
        found = attribute_map(message.body, _ROUTE.size)
        if family not in (_AF_INET, _AF_INET6) or kind != _RTN_UNICAST:
            continue
        if _number(found.get(_RTA_TABLE)) not in (0, _RT_TABLE_MAIN) or table not in (0, _RT_TABLE_MAIN):
            continue
        destination = found.get(_RTA_DST, bytes(16 if family == _AF_INET6 else 4))
        route = Route(
            f"{ip_address(destination)}/{prefix}",
            via=_ip(found.get(_RTA_GATEWAY)),
            link=name(_number(found.get(_RTA_OIF))),
            source=_ip(found.get(_RTA_PREFSRC)),
            onlink=bool(flags & _RTNH_F_ONLINK),
        )
        result[route] = protocol
    return result


def neighbours(dumped: Iterable[Message], name: Callable[[int], str]) -> frozenset[Neighbour]:
    """The permanent entries of a dump that have a link-layer address."""
    result = set()
    for message in dumped:
        family, _, _, index, state, _, _ = _NEIGHBOUR.unpack_from(message.body)
        found = attribute_map(message.body, _NEIGHBOUR.size)
        if family in (_AF_INET, _AF_INET6) and state & _NUD_PERMANENT and _NDA_LLADDR in found:
            result.add(Neighbour(name(index), str(ip_address(found[_NDA_DST])), found[_NDA_LLADDR].hex(":")))
    return frozenset(result)


def _ip(raw: bytes | None) -> str:
    return str(ip_address(raw)) if raw else ""


def _number(raw: bytes | None) -> int:
    return int(struct.unpack("=I", raw)[0]) if raw else 0


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode(errors="replace")
