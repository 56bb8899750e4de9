"""Set elements as bytes: the hot path of every sync.

Ten thousand elements are one change of a large cluster, so the pieces that repeat (attribute headers, verdicts,
comments, ports) are made once and joined. Called by `wire` only. In a plain set an element is one entry; in an interval
set of one field it is two, the first address and the one past the last; in an interval set of several fields it is one
entry with two keys.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator

from portway.netlink import codec
from portway.nft import constants as c
from portway.nft.expressions import data, verdict_data
from portway.nft.tables import Element, Family, Key, Set, Value, Verdict, VerdictKind
from portway.nft.udata import comment_udata
from portway.nft.values import FORMS, Form, first, last

_MAX_NESTED = 0xFFFF - 8  # an attribute's length holds 16 bits
_PAIR = struct.Struct("=HH")
_NESTED_ELEMENT = c.NFTA_LIST_ELEM | codec.NLA_F_NESTED
_END = codec.be32(c.NFTA_SET_ELEM_FLAGS, c.NFT_SET_ELEM_INTERVAL_END)


def encode_elements(family: Family, s: Set, items: Iterable[tuple[Key, Element]]) -> Iterator[bytes]:
    """The entries that add `items`. Raises KeyError, ValueError or the like for a value of another type than the set's."""
    forms = [FORMS[family][t] for t in s.key]
    notes = _Notes()
    values = _Values(family, s)
    if s.interval and len(forms) == 1:
        yield from ranges(forms[0], ((_only(k), values.of(e), notes[e.comment]) for k, e in items))
        return
    if s.interval:
        for key, element in items:
            yield entry(_both_ends(forms, key), values.of(element), notes[element.comment])
        return
    head, join = _head(c.NFTA_SET_ELEM_KEY, forms), _joiner(forms)
    pack, of = _PAIR.pack, values.of
    for key, element in items:
        body = head + join(key) + of(element) + notes[element.comment]
        yield pack(4 + len(body), _NESTED_ELEMENT) + body


def _only(key: Key) -> Value:
    (value,) = key
    return value


def _joiner(forms: list[Form]) -> Callable[[Key], bytes]:
    """The bytes of a key or value. Each form pads to whole registers, which is how attributes are padded, too.

    Raises ValueError for too many or too few values, and for an address of the other family."""
    encoders = [form.encode for form in forms]
    size = sum(form.padded for form in forms)

    def checked(raw: bytes, values: Key) -> bytes:
        if len(raw) != size:
            raise ValueError(f"{values} has an address of the other family")
        return raw

    def of_two(values: Key) -> bytes:
        a, b = values
        return checked(encode_a(a) + encode_b(b), values)

    def of_three(values: Key) -> bytes:
        a, b, c_ = values
        return checked(encode_a(a) + encode_b(b) + encode_c(c_), values)

    def of_any(values: Key) -> bytes:
        return checked(b"".join([f(v) for f, v in zip(encoders, values, strict=True)]), values)

    encode_a, encode_b, encode_c = (encoders * 3)[:3]
    return {2: of_two, 3: of_three}.get(len(forms), of_any)


def encode_keys(family: Family, s: Set, keys: Iterable[Key]) -> Iterator[bytes]:
    """The entries that delete `keys`: a deletion looks at nothing else."""
    return encode_elements(family, Set(s.name, s.key, interval=s.interval), ((k, _KEY_ONLY) for k in keys))


_KEY_ONLY = Element()


def _head(attribute: int, forms: list[Form]) -> bytes:
    """The two attribute headers before the bytes of a key or value."""
    padded = sum(form.padded for form in forms)
    exact = padded if len(forms) > 1 else forms[0].length
    return _PAIR.pack(8 + padded, attribute | codec.NLA_F_NESTED) + _PAIR.pack(4 + exact, c.NFTA_DATA_VALUE)


class _Values:
    """What a map's key stands for, as an attribute; verdicts are remembered."""

    def __init__(self, family: Family, s: Set) -> None:
        forms = [FORMS[family][t] for t in s.value if t in FORMS[family]]
        self._head = _head(c.NFTA_SET_ELEM_DATA, forms) if forms else b""
        self._join = _joiner(forms) if forms else None
        self._verdicts: dict[str, bytes] = {}  # by chain: hashing a verdict costs more than the rest of an element

    def of(self, element: Element) -> bytes:
        value = element.value
        if value is None:
            return b""
        if isinstance(value, Verdict):
            return self._verdict(value)
        if self._join is None:
            raise ValueError(f"{value} is not a value of this set")
        return self._head + self._join(value)

    def _verdict(self, verdict: Verdict) -> bytes:
        if verdict.kind is not VerdictKind.GOTO:
            return verdict_data(c.NFTA_SET_ELEM_DATA, verdict)
        known = self._verdicts.get(verdict.chain)
        if known is None:
            known = self._verdicts[verdict.chain] = verdict_data(c.NFTA_SET_ELEM_DATA, verdict)
        return known


class _Notes(dict[str, bytes]):
    """Comments as userdata attributes, remembered: many elements have the same origin."""

    def __missing__(self, comment: str) -> bytes:
        note = codec.attr(c.NFTA_SET_ELEM_USERDATA, comment_udata(comment)) if comment else b""
        self[comment] = note
        return note


def key(form: Form, value: Value) -> bytes:
    """The key attribute of a set of one field."""
    return data(c.NFTA_SET_ELEM_KEY, form.encode(value)[: form.length])


def entry(*attributes: bytes) -> bytes:
    return codec.nested(c.NFTA_LIST_ELEM, *attributes)


def ranges(form: Form, items: Iterable[tuple[Value, bytes, bytes]]) -> Iterator[bytes]:
    """Two entries for each (address or network, data, note): its first address, and the one past its last.

    Nothing is past the highest address of all: such a range has no second entry."""
    for value, attached, note in items:
        yield entry(key(form, first(value)), attached, note)
        end = int.from_bytes(form.encode(last(value))[: form.length], "big") + 1
        if end < 1 << (8 * form.length):
            yield entry(data(c.NFTA_SET_ELEM_KEY, end.to_bytes(form.length, "big")), _END)


def _both_ends(forms: list[Form], values: Key) -> bytes:
    join = _joiner(forms)
    low, high = join(tuple(first(v) for v in values)), join(tuple(last(v) for v in values))
    return data(c.NFTA_SET_ELEM_KEY, low) + data(c.NFTA_SET_ELEM_KEY_END, high)


def chunks(entries: Iterable[bytes]) -> Iterator[bytes]:
    """Entries joined to what one message can hold. What one caller gives stays in order."""
    waiting: list[bytes] = []
    size = 0
    for one in entries:
        if size + len(one) > _MAX_NESTED:
            yield b"".join(waiting)
            waiting, size = [], 0
        waiting.append(one)
        size += len(one)
    if waiting:
        yield b"".join(waiting)
