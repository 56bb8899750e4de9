"""The kernel half of the contract tests for an ordinary user: run again inside a user namespace, where it may make namespaces.

Root has them without that, in the folders' own run, so this is for everybody else. What a folder's tests print goes into the
report when one of them fails.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
FOLDERS = ("netlink", "netns", "nft", "proxy", "golden")

ENTER = """
import os, sys
from portway.lab.isolate import enter_user_namespace
enter_user_namespace()
os.execv(sys.executable, [sys.executable, "-m", "pytest", "-p", "no:randomly", "-rs", *sys.argv[1:]])
"""


@pytest.mark.skipif(os.geteuid() == 0, reason="root may make namespaces: these tests ran where they stand")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("folder", FOLDERS)
def test_the_folder_passes_inside_a_user_namespace(folder: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENTER, str(TESTS / folder)],
        cwd=TESTS.parent, text=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not permitted" not in done.stdout, done.stdout
