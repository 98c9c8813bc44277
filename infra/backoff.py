"""How long to wait before the next try."""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """Delays in seconds that double from `first` up to `longest`, each shortened at random by up to a half.

    The randomness keeps many clients that lost the same server from coming back all at once.
    """

    def __init__(self, first: float = 0.2, longest: float = 5.0, random: Callable[[], float] = random.random) -> None:
        self._first = first
        self._longest = longest
        self._random = random
        self.attempt = 0

    def next(self) -> float:
        """The delay before the next try; counts it as an attempt."""
        delay = min(self._longest, self._first * 2.0 ** min(self.attempt, 60))
        self.attempt += 1
        return delay * (1 - self._random() / 2)

    def reset(self) -> None:
        """It worked: the next failure starts from the shortest delay again."""
        self.attempt = 0
