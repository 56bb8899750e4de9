"""Every reason is used: by a rule's comment, or as the answer to why a Service has no rules."""

from __future__ import annotations

from build_proxy import port, ruleset, service
from portway.nft.tables import DROP, Reject, Rule
from portway.objects.core import Service, ServiceSpec
from portway.proxy.intent import HEADLESS_LABEL, PROXY_NAME_LABEL, ignored
from portway.proxy.reasons import Reason

IGNORED = (
    service("shop/a", "None"),
    service("shop/b", "", type="ExternalName"),
    service("shop/c", labels={PROXY_NAME_LABEL: "mesh"}),
    service("shop/d", labels={HEADLESS_LABEL: ""}),
    service("shop/e", ""),
    Service(spec=ServiceSpec(cluster_ip="10.3.240.9")),
    service("shop/g", "10.3.240.9", port(80, protocol="QUIC")),
)


def refusals() -> list[Rule]:
    """The rules that end a packet's journey."""
    rules = [rule for chain in ruleset().chains for rule in chain.rules]
    return [r for r in rules if any(isinstance(s, Reject) or s == DROP for s in r.statements)]


def test_every_rule_that_refuses_says_why() -> None:
    assert refusals()
    assert all(rule.comment in set(Reason) for rule in refusals())


def test_every_reason_is_given_somewhere() -> None:
    said = {rule.comment for rule in refusals()} | {ignored(s, ruleset().family) for s in IGNORED}
    assert said == set(Reason)
