"""When a task flushes: at once where there is little to do, seldom where there is much.

A transaction costs the same however much is in it. So one default serves both: a quiet topic's events are out in
milliseconds, and a worker that is behind flushes rarely until it has caught up. Pure: times are passed in, in seconds.
"""

from __future__ import annotations

#: So few records, with those that are left to be read, are written at once.
FEW = 64
#: More are written no sooner than this part of the linger after the last flush.
GAP = 0.3
#: What is late by some time, for more is left to be read, may be later by this part of it.
SHARE = 0.5
#: However much is left, there are so many seconds between two flushes at most, or a linger.
LONGEST_S = 2.0
#: The speed of a task is measured over so long a time.
MEASURE_S = 1.0


class FlushPolicy:
    """The pace of one task, which `linger` (s) sets."""

    def __init__(self, linger: float) -> None:
        self._linger = linger
        self._flushed = 0.0  # when the last flush began
        self._records = 0  # since the last flush
        self._left = 0
        self._rate = 0.0  # records a second; 0: not known yet
        self._since, self._measured = 0.0, 0  # what the next rate is measured from

    def handled(self, now: float, records: int, left: int) -> None:
        """A slice of so many records was processed; so many more were there to be read."""
        self._records += records
        self._left = left
        self._measured += records
        if now - self._since > MEASURE_S:
            self._rate = self._measured / (now - self._since) if self._since else 0.0
            self._since, self._measured = now, 0

    @property
    def backlog(self) -> float:
        """How long what is left to be read will take, in seconds, at the speed of late."""
        if self._left == 0:
            return 0.0
        return self._left / self._rate if self._rate else self._linger

    def due(self, now: float, upstream: float) -> float:
        """In how many seconds to flush. `upstream` (s): what the stages before this one still have to do."""
        if upstream == 0 and self._records + self._left <= FEW:
            return 0.0
        wait = max(GAP * self._linger, SHARE * max(self.backlog, upstream))
        return max(0.0, min(wait, max(LONGEST_S, self._linger)) - (now - self._flushed))

    def flushes(self, now: float) -> None:
        """A flush begins."""
        self._flushed, self._records = now, 0
