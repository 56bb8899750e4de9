"""From a query's bytes to the reply's bytes, or to what an upstream server has to be asked. Pure; never raises.

`reply` first tries the way of nearly all queries: a question that the zone has an encoded answer for. Everything else
(negative answers, aliases, pods by address, odd or broken messages) is parsed, decided by `decide` as a value with a
reason, and written. `server` calls this for every message.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from struct import pack, unpack_from

from portway.dns import records, wire
from portway.dns.compile import Answer, Zone, additional
from portway.dns.config import PodNames
from portway.dns.reasons import Reason
from portway.dns.records import IN, Record, Type, Writer
from portway.dns.wire import Query, Rcode

STREAM_SIZE = 65535
_PLAIN_SIZE = 512
_HOPS = 8
_ONE_QUESTION = b"\0\1\0\0\0\0"
_TRANSFERS = frozenset({Type.AXFR, Type.IXFR})
_META_TYPES = range(128, 256)
_OPT_START = b"\0\0\x29"
_POD = b"\3pod"


@dataclass(frozen=True, slots=True)
class Decision:
    """What a query gets. With `ask` the rest is for an upstream server: the whole query, or where aliases led."""

    rcode: Rcode = Rcode.NOERROR
    answers: tuple[Record, ...] = ()
    extra: tuple[Record, ...] = ()
    zone: bytes | None = None
    reason: Reason | None = None
    ask: bytes = b""

    @property
    def negative(self) -> bool:
        return self.reason in (Reason.NO_NAME, Reason.NO_DATA)


@dataclass(frozen=True, slots=True)
class Forward:
    """Ask an upstream server for `ask` (a name); then `finish` makes the reply."""

    query: Query
    decision: Decision
    limit: int


def reply(zone: Zone, packet: bytes, *, turn: int = 0, stream: bool = False) -> bytes | Forward | None:
    """The reply to `packet`, None when it must not be answered. `turn` says where lists of addresses begin."""
    made = None if stream else _known(zone, packet, turn)
    if made is not None:
        return made
    try:
        query = wire.parse(packet)
    except wire.Ignored:
        return None
    except wire.Malformed:
        return _refusal(packet, Rcode.FORMERR)
    if query.opcode != wire.QUERY_OPCODE:
        return _refusal(packet, Rcode.NOTIMP)
    decision = decide(zone, query)
    limit = STREAM_SIZE if stream else _limit(zone, query)
    return Forward(query, decision, limit) if decision.ask else write(zone, query, decision, limit)


def _known(zone: Zone, packet: bytes, turn: int) -> bytes | None:
    """The reply when the zone has it and it fits. A zero byte inside a label only makes a question that is not found."""
    end = packet.find(b"\0", 12) + 5
    known = zone.answers.get(packet[12:end].lower())
    if known is None or packet[2] & 0xFE or packet[4:10] != _ONE_QUESTION:
        return None
    flags = bytes((0x84 | packet[2], 0x80 | packet[3] & 0x10))
    if len(packet) == end and packet[10:12] == b"\0\0":
        made = packet[:2] + flags + b"\0\1" + known.counts + packet[12:end] + _body(known, turn)
        return made if len(made) <= _PLAIN_SIZE else None
    if packet[10:12] != b"\0\1" or packet[end : end + 3] != _OPT_START or len(packet) != end + 11:
        return None  # options, or several records: rare enough to be looked at closely
    size, version = unpack_from("!HxB", packet, end + 3)
    made = packet[:2] + flags + b"\0\1" + known.counts_edns + packet[12:end] + _body(known, turn) + _opt(zone, 0)
    return made if not version and len(made) <= min(max(size, _PLAIN_SIZE), zone.config.udp_size) else None


def _body(known: Answer, turn: int) -> bytes:
    if not known.stride:
        return known.body
    at = turn * known.stride % len(known.body)
    return known.body[at:] + known.body[:at]


def decide(zone: Zone, query: Query) -> Decision:
    """What a well-formed query gets."""
    if query.edns is not None and query.edns.version:
        return Decision(Rcode.BADVERS, reason=Reason.BAD_VERSION)
    if query.klass != IN:
        return Decision(Rcode.REFUSED, reason=Reason.CLASS_REFUSED)
    if query.type in _TRANSFERS:
        return Decision(Rcode.REFUSED, reason=Reason.TRANSFER_REFUSED)
    if query.type == Type.ANY:
        return Decision(Rcode.REFUSED, reason=Reason.ANY_REFUSED)
    if query.type in _META_TYPES or query.type in (0, Type.OPT):
        return Decision(Rcode.FORMERR, reason=Reason.MALFORMED)
    return _follow(zone, query.name, query.type)


def _follow(zone: Zone, name: bytes, type_: int) -> Decision:
    """The records of a name, through aliases. RFC 6604: the status is that of the last name."""
    found: tuple[Record, ...] = ()
    for _ in range(_HOPS):
        here = look_up(zone, name, type_)
        found += here.answers
        last = here.answers[-1] if here.answers else None
        if last is None or last.type == type_ or last.type != Type.CNAME:
            if found and here.reason is Reason.NO_UPSTREAM:  # the alias is all that we know, and it is true
                return Decision(answers=found)
            return replace(here, answers=found)
        name = last.target
    return Decision(Rcode.SERVFAIL, reason=Reason.LOOP)


def look_up(zone: Zone, name: bytes, type_: int) -> Decision:
    """What the zone has for one name, without following an alias."""
    by_type = zone.names.get(name) or {}
    found = by_type.get(type_) or by_type.get(Type.CNAME)
    if found:
        return Decision(answers=found, extra=additional(zone.names, found))
    if records.is_below(name, zone.apex):
        if pod := _pod(zone, name):
            return Decision(answers=(pod,)) if pod.type == type_ else _no_data(zone.apex)
        there = zone.exists(name) or _is_above_pods(zone, name)
        return _no_data(zone.apex) if there else Decision(Rcode.NXDOMAIN, zone=zone.apex, reason=Reason.NO_NAME)
    reverse = next((z for z in zone.reverse if records.is_below(name, z)), None)
    if by_type or (not zone.config.upstream and zone.exists(name)):
        return _no_data(reverse)
    if zone.config.upstream:
        return Decision(ask=name)
    return Decision(Rcode.NXDOMAIN, zone=reverse, reason=Reason.NO_NAME if reverse else Reason.NO_UPSTREAM)


def _no_data(zone: bytes | None) -> Decision:
    return Decision(zone=zone, reason=Reason.NO_DATA)


def _pod(zone: Zone, name: bytes) -> Record | None:
    """The record that 10-0-1-5.NAMESPACE.pod.DOMAIN spells, when names of pods are not verified."""
    labels = _pod_labels(zone, name)
    if labels is None or len(labels) != 2:
        return None
    for separator in (".", ":"):
        try:
            return records.address(name, ip_address(labels[0].decode("ascii", "replace").replace("-", separator)))
        except ValueError:
            continue
    return None


def _pod_labels(zone: Zone, name: bytes) -> tuple[bytes, ...] | None:
    """What stands before "pod" in a name of that branch; None for other names, and where the branch is not made up."""
    branch = _POD + zone.apex
    if zone.config.pods is not PodNames.INSECURE or not records.is_below(name, branch):
        return None
    return tuple(records.labels(name[: -len(branch)] + b"\0"))


def _is_above_pods(zone: Zone, name: bytes) -> bool:
    """Whether made-up names of pods lie below: then the name is there, and has no records (RFC 8020)."""
    labels = _pod_labels(zone, name)
    return labels is not None and len(labels) < 2


def write(zone: Zone, query: Query, decision: Decision, limit: int) -> bytes:
    """The reply, cut to `limit` bytes at a record's end; TC is set when an answer is missing."""
    room = limit - (11 if query.edns else 0)
    writer = Writer(query.name, zone.config.ttl)
    answers = _fill(writer, decision.answers, room)
    whole = answers == len(decision.answers)
    soa = _fill(writer, _soa(zone, decision), room) if whole else 0
    extra = _fill(writer, decision.extra, room) if whole else 0
    opt = _opt(zone, decision.rcode >> 4) if query.edns else b""
    ours = decision.zone is not None or (bool(decision.answers) and not decision.ask)
    flags = 0x8080 | query.flags & 0x0110 | decision.rcode & 0xF
    flags |= (0x0400 if ours else 0) | (0 if whole else 0x0200)
    counts = pack("!HHHHH", flags, 1, answers, soa, extra + bool(opt))
    return query.id + counts + query.question + bytes(writer.out) + opt


