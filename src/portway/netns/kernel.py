"""A network namespace as an object: read it, make it as planned, add and delete single things.

The edge of `netns`. A `Namespace` holds a descriptor (the namespace lives at least as long) and one rtnetlink socket that
was made inside; so a plan costs no thread, only its settings under /proc/sys do (one for all of them). Calls block for
microseconds and may be made from any thread. The lab makes hosts with it, a node agent wires pods with it.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from portway.netlink import codec, namespace
from portway.netlink.codec import Message
from portway.netlink.socket import NETLINK_ROUTE, Netlink, NetlinkError, open_netlink
from portway.netns import messages
from portway.netns.messages import Context, Request
from portway.netns.plan import (
    Action,
    Address,
    Change,
    Kind,
    Link,
    LinkState,
    Neighbour,
    Owner,
    Peer,
    Plan,
    Route,
    State,
    Sysctl,
    additions,
    diff,
)

T = TypeVar("T")

# What the kernel answers when the thing to delete is not there.
_GONE = {errno.ENODEV, errno.ESRCH, errno.EADDRNOTAVAIL, errno.ENOENT}
_BATCH = 200  # requests in one datagram: their acknowledgements must fit the receive buffer of an ordinary process

_CURES = {
    errno.EPERM: "run as root, or let portway make a user namespace (portway doctor tells whether it may)",
    errno.EACCES: "run as root, or let portway make a user namespace (portway doctor tells whether it may)",
    errno.EROFS: "/proc/sys is read-only here (a container?): run portway where it may be written",
    errno.EOPNOTSUPP: "the kernel lacks this kind of link: load its module (modprobe veth; modprobe bridge)",
    errno.ENETUNREACH: "no route of this namespace leads to the gateway: add an address or a link-scope route first",
    errno.EEXIST: "delete the other one first",
    errno.ENODEV: "make the link first",
    errno.ENOSPC: "a limit of this kernel or container is reached: raise it (as root: sysctl -w user.max_net_namespaces=15000)",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENOENT: "this kernel was built without the setting",
}


class NetworkError(OSError):
    """The kernel did not let us: what we asked for, its answer, and the cure. `errno` is the kernel's."""

    def __init__(self, number: int, what: str) -> None:
        cure = _CURES.get(number)
        super().__init__(number, f"{what}{f'; {cure}' if cure else ''}")

    def __str__(self) -> str:
        return str(self.strerror)


