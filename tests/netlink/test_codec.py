"""Messages and attributes are read back as they were written, and what is cut off is an error."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.netlink import codec

TYPES = st.integers(1, codec.NLA_TYPE_MASK)


@given(st.lists(st.tuples(TYPES, st.binary(max_size=50))))
def test_attributes_come_back_in_order(items: list[tuple[int, bytes]]) -> None:
    data = b"".join(codec.attr(t, payload) for t, payload in items)
    assert list(codec.attributes(data)) == items
    assert len(data) % 4 == 0


@given(
    st.lists(st.tuples(st.integers(16, 65535), st.integers(0, 65535), st.integers(0, 2**32 - 1), st.binary(max_size=9)))
)
def test_messages_come_back_in_order(items: list[tuple[int, int, int, bytes]]) -> None:
    padded = [(t, f, s, body + bytes(-len(body) & 3)) for t, f, s, body in items]
    data = b"".join(codec.message(*item) for item in padded)
    assert [tuple(m) for m in codec.messages(data)] == padded


@given(TYPES, st.lists(st.tuples(TYPES, st.binary(max_size=20)), max_size=5))
def test_a_nested_attribute_holds_attributes(outer: int, items: list[tuple[int, bytes]]) -> None:
    (found,) = codec.attributes(codec.nested(outer, *(codec.attr(t, p) for t, p in items)))
    assert found[0] == outer
    assert list(codec.attributes(found[1])) == items


@given(st.integers(0, 255), st.integers(0, 65535), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1))
def test_numbers_have_the_width_and_order_that_their_name_says(a: int, b: int, c: int, d: int) -> None:
    def value(data: bytes) -> bytes:
        return codec.attribute_map(data)[1]

    assert value(codec.u8(1, a)) == bytes([a])
    assert struct.unpack("=H", value(codec.u16(1, b))) == (b,)
    assert struct.unpack("=I", value(codec.u32(1, c))) == (c,)
    assert value(codec.be16(1, b)) == b.to_bytes(2, "big")
    assert value(codec.be32(1, c)) == c.to_bytes(4, "big")
    assert value(codec.be64(1, d)) == d.to_bytes(8, "big")


def test_a_string_ends_with_zero_and_is_padded() -> None:
    assert codec.text(3, "eth0") == struct.pack("=HH", 9, 3) + b"eth0\0" + bytes(3)


def test_of_a_repeated_attribute_the_last_stays() -> None:
    assert codec.attribute_map(codec.u8(1, 5) + codec.u8(1, 6)) == {1: b"\6"}


def test_reading_may_begin_after_a_family_header() -> None:
    assert codec.attribute_map(b"head" + codec.u8(1, 5), 4) == {1: b"\5"}


@pytest.mark.parametrize("length", [0, 3])
def test_an_attribute_shorter_than_its_header_is_an_error(length: int) -> None:
    with pytest.raises(ValueError, match="shorter than its header"):
        list(codec.attributes(struct.pack("=HHI", length, 1, 0)))


@pytest.mark.parametrize("cut", [1, 4, 5])
def test_an_attribute_that_is_cut_off_is_an_error(cut: int) -> None:
    with pytest.raises(ValueError, match="cut off"):
        list(codec.attributes(codec.attr(1, b"12345678")[:-cut]))


def test_a_message_shorter_than_its_header_is_an_error() -> None:
    with pytest.raises(ValueError, match="shorter than its header"):
        list(codec.messages(struct.pack("=IHHII", 15, 1, 0, 0, 0)))


def test_a_message_that_is_cut_off_is_an_error() -> None:
    with pytest.raises(ValueError, match="cut off"):
        list(codec.messages(codec.message(20, 0, 1, b"12345678")[:-4]))


@given(st.integers(65532, 70000))
def test_an_attribute_too_long_for_its_length_field_is_an_error(size: int) -> None:
    with pytest.raises(ValueError, match="65,531"):
        codec.attr(1, bytes(size))
