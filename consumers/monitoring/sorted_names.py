"""Names in order, while more are added: a list of short sorted lists.

A single sorted list would move half of a million names for each that is added; sorting at each question would take a
second. Pure.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator

#: A run has no more names, and two neighbours have more than a quarter of it together.
_MOST = 512


class SortedNames:
    """Names, each added once. What iterates over them does so between two changes."""

    __slots__ = ("_runs",)

    def __init__(self) -> None:
        self._runs: list[list[str]] = []

    def add(self, name: str) -> None:
        """Takes a name that is not there yet."""
        if not self._runs:
            self._runs.append([name])
            return
        at = min(bisect_left(self._runs, name, key=_last), len(self._runs) - 1)
        run = self._runs[at]
        insort(run, name)
        if len(run) > _MOST:
            # In order of their names, as many are: what is split off at the end then leaves a full run behind.
            half = _MOST if run[-1] == name and at == len(self._runs) - 1 else _MOST // 2
            self._runs.insert(at + 1, run[half:])
            del run[half:]

    def remove(self, name: str) -> None:
        """Takes out a name that is there."""
        at = bisect_left(self._runs, name, key=_last)
        run = self._runs[at]
        del run[bisect_left(run, name)]
        for first in (at - 1, at):
            if first >= 0 and len(some := self._runs[first : first + 2]) == 2 and len(some[0] + some[1]) <= _MOST // 4:
                self._runs[first : first + 2] = [some[0] + some[1]]
                return
        if not run:
            del self._runs[at]

    def since(self, name: str, *, after: bool = False) -> Iterator[str]:
        """The names from this one on, or `after` it, in order."""
        place = bisect_right if after else bisect_left
        at = place(self._runs, name, key=_last)
        if at < len(self._runs):
            run = self._runs[at]
            yield from run[place(run, name) :]
            for run in self._runs[at + 1 :]:
                yield from run


def _last(run: list[str]) -> str:
    return run[-1]
