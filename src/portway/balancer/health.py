"""What the results of a health check mean: thresholds, and when to look again. Pure; `lab.edge_health` does the looking."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds, and how many results in a row change a verdict.

    A node that failed once is asked again at once; one that is not healthy yet is asked often at first, since a node port
    opens a moment after its Service appears."""

    interval: float = 0.5
    timeout: float = 0.4
    unhealthy_after: int = 2
    healthy_after: int = 1
    first_retry: float = 0.02


@dataclass(frozen=True, slots=True)
class Condition:
    """What is known of one node by one check. `healthy` is None before the first result."""

    healthy: bool | None = None
    streak: int = 0
    failures: int = 0
    words: str = "not checked yet"


def after(before: Condition, problem: str, timing: Timing) -> Condition:
    """The condition after one more result; `problem` is "" when the node passed."""
    passed = not problem
    if before.healthy is None:
        return Condition(passed, 0, 0 if passed else 1, problem or "passes")
    failures = 0 if passed else before.failures + 1
    if passed == before.healthy:
        return Condition(before.healthy, 0, failures, problem or "passes")
    streak = before.streak + 1
    enough = timing.healthy_after if passed else timing.unhealthy_after
    if streak >= enough:
        return Condition(passed, 0, failures, problem or "passes")
    return replace(before, streak=streak, failures=failures, words=problem or before.words)


def pause(condition: Condition, timing: Timing) -> float:
    """Seconds from one result to the next look."""
    if condition.streak:
        return 0.0
    if condition.healthy:
        return timing.interval
    doubled = timing.first_retry * 2 ** min(condition.failures - 1, 10)
    return float(min(timing.interval, doubled))
