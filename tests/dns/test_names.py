"""What every name of the cluster answers: one row for each sentence of the Kubernetes DNS specification 1.1.0."""

from __future__ import annotations

import dns.message
import dns.rcode
import dns.rrset
import msgspec
import pytest

from build_dns import (
    ALIAS,
    DB,
    DB_SLICE,
    OUTSIDE,
    SHOP,
    WEB,
    ask,
    endpoint,
    flags,
    forwarded,
    lines,
    named,
    pod,
    port,
    service,
    slice_of,
    zone,
)
from build_proxy import DRAINING, NOT_READY
from portway.dns import compile as zones
from portway.dns.answer import finish
from portway.dns.config import DnsConfig, PodNames
from portway.dns.intent import pod_records

UPSTREAM = DnsConfig(upstream=(("192.0.2.53", 53),))

ROWS = [
    (
        "a Service has its cluster address",
        "web.shop.svc.cluster.local",
        "A",
        ["web.shop.svc.cluster.local A 10.3.240.9"],
    ),
    (
        "a named port has an SRV record to the Service",
        "_http._tcp.web.shop.svc.cluster.local",
        "SRV",
        ["_http._tcp.web.shop.svc.cluster.local SRV 0 100 80 web.shop.svc.cluster.local"],
    ),
    (
        "UDP ports too",
        "_dns._udp.web.shop.svc.cluster.local",
        "SRV",
        ["_dns._udp.web.shop.svc.cluster.local SRV 0 100 53 web.shop.svc.cluster.local"],
    ),
    (
        "a cluster address leads back to its Service",
        "9.240.3.10.in-addr.arpa",
        "PTR",
        ["9.240.3.10.in-addr.arpa PTR web.shop.svc.cluster.local"],
    ),
    (
        "a headless Service has the addresses of its endpoints",
        "db.shop.svc.cluster.local",
        "A",
        [f"db.shop.svc.cluster.local A {a}" for a in ("10.0.1.5", "10.0.2.5", "10.0.2.6")],
    ),
    (
        "an endpoint with a hostname has its own name",
        "db-1.db.shop.svc.cluster.local",
        "A",
        ["db-1.db.shop.svc.cluster.local A 10.0.2.5"],
    ),
    (
        "an endpoint without one is called by its address",
        "10-0-2-6.db.shop.svc.cluster.local",
        "A",
        ["10-0-2-6.db.shop.svc.cluster.local A 10.0.2.6"],
    ),
    (
        "SRV of a headless Service: each endpoint, with the endpoint's own port",
        "_pg._tcp.db.shop.svc.cluster.local",
        "SRV",
        [
            f"_pg._tcp.db.shop.svc.cluster.local SRV 0 100 5433 {e}.db.shop.svc.cluster.local"
            for e in ("10-0-2-6", "db-0", "db-1")
        ],
    ),
    (
        "an endpoint's address leads back to its name",
        "5.1.0.10.in-addr.arpa",
        "PTR",
        ["5.1.0.10.in-addr.arpa PTR db-0.db.shop.svc.cluster.local"],
    ),
    (
        "an ExternalName is an alias",
        "outside.shop.svc.cluster.local",
        "CNAME",
        ["outside.shop.svc.cluster.local CNAME shop.example.com"],
    ),
    (
        "an alias of a Service is followed",
        "alias.shop.svc.cluster.local",
        "A",
        [
            "alias.shop.svc.cluster.local CNAME web.shop.svc.cluster.local",
            "web.shop.svc.cluster.local A 10.3.240.9",
        ],
    ),
    (
        "an alias to the outside, with nobody to ask, is all there is",
        "outside.shop.svc.cluster.local",
        "A",
        ["outside.shop.svc.cluster.local CNAME shop.example.com"],
    ),
    ("a pod by its address", "10-0-1-5.shop.pod.cluster.local", "A", ["10-0-1-5.shop.pod.cluster.local A 10.0.1.5"]),
    (
        "a pod by its IPv6 address",
        "2001-db8-0-0-0-0-0-1.shop.pod.cluster.local",
        "AAAA",
        ["2001-db8-0-0-0-0-0-1.shop.pod.cluster.local AAAA 2001:db8::1"],
    ),
    ("the version of the schema", "dns-version.cluster.local", "TXT", ['dns-version.cluster.local TXT "1.1.0"']),
    ("who serves the zone", "cluster.local", "NS", ["cluster.local NS kube-dns.kube-system.svc.cluster.local"]),
]


