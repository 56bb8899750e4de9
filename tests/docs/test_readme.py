"""The README is the product's face: what it shows is compared with the program."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def test_the_command_line_text_is_what_the_program_prints() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "portway", "--help"],
        env={"COLUMNS": "100", "NO_COLOR": "1", "PATH": "/usr/bin:/bin"}, text=True, capture_output=True, check=True,
    )  # fmt: skip
    block = re.search(r"<!-- The text below.*?```text\n(.*?)```", README, re.S)
    assert block is not None
    shown = [line.rstrip() for line in block.group(1).strip().splitlines()]
    assert shown == [line.rstrip() for line in done.stdout.strip().splitlines()]


@pytest.mark.parametrize("page", ["README.md", *(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/**/*.md"))])
def test_links_lead_to_files_that_are_there(page: str) -> None:
    folder = (ROOT / page).parent
    targets = re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text())
    assert [t for t in targets if not (folder / t).exists()] == []


def test_every_make_target_that_the_readme_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"\bmake ([a-z]+)", README))
    assert {"demo", "test"} <= named
    assert [t for t in named if not re.search(rf"^{t}:", makefile, re.M)] == []


def test_the_example_folders_say_what_they_are() -> None:
    for folder in (ROOT / "examples").iterdir():
        if folder.is_dir() and folder.name[:2].isdigit():
            for manifest in folder.glob("*.yaml"):
                assert manifest.read_text().startswith("# Step"), f"{manifest} does not say which step it is"


def test_the_demo_that_the_readme_shows_is_from_one_run() -> None:
    run = (ROOT / "docs" / "demo.txt").read_text().splitlines()
    block = re.search(r"## The demo, as it prints\n\n```text\n(.*?)```", README, re.S)
    assert block is not None
    assert [line for line in block.group(1).splitlines() if line not in run] == []


def test_the_demo_has_a_step_for_each_that_the_run_shows() -> None:
    demo = (ROOT / "examples" / "01-the-road-opens" / "demo.py").read_text()
    titles = re.findall(r'    title\("(\d\..*?)"\)', demo)
    shown = re.findall(r"^━━ (\d\..*?) ━+$", (ROOT / "docs" / "demo.txt").read_text(), re.M)
    assert titles == shown
    assert len(titles) == 8
