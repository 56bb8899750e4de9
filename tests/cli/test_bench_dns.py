"""The bench of names answers, loses nothing that it counts as answered, and prints what it measured."""

from __future__ import annotations

import json
import subprocess
import sys

from portway.cli.bench_dns import made_up_services, measure


def test_every_query_of_both_mixes_has_a_proper_answer() -> None:
    figures = measure(services=20, seconds=0.2)
    assert figures.services == 20
    for rate in (figures.hits, figures.search):
        assert rate.per_second > 0
        assert rate.wrong == 0, "only answers and names that are not there"


def test_the_services_differ_in_name_and_address() -> None:
    services = list(made_up_services(1000))
    assert len({s.ref for s in services}) == len({s.spec.cluster_ip for s in services}) == 1000


def test_as_a_command() -> None:
    command = [sys.executable, "-m", "portway", "bench", "dns", "--services", "5", "--seconds", "0.1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout).keys() == {"services", "compile_s", "change_ms", "hits", "search"}
