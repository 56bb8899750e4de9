"""The client of an API server: single requests, typed by the object's struct.

    async with Client(config) as client:
        pod = await client.get(Pod, "web-1", "shop")
        await client.patch_status(Pod, pod.name, {"status": {"phase": "Running"}}, pod.namespace)

Every agent has one and shares it among its reflectors. Errors are `ApiError` (and `Unreachable`), never aiohttp's.
Nothing is retried here: the loop does that. Tokens are in the session's headers only and are never logged.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

import aiohttp
import msgspec

from portway.client import wire
from portway.client.config import Config
from portway.client.errors import ApiError, Unreachable, from_answer
from portway.client.wire import Body, Listed, kind_of
from portway.objects.core import Namespace, Pod
from portway.objects.meta import Object

T = TypeVar("T", bound=Object)
A = TypeVar("A")
Items = list[A]
"""The builtin list; inside `Client` its name is a method's."""
log = logging.getLogger("portway.client")
_NETWORK = (aiohttp.ClientError, TimeoutError, OSError, ssl.SSLError)


class PatchType(StrEnum):
    JSON = "application/json-patch+json"
    MERGE = "application/merge-patch+json"
    STRATEGIC = "application/strategic-merge-patch+json"
    APPLY = "application/apply-patch+yaml"


@dataclass(frozen=True, slots=True)
class Select:
    """What a list or watch is narrowed to: one namespace (empty: all), and selectors as kubectl writes them."""

    namespace: str = ""
    labels: str = ""
    fields: str = ""

    def query(self) -> dict[str, str]:
        pairs = {"labelSelector": self.labels, "fieldSelector": self.fields}
        return {k: v for k, v in pairs.items() if v}


EVERYTHING = Select()


@dataclass(frozen=True, slots=True)
class WatchEvent(Generic[T]):
    """ADDED, MODIFIED, DELETED, or BOOKMARK (whose object has a resourceVersion and little else)."""

    type: str
    object: T