@pytest.mark.parametrize(("sentence", "name", "type_", "expected"), ROWS, ids=[r[0] for r in ROWS])
@pytest.mark.parametrize("edns", [-1, 0], ids=["plain", "edns"])
@pytest.mark.parametrize("stream", [False, True], ids=["udp", "tcp"])
def test_answers(sentence: str, name: str, type_: str, expected: list[str], edns: int, stream: bool) -> None:
    answer = ask(SHOP, name, type_, use_edns=edns, stream=stream)
    assert lines(answer.answer) == sorted(expected), sentence
    assert answer.rcode() == dns.rcode.NOERROR
    assert {"QR", "AA", "RD", "RA"} == flags(answer)
    assert {rrset.ttl for rrset in answer.answer} == {5}
    assert answer.edns == edns


NODATA, NXDOMAIN = dns.rcode.NOERROR, dns.rcode.NXDOMAIN
NEGATIVE = [
    ("a Service without IPv6", "web.shop.svc.cluster.local", "AAAA", NODATA),
    ("the type is another", "web.shop.svc.cluster.local", "MX", NODATA),
    ("a namespace has Services below, and no records", "shop.svc.cluster.local", "A", NODATA),
    ("the branch of ports", "_tcp.web.shop.svc.cluster.local", "SRV", NODATA),
    ("the branch of Services", "svc.cluster.local", "A", NODATA),
    ("the domain itself", "cluster.local", "A", NODATA),
    ("the branch of pods", "pod.cluster.local", "A", NODATA),
    ("a namespace's pods", "shop.pod.cluster.local", "A", NODATA),
    ("a pod by IPv4 address has no IPv6 address", "10-0-1-5.shop.pod.cluster.local", "AAAA", NODATA),
    ("a reverse branch", "3.10.in-addr.arpa", "PTR", NODATA),
    ("an address has a name, and no address", "9.240.3.10.in-addr.arpa", "A", NODATA),
    ("no such Service", "nobody.shop.svc.cluster.local", "A", NXDOMAIN),
    ("no such namespace", "web.nowhere.svc.cluster.local", "A", NXDOMAIN),
    ("a port without a name", "_81._tcp.web.shop.svc.cluster.local", "SRV", NXDOMAIN),
    ("a port by another protocol", "_http._udp.web.shop.svc.cluster.local", "SRV", NXDOMAIN),
    ("no such endpoint", "db-7.db.shop.svc.cluster.local", "A", NXDOMAIN),
    ("endpoints of a clustered Service have no names", "10-0-1-2.web.shop.svc.cluster.local", "A", NXDOMAIN),
    ("what a pod is not called", "web.shop.pod.cluster.local", "A", NXDOMAIN),
    ("three labels are no pod", "a.10-0-1-5.shop.pod.cluster.local", "A", NXDOMAIN),
    ("an address that nobody has", "1.2.3.4.in-addr.arpa", "PTR", NXDOMAIN),
    ("the search list", "web.shop.svc.cluster.local.shop.svc.cluster.local", "A", NXDOMAIN),
]


@pytest.mark.parametrize(("sentence", "name", "type_", "rcode"), NEGATIVE, ids=[r[0] for r in NEGATIVE])
@pytest.mark.parametrize("edns", [-1, 0], ids=["plain", "edns"])
def test_negative_answers_come_with_the_zones_soa(sentence: str, name: str, type_: str, rcode: int, edns: int) -> None:
    answer = ask(SHOP, name, type_, use_edns=edns)
    assert (answer.rcode(), answer.answer) == (rcode, []), sentence
    (soa,) = answer.authority
    assert (soa.ttl, soa[0].minimum) == (5, 5)
    assert str(soa.name) == ("in-addr.arpa." if name.endswith("arpa") else "cluster.local.")
    assert "AA" in flags(answer)


def test_a_name_of_the_outside_is_unknown_without_upstream() -> None:
    answer = ask(SHOP, "www.example.com")
    assert (answer.rcode(), answer.answer, answer.authority) == (NXDOMAIN, [], [])
    assert "AA" not in flags(answer), "nothing is said about a zone that is not ours"


def test_srv_answers_carry_the_addresses() -> None:
    answer = ask(SHOP, "_pg._tcp.db.shop.svc.cluster.local", "SRV")
    assert lines(answer.additional) == [
        "10-0-2-6.db.shop.svc.cluster.local A 10.0.2.6",
        "db-0.db.shop.svc.cluster.local A 10.0.1.5",
        "db-1.db.shop.svc.cluster.local A 10.0.2.5",
    ]


