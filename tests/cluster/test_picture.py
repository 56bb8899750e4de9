"""A picture after changes is the picture of the changed cluster, and names the Services that were touched."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from build_proxy import changes, endpoint, picture, port, service, slice_of
from portway.cluster.origin import Origin
from portway.cluster.picture import Changes, Picture, service_of
from portway.objects.core import Node
from portway.objects.discovery import EndpointSlice
from portway.objects.meta import ObjectMeta

WEB, API = service("shop/web"), service("shop/api", "10.3.240.10")
WEB_SLICE = slice_of("shop/web", endpoint("10.0.1.2"))


def test_a_slice_is_found_by_its_service() -> None:
    seen = picture(WEB, WEB_SLICE, slice_of("shop/web", endpoint("10.0.2.2"), suffix="def"), slice_of("shop/api"))
    assert set(seen.slices_of("shop/web")) == {"shop/web-abc", "shop/web-def"}
    assert set(seen.slices_of("shop/api")) == {"shop/api-abc"}
    assert seen.slices_of("shop/none") == {}


def test_the_same_name_in_another_namespace_is_another_service() -> None:
    seen = picture(slice_of("shop/web"), slice_of("test/web"))
    assert set(seen.slices_of("shop/web")) == {"shop/web-abc"}


def test_a_slice_may_come_before_its_service() -> None:
    seen = picture(WEB_SLICE).changed(changes(WEB)).picture
    assert set(seen.slices_of("shop/web")) == {"shop/web-abc"}


@pytest.mark.parametrize(
    ("sentence", "happened", "touched"),
    [
        ("a Service changes", changes(service("shop/web", "10.3.240.9", port(81))), {"shop/web"}),
        ("a Service goes", Changes(services={"shop/web": None}), {"shop/web"}),
        ("a Service comes", changes(service("shop/new", "10.3.240.11")), {"shop/new"}),
        ("an endpoint comes", changes(slice_of("shop/web", endpoint("10.0.1.3"))), {"shop/web"}),
        ("a slice goes", Changes(slices={"shop/web-abc": None}), {"shop/web"}),
        ("nothing is new", changes(WEB, WEB_SLICE), set()),
        ("what nobody knew goes", Changes(services={"a/b": None}, slices={"a/b-c": None}), set()),
    ],
)
def test_touched(sentence: str, happened: Changes, touched: set[str]) -> None:
    step = picture(WEB, API, WEB_SLICE).changed(happened)
    assert step.touched == touched, sentence


def test_a_slice_that_moves_to_another_service_touches_both() -> None:
    moved = EndpointSlice(
        metadata=ObjectMeta(name="web-abc", namespace="shop", labels={"kubernetes.io/service-name": "api"})
    )
    step = picture(WEB, API, WEB_SLICE).changed(changes(moved))
    assert step.touched == {"shop/web", "shop/api"}
    assert step.picture.slices_of("shop/web") == {}
    assert set(step.picture.slices_of("shop/api")) == {"shop/web-abc"}


def test_a_slice_without_the_label_belongs_to_nobody() -> None:
    orphan = EndpointSlice(metadata=ObjectMeta(name="web-abc", namespace="shop"))
    assert service_of(orphan) is None
    step = picture(WEB, WEB_SLICE).changed(changes(orphan))
    assert step.touched == {"shop/web"}
    assert step.picture.slices_of("shop/web") == {}


def test_nodes_are_kept() -> None:
    node = Node(metadata=ObjectMeta(name="node-1"))
    seen = Picture().changed(Changes(nodes={"node-1": node}))
    assert seen.picture.nodes == {"node-1": node}
    assert not seen.touched
    assert seen.picture.changed(Changes(nodes={"node-1": None})).picture.nodes == {}


def test_the_picture_before_stays_as_it_was() -> None:
    before = picture(WEB, WEB_SLICE)
    before.changed(Changes(services={"shop/web": None}, slices={"shop/web-abc": None}))
    assert before.services == {"shop/web": WEB}
    assert before.slices_of("shop/web") == {"shop/web-abc": WEB_SLICE}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["web", "api", None]), st.integers(2, 5))))
def test_one_by_one_or_all_at_once_is_the_same(steps: list[tuple[str, str | None, int]]) -> None:
    """Each step puts a slice under a Service, or removes it."""
    seen = Picture()
    now: dict[str, EndpointSlice | None] = {}
    for suffix, owner, last in steps:
        made = EndpointSlice(
            metadata=ObjectMeta(name=suffix, namespace="shop", labels={"kubernetes.io/service-name": owner or ""}),
            endpoints=(endpoint(f"10.0.1.{last}"),),
        )
        now[f"shop/{suffix}"] = made if owner else None
        seen = seen.changed(Changes(slices={f"shop/{suffix}": now[f"shop/{suffix}"]})).picture
    assert seen == Picture().changed(Changes(slices=now)).picture


def test_an_origin_reads_as_a_place_in_a_manifest() -> None:
    assert str(Origin("Service", "shop/web", "spec.ports[0]")) == "Service shop/web spec.ports[0]"
    assert str(Origin("Node", "node-1")) == "Node node-1"
