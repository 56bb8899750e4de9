"""Userdata: what nft keeps beside tables, sets, rules and elements so that it can print them as they were written.

The kernel only stores it. It is a list of (type, length, value) with one byte for each of the first two; it holds the
comments, the byte order of a set's key and, where a type has no name in the grammar, the expression that yields it
(`typeof`). Written by `wire` and `elements`, read by `decode`.
"""

from __future__ import annotations

import struct

from portway.nft import constants as c
from portway.nft.tables import Family, Field, Set, Type


def udata(type_: int, value: bytes) -> bytes:
    return bytes((type_, len(value))) + value


def comment_udata(comment: str, type_: int = c.UDATA_COMMENT) -> bytes:
    """A comment as nft stores it. Raises ValueError beyond the 128 bytes that nft reads back."""
    raw = comment.encode()
    if len(raw) > 127:
        raise ValueError(f"comment {comment!r} is longer than 127 bytes; shorten the name that it is made of")
    return udata(type_, raw + b"\0")


def comment_of(data: bytes | None, type_: int = c.UDATA_COMMENT) -> str:
    """The comment in an object's userdata; empty when there is none."""
    offset = 0
    while data and offset + 2 <= len(data):
        kind, length = data[offset], data[offset + 1]
        if kind == type_:
            return data[offset + 2 : offset + 2 + length].rstrip(b"\0").decode(errors="replace")
        offset += 2 + length
    return ""


def set_udata(family: Family, s: Set) -> bytes:
    """What nft keeps beside a set: the byte orders, by `typeof` what the types cannot say, and the comment."""
    parts = [udata(c.UDATA_SET_KEYBYTEORDER, _host32(_byte_order(s.key)))]
    if s.value:
        parts.append(udata(c.UDATA_SET_DATABYTEORDER, _host32(_byte_order(s.value))))
    if Type.SLOT in s.key or Type.SLOT in s.value:
        parts.append(udata(c.UDATA_SET_KEY_TYPEOF, _typeof(family, s.key)))
        if s.value and s.value != (Type.VERDICT,):
            parts.append(udata(c.UDATA_SET_DATA_TYPEOF, _typeof(family, s.value)))
    if s.comment:
        parts.append(comment_udata(s.comment, c.UDATA_SET_COMMENT))
    return b"".join(parts)


def key_order_udata(field: Field) -> bytes:
    """The byte order of a rule's own set: without it nft prints marks and names reversed."""
    host = field.type not in (Type.ADDR, Type.PORT, Type.PROTO)
    return udata(c.UDATA_SET_KEYBYTEORDER, _host32(c.BYTEORDER_HOST if host else c.BYTEORDER_BIG))


def _host32(number: int) -> bytes:
    return struct.pack("=I", number)


def _byte_order(types: tuple[Type, ...]) -> int:
    if len(types) > 1 or types == (Type.VERDICT,):
        return c.BYTEORDER_MIXED
    return c.BYTEORDER_HOST if types[0] in (Type.MARK, Type.SLOT, Type.IFNAME) else c.BYTEORDER_BIG


def _typeof(family: Family, types: tuple[Type, ...]) -> bytes:
    if len(types) == 1:
        return _typeof_one(family, types[0])
    inner = b"".join(udata(i, _typeof_one(family, t)) for i, t in enumerate(types))
    return udata(c.UDATA_TYPEOF_EXPR, _host32(c.EXPR_CONCAT)) + udata(c.UDATA_TYPEOF_DATA, inner)


def _typeof_one(family: Family, type_: Type) -> bytes:
    """nft's own numbers: payload (header, field), meta (key), numgen (type, modulus, offset)."""
    daddr = (12, 12) if family is Family.IP else (13, 9)
    expressions: dict[Type, tuple[int, tuple[int, ...]]] = {
        Type.ADDR: (c.EXPR_PAYLOAD, daddr),
        Type.PORT: (c.EXPR_PAYLOAD, (11, 2)),
        Type.PROTO: (c.EXPR_META, (c.NFT_META_L4PROTO,)),
        Type.MARK: (c.EXPR_META, (c.NFT_META_MARK,)),
        Type.IFNAME: (c.EXPR_META, (c.NFT_META_IIFNAME,)),
        Type.SLOT: (c.EXPR_NUMGEN, (c.NFT_NG_RANDOM, 2, 0)),
    }
    kind, numbers = expressions[type_]
    inner = b"".join(udata(i, _host32(n)) for i, n in enumerate(numbers))
    return udata(c.UDATA_TYPEOF_EXPR, _host32(kind)) + udata(c.UDATA_TYPEOF_DATA, inner)