class Client:
    def __init__(self, config: Config, *, user_agent: str = "portway", timeout: float = 30.0) -> None:
        """`timeout` in seconds bounds every request but a watch."""
        self.config = config
        self._agent = user_agent
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._tls = config.tls()
        self._open: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        if self._open:
            await self._open.close()
            self._open = None

    async def get(self, kind: type[T], name: str, namespace: str = "", *, subresource: str = "") -> T:
        answer = await self._send("GET", kind_of(kind).path(namespace, name, subresource))
        return self._decode(kind, answer)

    async def list(
        self, kind: type[T], select: Select = EVERYTHING, *, resource_version: str = "", page: int = 500
    ) -> Listed[T]:
        """All objects, fetched in pages; objects that do not fit their struct are named in `undecodable`."""
        path, decode = kind_of(kind).path(select.namespace), wire.decoder(kind)
        query = select.query() | {"limit": str(page)}
        if resource_version:
            query["resourceVersion"] = resource_version
        items: Items[T] = []
        bad: Items[str] = []
        while True:
            answer = wire.raw_lists.decode(await self._send("GET", path, query=query))
            for raw in answer.items or ():
                try:
                    items.append(decode(raw))
                except wire.Undecodable as e:
                    bad.append(str(e))
            if not answer.metadata.continue_:
                version = answer.metadata.resource_version or ""
                return Listed(items=tuple(items), resource_version=version, undecodable=tuple(bad))
            query = {k: v for k, v in query.items() if k != "resourceVersion"} | {"continue": answer.metadata.continue_}

    async def watch(
        self, kind: type[T], select: Select = EVERYTHING, *, resource_version: str = "", seconds: int = 300
    ) -> AsyncGenerator[Items[WatchEvent[T]], None]:
        """Changes after `resource_version`, all that arrived together in one list, until the server ends it.

        The server is asked to do so after `seconds`. Raises ApiError with `gone` when the version is too old. Objects
        that do not fit their struct are left out.
        """
        declared, decode = kind_of(kind), wire.decoder(kind)
        query = select.query() | {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(seconds)}
        if resource_version:
            query["resourceVersion"] = resource_version
        quiet = aiohttp.ClientTimeout(total=None, sock_connect=self._timeout.total, sock_read=seconds + 30)
        try:
            url = self._url(declared.path(select.namespace))
            async with self._session().get(url, params=query, timeout=quiet) as answer:
                if answer.status != 200:
                    raise from_answer(answer.status, await answer.read())
                rest = b""
                async for chunk in answer.content.iter_any():
                    *whole, rest = (rest + chunk).split(b"\n")
                    batch = [event for line in whole if line and (event := _event(line, decode))]
                    if batch:
                        yield batch
        except _NETWORK as e:
            raise Unreachable(f"watching {declared.plural} of {self.config.server}: {_words(e)}") from e

    async def create(self, kind: type[T], body: Body, namespace: str = "") -> T:
        declared = kind_of(kind)
        path = declared.path(namespace or _namespace(body))
        answer = await self._send("POST", path, data=wire.encode(body, declared))
        return self._decode(kind, answer)

    async def replace(self, kind: type[T], body: Body, *, subresource: str = "") -> T:
        """PUT to the body's name and namespace. A resourceVersion in it that is no longer current is a conflict."""
        declared = kind_of(kind)
        path = declared.path(_namespace(body), _name(body), subresource)
        return self._decode(kind, await self._send("PUT", path, data=wire.encode(body, declared)))

    async def patch(
        self,
        kind: type[T],
        name: str,
        body: Body,
        namespace: str = "",
        *,
        type: PatchType = PatchType.MERGE,
        subresource: str = "",
        field_manager: str = "",
        force: bool = False,
    ) -> T:
        declared = kind_of(kind)
        apply = type is PatchType.APPLY
        query = {"fieldManager": field_manager or (self._agent if apply else "")} | ({"force": "true"} if force else {})
        answer = await self._send(
            "PATCH",
            declared.path(namespace, name, subresource),
            data=wire.encode(body, declared if apply else None),
            query={k: v for k, v in query.items() if v},
            content_type=type.value,
        )
        return self._decode(kind, answer)

    async def patch_status(self, kind: type[T], name: str, body: dict[str, Any], namespace: str = "") -> T:
        """A merge patch of the status subresource; `body` is `{"status": {...}}`."""
        return await self.patch(kind, name, body, namespace, subresource="status")

    async def delete(
        self,
        kind: type[Object],
        name: str,
        namespace: str = "",
        *,
        grace_seconds: int | None = None,
        propagation: str = "",
        uid: str = "",
    ) -> None:
        """`propagation` is Background, Foreground or Orphan. `uid`: a conflict when the name is another object's by now."""
        options: dict[str, Any] = {"kind": "DeleteOptions", "apiVersion": "v1"}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        if propagation:
            options["propagationPolicy"] = propagation
        if uid:
            options["preconditions"] = {"uid": uid}
        await self._send("DELETE", kind_of(kind).path(namespace, name), data=wire.encode(options))

    async def evict(self, name: str, namespace: str, *, grace_seconds: int | None = None) -> None:
        body: dict[str, Any] = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": namespace},
        }
        if grace_seconds is not None:
            body["deleteOptions"] = {"gracePeriodSeconds": grace_seconds}
        await self._send("POST", kind_of(Pod).path(namespace, name, "eviction"), data=wire.encode(body))

    async def bind(self, name: str, namespace: str, node: str, *, uid: str = "") -> None:
        """Give the pod to a node. A conflict when it has one, or when `uid` is another pod's."""
        body: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name, "namespace": namespace} | ({"uid": uid} if uid else {}),
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        await self._send("POST", kind_of(Pod).path(namespace, name, "binding"), data=wire.encode(body))

    async def finalize(self, namespace: Namespace) -> None:
        """Write the namespace's spec.finalizers; the namespace goes when none is left."""
        await self.replace(Namespace, namespace, subresource="finalize")

    def _session(self) -> aiohttp.ClientSession:
        """Made at the first request: it belongs to the running event loop. Watches hold connections: no limit."""
        if self._open is None:
            headers = self.config.headers() | {"Accept": "application/json", "User-Agent": self._agent}
            connector = aiohttp.TCPConnector(limit=0, ssl=self._tls if self._tls else True)
            self._open = aiohttp.ClientSession(headers=headers, connector=connector, auto_decompress=True)
        return self._open

    def _url(self, path: str) -> str:
        return self.config.server + path

    async def _send(
        self,
        method: str,
        path: str,
        *,
        data: bytes | None = None,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> bytes:
        headers = {"Content-Type": content_type} if data is not None else None
        try:
            async with self._session().request(
                method, self._url(path), data=data, params=query, headers=headers, timeout=self._timeout
            ) as answer:
                body = await answer.read()
        except _NETWORK as e:
            raise Unreachable(f"{method} {path} of {self.config.server}: {_words(e)}") from e
        if answer.status >= 300:
            raise from_answer(answer.status, body)
        return body

    def _decode(self, kind: type[T], answer: bytes) -> T:
        decode: Callable[[bytes], T] = wire.decoder(kind)
        try:
            return decode(answer)
        except wire.Undecodable as e:
            raise ApiError(0, "Undecodable", f"the server's answer is no {kind.KIND}: {e}") from e


def _event(line: bytes, decode: Any) -> WatchEvent[Any] | None:
    """One line of a watch; None for an object that does not fit. An ERROR line is raised as an ApiError."""
    try:
        read = wire.lines.decode(line)
        if read.type == "ERROR":
            error = from_answer(500, bytes(read.object))
            code = {"Expired": 410, "Gone": 410}.get(error.reason, 500)
            raise ApiError(code, error.reason, error.message)
        return WatchEvent(read.type, decode(read.object))
    except (msgspec.MsgspecError, wire.Undecodable) as e:
        log.warning("a line of a watch was left out: %s", e)
        return None


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _name(body: Body) -> str:
    return body.name if isinstance(body, Object) else str(_metadata(body).get("name", ""))


def _namespace(body: Body) -> str:
    return body.namespace if isinstance(body, Object) else str(_metadata(body).get("namespace", ""))


def _metadata(body: Body) -> dict[str, Any]:
    return body.get("metadata", {}) if isinstance(body, dict) else {}
