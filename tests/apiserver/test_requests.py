"""What a request means: path, verb, selectors, Accept header, credentials, discovery."""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from build_apiserver import certificates, serving
from portway.apiserver import discovery
from portway.apiserver.accept import Shape, shape, wants_aggregated
from portway.apiserver.auth import User, authenticate
from portway.apiserver.errors import ApiError
from portway.apiserver.requests import Target, flag, group_version, target, verb, write_options
from portway.apiserver.selectors import EVERYTHING, parse_labels, selection
from portway.objects.kinds import DEPLOYMENT, KINDS, NAMESPACE, NODE, POD, SECRET


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("api/v1/pods", Target(POD)),
        ("api/v1/namespaces/a/pods", Target(POD, "a")),
        ("api/v1/namespaces/a/pods/p", Target(POD, "a", "p")),
        ("api/v1/namespaces/a/pods/p/log", Target(POD, "a", "p", "log")),
        ("api/v1/namespaces", Target(NAMESPACE)),
        ("api/v1/namespaces/a", Target(NAMESPACE, "", "a")),
        ("api/v1/namespaces/a/status", Target(NAMESPACE, "", "a", "status")),
        ("api/v1/namespaces/a/finalize", Target(NAMESPACE, "", "a", "finalize")),
        ("api/v1/nodes/n/status", Target(NODE, "", "n", "status")),
        ("apis/apps/v1/namespaces/a/deployments/d/scale", Target(DEPLOYMENT, "a", "d", "scale")),
    ],
)
def test_a_path_names_its_target(path: str, expected: Target) -> None:
    found = group_version(path.split("/"))
    assert found is not None and target(*found) == expected


@pytest.mark.parametrize(
    ("method", "where", "query", "expected"),
    [
        ("GET", Target(POD, "a"), {}, "list"),
        ("GET", Target(POD, "a"), {"watch": "true"}, "watch"),
        ("GET", Target(POD, "a"), {"watch": "1"}, "watch"),
        ("GET", Target(POD, "a"), {"watch": "false"}, "list"),
        ("GET", Target(POD, "a", "p"), {}, "get"),
        ("POST", Target(POD, "a"), {}, "create"),
        ("DELETE", Target(POD, "a"), {}, "deletecollection"),
        ("DELETE", Target(POD, "a", "p"), {}, "delete"),
        ("PATCH", Target(POD, "a", "p", "status"), {}, "patch"),
    ],
)
def test_method_and_target_make_the_verb(method: str, where: Target, query: dict[str, str], expected: str) -> None:
    assert verb(method, where, query) == expected


def test_who_writes_is_named_by_the_query_or_the_user_agent() -> None:
    assert write_options({"fieldManager": "me"}, "kubectl/v1").manager == "me"
    assert write_options({}, "kubectl/v1 (linux)").manager == "kubectl"
    assert write_options({"force": "true"}, "").force is True and write_options({}, "").force is None
    assert flag({"watch": ""}, "watch")
    for query in ({"fieldValidation": "Maybe"}, {"fieldManager": "x" * 129}):
        with pytest.raises(ApiError) as refused:
            write_options(query, "")
        assert refused.value.code == 400


@pytest.mark.parametrize(
    ("text", "labels", "matches"),
    [
        ("a=b", {"a": "b"}, True),
        ("a==b", {"a": "c"}, False),
        ("a!=b", {}, True),
        ("a != b", {"a": "b"}, False),
        ("a", {"a": ""}, True),
        ("!a", {"a": ""}, False),
        ("a in (x, y)", {"a": "y"}, True),
        ("a in (x,)", {"a": ""}, False),
        ("a notin (x,y)", {}, True),
        ("a notin (x,y)", {"a": "x"}, False),
        ("a>3", {"a": "4"}, True),
        ("a<3", {"a": "4"}, False),
        ("a>3", {"a": "many"}, False),
        ("a=", {"a": ""}, True),
        ("a=b,c=d", {"a": "b"}, False),
        ("example.com/x=1,b", {"example.com/x": "1", "b": "2"}, True),
        ("in=notin", {"in": "notin"}, True),
    ],
)
def test_label_selectors(text: str, labels: dict[str, str], matches: bool) -> None:
    assert all(r.matches(labels) for r in parse_labels(text)) is matches


@pytest.mark.parametrize(
    "text", ["a b", "a in x", "a in (x", ",", "a=b=c", "a,,b", "-a=b", "a=-b", "a>x", "a in (x y)", "!", "a=b,"]
)
def test_label_selectors_that_are_none(text: str) -> None:
    with pytest.raises(ApiError, match="unable to parse requirement") as refused:
        parse_labels(text)
    assert refused.value.code == 400


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("metadata.name=p", True),
        ("metadata.name!=p", False),
        ("metadata.name==p,spec.nodeName=node-1", True),
        ("spec.nodeName=", False),
        ("status.podIP=", True),
        ("spec.hostNetwork=false", True),
        ("status.phase!=Running,status.phase!=Failed", True),
    ],
)
def test_field_selectors(text: str, matches: bool) -> None:
    pod: dict[str, Any] = {"metadata": {"name": "p"}, "spec": {"nodeName": "node-1"}, "status": {"phase": "Pending"}}
    assert selection(POD, "", text).matches(pod) is matches


