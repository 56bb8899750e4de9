"""Thresholds: when a row of answers changes a probe's verdict."""

from __future__ import annotations

import pytest

from portway.node.probes import ProbeKind, ProbeResult, fatal, first, observe, port_number, probes_of
from portway.objects.core import Container, ContainerPort, Probe, TCPSocketAction

READY, LIVE, START = ProbeKind.READINESS, ProbeKind.LIVENESS, ProbeKind.STARTUP

# answers: + a success, - a failure; verdicts after each: R passing, . not, ! the container must die
ROWS = (
    ("ready with the first success", READY, 1, 3, "+", "R"),
    ("two successes asked for", READY, 2, 3, "+++", ".RR"),
    ("a failure in between starts the count anew", READY, 2, 3, "+-++", "...R"),
    ("three failures take readiness away", READY, 1, 3, "+----", "RRR.."),
    ("a success in between saves it", READY, 1, 3, "+--+--", "RRRRRR"),
    ("one failure is enough where the threshold says so", READY, 1, 1, "+-+", "R.R"),
    ("readiness never kills", READY, 1, 1, "---", "..."),
    ("alive until proven otherwise", LIVE, 1, 3, "--", "RR"),
    ("three failures kill", LIVE, 1, 3, "---", "RR!"),
    ("an answer in time saves it", LIVE, 1, 3, "--+--", "RRRRR"),
    ("a slow start", START, 1, 3, "--+", "..R"),
    ("a start that never comes", START, 1, 3, "---", "..!"),
)


@pytest.mark.parametrize(("story", "kind", "good", "bad", "answers", "expected"), ROWS, ids=[row[0] for row in ROWS])
def test_verdicts(story: str, kind: ProbeKind, good: int, bad: int, answers: str, expected: str) -> None:
    verdict, probe, seen = first(kind), Probe(success_threshold=good, failure_threshold=bad), ""
    for answer in answers:
        verdict = observe(verdict, probe, ProbeResult(answer == "+"))
        seen += "!" if fatal(verdict) else "R" if verdict.passing else "."
    assert seen == expected


def test_named_ports() -> None:
    container = Container(name="main", ports=(ContainerPort("http", 8080), ContainerPort("admin", 9090)))
    assert port_number(80, container) == 80
    assert port_number("admin", container) == 9090
    assert port_number("8443", container) == 8443
    assert port_number("nobody", container) is None


def test_only_the_probes_that_are_asked_for() -> None:
    probe = Probe(tcp_socket=TCPSocketAction(port=80))
    assert probes_of(Container(name="main", readiness_probe=probe, liveness_probe=probe)) == {READY: probe, LIVE: probe}
