"""Whole tables as text, one folder for each scenario: `objects.yaml` → `ruleset.nft`, as node-1 has it.

`pytest tests/golden --update-golden` writes the texts anew; the difference in review is the change."""

from __future__ import annotations

import difflib
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from build_proxy import from_yaml, ruleset
from portway.nft.text import render

HERE = Path(__file__).parent
SCENARIOS = sorted(path.parent.name for path in HERE.glob("*/objects.yaml"))


def compiled(scenario: str) -> str:
    with open(HERE / scenario / "objects.yaml") as file:
        return render(ruleset(*from_yaml(yaml.safe_load_all(file))))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_table_is_the_expected_text(scenario: str, request: pytest.FixtureRequest) -> None:
    expected, made = HERE / scenario / "ruleset.nft", compiled(scenario)
    if request.config.getoption("--update-golden"):
        expected.write_text(made)
    before = expected.read_text() if expected.exists() else ""
    if made != before:
        lines = difflib.unified_diff(before.splitlines(), made.splitlines(), "expected", "made", lineterm="")
        pytest.fail("\n".join([*lines, "If this is meant: pytest tests/golden --update-golden"]), pytrace=False)


def test_what_is_not_ours_leaves_the_table_of_an_empty_cluster() -> None:
    assert compiled("not-ours") == compiled("nothing")


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_nft_reads_the_text(scenario: str) -> None:
    """`nft --check` resolves names and types in the kernel without changing anything; in a namespace all the same."""
    nft, unshare = shutil.which("nft"), shutil.which("unshare")
    if not nft or not unshare:
        pytest.skip("nft or unshare is not installed (Debian: nftables, util-linux)")
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    if subprocess.run([unshare, *user, "--net", "true"], capture_output=True).returncode:
        pytest.skip("network namespaces cannot be made here (portway doctor says why)")
    text = (HERE / scenario / "ruleset.nft").read_text()
    command = [unshare, *user, "--net", nft, "--check", "--file", "-"]
    ran = subprocess.run(command, input=text, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