def test_field_selectors_escape_and_name() -> None:
    chosen = selection(SECRET, "", r"type=a\,b\=c,metadata.name=x")
    assert chosen.matches({"metadata": {"name": "x"}, "type": "a,b=c"}) and chosen.name == "x"
    assert selection(POD, "", "") is EVERYTHING
    with pytest.raises(ApiError, match="can't understand 'what'"):
        selection(POD, "", "what")


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", Shape.OBJECT),
        ("application/json", Shape.OBJECT),
        ("application/vnd.kubernetes.protobuf, */*", Shape.OBJECT),
        ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", Shape.TABLE),
        ("application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io", Shape.METADATA),
        ("application/json;as=Table;v=v9;g=meta.k8s.io,application/json", Shape.OBJECT),
    ],
)
def test_accept(accept: str, expected: Shape) -> None:
    assert shape(accept) is expected


AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (AGGREGATED + ",application/json", True),
        ("application/json", False),
        ("application/json," + AGGREGATED, False),
        ("", False),
    ],
)
def test_who_wants_discovery_in_one_document(accept: str, wanted: bool) -> None:
    assert wants_aggregated(accept) is wanted


# discovery


def test_every_kind_is_discovered_in_both_forms() -> None:
    for kind in KINDS:
        document = json.loads(discovery.aggregated(not kind.group))
        found = [
            r
            for item in document["items"]
            if item["metadata"].get("name", "") == kind.group
            for version in item["versions"]
            for r in version["resources"]
            if r["resource"] == kind.plural
        ]
        assert [f["responseKind"]["kind"] for f in found] == [kind.kind]
        assert tuple(s["subresource"] for s in found[0].get("subresources", ())) == kind.subresources
        older = json.loads(discovery.resources(kind.group, kind.version) or b"{}")
        names = [r["name"] for r in older["resources"]]
        assert [kind.plural, *(f"{kind.plural}/{s}" for s in kind.subresources)] == [
            n for n in names if n.split("/")[0] == kind.plural
        ]


def test_groups_that_are_not_served() -> None:
    assert (
        discovery.group("batch") is None
        and discovery.resources("apps", "v2") is None
        and discovery.resources("", "v2") is None
    )
    scale = next(
        r for r in json.loads(discovery.resources("apps", "v1") or b"")["resources"] if r["name"] == "deployments/scale"
    )
    assert (scale["group"], scale["version"], scale["kind"]) == ("autoscaling", "v1", "Scale")


async def test_documents_over_http(tmp_path: Path) -> None:
    async with serving(tmp_path) as api:
        for path, kind in (
            ("/api", "APIVersions"),
            ("/apis", "APIGroupList"),
            ("/apis/apps", "APIGroup"),
            ("/apis/apps/v1", "APIResourceList"),
            ("/api/v1", "APIResourceList"),
        ):
            assert (await api.get(path)).body["kind"] == kind
        one = await api.get("/apis", headers={"Accept": AGGREGATED})
        assert one.headers["Content-Type"] == AGGREGATED and one.body["kind"] == "APIGroupDiscoveryList"
        paths = (await api.get("/openapi/v3")).body["paths"]
        url = paths["apis/apps/v1"]["serverRelativeURL"]
        document = await api.get(url)
        assert "io.k8s.api.apps.v1.Deployment" in document.body["components"]["schemas"]
        assert "immutable" in document.headers["Cache-Control"]
        again = await api.get(url, headers={"If-None-Match": document.headers["ETag"]})
        assert again.code == 304
        assert (await api.get("/openapi/v3/apis/nosuch/v1")).code == 404
        older = await api.get("/openapi/v2")
        assert older.code == 200 and "protobuf" in older.headers["Content-Type"]


# who is asking


async def test_without_credentials_only_health_and_version_answer(tmp_path: Path) -> None:
    async with serving(tmp_path) as api:
        api.headers = {}
        for path, code in (
            ("/healthz", 200),
            ("/readyz", 200),
            ("/livez", 200),
            ("/version", 200),
            ("/api", 401),
            ("/api/v1/pods", 401),
        ):
            assert (await api.get(path)).code == code, path
        api.headers = {"Authorization": "Bearer wrong"}
        refused = await api.get("/api/v1/pods")
        assert (refused.code, refused.body["reason"], refused.body["message"]) == (401, "Unauthorized", "Unauthorized")


def test_users() -> None:
    token = authenticate("Bearer t", None, {"t": User("u", ("g",))})
    assert (token.name, token.groups) == ("u", ("g", "system:authenticated"))
    subject = ((("organizationName", "a"),), (("organizationName", "b"),), (("commonName", "me"),))
    assert authenticate("", {"subject": subject}, {}) == User("me", ("a", "b", "system:authenticated"))
    with pytest.raises(ApiError):
        authenticate("", {"subject": ((("organizationName", "a"),),)}, {})


async def test_a_client_certificate_names_the_user_and_its_groups(tmp_path: Path) -> None:
    made = certificates(tmp_path, "bob", ("developers", "testers"))
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    async with serving(tmp_path, tls=made.server_context()) as api:
        url = f"{api.url}/apis/authentication.k8s.io/v1/selfsubjectreviews"
        for context, expected in ((made.client_context(), "bob"), (made.client_context(with_user=False), None)):
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
                async with session.post(url, json=review) as response:
                    body = await response.json()
                    if expected is None:
                        assert response.status == 401
                    else:
                        info = body["status"]["userInfo"]
                        assert (info["username"], info["groups"]) == (
                            "bob",
                            ["developers", "testers", "system:authenticated"],
                        )


async def test_a_certificate_of_another_authority_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    made, other = certificates(tmp_path), certificates(tmp_path / "other")
    context = made.client_context(with_user=False)
    context.load_cert_chain(*map(str, other.user))
    async with serving(tmp_path, tls=made.server_context()) as api:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
            with pytest.raises((aiohttp.ClientError, ssl.SSLError)):
                await session.get(api.url + "/api/v1/pods")
