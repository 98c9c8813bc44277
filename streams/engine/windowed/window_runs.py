"""A set of windows as runs of neighbours: a day of windows, or a year, takes no more room than one."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence


class WindowRuns:
    """Window starts, each a multiple of `step` (ms), in runs [first, after the last), in order.

    >>> runs = WindowRuns(10)
    >>> runs.add(0, 30); runs.add(50, 60); runs.add(30, 50)
    >>> 40 in runs, 60 in runs, runs.packed(0, 8)
    (True, False, [(0, 6)])
    """

    def __init__(self, step: int, windows: Iterable[int] = ()) -> None:
        self._step = step
        self._firsts: list[int] = []
        self._ends: list[int] = []
        for window in windows:
            self.add(window, window + step)

    def __contains__(self, window: int) -> bool:
        at = bisect_right(self._firsts, window) - 1
        return at >= 0 and window < self._ends[at]

    def __iter__(self) -> Iterator[int]:
        for first, end in zip(self._firsts, self._ends, strict=True):
            yield from range(first, end, self._step)

    def add(self, first: int, end: int) -> None:
        """Adds the windows that start from `first` on and before `end`."""
        if first >= end:
            return
        low, high = bisect_left(self._ends, first), bisect_right(self._firsts, end)  # what they touch
        if low < high:
            first, end = min(first, self._firsts[low]), max(end, self._ends[high - 1])
        self._firsts[low:high], self._ends[low:high] = [first], [end]

    def drop_before(self, window: int) -> None:
        """Forgets the windows that start before `window`."""
        window = -(-window // self._step) * self._step
        gone = bisect_right(self._ends, window)
        del self._firsts[:gone], self._ends[:gone]
        if self._firsts and self._firsts[0] < window:
            self._firsts[0] = window

    def packed(self, base: int, maximum: int) -> list[tuple[int, int]]:
        """The latest `most` runs: [how many windows after `base` it begins, its length]."""
        found = zip(self._firsts[-maximum:], self._ends[-maximum:], strict=True)
        return [((first - base) // self._step, (end - first) // self._step) for first, end in found]

    def unpack(self, packed: Sequence[tuple[int, int]], base: int) -> None:
        """Adds what `packed` gave."""
        for number, length in packed:
            first = base + number * self._step
            self.add(first, first + length * self._step)
