"""The arithmetic of `portway bench`; the figures themselves are never asserted."""

from __future__ import annotations

import os

import pytest

from portway.cli.bench import Run, _resident_mb, summary


def run(up: float) -> Run:
    return Run(python_start_s=0.5, up_s=up, rss_mb=100.0, apply_to_first_answer_s=0.4, down_s=0.1)


def test_a_figure_has_its_minimum_median_and_maximum() -> None:
    assert summary([run(1.0), run(4.0), run(2.0)])["up_s"] == {"min": 1.0, "median": 2.0, "max": 4.0}


def test_the_ratio_is_taken_run_by_run() -> None:
    assert summary([run(1.0), run(2.0)])["up_per_python_start"] == {"min": 2.0, "median": 3.0, "max": 4.0}


def test_memory_counts_a_process_and_what_is_below_it() -> None:
    child = os.fork()
    if child == 0:  # pragma: no cover - the child only waits to be counted
        import signal

        signal.pause()
        os._exit(0)
    try:
        assert _resident_mb(os.getpid()) > _resident_mb(child) > 0
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


def test_a_process_that_is_gone_weighs_nothing() -> None:
    assert _resident_mb(2**30) == pytest.approx(0.0)
