"""Single requests: what is sent, what comes back as structs, and every way to fail."""

from __future__ import annotations

import logging
import ssl
import types
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from build_certificates import make_certificates
from fake_api import FakeApi, fake_api
from portway.client import ApiError, Client, Config, PatchType, Select, Unreachable, kind_of
from portway.client.wire import Undecodable, decoder, encode
from portway.objects.apps import Deployment
from portway.objects.core import ConfigMap, Namespace, Node, Pod
from portway.objects.meta import Object, ObjectMeta

Served = tuple[FakeApi, Client]


@asynccontextmanager
async def serving(
    handle: Callable[[web.Request], Awaitable[web.Response]], tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with fake_api() as made:
        yield made


async def test_create_get_replace_delete(served: Served) -> None:
    api, client = served
    made = await client.create(ConfigMap, {"metadata": {"name": "a"}, "data": {"k": "1"}}, "shop")
    assert (made.ref, made.data) == ("shop/a", {"k": "1"})
    assert (await client.get(ConfigMap, "a", "shop")).data == {"k": "1"}
    struct = ConfigMap(metadata=ObjectMeta(name="a", namespace="shop"), data={"k": "2"})
    assert (await client.replace(ConfigMap, struct)).data == {"k": "2"}
    await client.delete(ConfigMap, "a", "shop")
    with pytest.raises(ApiError) as raised:
        await client.get(ConfigMap, "a", "shop")
    assert (raised.value.code, raised.value.reason, raised.value.not_found) == (404, "NotFound", True)
    assert "/api/v1/namespaces/shop/configmaps/a" in {path for _, path in api.requests}


async def test_a_struct_is_sent_with_its_type_and_to_its_own_namespace(served: Served) -> None:
    api, client = served
    await client.create(ConfigMap, ConfigMap(metadata=ObjectMeta(name="a", namespace="shop")))
    assert api.objects["configmaps", "shop", "a"]["kind"] == "ConfigMap"
    assert api.objects["configmaps", "shop", "a"]["apiVersion"] == "v1"


async def test_patching_the_object_and_its_status(served: Served) -> None:
    _, client = served
    await client.create(Pod, {"metadata": {"name": "p"}, "spec": {}}, "shop")
    pod = await client.patch(Pod, "p", {"metadata": {"labels": {"a": "b"}}}, "shop")
    assert pod.labels == {"a": "b"}
    pod = await client.patch_status(Pod, "p", {"status": {"phase": "Running"}}, "shop")
    assert pod.status.phase == "Running"


async def test_binding_and_a_precondition(served: Served) -> None:
    _, client = served
    pod = await client.create(Pod, {"metadata": {"name": "p"}, "spec": {}}, "shop")
    await client.bind("p", "shop", "node-1", uid=pod.metadata.uid)
    assert (await client.get(Pod, "p", "shop")).spec.node_name == "node-1"
    with pytest.raises(ApiError) as raised:
        await client.delete(Pod, "p", "shop", uid="another")
    assert raised.value.retryable, "a conflict: read again"


async def test_a_list_is_read_in_pages(served: Served) -> None:
    api, client = served
    for n in range(7):
        await client.create(Node, {"metadata": {"name": f"n{n}"}})
    listed = await client.list(Node, page=3)
    assert [n.name for n in listed.items] == [f"n{n}" for n in range(7)]
    assert listed.resource_version == str(api.version)
    assert sum("limit=3" in path for _, path in api.requests) == 3


async def test_what_the_requests_look_like() -> None:
    seen: list[tuple[str, str, str, str]] = []

    async def handle(request: web.Request) -> web.Response:
        body = (await request.read()).decode()
        seen.append((request.method, request.path_qs, request.content_type, body))
        return web.json_response({"kind": "Deployment", "metadata": {"name": "web"}})

    async with serving(handle) as url, Client(Config(url)) as client:
        await client.patch(Deployment, "web", {"a": 1}, "shop", type=PatchType.APPLY, field_manager="me", force=True)
        await client.patch(Deployment, "web", [{"op": "remove", "path": "/x"}], "shop", type=PatchType.JSON)
        await client.patch(Deployment, "web", {}, "shop", type=PatchType.STRATEGIC, subresource="scale")
        await client.delete(Deployment, "web", "shop", grace_seconds=0, propagation="Foreground", uid="u")
        await client.evict("p", "shop", grace_seconds=1)
        await client.finalize(Namespace(metadata=ObjectMeta(name="shop")))
        await client.list(Deployment, Select("shop", labels="a=b", fields="metadata.name=x"), resource_version="0")
    base = "/apis/apps/v1/namespaces/shop/deployments"
    assert [(m, p, t) for m, p, t, _ in seen] == [
        ("PATCH", f"{base}/web?fieldManager=me&force=true", "application/apply-patch+yaml"),
        ("PATCH", f"{base}/web", "application/json-patch+json"),
        ("PATCH", f"{base}/web/scale", "application/strategic-merge-patch+json"),
        ("DELETE", f"{base}/web", "application/json"),
        ("POST", "/api/v1/namespaces/shop/pods/p/eviction", "application/json"),
        ("PUT", "/api/v1/namespaces/shop/finalize", "application/json"),
        ("GET", f"{base}?labelSelector=a%3Db&fieldSelector=metadata.name%3Dx&limit=500&resourceVersion=0",
         "application/octet-stream"),
    ]  # fmt: skip
    assert '"gracePeriodSeconds":0,"propagationPolicy":"Foreground","preconditions":{"uid":"u"}' in seen[3][3]


@pytest.mark.parametrize(
    ("code", "reason", "retryable"),
    [(409, "Conflict", True), (409, "AlreadyExists", False), (422, "Invalid", False), (503, "ServiceUnavailable", True),
     (429, "TooManyRequests", True), (403, "Forbidden", False), (500, "InternalError", True)],
)  # fmt: skip
async def test_errors_carry_the_status(served: Served, code: int, reason: str, retryable: bool) -> None:
    api, client = served
    api.fail_next.append(("GET", code, reason))
    with pytest.raises(ApiError) as raised:
        await client.get(Node, "n")
    error = raised.value
    assert (error.code, error.reason, error.retryable) == (code, reason, retryable)
    assert error.already_exists is (reason == "AlreadyExists")
    assert error.message == f"{reason} as the test wants it"


async def test_an_error_without_a_status_still_says_something() -> None:
    async def handle(request: web.Request) -> web.Response:
        return web.Response(status=502, text="bad gateway from a proxy")

    async with serving(handle) as url, Client(Config(url)) as client:
        with pytest.raises(ApiError, match="502 Unknown: bad gateway from a proxy"):
            await client.get(Node, "n")


async def test_no_server_is_unreachable_and_names_the_address() -> None:
    async with Client(Config("http://127.0.0.1:1")) as client:
        with pytest.raises(Unreachable, match=r"GET /api/v1/nodes/n of http://127.0.0.1:1"):
            await client.get(Node, "n")


async def test_tls_with_a_client_certificate_and_a_stranger(tmp_path: Path) -> None:
    files = make_certificates(tmp_path)

    async def handle(request: web.Request) -> web.Response:
        certificate = request.transport.get_extra_info("peercert") if request.transport else {}
        subject = {k: v for pairs in certificate["subject"] for k, v in pairs}
        return web.json_response({"metadata": {"name": subject["commonName"]}})

    async with serving(handle, files.server_context()) as url:
        trusted = Config(url, str(files.ca), str(files.client), str(files.client_key))
        async with Client(trusted) as client:
            assert (await client.get(Node, "n")).name == "admin"
        async with Client(Config(url)) as client:
            with pytest.raises(Unreachable, match="certificate"):
                await client.get(Node, "n")


async def test_the_token_is_sent_and_never_logged(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    api, client = served
    api.fail_next.append(("GET", 500, "InternalError"))
    with caplog.at_level(logging.DEBUG), pytest.raises(ApiError) as raised:
        await client.get(Node, "n")
    assert "a-secret-token" not in caplog.text + str(raised.value) + repr(client.config)


def test_unknown_fields_are_skipped_and_nulls_are_absent() -> None:
    text = b"""{"kind":"Pod","metadata":{"name":"p","namespace":null,"labels":null,"managedFields":[{"x":1}]},
               "spec":{"containers":null,"tomorrow":{"a":[1]},"restartPolicy":null},"status":null}"""
    pod = decoder(Pod)(text)
    assert (pod.name, pod.namespace, pod.spec.containers, pod.spec.restart_policy) == ("p", "", (), "Always")


@pytest.mark.parametrize("text", [b'{"metadata":{"name":7}}', b"{", b"[]"])
def test_what_does_not_fit_is_undecodable(text: bytes) -> None:
    with pytest.raises(Undecodable):
        decoder(Pod)(text)


def test_an_apply_body_keeps_what_it_says_of_itself() -> None:
    assert encode({"kind": "X"}, kind_of(Pod)) == b'{"kind":"X"}'
    assert encode({}, kind_of(Deployment)) == b'{"apiVersion":"apps/v1","kind":"Deployment"}'


def test_a_struct_whose_kind_is_not_declared() -> None:
    nothing: type[Object] = types.new_class("Nothing", (Object,), {}, lambda body: body.update(KIND="Nothing"))
    with pytest.raises(LookupError, match="add a row"):
        kind_of(nothing)


def test_every_struct_finds_its_declaration() -> None:
    assert kind_of(Deployment).path("shop", "web") == "/apis/apps/v1/namespaces/shop/deployments/web"
