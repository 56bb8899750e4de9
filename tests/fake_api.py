"""A small API server for tests of the client and the controllers: JSON objects in memory behind aiohttp on 127.0.0.1.

It knows lists, watches with resourceVersion, create, replace, merge patch, status, binding, and deletion with grace,
finalizers and preconditions. It validates and defaults nothing. `fail_next` makes the next requests fail, `forget` makes
old versions answer 410.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from portway.client import Client, Config
from portway.objects.kinds import Kind, by_resource

Json = dict[str, Any]


class FakeApi:
    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Json] = {}
        self.history: list[tuple[int, str, str, Json]] = []
        self.version = 100
        self.ended: set[str] = set()
        self.oldest = 0
        self.requests: list[tuple[str, str]] = []
        self.fail_next: list[tuple[str, int, str]] = []
        self.changed = asyncio.Event()
        self.cut = asyncio.Event()
        self.delay = asyncio.Event()
        self.delay.set()
        self.url = ""

    def named(self, plural: str) -> list[Json]:
        return [o for (kind, _, _), o in sorted(self.objects.items()) if kind == plural]

    def put(self, kind: Kind, obj: Json, event: str = "MODIFIED") -> Json:
        """Store and tell the watchers."""
        meta = obj["metadata"]
        self.version += 1
        meta["resourceVersion"] = str(self.version)
        key = (kind.plural, meta.get("namespace", ""), meta["name"])
        if event == "DELETED":
            self.objects.pop(key, None)
            if kind.kind == "Namespace":
                self.ended.add(meta["name"])
        else:
            self.objects[key] = obj
        self.history.append((self.version, kind.plural, event, json.loads(json.dumps(obj))))
        self.changed.set()
        self.changed = asyncio.Event()
        return obj

    def forget(self) -> None:
        """Drop the history and end all watches: who resumes gets 410."""
        self.version += 1
        self.oldest = self.version
        self.end_watches()

    def end_watches(self) -> None:
        self.cut.set()
        self.cut = asyncio.Event()
        self.changed.set()
        self.changed = asyncio.Event()

    async def until(self, condition: Any, seconds: float = 10.0) -> None:
        """Wait, change by change, until the condition holds."""

        async def wait() -> None:
            while not condition():
                await self.changed.wait()

        await asyncio.wait_for(wait(), seconds)

    # HTTP

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path_qs))
        if self.fail_next and request.method == self.fail_next[0][0]:
            _, code, reason = self.fail_next.pop(0)
            return status(code, reason, f"{reason} as the test wants it")
        route = parse(request.path)
        if route is None:
            return status(404, "NotFound", "the server could not find the requested resource")
        kind, namespace, name, sub = route
        if request.method == "GET" and not name:
            if request.query.get("watch"):
                return await self.watch(request, kind, namespace)
            return self.list(request, kind, namespace)
        if request.method == "POST" and not sub:
            return self.create(kind, namespace, await request.json())
        obj = self.objects.get((kind.plural, namespace, name))
        if obj is None:
            return status(404, "NotFound", f'{kind.resource} "{name}" not found')
        if request.method == "GET":
            return web.json_response(obj)
        body = await request.json() if request.can_read_body else {}
        if request.method == "DELETE":
            return self.delete(kind, obj, body)
        return self.write(request.method, kind, obj, sub, body)

    def list(self, request: web.Request, kind: Kind, namespace: str) -> web.Response:
        items = [o for o in self.named(kind.plural) if not namespace or o["metadata"].get("namespace") == namespace]
        start, limit = int(request.query.get("continue", "0")), int(request.query.get("limit", "0") or 0)
        page = items[start : start + limit] if limit else items
        meta = {"resourceVersion": str(self.version)}
        if limit and start + limit < len(items):
            meta["continue"] = str(start + limit)
        return web.json_response({"kind": f"{kind.kind}List", "metadata": meta, "items": page})

    async def watch(self, request: web.Request, kind: Kind, namespace: str) -> web.StreamResponse:
        seen = int(request.query.get("resourceVersion") or 0)
        if seen < self.oldest:
            return status(410, "Expired", "too old resource version")
        response = web.StreamResponse()
        await response.prepare(request)
        cut = self.cut
        while not cut.is_set():
            changed = self.changed
            await self.delay.wait()
            events = [e for e in self.history if e[0] > seen and e[1] == kind.plural]
            for version, _, event, obj in events:
                if not namespace or obj["metadata"].get("namespace") == namespace:
                    try:
                        await response.write(json.dumps({"type": event, "object": obj}).encode() + b"\n")
                    except ConnectionError:
                        return response
                seen = version
            await changed.wait()
        return response

    def create(self, kind: Kind, namespace: str, obj: Json) -> web.Response:
        meta = obj.setdefault("metadata", {})
        there = self.objects.get(("namespaces", "", namespace))
        if there and there["metadata"].get("deletionTimestamp"):
            return status(403, "Forbidden", f"namespace {namespace} is being terminated")
        if namespace in self.ended:
            return status(404, "NotFound", f'namespaces "{namespace}" not found')
        if kind.namespaced:
            meta["namespace"] = namespace
        if "name" not in meta:
            meta["name"] = meta.get("generateName", "") + f"{self.version:05d}"
        if (kind.plural, namespace, meta["name"]) in self.objects:
            return status(409, "AlreadyExists", f'{kind.resource} "{meta["name"]}" already exists')
        meta |= {"uid": f"uid-{self.version}", "generation": 1, "creationTimestamp": now()}
        if kind.kind == "Pod":
            obj.setdefault("status", {"phase": "Pending"})
        return web.json_response(self.put(kind, obj, "ADDED"), status=201)

    def write(self, method: str, kind: Kind, obj: Json, sub: str, body: Json) -> web.Response:
        given = (body.get("metadata") or {}).get("resourceVersion")
        if given and given != obj["metadata"]["resourceVersion"]:
            return status(409, "Conflict", "the object has been modified")
        if sub == "binding":
            if obj.get("spec", {}).get("nodeName"):
                return status(409, "Conflict", "pod is already assigned to a node")
            new = merge(obj, {"spec": {"nodeName": body["target"]["name"]}})
        elif method == "PATCH":
            new = merge(
                obj, {"status": body.get("status")} if sub == "status" else {k: body[k] for k in body if k != "status"}
            )
        else:
            new = {**body, "metadata": {**obj["metadata"], **body["metadata"]}}
        if new.get("spec") != obj.get("spec") and not sub:
            new["metadata"]["generation"] = obj["metadata"].get("generation", 1) + 1
        leaving = new["metadata"].get("deletionTimestamp") and obj["metadata"].get("finalizers")
        finalized = sub == "finalize" and not (body.get("spec") or {}).get("finalizers")
        if finalized or (leaving and not new["metadata"].get("finalizers")):
            self.put(kind, new, "DELETED")
        elif new != obj:
            self.put(kind, new)
        return web.json_response(new, status=201 if sub == "binding" else 200)

    def delete(self, kind: Kind, obj: Json, options: Json) -> web.Response:
        meta = obj["metadata"]
        uid = (options.get("preconditions") or {}).get("uid")
        if uid and uid != meta["uid"]:
            return status(409, "Conflict", "the UID in the precondition does not match")
        finalizer = {"Foreground": "foregroundDeletion", "Orphan": "orphan"}.get(options.get("propagationPolicy", ""))
        graceful = kind.kind == "Pod" and obj.get("spec", {}).get("nodeName") and options.get("gracePeriodSeconds") != 0
        graceful = graceful or (kind.kind == "Namespace")
        if finalizer or meta.get("finalizers") or graceful:
            new = merge(obj, {"metadata": {"deletionTimestamp": meta.get("deletionTimestamp") or now()}})
            if finalizer:
                new["metadata"]["finalizers"] = sorted({*(meta.get("finalizers") or ()), finalizer})
            if new != obj:
                self.put(kind, new)
        else:
            self.put(kind, obj, "DELETED")
        return web.json_response({"kind": "Status", "status": "Success"})


def parse(path: str) -> tuple[Kind, str, str, str] | None:
    parts = path.strip("/").split("/")
    group, version, rest = ("", parts[1], parts[2:]) if parts[0] == "api" else (parts[1], parts[2], parts[3:])
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and by_resource(group, version, rest[2]):
        namespace, rest = rest[1], rest[2:]
    kind = by_resource(group, version, rest[0])
    rest = [*rest, "", ""]
    return (kind, namespace, rest[1], rest[2]) if kind else None


def merge(old: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    made = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            made.pop(key, None)
        else:
            made[key] = merge(made.get(key), value)
    return made


def status(code: int, reason: str, message: str) -> web.Response:
    body = {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}
    return web.json_response(body, status=code)


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@asynccontextmanager
async def fake_api() -> AsyncIterator[tuple[FakeApi, Client]]:
    """A running server and a client of it."""
    api = FakeApi()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", api.handle)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]  # the port the kernel chose
    api.url = f"http://127.0.0.1:{port}"
    try:
        async with Client(Config(api.url, token="a-secret-token")) as client:
            yield api, client
    finally:
        api.end_watches()
        await runner.cleanup()
