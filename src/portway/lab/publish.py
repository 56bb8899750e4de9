"""Addresses of the lab on the user's own 127.0.0.1: which, and what is refused. `relay` carries the bytes.

Nothing leads out of the lab and nothing into it, so the supervisor, which lives in the machine's network, listens there and
connects from the host `client`: a published address is reached as any client of the internet segment reaches it, through edge,
node and Service. `running` opens it first of all at `up`, so that a taken port stops nothing half-way.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Mapping
from ipaddress import AddressValueError, IPv4Address
from typing import Any

from portway.lab.ask import Refused
from portway.lab.relay import Relay
from portway.lab.sockets import listen
from portway.lab.state import PublishRecord
from portway.loop.clock import Clock
from portway.netns.kernel import Namespace

EXAMPLE = "8080:10.100.0.2:30080, or 5353:10.3.240.10:53/udp"
_LAST_PORT = 65535


class NoSuchPublish(ValueError):
    """Words that publish nothing; the message says how to write them."""


class PortTaken(Exception):
    """A port of 127.0.0.1 that cannot be listened on; the message names the cure."""


def parse(text: str) -> PublishRecord:
    """PORT:ADDRESS:PORT, with /udp or /tcp behind it. NoSuchPublish for anything else."""
    words, slash, protocol = text.partition("/")
    parts = words.split(":")
    if len(parts) != 3 or (slash and protocol not in ("tcp", "udp")):
        raise NoSuchPublish(f"{text!r} publishes nothing: write --publish PORT:ADDRESS:PORT, for example {EXAMPLE}")
    return PublishRecord(_port(parts[0], text), _address(parts[1], text), _port(parts[2], text), protocol or "tcp")


def _port(text: str, whole: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text[:9]) <= _LAST_PORT:
        raise NoSuchPublish(f"{text!r} in {whole!r} is no port: use a number from 1 to {_LAST_PORT}")
    return int(text)


def _address(text: str, whole: str) -> str:
    try:
        address = IPv4Address(text)
    except AddressValueError as e:
        raise NoSuchPublish(
            f"{text!r} in {whole!r} is no IPv4 address of the lab: use a node's, a pod's, a Service's (portway status)"
        ) from e
    if address.is_loopback or address.is_multicast or address.is_unspecified:
        raise NoSuchPublish(f"{text} in {whole!r} is nobody's address in the lab: use a node's (portway status)")
    return str(address)


def parse_all(words: Iterable[str]) -> tuple[PublishRecord, ...]:
    """Several; NoSuchPublish when two want one port."""
    found: dict[tuple[str, int], PublishRecord] = {}
    for record in map(parse, words):
        other = found.setdefault((record.protocol, record.port), record)
        if other != record:
            raise NoSuchPublish(f"{other.text} and {record.text} want one port: choose another for one of them")
    return tuple(found.values())


class Published:
    """What is published now. `namespace` gives the host to connect from, `save` keeps the records for the next `up`."""

    def __init__(
        self, clock: Clock, namespace: Callable[[], Namespace | None], save: Callable[[tuple[PublishRecord, ...]], None]
    ) -> None:
        self._clock = clock
        self._namespace = namespace
        self._save = save
        self._relays: dict[PublishRecord, Relay | None] = {}
        self._errors: dict[PublishRecord, str] = {}

    def open(self, wanted: Iterable[PublishRecord], recorded: Iterable[PublishRecord]) -> tuple[PublishRecord, ...]:
        """Listen for both; what there is in the end. PortTaken for a wish, and then nothing is open.

        One of an earlier `up` whose port was taken since stays in the list, which says so: the cluster comes up without it."""
        wanted = tuple(wanted)
        asked = {(r.protocol, r.port) for r in wanted}
        try:
            for record in wanted:
                self._relays[record] = self._listen(record)
        except PortTaken:
            self.close()
            raise
        for record in recorded:
            if (record.protocol, record.port) not in asked:
                self._reopen(record)
        return tuple(self._relays)

    def close(self) -> None:
        for relay in self._relays.values():
            if relay is not None:
                relay.close()
        self._relays.clear()
        self._errors.clear()

    def _listen(self, record: PublishRecord) -> Relay:
        try:
            listener = listen("127.0.0.1", record.port, record.protocol)
        except OSError as e:
            raise PortTaken(f"127.0.0.1:{record.port}/{record.protocol}: {_cure(e, record)}") from e
        return Relay.of(record, listener, self._namespace, self._clock)

    def _reopen(self, record: PublishRecord) -> None:
        try:
            self._relays[record] = self._listen(record)
        except PortTaken as e:
            self._relays[record] = None
            self._errors[record] = str(e)

    def problems(self) -> tuple[str, ...]:
        """Why recorded addresses are not published after all."""
        return tuple(self._errors.values())

    def words(self) -> list[dict[str, Any]]:
        """As `status` shows them."""
        return [
            {
                "port": r.port,
                "protocol": r.protocol,
                "address": r.address,
                "target": r.target,
                "listening": relay is not None,
                "connections": relay.connections if relay else 0,
                "error": relay.error if relay else self._errors.get(r, ""),
            }
            for r, relay in sorted(self._relays.items(), key=lambda item: (item[0].port, item[0].protocol))
        ]

    # Operations of the control socket

    async def list(self, _: Mapping[str, Any]) -> list[dict[str, Any]]:
        return self.words()

    async def add(self, request: Mapping[str, Any]) -> dict[str, Any]:
        try:
            record = parse(str(request["publish"]))
            other = self._at(record.protocol, str(record.port))
            if other is not None and self._relays[other] is not None:
                raise Refused(
                    f"127.0.0.1:{record.port}/{record.protocol} is {other.address}:{other.target} already: "
                    f"portway publish remove {other.port}/{other.protocol} takes it back"
                )
            relay = self._listen(record)
        except (NoSuchPublish, PortTaken) as e:
            raise Refused(str(e)) from e
        if other is not None:
            self._forget(other)
        self._relays[record] = relay
        self._save(tuple(self._relays))
        return {"published": record.text}

    async def remove(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """PORT/PROTOCOL, or PORT alone: TCP if it is published, else UDP."""
        port, _, protocol = str(request["publish"]).partition("/")
        found = self._at(protocol, port) if protocol else self._at("tcp", port) or self._at("udp", port)
        if found is None:
            raise Refused(f"nothing is published at {request['publish']}: portway publish list shows what is")
        self._forget(found)
        self._save(tuple(self._relays))
        return {"published": found.text}

    def _at(self, protocol: str, port: str) -> PublishRecord | None:
        return next((r for r in self._relays if (r.protocol, str(r.port)) == (protocol, port)), None)

    def _forget(self, record: PublishRecord) -> None:
        relay = self._relays.pop(record)
        self._errors.pop(record, None)
        if relay is not None:
            relay.close()


def _cure(e: OSError, record: PublishRecord) -> str:
    if e.errno == errno.EADDRINUSE:
        return (
            "somebody listens there already: end that program, or publish another port "
            f"(--publish {_another(record.port)}:{record.address}:{record.target})"
        )
    if e.errno in (errno.EACCES, errno.EPERM):
        return (
            "ordinary users may not listen on it: use a port from 1024 on "
            f"(--publish {8000 + record.port}:{record.address}:{record.target})"
        )
    return f"{e.strerror}: choose another port"


def _another(port: int) -> int:
    return port + 1 if port < _LAST_PORT else port - 1
