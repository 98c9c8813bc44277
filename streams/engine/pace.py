"""When a task flushes: at once where there is nothing more to wait for, seldom where there is much to do.

A transaction costs the same however much is in it. So one default serves both: a quiet topic's events are out in
milliseconds, and a worker that is behind flushes rarely until it has caught up. Pure: times are passed in, in seconds.
"""

from __future__ import annotations

#: While a task is behind, the linger grows to this many times what it is.
GROWTH = 10.0
#: It grows by this part of the time that the task has been behind.
SHARE = 0.5
#: So few records since the last flush are written at once.
FEW = 64
#: More are written no sooner than this part of the linger after the last flush, though there is nothing to read.
GAP = 0.1


class Pace:
    """The pace of one task; `linger` (s) is the longest time between two flushes when it is not behind."""

    def __init__(self, linger: float) -> None:
        self._linger = linger
        self._flushed = 0.0  # when the last flush began
        self._drained: float | None = None  # when there was nothing more to read; None: not yet
        self._records = 0  # since the last flush
        self.behind = False  # whether more was there to be read when the last slice was

    def handled(self, now: float, records: int, drained: bool) -> None:
        """A slice of so many records was processed; `drained`: it was all that was there to be read."""
        self._records += records
        self.behind = not drained
        if drained or self._drained is None:
            self._drained = now

    def due(self, now: float, patient: bool) -> float:
        """In how many seconds to flush what there is. `patient`: more is known to be on its way, so a little wait will
        save a flush.
        """
        since = now - self._flushed
        if self.behind or patient:
            return max(0.0, self.linger(now) - since)
        return 0.0 if self._records <= FEW else max(0.0, GAP * self._linger - since)

    def linger(self, now: float) -> float:
        """The longest time between two flushes, as things are."""
        behind_for = 0.0 if self._drained is None or not self.behind else now - self._drained
        return min(GROWTH * self._linger, max(self._linger, SHARE * behind_for))

    def flushes(self, now: float) -> None:
        """A flush begins."""
        self._flushed, self._records = now, 0