class Namespace:
    """A network namespace. Close it, or the kernel keeps it (and its links) until this process ends."""

    def __init__(self, fd: int, name: str = "") -> None:
        """Takes over the descriptor `fd`. `name` is for messages."""
        self._fd = fd
        self.name = name or f"namespace {fd}"
        self._netlink: Netlink | None = None
        self._lock = threading.Lock()

    @classmethod
    def new(cls, name: str = "") -> Self:
        """A new, empty namespace (its lo is down). NetworkError (EPERM) for a process that may not."""
        try:
            return cls(namespace.new_namespace(), name)
        except OSError as e:
            raise NetworkError(e.errno or 0, f"make network namespace {name}: {e.strerror}") from e

    @classmethod
    def of_pid(cls, pid: int, name: str = "") -> Self:
        """The namespace of a process. NetworkError (ENOENT) when the process is gone."""
        try:
            return cls(os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC), name)
        except OSError as e:
            raise NetworkError(e.errno or 0, f"open the network namespace of process {pid}: {e.strerror}") from e

    @property
    def fd(self) -> int:
        """The open descriptor, for setns(2) and as a veth's peer."""
        return self._fd

    def close(self) -> None:
        """Let go of the namespace. Twice is fine."""
        with self._lock:
            if self._netlink is not None:
                self._netlink.close()
                self._netlink = None
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def run(self, work: Callable[[], T]) -> T:
        """What `work` returns when run by a thread inside the namespace (a process it starts stays there)."""
        return namespace.run_in(self._open(), work)

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket that lives in the namespace."""
        return namespace.socket_in(self._open(), family, kind, protocol)

    def _open(self) -> int:
        if self._fd < 0:
            raise NetworkError(errno.EBADF, f"{self.name} is closed")
        return self._fd

    def state(self) -> State:
        """Everything that a plan can speak of, as the kernel has it now."""
        with self._lock:
            return self._state()

    def links(self) -> dict[str, LinkState]:
        with self._lock:
            return self._links()

    def addresses(self) -> tuple[Address, ...]:
        return tuple(self.state().addresses)

    def routes(self) -> dict[Route, int]:
        """The unicast routes of the main table, and who added each (`plan.Owner`)."""
        return dict(self.state().routes)

    def apply(self, plan: Plan, namespaces: Mapping[str, Namespace] | None = None) -> tuple[Change, ...]:
        """Make the namespace as `plan` says, remove what its owner no longer wants; the steps that it took.

        `namespaces` resolves the handles of veth peers. Idempotent. NetworkError names the object and the cure; the steps
        before it stay, so applying again goes on from there."""
        with self._lock:
            changes = diff(self._state(), plan)
            self._carry_out(changes, _descriptors(namespaces), plan.owner)
        return changes

    def add(self, plan: Plan, namespaces: Mapping[str, Namespace] | None = None) -> None:
        """Add `plan` to what is there, look at nothing else and remove nothing: cheap beside a thousand other links."""
        with self._lock:
            there = self._named({link.name for link in plan.links})
            known = State(links=there)
            changes = tuple(c for c in diff(known, plan) if c.action is not Action.DELETE) if there else additions(plan)
            self._carry_out(changes, _descriptors(namespaces), plan.owner)

    def veth(self, name: str, peer_name: str, peer_namespace: Namespace, *, owner: int = Owner.LAB) -> None:
        """A veth pair made in one message, both ends up: `name` here, `peer_name` over there."""
        link = Link(name, Kind.VETH, Peer(peer_name, "peer"))
        with self._lock:
            self._carry_out((Change(Action.ADD, link),), {"peer": peer_namespace.fd}, owner)
        peer_namespace.add(Plan(links=(Link(peer_name),)))

    def route_add(self, route: Route, *, owner: int = Owner.LAB) -> None:
        """Add a route, or replace the one to the same destination."""
        with self._lock:
            self._carry_out((Change(Action.ADD, route),), {}, owner)

    def route_delete(self, route: Route, *, owner: int = Owner.LAB) -> None:
        """Delete a route of `owner`; none there is fine."""
        with self._lock:
            self._carry_out((Change(Action.DELETE, route),), {}, owner)

    def delete_link(self, name: str) -> None:
        """Delete a link, and with a veth its far end; none there is fine."""
        with self._lock:
            self._carry_out((Change(Action.DELETE, Link(name)),), {}, 0)

    def sysctl(self, name: str, value: str | None = None) -> str:
        """The value of a setting ("net.ipv4.ip_forward"), after writing `value` when given."""

        def inside() -> str:
            if value is not None:
                _write(Sysctl(name, value))
            return _path(name).read_text().strip()

        try:
            return self.run(inside)
        except OSError as e:
            raise self._error(e, f"sysctl {name}") from e

    # Below here the lock is held.

    def _state(self) -> State:
        links = self._links()
        names = {link.index: link.name for link in links.values()}

        def name(index: int) -> str:
            return names.get(index, "")

        return State(
            links,
            messages.addresses(self._dump(messages.RTM_GETADDR), name),
            messages.routes(self._dump(messages.RTM_GETROUTE), name),
            messages.neighbours(self._dump(messages.RTM_GETNEIGH), name),
        )

    def _links(self) -> dict[str, LinkState]:
        return messages.links(self._dump(messages.RTM_GETLINK))

    def _named(self, names: set[str]) -> dict[str, LinkState]:
        """The links of these names, those that exist. (Their masters are not resolved.)"""
        result: dict[str, LinkState] = {}
        for name in sorted(names):
            try:
                result |= messages.links(
                    self._socket().request(messages.RTM_GETLINK, 0, messages.one_link(name), f"get link {name}")
                )
            except NetlinkError as e:
                if e.errno not in _GONE:
                    raise self._error(e, f"get link {name}") from e
        return result

    def _dump(self, type_: int) -> list[Message]:
        try:
            return self._socket().request(type_, codec.NLM_F_DUMP, messages.dump(type_), "list")
        except OSError as e:
            raise self._error(e, "read the namespace") from e

    def _socket(self) -> Netlink:
        if self._netlink is None:
            fd = self._open()
            try:
                self._netlink = Netlink(namespace.run_in(fd, lambda: open_netlink(NETLINK_ROUTE)))
            except OSError as e:
                raise self._error(e, "open a netlink socket") from e
        return self._netlink

    def _carry_out(self, changes: tuple[Change, ...], namespaces: Mapping[str, int], owner: int) -> None:
        """Run `changes` in order: links, then settings (some are there only with their link), then what needs indexes."""
        settings = [c.what for c in changes if isinstance(c.what, Sysctl)]
        others = [c for c in changes if not isinstance(c.what, Sysctl)]
        links = [c for c in others if isinstance(c.what, Link) and c.action is not Action.DELETE]
        masters = [c for c in links if isinstance(c.what, Link) and not c.what.master]
        ports = [c for c in links if isinstance(c.what, Link) and c.what.master]
        for stage in ([c for c in others if c.action is Action.DELETE], masters, ports):
            self._send(stage, namespaces, owner)
        self._write(settings)
        rest = [c for c in others if c.action is not Action.DELETE and not isinstance(c.what, Link)]
        self._send(rest, namespaces, owner)

    def _send(self, changes: list[Change], namespaces: Mapping[str, int], owner: int) -> None:
        if not changes:
            return
        indexes = {name: link.index for name, link in self._named(_mentioned(changes)).items()}
        context = Context(indexes, namespaces, owner)
        for start in range(0, len(changes), _BATCH):
            self._batch(changes[start : start + _BATCH], context)

    def _batch(self, changes: list[Change], context: Context) -> None:
        """All requests in one datagram, all acknowledgements read, the first refusal raised."""
        requests = list(self._requests(changes, context))
        if not requests:
            return
        netlink = self._socket()
        asked: dict[int, Change] = {}
        data = b""
        for change, (type_, flags, body) in requests:
            sequence = netlink.next_sequence()
            asked[sequence] = change
            data += codec.message(type_, flags | codec.NLM_F_REQUEST | codec.NLM_F_ACK, sequence, body)
        netlink.send(data)
        first: NetlinkError | None = None
        for error in _refusals(netlink, sequence, asked):
            ignored = asked[error.sequence].action is Action.DELETE and error.errno in _GONE
            first = first or (None if ignored else error)
        if first is not None:
            raise NetworkError(first.errno or 0, f"{self.name}: {first.strerror}") from first

    def _requests(self, changes: list[Change], context: Context) -> Iterator[tuple[Change, Request]]:
        for change in changes:
            try:
                yield change, messages.request(change, context)
            except KeyError as e:
                if change.action is not Action.DELETE:  # what was on a link that is gone is gone with it
                    raise NetworkError(errno.ENODEV, f"{self.name}: {change}: there is no {e.args[0]}") from e

    def _write(self, settings: list[Sysctl]) -> None:
        if not settings:
            return

        def inside() -> None:
            for setting in settings:
                try:
                    _write(setting)
                except OSError as e:
                    raise self._error(e, f"sysctl {setting.name}={setting.value}") from e

        self.run(inside)

    def _error(self, e: OSError, what: str) -> NetworkError:
        if isinstance(e, NetworkError):
            return e
        return NetworkError(e.errno or 0, f"{self.name}: {what}: {os.strerror(e.errno or 0)}")


def _refusals(netlink: Netlink, last: int, asked: Mapping[int, Change]) -> Iterator[NetlinkError]:
    """Each error among the acknowledgements up to `last`. The kernel goes on after one, and so do we."""
    while True:
        try:
            for _ in netlink.answers(last, lambda sequence: str(asked.get(sequence, "request"))):
                pass
            return
        except NetlinkError as e:
            yield e
            if e.sequence == last:
                return


def _mentioned(changes: list[Change]) -> set[str]:
    """The names of links whose indexes `changes` need."""
    names = set()
    for change in changes:
        match change.what:
            case Link(name, master=master):
                names |= {master} | ({name} if change.action is Action.SET else set())
            case Address(link) | Neighbour(link) | Route(link=link):
                names.add(link)
    return names - {""}


def _descriptors(namespaces: Mapping[str, Namespace] | None) -> dict[str, int]:
    return {handle: found.fd for handle, found in (namespaces or {}).items()}


def _path(name: str) -> Path:
    """The file of a setting. A dot in a link's name is written "/", as sysctl(8) does."""
    return Path("/proc/sys") / name.translate(str.maketrans("./", "/."))


def _write(setting: Sysctl) -> None:
    with open(_path(setting.name), "w") as file:
        file.write(setting.value)
