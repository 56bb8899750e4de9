"""The API server over HTTP: an aiohttp application in front of a `Store`.

    store = Store(path, KINDS)
    server = ApiServer(store, users={"token": User("admin", ("system:masters",))})
    await server.bootstrap()
    runner = server.runner()          # an aiohttp AppRunner; whoever starts it adds TLS sites and sockets

One request: who (`auth`), what (`requests`), then `rest`, `listing`, `watch`, `subresources` or `streaming`, and
`render` for the answer. Every refusal is an `ApiError` and becomes a Status here. Client certificates are asked for by
the TLS context of the site (`ssl.CERT_OPTIONAL`); the application reads the verified one from the transport.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any

import msgspec
from aiohttp import ClientConnectionError, web

from portway.apiserver import (
    accept,
    auth,
    decode,
    deletion,
    discovery,
    documents,
    expiry,
    listing,
    render,
    requests,
    subresources,
)
from portway.apiserver.allocation import AddressRange, PortRange
from portway.apiserver.auth import Attributes, User
from portway.apiserver.database import StoreFailed
from portway.apiserver.documents import JSON, json_response
from portway.apiserver.errors import ApiError, bad_request, internal, method_not_allowed, too_large
from portway.apiserver.render import Form
from portway.apiserver.requests import Target, WriteOptions, flag, number
from portway.apiserver.rest import Body, Outcome, Rest
from portway.apiserver.selectors import selection
from portway.apiserver.services import Allocator
from portway.apiserver.store import Store, Stored
from portway.apiserver.streams import NoStreams, PodStreams
from portway.apiserver.times import Clock
from portway.apiserver.watch import BOOKMARK_SECONDS, Hub, Watcher, WatchOptions

Value = dict[str, Any]

MAX_BODY = 3 * 1024 * 1024
_SERVICES = IPv4Network("10.3.240.0/20")
_NODE_PORTS = PortRange()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """`advertise` is where the Service `kubernetes` leads, None for no endpoint yet."""

    services: IPv4Network = _SERVICES
    node_ports: PortRange = _NODE_PORTS
    advertise: tuple[str, int] | None = ("10.100.0.1", 6443)
    version: str = "v1.37.0+portway"


class ApiServer:
    """`users` maps bearer tokens to users. `chance` picks names, addresses and ports (a seeded one in tests)."""

    def __init__(
        self,
        store: Store,
        *,
        config: ServerConfig | None = None,
        clock: Clock = time.time,
        users: Mapping[str, User] | None = None,
        streams: PodStreams | None = None,
        chance: random.Random | None = None,
    ) -> None:
        self.store = store
        self.config = config or ServerConfig()
        self.clock = clock
        self.users = dict(users or {})
        self.streams: PodStreams = streams or NoStreams()
        choose = (chance or random.Random()).randrange
        allocator = Allocator(AddressRange(self.config.services), self.config.node_ports, choose)
        self.rest = Rest(store, allocator=allocator, clock=clock, choose=choose)
        self.hub = Hub(store, clock=clock)

    async def bootstrap(self) -> None:
        """The objects that every cluster has: four namespaces and the Service `kubernetes`."""
        from portway.apiserver.bootstrap import ensure

        ensure(self.rest, self.config.services, self.config.advertise)
        await self.store.durable()

    def application(self) -> web.Application:
        application = web.Application(client_max_size=MAX_BODY)
        application.router.add_route("*", "/{path:.*}", self.handle)
        application.cleanup_ctx.append(self._tidying)
        application.on_shutdown.append(self._stop)
        return application

    def runner(self) -> web.AppRunner:
        """As `application`, set up so that a client that goes ends its watch at once, and a stop does not wait for watchers."""
        return web.AppRunner(self.application(), access_log=None, handler_cancellation=True, shutdown_timeout=0.3)

    async def _tidying(self, _: web.Application) -> AsyncIterator[None]:
        tidying = asyncio.create_task(expiry.forget_events(self.rest, self.clock))
        yield
        tidying.cancel()
        with suppress(asyncio.CancelledError):
            await tidying

    async def _stop(self, _: web.Application) -> None:
        self.hub.end_all()

    # one request

    async def handle(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._route(request)
        except ApiError as error:
            return _failure(error)
        except web.HTTPRequestEntityTooLarge:
            return _failure(too_large(MAX_BODY))
        except StoreFailed as error:
            return _failure(internal(str(error)))

    async def _route(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        segments = [s for s in path.split("/") if s]
        user = self._user(request)
        found = requests.group_version(segments) if segments else None
        if found is None or not found[2]:
            auth.authorize(user, Attributes(request.method.lower(), path))
            return documents.answer(request, segments, self.config.version)
        group, version, rest = found
        if (group, version, rest[0]) in _REVIEWS and len(rest) == 1:
            auth.authorize(user, Attributes("create", path))
            return await self._review(request, rest[0], user)
        target = requests.target(group, version, rest)
        verb = requests.verb(request.method, target, request.query)
        attributes = Attributes(verb, path, target.kind, target.namespace, target.name, target.subresource)
        auth.authorize(user, attributes)
        return await self._resource(request, verb, target)

    def _user(self, request: web.Request) -> User:
        transport = request.transport
        certificate = transport.get_extra_info("peercert") if transport is not None else None
        return auth.authenticate(request.headers.get("Authorization", ""), certificate, self.users)

    async def _review(self, request: web.Request, plural: str, user: User) -> web.Response:
        if request.method != "POST":
            raise method_not_allowed()
        return json_response(msgspec.json.encode(subresources.review(plural, await _body(request), user)), 201)

    # resources

    async def _resource(self, request: web.Request, verb: str, target: Target) -> web.StreamResponse:
        if target.subresource in ("log", "exec", "attach"):
            return await self._stream(request, target)
        form = Form(accept.shape(request.headers.get("Accept", "")), request.query.get("includeObject", "Metadata"))
        if target.subresource in _OWN_BODY:
            return await self._own_body(request, verb, target)
        if verb == "get":
            stored = self.rest.get(target.kind, target.namespace, target.name)
            await self.store.durable()
            return json_response(render.one(target.kind, stored, form, self.clock()))
        if verb in ("list", "watch"):
            return await (self._list if verb == "list" else self._watch)(request, target, form)
        if verb == "deletecollection":
            return await self._delete_all(request, target, form)
        return await self._write(request, verb, target, form)

    async def _list(self, request: web.Request, target: Target, form: Form) -> web.StreamResponse:
        query = request.query
        chosen = selection(target.kind, query.get("labelSelector", ""), query.get("fieldSelector", ""))
        page = listing.page(self.store, self.hub, listing.Scope(target.kind, target.namespace, chosen), query)
        await self.store.durable()
        return json_response(render.many(target.kind, page.items, page.meta, form, self.clock()))

    async def _write(self, request: web.Request, verb: str, target: Target, form: Form) -> web.StreamResponse:
        body = await _body(request)
        if verb == "delete":
            outcome = self.rest.delete(target, _delete_options(request, body))
        else:
            options = requests.write_options(request.query, request.headers.get("User-Agent", ""))
            outcome = _OPERATIONS[verb](self.rest, target, body, options)
        await self.store.durable()
        if verb == "delete" and outcome.gone:
            return json_response(msgspec.json.encode(_gone(target, outcome.stored)))
        answer = render.one(target.kind, outcome.stored, form, self.clock())
        return json_response(answer, 201 if outcome.created else 200, outcome.warnings)

    async def _delete_all(self, request: web.Request, target: Target, form: Form) -> web.StreamResponse:
        query = request.query
        chosen = selection(target.kind, query.get("labelSelector", ""), query.get("fieldSelector", ""))
        wanted = _delete_options(request, await _body(request))
        deleted = self.rest.delete_all(target.kind, self.hub.selected(target.kind, target.namespace, chosen), wanted)
        await self.store.durable()
        return json_response(
            render.many(target.kind, deleted, render.ListMeta(self.store.revision), form, self.clock())
        )

    async def _own_body(self, request: web.Request, verb: str, target: Target) -> web.StreamResponse:
        """scale, binding, eviction: kinds that are not the object's."""
        if verb == "get":
            stored = self.rest.get(target.kind, target.namespace, target.name)
            await self.store.durable()
            return json_response(msgspec.json.encode(subresources.scale_of(stored)))
        body = await _body(request)
        options = requests.write_options(request.query, request.headers.get("User-Agent", ""))
        if target.subresource == "scale":
            change = subresources.update_scale if verb == "update" else subresources.patch_scale
            outcome = change(self.rest, target, body, options)
            await self.store.durable()
            return json_response(msgspec.json.encode(subresources.scale_of(outcome.stored)))
        if target.subresource == "binding":
            subresources.bind(self.rest, target, body, options, self.clock())
        else:
            subresources.evict(self.rest, target, body, options)
        await self.store.durable()
        return json_response(
            msgspec.json.encode(
                {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}
            ),
            201,
        )

    async def _stream(self, request: web.Request, target: Target) -> web.StreamResponse:
        from portway.apiserver import streaming

        pod = self.rest.get(target.kind, target.namespace, target.name)
        if target.subresource == "log":
            return await streaming.logs(request, pod, self.streams, self.clock)
        return await streaming.run(request, target, pod, self.streams)

    # watch

    async def _watch(self, request: web.Request, target: Target, form: Form) -> web.StreamResponse:
        query = request.query
        chosen = selection(target.kind, query.get("labelSelector", ""), query.get("fieldSelector", ""))
        options = _watch_options(query)
        response = web.StreamResponse(headers=JSON)
        try:
            watcher = await self.hub.open(target.kind, target.namespace, chosen, form, options)
        except ApiError as error:
            if error.code != 410:
                raise
            await response.prepare(request)
            await response.write(render.event("ERROR", msgspec.json.encode(error.status())))
            return response
        try:
            await response.prepare(request)
            with suppress(ClientConnectionError, ConnectionResetError):
                await self._pump(request, response, watcher, options)
        finally:
            self.hub.close(watcher)
        return response

    async def _pump(
        self, request: web.Request, response: web.StreamResponse, watcher: Watcher, options: WatchOptions
    ) -> None:
        if request.transport is not None:
            watcher.on_cut = request.transport.abort
        until = asyncio.get_running_loop().time() + options.timeout
        mark: Callable[[], bytes] = (lambda: self.hub.bookmark(watcher)) if options.bookmarks else (lambda: b"")
        async for chunk in watcher.chunks(until=until, every=BOOKMARK_SECONDS, bookmark=mark):
            if request.transport is None or request.transport.is_closing():
                return
            if chunk:
                await response.write(chunk)


