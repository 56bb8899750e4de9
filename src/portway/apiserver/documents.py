"""What the API server says about itself: health, version, discovery and schemas. No object is read here.

`server` asks `answer` for every path that is not a resource. The discovery documents are `discovery`'s, the schemas
`openapi`'s; this module knows their paths, content types and cache headers.
"""

from __future__ import annotations

import platform
from typing import Any

import msgspec
from aiohttp import web

from portway.apiserver import accept, discovery, openapi
from portway.apiserver.errors import method_not_allowed, no_such_resource

Value = dict[str, Any]

JSON = {"Content-Type": "application/json"}
_HEALTH = frozenset({"healthz", "livez", "readyz"})


def json_response(body: bytes, status: int = 200, warnings: tuple[str, ...] = ()) -> web.Response:
    """A JSON answer; each warning becomes a header that kubectl prints (RFC 7234 code 299)."""
    response = web.Response(body=body, status=status, headers=JSON)
    for warning in warnings:
        response.headers.add("Warning", f"299 - {msgspec.json.encode(warning).decode()}")
    return response


def answer(request: web.Request, segments: list[str], version: str) -> web.Response:
    """Paths that are no resources: health, version, discovery, schemas."""
    if request.method not in ("GET", "HEAD"):
        raise method_not_allowed()
    first = segments[0] if segments else ""
    if first in _HEALTH:
        return web.Response(text="ok")
    if first == "version" and len(segments) == 1:
        return json_response(msgspec.json.encode(_version(version)))
    if first == "openapi" and segments[1:2] == ["v3"]:
        return _schemas(request, "/".join(segments[2:]))
    if segments == ["openapi", "v2"]:
        return web.Response(body=openapi.empty_v2(), headers={"Content-Type": openapi.PROTOBUF_V2})
    body = _discovery(request, segments)
    if body is None:
        raise no_such_resource()
    return body


def _discovery(request: web.Request, segments: list[str]) -> web.Response | None:
    if segments in (["api"], ["apis"]):
        core = segments == ["api"]
        if accept.wants_aggregated(request.headers.get("Accept", "")):
            headers = {"Content-Type": accept.AGGREGATED, "Vary": "Accept"}
            return web.Response(body=discovery.aggregated(core), headers=headers)
        return json_response(discovery.versions() if core else discovery.groups())
    body: bytes | None = None
    if not segments:
        body = msgspec.json.encode(
            {
                "paths": [
                    "/api",
                    "/api/v1",
                    "/apis",
                    "/healthz",
                    "/livez",
                    "/openapi/v2",
                    "/openapi/v3",
                    "/readyz",
                    "/version",
                ]
            }
        )
    elif segments[0] == "api" and len(segments) == 2:
        body = discovery.resources("", segments[1])
    elif segments[0] == "apis" and len(segments) == 2:
        body = discovery.group(segments[1])
    elif segments[0] == "apis" and len(segments) == 3:
        body = discovery.resources(segments[1], segments[2])
    return json_response(body) if body is not None else None


def _version(text: str) -> Value:
    major, minor = text.lstrip("v").split(".")[:2]
    build = {"gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z"}
    language = {"goVersion": "", "compiler": platform.python_implementation(), "platform": f"linux/{_machine()}"}
    return {"major": major, "minor": minor, "gitVersion": text, **build, **language}


def _schemas(request: web.Request, name: str) -> web.Response:
    if not name:
        return json_response(openapi.root())
    document = openapi.document(name)
    if document is None:
        raise no_such_resource()
    body, etag = document
    headers = {"ETag": f'"{etag}"', "Vary": "Accept"}
    if request.query.get("hash") == etag:
        headers |= {"Cache-Control": "public, immutable", "Expires": "Thu, 31 Dec 2099 23:59:59 GMT"}
    if request.headers.get("If-None-Match", "").strip('"') == etag:
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, headers={**JSON, **headers})


def _machine() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
