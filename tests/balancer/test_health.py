"""What results of a health check mean, step by step, and when the next look is due."""

from __future__ import annotations

import pytest

from portway.balancer.health import Condition, Timing, after, pause

TIMING = Timing()
CAREFUL = Timing(unhealthy_after=3, healthy_after=2)


def seen(results: str, timing: Timing) -> list[bool | None]:
    """The verdict after each result; "." passes, "x" fails."""
    condition, verdicts = Condition(), []
    for result in results:
        condition = after(condition, "" if result == "." else "refused", timing)
        verdicts.append(condition.healthy)
    return verdicts


@pytest.mark.parametrize(
    ("sentence", "results", "timing", "verdicts"),
    [
        ("the first result counts at once", ".", TIMING, "+"),
        ("also when it is bad", "x", TIMING, "-"),
        ("one failure is forgiven", ".x.", TIMING, "+++"),
        ("two are not", ".xx", TIMING, "++-"),
        ("one success brings it back", ".xx.", TIMING, "++-+"),
        ("a success in between starts the count anew", ".x.x.xx", TIMING, "++++++-"),
        ("three failures, two successes", ".xxx..", CAREFUL, "+++--+"),
        ("a failure in between starts the count anew", ".xxx.x..", CAREFUL, "+++----+"),
    ],
)
def test_verdicts(sentence: str, results: str, timing: Timing, verdicts: str) -> None:
    assert seen(results, timing) == [v == "+" for v in verdicts], sentence


def test_a_condition_says_what_was_wrong() -> None:
    bad = after(Condition(), "answered 503", TIMING)
    assert (bad.healthy, bad.words) == (False, "answered 503")
    assert after(bad, "", TIMING).words == "passes"


def test_a_first_failure_is_looked_at_again_at_once() -> None:
    well = after(Condition(), "", TIMING)
    assert pause(well, TIMING) == TIMING.interval
    assert pause(after(well, "refused", TIMING), TIMING) == 0


def test_one_that_is_not_healthy_is_asked_often_at_first_and_then_at_the_interval() -> None:
    condition, pauses = Condition(), []
    for _ in range(8):
        condition = after(condition, "refused", TIMING)
        pauses.append(pause(condition, TIMING))
    assert pauses[:3] == [0.02, 0.04, 0.08] and pauses[-1] == TIMING.interval


def test_a_node_that_dies_is_found_within_the_promise() -> None:
    """It may die just after a check; then two time-outs follow, without a pause between them."""
    assert TIMING.interval + TIMING.unhealthy_after * TIMING.timeout < 2
