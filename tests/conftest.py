"""Options of the whole test run, and the cluster that the road's and the conformance tests share.

The cluster is brought up once as this user and, for root, once more inside a user namespace as an ordinary user's is.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab_driver import Lab

BOTH_WAYS = ("test_road.py", "test_pods.py")
MODES = ["root", "userns"] if os.geteuid() == 0 else ["userns"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write what is made now over the expected texts")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Fast ones first: whatever needs no cluster runs before what does, in the order it had.

    Root walks the road both ways; the other cases, which stand on the same road, in the first way only. (An ordinary user has
    but one way, so runs them all in it.)"""
    again = [item for item in items if _is_repeated(item)]
    config.hook.pytest_deselected(items=again)
    items[:] = sorted((i for i in items if i not in again), key=lambda i: i.get_closest_marker("lab") is not None)


def _is_repeated(item: pytest.Item) -> bool:
    mode = getattr(item, "callspec", None) and item.callspec.params.get("lab")  # type: ignore[attr-defined]
    return mode in MODES[1:] and item.path.name not in BOTH_WAYS


@pytest.fixture(scope="session", params=MODES)
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A cluster of two nodes, shared by all tests; each works in an API namespace of its own and restores what it stops."""
    home: Path = tmp_path_factory.mktemp("portway")
    lab = Lab(home, userns=request.param == "userns")
    lab.up("--nodes", "2")
    try:
        yield lab
    finally:
        lab.portway("down")


@pytest.fixture
def namespace(lab: Lab) -> Iterator[str]:
    with lab.namespace(f"t-{uuid.uuid4().hex[:8]}") as name:
        yield name


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A state folder of its own, for tests that bring a cluster up and down themselves."""
    return tmp_path / "portway"
