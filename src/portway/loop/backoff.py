"""How long to wait before trying again: full jitter, so that many waiters do not come back in step.

Used by `reconcile` and by whoever restarts something that failed. Chance is an argument: tests pass a seeded one.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field


@dataclass(slots=True)
class Backoff:
    """Anything from nothing to `first`, then 2 × `first`, … up to `most`; in seconds."""

    first: float = 0.01
    most: float = 5.0
    chance: random.Random = field(default_factory=random.Random)
    failures: int = 0

    def next(self) -> float:
        ceiling = min(self.most, self.first * 2 ** min(self.failures, 30))
        self.failures += 1
        return self.chance.uniform(0, ceiling)

    def reset(self) -> None:
        self.failures = 0
