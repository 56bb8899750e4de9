"""Every kind that Portway knows, as one declaration each. The API server serves these; the client finds its URLs here.

A new kind is a row here, plus (where its semantics ask for it) defaults and validation in `apiserver`. `schema` is its name
in the OpenAPI document. After a change here run `python hatch_build.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of object. `group` is empty for the core group. `subresources` lists what is served below a name."""

    group: str
    version: str
    kind: str
    plural: str
    schema: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[str, ...] = field(default=())

    @property
    def singular(self) -> str:
        return self.kind.lower()

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """The name that error messages use: "deployments.apps", "services"."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def root(self) -> str:
        """The URL path of the group version."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The URL path of a collection (no name) or an object; `namespace` empty means all namespaces."""
        parts = [self.root]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts += [p for p in (self.plural, name, subresource) if p]
        return "/".join(parts)


_V1 = "io.k8s.api.core.v1."
_APPS = "io.k8s.api.apps.v1."

NAMESPACE = Kind(
    "",
    "v1",
    "Namespace",
    "namespaces",
    _V1 + "Namespace",
    namespaced=False,
    short_names=("ns",),
    subresources=("status", "finalize"),
)
NODE = Kind("", "v1", "Node", "nodes", _V1 + "Node", namespaced=False, short_names=("no",), subresources=("status",))
POD = Kind(
    "",
    "v1",
    "Pod",
    "pods",
    _V1 + "Pod",
    short_names=("po",),
    categories=("all",),
    subresources=("status", "log", "exec", "attach", "binding", "eviction"),
)
SERVICE = Kind(
    "",
    "v1",
    "Service",
    "services",
    _V1 + "Service",
    short_names=("svc",),
    categories=("all",),
    subresources=("status",),
)
ENDPOINTS = Kind("", "v1", "Endpoints", "endpoints", _V1 + "Endpoints", short_names=("ep",))
CONFIG_MAP = Kind("", "v1", "ConfigMap", "configmaps", _V1 + "ConfigMap", short_names=("cm",))
SECRET = Kind("", "v1", "Secret", "secrets", _V1 + "Secret")
EVENT = Kind("", "v1", "Event", "events", _V1 + "Event", short_names=("ev",))
DEPLOYMENT = Kind(
    "apps",
    "v1",
    "Deployment",
    "deployments",
    _APPS + "Deployment",
    short_names=("deploy",),
    categories=("all",),
    subresources=("status", "scale"),
)
REPLICA_SET = Kind(
    "apps",
    "v1",
    "ReplicaSet",
    "replicasets",
    _APPS + "ReplicaSet",
    short_names=("rs",),
    categories=("all",),
    subresources=("status", "scale"),
)
ENDPOINT_SLICE = Kind(
    "discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", "io.k8s.api.discovery.v1.EndpointSlice"
)
LEASE = Kind("coordination.k8s.io", "v1", "Lease", "leases", "io.k8s.api.coordination.v1.Lease")

KINDS: tuple[Kind, ...] = (
    NAMESPACE,
    NODE,
    POD,
    SERVICE,
    ENDPOINTS,
    CONFIG_MAP,
    SECRET,
    EVENT,
    DEPLOYMENT,
    REPLICA_SET,
    ENDPOINT_SLICE,
    LEASE,
)


def by_kind(api_version: str, kind: str) -> Kind | None:
    """The declaration of ("apps/v1", "Deployment"), or None when the kind is not known."""
    return _BY_KIND.get((api_version, kind))


def by_resource(group: str, version: str, plural: str) -> Kind | None:
    """The declaration of ("apps", "v1", "deployments"), or None."""
    return _BY_RESOURCE.get((group, version, plural))


_BY_KIND = {(k.api_version, k.kind): k for k in KINDS}
_BY_RESOURCE = {(k.group, k.version, k.plural): k for k in KINDS}
