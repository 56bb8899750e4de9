"""Is an object one that Kubernetes would accept? `validate` answers with the field errors, in Kubernetes' words.

Called by `server` for every write, after `decode` and `defaults`; the errors go to `errors.invalid` and make a 422. Pure. One
module for each family of kinds: `meta` (names, labels), `service`, `pod` with `containers` and `volumes`, `apps`,
`endpoints` and `plain` (the rest); `formats` has the rules for single strings and numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from portway.apiserver.errors import FieldError
from portway.apiserver.validation import apps, endpoints, meta, plain, pod, service
from portway.objects import kinds
from portway.objects.kinds import Kind

Json = dict[str, Any]
Rule = Callable[[Json, Json | None, str], Iterator[FieldError]]

_RULES: dict[str, Rule] = {
    kinds.SERVICE.kind: service.check,
    kinds.POD.kind: pod.check,
    kinds.DEPLOYMENT.kind: apps.check_deployment,
    kinds.REPLICA_SET.kind: apps.check_replica_set,
    kinds.ENDPOINT_SLICE.kind: endpoints.check_slice,
    kinds.ENDPOINTS.kind: endpoints.check_endpoints,
    kinds.CONFIG_MAP.kind: plain.check_config_map,
    kinds.SECRET.kind: plain.check_secret,
    kinds.NODE.kind: plain.check_node,
    kinds.NAMESPACE.kind: plain.check_namespace,
    kinds.LEASE.kind: plain.check_lease,
    kinds.EVENT.kind: plain.check_event,
}


def validate(kind: Kind, new: Json, old: Json | None = None, subresource: str = "") -> list[FieldError]:
    """The mistakes of `new`; `old` is the stored object for an update. An empty list means accepted."""
    found = list(meta.check(kind, new, old))
    rule = _RULES.get(kind.kind)
    if rule is not None:
        found += rule(new, old, subresource)
    return found