_OWN_BODY = frozenset({"scale", "binding", "eviction"})
_REVIEWS = frozenset((group, version, plural) for group, version, _, plural in discovery.REVIEWS)
_OPERATIONS: dict[str, Callable[[Rest, Target, Body, WriteOptions], Outcome]] = {
    "create": Rest.create,
    "update": Rest.update,
    "patch": Rest.patch,
}


async def _body(request: web.Request) -> Body:
    return Body(request.headers.get("Content-Type", ""), await request.read())


def _delete_options(request: web.Request, body: Body) -> deletion.DeleteOptions:
    value: Value = {}
    if body.data:
        value, _ = decode.read(decode.DELETE_OPTIONS, body.content_type, body.data, "Ignore")
    return deletion.options(value, request.query)


def _watch_options(query: Mapping[str, str]) -> WatchOptions:
    initial = flag(query, "sendInitialEvents") if "sendInitialEvents" in query else None
    match = query.get("resourceVersionMatch", "")
    if initial is not None and match != "NotOlderThan":
        raise bad_request(
            "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        )
    if initial is None and match:
        raise bad_request(
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        )
    seconds = number(query, "timeoutSeconds", 3600) or 3600
    return WatchOptions(listing.revision_of(query), initial, flag(query, "allowWatchBookmarks"), float(seconds))


def _failure(error: ApiError) -> web.Response:
    response = json_response(msgspec.json.encode(error.status()), error.code)
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    return response


def _gone(target: Target, stored: Stored) -> Value:
    details: Value = {"name": stored.name}
    if target.kind.group:
        details["group"] = target.kind.group
    details |= {"kind": target.kind.plural, "uid": stored.value["metadata"].get("uid", "")}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
