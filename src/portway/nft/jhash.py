"""Jenkins' hash as the kernel's `jhash` computes it, so that the walk can say which slot a connection falls into.

`nft_hash` hashes the registers that hold its fields and scales the 32-bit result to 0 … mod-1 by multiplication
(include/linux/jhash.h, include/linux/kernel.h reciprocal_scale). Called by `walk`; the agreement with the kernel is a
test with real packets.
"""

from __future__ import annotations

_WORD = 0xFFFFFFFF
_START = 0xDEADBEEF


def slot(data: bytes, mod: int, seed: int) -> int:
    """The number from 0 to mod-1 that the kernel finds for the registers `data`."""
    return jhash(data, seed) * mod >> 32


def jhash(data: bytes, seed: int) -> int:
    """lookup3 over bytes, with words in little-endian order as on every machine that the kernel's byte loop serves."""
    a = b = c = (_START + len(data) + seed) & _WORD
    while len(data) > 12:
        a, b, c = _mix((a + _word(data, 0)) & _WORD, (b + _word(data, 4)) & _WORD, (c + _word(data, 8)) & _WORD)
        data = data[12:]
    if not data:
        return c
    rest = data.ljust(12, b"\0")
    return _final((a + _word(rest, 0)) & _WORD, (b + _word(rest, 4)) & _WORD, (c + _word(rest, 8)) & _WORD)


def _word(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 4], "little")


def _rotated(x: int, by: int) -> int:
    return (x << by | x >> (32 - by)) & _WORD


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    for by in (4, 6, 8, 16, 19, 4):
        a = (a - c & _WORD) ^ _rotated(c, by)
        c = c + b & _WORD
        a, b, c = b, c, a  # the next step does the same with the letters moved on
    return a, b, c


def _final(a: int, b: int, c: int) -> int:
    for by in (14, 11, 25, 16, 4, 14, 24):
        c = (c ^ b) - _rotated(b, by) & _WORD
        a, b, c = b, c, a
    return b
