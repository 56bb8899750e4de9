"""Every folder of examples/ runs: its demo.py brings a cluster up, walks its road, and ends with 0."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lab_driver import ROOT, Lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

EXAMPLES = sorted(p for p in (ROOT / "examples").iterdir() if p.is_dir() and p.name[:2].isdigit())


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda p: p.name)
def test_the_example_walks_to_its_end(folder: Path, home: Path) -> None:
    lab = Lab(home)
    try:
        done = subprocess.run(
            [sys.executable, str(folder / "demo.py")],
            env=lab.env, cwd=ROOT, text=True, capture_output=True, timeout=240, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert "The road is open" in done.stdout
        assert lab.status()["ready"] is True, "the cluster is left running"
    finally:
        lab.portway("down")
