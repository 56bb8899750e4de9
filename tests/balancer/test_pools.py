"""Where addresses come from: what a range is, which addresses a pool gives out, and which pools cannot be."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from portway.balancer.pools import DEFAULT_POOLS, Pool, PoolError, checked, parse_range, pool


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("203.0.113.0/24", "203.0.113.0", "203.0.113.255"),
        ("203.0.113.10-203.0.113.20", "203.0.113.10", "203.0.113.20"),
        (" 203.0.113.10 - 203.0.113.20 ", "203.0.113.10", "203.0.113.20"),
        ("203.0.113.7", "203.0.113.7", "203.0.113.7"),
        ("2001:db8::/126", "2001:db8::", "2001:db8::3"),
    ],
)
def test_a_range(text: str, first: str, last: str) -> None:
    found = parse_range(text)
    assert (str(found.first), str(found.last)) == (first, last)


@pytest.mark.parametrize("text", ["", "here", "203.0.113.1/24", "203.0.113.9-203.0.113.1", "203.0.113.1-2001:db8::1"])
def test_what_is_no_range(text: str) -> None:
    with pytest.raises(PoolError, match="is no range"):
        parse_range(text)


def test_a_wrong_range_names_its_pool() -> None:
    with pytest.raises(PoolError, match="pool office: 'x' is no range"):
        pool("office", "x")


def test_the_default_pool_leaves_out_the_edges_and_the_edge_host() -> None:
    (public,) = DEFAULT_POOLS
    found = [str(a) for a in public]
    assert found[:2] == ["203.0.113.2", "203.0.113.3"] and found[-1] == "203.0.113.254"
    assert public.size == len(found) == 253
    for left_out in ("203.0.113.0", "203.0.113.1", "203.0.113.255", "203.0.112.9"):
        assert ip_address(left_out) not in public


def test_every_24_has_its_edges() -> None:
    wide = pool("wide", "10.0.0.254-10.0.2.1")
    assert "10.0.1.0" not in map(str, wide) and "10.0.1.255" not in map(str, wide)
    assert wide.size == 1 + 254 + 1
    assert Pool(name="all", ranges=wide.ranges, avoid_edges=False).size == 260


def test_pools_that_overlap_are_refused_with_both_names() -> None:
    one, two = pool("a", "203.0.113.0/25"), pool("b", "192.0.2.0/24", "203.0.113.100-203.0.113.200")
    with pytest.raises(PoolError, match=r"pool a overlaps .* of pool b"):
        checked([two, one])


def test_two_pools_of_one_name_are_refused() -> None:
    with pytest.raises(PoolError, match="two pools named a"):
        checked([pool("a", "192.0.2.0/24"), pool("a", "203.0.113.0/24")])


def test_the_order_is_priority_and_then_name() -> None:
    late = Pool(name="a", ranges=pool("x", "192.0.2.0/24").ranges, priority=5)
    assert [p.name for p in checked([late, pool("c", "10.0.0.0/30"), pool("b", "10.0.1.0/30")])] == ["b", "c", "a"]