def _fill(writer: Writer, wanted: Sequence[Record], room: int) -> int:
    """Write as many records as fit, and say how many."""
    for count, record in enumerate(wanted):
        before = writer.size
        writer.record(record)
        if writer.size > room:
            writer.cut(before)
            return count
    return len(wanted)


def _soa(zone: Zone, decision: Decision) -> tuple[Record, ...]:
    if not decision.negative or decision.zone is None:
        return ()
    return (zone.names[decision.zone])[Type.SOA]


def finish(zone: Zone, forward: Forward, packet: bytes | None) -> bytes:
    """The reply after an upstream server was asked; None is its silence.

    A query that it got as a whole is passed back as it is; behind an alias of ours its records follow the alias."""
    query, decision = forward.query, forward.decision
    silent = Decision(Rcode.SERVFAIL, reason=Reason.UPSTREAM_SILENT)
    if packet is None:
        return write(zone, query, silent, forward.limit)
    if not decision.answers:
        return query.id + packet[2:]
    try:
        answered = wire.read_answer(packet)
        rcode = Rcode(answered.rcode)
    except (wire.Malformed, ValueError):
        return write(zone, query, silent, forward.limit)
    joined = replace(decision, rcode=rcode, answers=decision.answers + answered.records)
    return write(zone, query, joined, forward.limit)


def _limit(zone: Zone, query: Query) -> int:
    return min(query.edns.size, zone.config.udp_size) if query.edns else _PLAIN_SIZE


def _opt(zone: Zone, extended_rcode: int) -> bytes:
    return _OPT_START + pack("!HBBHH", zone.config.udp_size, extended_rcode, 0, 0, 0)


def _refusal(packet: bytes, rcode: Rcode) -> bytes:
    """A reply to what could not be read: its header alone, with opcode and RD as they came."""
    return packet[:2] + bytes((0x80 | packet[2] & 0x79, 0x80 | rcode)) + b"\0\0\0\0\0\0\0\0"
