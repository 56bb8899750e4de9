"""The provider's pieces as `portway status -o json` shows them: address, forwarding rules, backend service, instance group. Pure
but for reading the checks' present conditions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from portway.balancer.health import Condition
from portway.balancer.intent import BackendService, Check, ForwardingRule, Instance, Plan


class Conditions(Protocol):
    @property
    def health(self) -> Mapping[tuple[str, Check], bool]: ...
    def condition(self, node: str, check: Check) -> Condition: ...


def report(plan: Plan, checks: Conditions) -> list[dict[str, Any]]:
    """One entry for each Service that has an address, sorted by its name."""
    by_service: dict[str, list[ForwardingRule]] = {}
    for rule in plan.rules:
        by_service.setdefault(rule.service, []).append(rule)
    return [_load_balancer(plan, checks, name, rules) for name, rules in sorted(by_service.items())]


def _load_balancer(plan: Plan, checks: Conditions, service: str, rules: list[ForwardingRule]) -> dict[str, Any]:
    backend = plan.backends[rules[0].backend]
    return {
        "service": service,
        "addresses": sorted({str(r.address) for r in rules}),
        "forwardingRules": [_rule(r) for r in rules],
        "backendService": {
            "name": backend.name,
            "healthCheck": {"protocol": "HTTP", "port": backend.check.port, "path": backend.check.path},
            "externalTrafficPolicy": "Local" if backend.local else "Cluster",
        },
        "instanceGroup": [_instance(i, backend, checks) for i in plan.instances],
    }


def _rule(rule: ForwardingRule) -> dict[str, Any]:
    return {
        "address": str(rule.address),
        "protocol": rule.protocol.upper(),
        "port": rule.port,
        "nodePort": rule.node_port,
        "sourceRanges": [str(s) for s in rule.sources],
        "sessionAffinity": "ClientIP" if rule.sticky else "None",
    }


def _instance(instance: Instance, backend: BackendService, checks: Conditions) -> dict[str, Any]:
    condition = checks.condition(instance.name, backend.check)
    return {
        "node": instance.name,
        "address": str(instance.address),
        "state": instance.state.value,
        "why": instance.why,
        "healthy": bool(condition.healthy),
        "lastCheck": condition.words,
    }
