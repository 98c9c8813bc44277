"""How long to wait before the next try."""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """Delays in seconds that double from `first` up to `cap`; of each, at least half is waited.

    The other half is drawn by `jitter` (0 to 1), which keeps many clients that lost the same server from coming back
    all at once.

    >>> backoff = Backoff(first=1.0, cap=3.0, jitter=lambda: 1.0)
    >>> [backoff.next() for _ in range(3)]
    [1.0, 2.0, 3.0]
    """

    def __init__(self, first: float = 0.5, cap: float = 30.0, jitter: Callable[[], float] = random.random) -> None:
        self._first = first
        self._cap = cap
        self._jitter = jitter
        self.attempt = 0

    def next(self) -> float:
        """The delay before the next try; counts it as an attempt."""
        delay = min(self._cap, self._first * 2.0 ** min(self.attempt, 60))
        self.attempt += 1
        return delay * (0.5 + 0.5 * self._jitter())

    def reset(self) -> None:
        """Records a success: the next failure starts from the shortest delay again."""
        self.attempt = 0