def test_the_case_of_the_question_is_kept() -> None:
    answer = ask(SHOP, "wEb.sHOp.SVC.cluster.LOCAL")
    assert lines(answer.answer) == ["wEb.sHOp.SVC.cluster.LOCAL A 10.3.240.9"]
    negative = ask(SHOP, "nObody.sHOp.SVC.cluster.LOCAL")
    assert str(negative.question[0].name) == "nObody.sHOp.SVC.cluster.LOCAL."


def test_every_address_comes_first_in_turn() -> None:
    firsts = [str(ask(SHOP, "db.shop.svc.cluster.local", turn=n).answer[0][0]) for n in range(6)]
    assert firsts == ["10.0.1.5", "10.0.2.5", "10.0.2.6"] * 2


def test_only_ready_endpoints_have_names() -> None:
    known = zone(
        DB, slice_of("shop/db", endpoint("10.0.1.5"), endpoint("10.0.1.6", NOT_READY), endpoint("10.0.1.7", DRAINING))
    )
    assert lines(ask(known, "db.shop.svc.cluster.local").answer) == ["db.shop.svc.cluster.local A 10.0.1.5"]
    assert ask(known, "6.1.0.10.in-addr.arpa", "PTR").rcode() == NXDOMAIN


def test_addresses_that_are_not_ready_may_be_published() -> None:
    early = service("shop/db", "None", port(5432, "pg"), publish_not_ready_addresses=True)
    known = zone(early, slice_of("shop/db", endpoint("10.0.1.6", NOT_READY)))
    assert lines(ask(known, "db.shop.svc.cluster.local").answer) == ["db.shop.svc.cluster.local A 10.0.1.6"]


def test_a_hostname_that_several_endpoints_have() -> None:
    pieces = [
        slice_of("shop/db", named(endpoint(f"10.0.1.{n}"), "db"), suffix=str(n), ports={"pg": 5432}) for n in (5, 6)
    ]
    known = zone(DB, *pieces)
    assert len(ask(known, "db.db.shop.svc.cluster.local").answer[0]) == 2
    assert len(ask(known, "_pg._tcp.db.shop.svc.cluster.local", "SRV").answer[0]) == 1


def test_an_address_behind_two_headless_services_has_two_names() -> None:
    other = service("shop/other", "None", port(1, "x"))
    known = zone(DB, slice_of("shop/db", endpoint("10.0.1.5")), other, slice_of("shop/other", endpoint("10.0.1.5")))
    assert lines(ask(known, "5.1.0.10.in-addr.arpa", "PTR").answer) == [
        "5.1.0.10.in-addr.arpa PTR 10-0-1-5.db.shop.svc.cluster.local",
        "5.1.0.10.in-addr.arpa PTR 10-0-1-5.other.shop.svc.cluster.local",
    ]


def test_both_families() -> None:
    spec = msgspec.structs.replace(WEB.spec, cluster_ips=("10.3.240.9", "2001:db8::9"))
    known = zone(msgspec.structs.replace(WEB, spec=spec))
    assert lines(ask(known, "web.shop.svc.cluster.local", "AAAA").answer) == [
        "web.shop.svc.cluster.local AAAA 2001:db8::9"
    ]
    back = "9." + "0." * 23 + "8.b.d.0.1.0.0.2.ip6.arpa"
    assert lines(ask(known, back, "PTR").answer) == [f"{back} PTR web.shop.svc.cluster.local"]
    assert ask(known, "a." + back, "PTR").rcode() == NXDOMAIN


def test_aliases_in_a_circle_fail_and_do_not_hang() -> None:
    there = service("a/x", "", port(), type="ExternalName", external_name="x.b.svc.cluster.local")
    back = service("b/x", "", port(), type="ExternalName", external_name="x.a.svc.cluster.local")
    assert ask(zone(there, back), "x.a.svc.cluster.local").rcode() == dns.rcode.SERVFAIL


def test_an_alias_of_nobody_says_so() -> None:
    alias = service("a/x", "", port(), type="ExternalName", external_name="gone.b.svc.cluster.local")
    answer = ask(zone(alias), "x.a.svc.cluster.local")
    assert (answer.rcode(), lines(answer.answer)) == (
        NXDOMAIN,
        ["x.a.svc.cluster.local CNAME gone.b.svc.cluster.local"],
    )
    assert answer.authority


