"""Whatever is sent, the answer is an object or a Status with a code below 500: nothing here may surprise the server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from build_apiserver import Served, serving
from portway.objects.kinds import (
    CONFIG_MAP,
    DEPLOYMENT,
    ENDPOINT_SLICE,
    ENDPOINTS,
    EVENT,
    KINDS,
    LEASE,
    NAMESPACE,
    NODE,
    POD,
    REPLICA_SET,
    SECRET,
    SERVICE,
    Kind,
)

TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}
TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
WORKLOAD = {"spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": TEMPLATE}}
GOOD: dict[str, dict[str, Any]] = {
    NAMESPACE.plural: {},
    NODE.plural: {"spec": {"podCIDR": "10.0.1.0/24"}},
    POD.plural: {"spec": TEMPLATE["spec"]},
    SERVICE.plural: {"spec": {"type": "NodePort", "selector": {"a": "b"}, "ports": [{"port": 80}]}},
    ENDPOINTS.plural: {"subsets": [{"addresses": [{"ip": "10.0.1.2"}], "ports": [{"port": 80}]}]},
    CONFIG_MAP.plural: {"data": {"a": "b"}},
    SECRET.plural: {"data": {"a": "MQ=="}},
    EVENT.plural: {
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
        "reason": "R",
        "type": "Normal",
    },
    DEPLOYMENT.plural: WORKLOAD,
    REPLICA_SET.plural: WORKLOAD,
    ENDPOINT_SLICE.plural: {"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.1.2"]}], "ports": [{"port": 80}]},
    LEASE.plural: {"spec": {"holderIdentity": "a"}},
}
VALUES: list[Any] = [None, [], {}, "text", 7, -1, True, [None], [{}], {"x": None}]


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as served:
        yield served


def paths(value: Any, here: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every place in an object, as a path of keys and indices."""
    found = [here] if here else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        found += paths(part, (*here, str(key)))
    return found


async def create(api: Served, kind: Kind) -> str:
    collection = kind.path("default")
    await api.create(collection, {"metadata": {"name": "x"}, **GOOD[kind.plural]})
    return f"{collection}/x"


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.plural)
async def test_any_place_may_hold_anything_when_created(api: Served, kind: Kind) -> None:
    good = {"metadata": {"name": "x"}, **GOOD[kind.plural]}
    for i, path in enumerate(paths(good)):
        for j, value in enumerate(VALUES):
            body = replaced(good, path, value)
            answer = await api.call("POST", kind.path("default") + "?dryRun=All", body)
            assert answer.code in (201, 400, 404, 409, 422), (path, value, i, j, answer.body)


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.plural)
async def test_any_place_may_be_patched_with_anything(api: Served, kind: Kind) -> None:
    """The object and its table must be there to be read after each patch that was accepted."""
    where = await create(api, kind)
    live = (await api.get(where)).body
    for path in paths({k: v for k, v in live.items() if k not in ("apiVersion", "kind")}):
        for value in VALUES:
            pointer = "/" + "/".join(p.replace("~", "~0").replace("/", "~1") for p in path)
            operation = {"op": "replace", "path": pointer, "value": value}
            answer = await api.patch(where + "?dryRun=All", [operation], "json-patch+json")
            assert answer.code in (200, 400, 409, 422), (path, value, answer.body)
            if not any(p.isdigit() for p in path):
                nested = value
                for key in reversed(path):
                    nested = {key: nested}
                for form in ("merge-patch+json", "strategic-merge-patch+json"):
                    answer = await api.patch(where + "?dryRun=All", nested, form)
                    assert answer.code in (200, 400, 409, 422), (form, path, value, answer.body)


@pytest.mark.parametrize("kind", [k for k in KINDS if "status" in k.subresources], ids=lambda k: k.plural)
async def test_a_strange_status_can_still_be_listed(api: Served, kind: Kind) -> None:
    where = await create(api, kind)
    fields = ("conditions", "containerStatuses", "loadBalancer", "addresses", "nodeInfo", "replicas", "phase", "podIPs")
    for field in fields:
        for value in VALUES:
            answer = await api.patch(where + "/status", {"status": {field: value}})
            assert answer.code in (200, 400, 422), (field, value, answer.body)
            assert (await api.get(kind.path("default"), headers=TABLE)).code == 200, (field, value)


async def test_a_negative_number_of_replicas_is_refused(api: Served) -> None:
    where = await create(api, DEPLOYMENT)
    assert (await api.patch(where + "/status", {"status": {"replicas": -1}})).code == 422


def replaced(value: Any, path: tuple[str, ...], new: Any) -> Any:
    """A copy with another value at one place."""
    if not path:
        return new
    head, rest = path[0], path[1:]
    if isinstance(value, list):
        return [replaced(v, rest, new) if str(i) == head else v for i, v in enumerate(value)]
    return {k: replaced(v, rest, new) if k == head else v for k, v in value.items()}


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b'"x"', b"\xff\xfe", b"k8s\x00\xff", b"{}" * 2, b"[" * 5000])
@pytest.mark.parametrize(
    "media", ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "text/html"]
)
async def test_any_bytes_may_be_sent(api: Served, body: bytes, media: str) -> None:
    collection = CONFIG_MAP.path("default")
    for method, path in (("POST", collection), ("PUT", f"{collection}/x"), ("DELETE", f"{collection}/x")):
        answer = await api.call(method, path, body, headers={"Content-Type": media})
        assert answer.code in (400, 404, 415, 422), (method, answer.code, answer.body)
