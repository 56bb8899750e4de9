"""What is printed: columns that line up, and a reader who has left."""

from __future__ import annotations

import io
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.cli import show


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    text = show.table(("NODE", "STATE"), [("node-1", "ready"), ("n", "")])
    assert text.splitlines() == ["NODE     STATE", "node-1   ready", "n"]


def test_a_table_without_rows_is_its_header() -> None:
    assert show.table(("NODE", "STATE"), []) == "NODE   STATE"


CELLS = st.text(st.characters(categories=("L", "N")), max_size=9)


@given(st.lists(st.tuples(CELLS, CELLS, CELLS)))
def test_every_cell_of_a_column_starts_at_the_same_place(rows: list[tuple[str, str, str]]) -> None:
    lines = show.table(("A", "B", "C"), rows).split("\n")
    start = lines[0].index("B")
    assert all(line[start : start + len(row[1])] == row[1] for line, row in zip(lines[1:], rows, strict=True))
    assert all(line == line.rstrip() for line in lines)


class Gone(io.StringIO):
    def write(self, _: str) -> int:
        raise BrokenPipeError


def test_progress_that_nobody_reads_does_not_stop_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Gone())
    show.complain("0.66 s  network")


def test_a_result_that_nobody_reads_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Gone())
    with pytest.raises(BrokenPipeError):
        show.say("portway is up")