def test_pods_that_are_verified_are_known_while_they_run() -> None:
    config = DnsConfig(pods=PodNames.VERIFIED)
    known = zones.compile_all({"p": pod_records(pod("shop/p", "10.0.1.5"), config)}, config)
    assert lines(ask(known, "10-0-1-5.shop.pod.cluster.local").answer) == ["10-0-1-5.shop.pod.cluster.local A 10.0.1.5"]
    assert ask(known, "10-0-1-5.other.pod.cluster.local").rcode() == NXDOMAIN
    assert ask(known, "10-0-1-6.shop.pod.cluster.local").rcode() == NXDOMAIN
    assert pod_records(pod("shop/p", "10.0.1.5", phase="Succeeded"), config) == ()
    assert pod_records(pod("shop/p"), config) == ()


def test_pods_may_have_no_names() -> None:
    known = zone(WEB, config=DnsConfig(pods=PodNames.DISABLED))
    assert ask(known, "10-0-1-5.shop.pod.cluster.local").rcode() == NXDOMAIN


def test_another_domain() -> None:
    known = zone(WEB, config=DnsConfig(domain="Lab.Example"))
    assert lines(ask(known, "web.shop.svc.lab.example").answer) == ["web.shop.svc.lab.example A 10.3.240.9"]
    assert ask(known, "web.shop.svc.cluster.local").rcode() == NXDOMAIN


# Upstream


@pytest.mark.parametrize("name", ["www.example.com", "1.2.3.4.in-addr.arpa", "cluster.localhost", "xcluster.local"])
def test_what_is_not_ours_is_asked_elsewhere(name: str) -> None:
    assert not forwarded(zone(WEB, config=UPSTREAM), name).decision.answers


@pytest.mark.parametrize("name", ["nobody.shop.svc.cluster.local", "svc.cluster.local", "cluster.local"])
def test_what_is_ours_is_asked_nowhere(name: str) -> None:
    assert ask(zone(WEB, config=UPSTREAM), name).answer == []


def elsewhere(name: str, *texts: str, rcode: int = 0) -> bytes:
    """What an upstream server answers about `name`."""
    said = dns.message.make_response(dns.message.make_query(name, "A"), recursion_available=True)
    said.set_rcode(dns.rcode.Rcode(rcode))
    for text in texts:
        owner, type_, value = text.split(" ")
        said.answer.append(dns.rrset.from_text(owner, 300, "IN", type_, value))
    return said.to_wire()


def test_an_alias_to_the_outside_is_followed_there() -> None:
    known = zone(OUTSIDE, config=UPSTREAM)
    asked = forwarded(known, "outside.shop.svc.cluster.local")
    said = elsewhere(
        "shop.example.com", "shop.example.com. CNAME a.cdn.example.net.", "a.cdn.example.net. A 192.0.2.80"
    )
    answer = dns.message.from_wire(finish(known, asked, said))
    assert lines(answer.answer) == [
        "a.cdn.example.net A 192.0.2.80",
        "outside.shop.svc.cluster.local CNAME shop.example.com",
        "shop.example.com CNAME a.cdn.example.net",
    ]
    assert "AA" not in flags(answer)


def test_an_alias_to_a_name_that_is_gone() -> None:
    known = zone(OUTSIDE, config=UPSTREAM)
    asked = forwarded(known, "outside.shop.svc.cluster.local")
    answer = dns.message.from_wire(finish(known, asked, elsewhere("shop.example.com", rcode=3)))
    assert (answer.rcode(), len(answer.answer)) == (NXDOMAIN, 1)


NONSENSE = [None, b"", b"\0\0\x80\0\0\0\0\1\0\0\0\0\xff", b"\0\0\x80\x0b" + b"\0" * 8]


@pytest.mark.parametrize("said", NONSENSE, ids=["silence", "nothing", "no record", "an unknown status"])
def test_silence_and_nonsense_from_upstream(said: bytes | None) -> None:
    known = zone(OUTSIDE, config=UPSTREAM)
    answer = dns.message.from_wire(finish(known, forwarded(known, "outside.shop.svc.cluster.local"), said))
    assert answer.rcode() == dns.rcode.SERVFAIL


def test_a_whole_answer_is_passed_on_as_it_is() -> None:
    known = zone(config=UPSTREAM)
    asked = forwarded(known, "www.example.com")
    said = elsewhere("www.example.com", "www.example.com. A 192.0.2.80")
    assert finish(known, asked, said) == asked.query.id + said[2:]


def test_equal_objects_make_equal_zones_whatever_their_order() -> None:
    assert zone(WEB, DB, DB_SLICE, ALIAS, OUTSIDE) == zone(OUTSIDE, ALIAS, DB_SLICE, DB, WEB)
