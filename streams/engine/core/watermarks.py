"""Watermarks: how far event time has come, per source partition and over all of them.

A source partition has two. Its *watermark* closes windows: the largest timestamp delivered, or, while the partition is
idle, what its owner declares (Flink: source idleness). Its *horizon* decides lateness and lets windows be
forgotten: it follows the watermark's declared part only after a retention's time has passed on the clock, so that a
partition which merely starts later than the others (a replay, a slow producer) loses nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

#: About so many declarations wait at most for the horizon to follow them.
PENDING = 1000


class SourceWatermark:
    """One source partition's watermark and horizon, as its owner knows them. Both only ever rise."""

    def __init__(self, retention: int) -> None:
        self._retention = retention
        self.high: int | None = None  # the largest timestamp delivered
        self.declared: int | None = None  # said while idle
        self.horizon: int | None = None
        self.pending: deque[tuple[int, int]] = deque()  # (clock ms, declared) not in the horizon yet, oldest first

    @property
    def watermark(self) -> int | None:
        """The watermark that closes windows; None as long as no event time is known."""
        return _most(self.high, self.declared)

    def delivered(self, high: int) -> None:
        """Events up to timestamp `high` were delivered."""
        self.high = _most(self.high, high)
        self.horizon = _most(self.horizon, high)

    def declare(self, watermark: int, clock_ms: int) -> None:
        """The partition is idle, and its owner says that event time has come to `watermark`."""
        self.declared = _most(self.declared, watermark)
        if not self.pending or not 0 <= clock_ms - self.pending[-1][0] < self._retention // PENDING:
            self.pending.append((clock_ms, watermark))
        while self.pending and self.pending[0][0] <= clock_ms - self._retention:
            self.horizon = _most(self.horizon, self.pending.popleft()[1])


class MergedWatermarks:
    """The watermarks of all source partitions, as one output partition has heard of them."""

    def __init__(self, partitions: int) -> None:
        self.watermarks: list[int | None] = [None] * partitions
        self.horizons: list[int | None] = [None] * partitions

    def heard(self, partition: int, watermark: int | None, horizon: int | None) -> None:
        """A source partition said how far it is."""
        self.watermarks[partition] = _most(self.watermarks[partition], watermark)
        self.horizons[partition] = _most(self.horizons[partition], horizon)

    @property
    def watermark(self) -> int | None:
        """The least of all; None while one has not been heard of: it may hold any window open."""
        return _least(self.watermarks)

    @property
    def horizon(self) -> int | None:
        """No source partition will ever deliver an event older than this minus the retention."""
        return _least(self.horizons)


def _most(a: int | None, b: int | None) -> int | None:
    if a is None or b is None:
        return b if a is None else a
    return max(a, b)


def _least(values: Sequence[int | None]) -> int | None:
    return None if any(v is None for v in values) else min(v for v in values if v is not None)
