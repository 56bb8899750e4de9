"""Objects for the tests of the API server's pure half, and two ways to look at an answer: the error, the field errors."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from portway.apiserver import defaults
from portway.apiserver.errors import ApiError
from portway.apiserver.validation import validate
from portway.objects import kinds
from portway.objects.kinds import Kind

Json = dict[str, Any]


def service(**spec: Any) -> Json:
    """A Service with one port, as a user writes it; keywords replace parts of its spec."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]} | spec,
    }


def container(**fields: Any) -> Json:
    return {"name": "c", "image": "python:3.11"} | fields


def pod(*containers: Json, **spec: Any) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web-1", "namespace": "default", "labels": {"app": "web"}},
        "spec": {"containers": list(containers) or [container()]} | spec,
    }


def deployment(**spec: Any) -> Json:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container()]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template} | spec,
    }


def plain(kind: Kind, name: str = "x", **fields: Any) -> Json:
    """An object of any kind with a name, and a namespace if its kind has one."""
    metadata = {"name": name} | ({"namespace": "default"} if kind.namespaced else {})
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata} | fields


def kind_of(obj: Json) -> Kind:
    kind = kinds.by_kind(obj["apiVersion"], obj["kind"])
    assert kind is not None
    return kind


def defaulted(obj: Json) -> Json:
    """A copy as the server would store it."""
    result = copy.deepcopy(obj)
    defaults.set_defaults(kind_of(result), result)
    return result


def problems(new: Json, old: Json | None = None, subresource: str = "") -> list[str]:
    """The sentences of validation about a new object (defaults filled in), or about an update of `old`."""
    before = defaulted(old) if old is not None else None
    return [str(e) for e in validate(kind_of(new), defaulted(new), before, subresource)]


def refused(call: Callable[[], object]) -> ApiError:
    """The ApiError of a call that must fail."""
    with pytest.raises(ApiError) as caught:
        call()
    return caught.value
