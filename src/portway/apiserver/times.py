"""Seconds since 1970 and the text forms that people and objects have of them: RFC 3339, and kubectl's short ages.

The clock itself is an argument everywhere (`Clock`); nothing here reads one.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], float]
"""Seconds since 1970; `time.time` in production."""


def rfc3339(seconds: float) -> str:
    """Whole seconds, UTC, as `metadata.creationTimestamp` has it."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse(text: str) -> float:
    """RFC 3339 with or without a fraction. ValueError for anything else."""
    stamp = datetime.fromisoformat(text)
    if stamp.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    return stamp.timestamp()


def age(seconds: float) -> str:
    """kubectl's human duration: two units while the bigger one is small (apimachinery `HumanDuration`)."""
    total = int(seconds)
    if total < -1:
        return "<invalid>"
    if total < 0:
        return "0s"
    minutes, hours, days = total // 60, total // 3600, total // 86400
    if total < 120:
        return f"{total}s"
    if minutes < 10:
        return _two(minutes, "m", total % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    return _long_age(hours, days)


def _long_age(hours: int, days: int) -> str:
    years = days // 365
    if days < 8:
        return _two(days, "d", hours % 24, "h")
    if years < 2:
        return f"{days}d"
    if years < 8:
        return _two(years, "y", days % 365, "d")
    return f"{years}y"


def _two(big: int, big_unit: str, small: int, small_unit: str) -> str:
    return f"{big}{big_unit}{small}{small_unit}" if small else f"{big}{big_unit}"
