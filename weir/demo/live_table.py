"""Live counts of the links job for the demo: the busiest links of open windows, and the totals of closed windows.

Pure: records in, a snapshot out.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from weir.schemas.links import Link, LinkCount
from weir.schemas.windows import Window, WindowClosed, is_complete, window_bounds

Pair = tuple[str, str]


@dataclass(frozen=True)
class WindowTotal:
    """One window: how many calls it has so far, over how many links."""

    window: Window
    calls: int
    links: int


@dataclass(frozen=True)
class Snapshot:
    """How it stands. `current` is the newest open window with its busiest links; the rest, newest first, is `closed`,
    or open still: `closing`."""

    current: WindowTotal | None
    busiest: list[Link]
    closing: list[WindowTotal]
    closed: list[WindowTotal]
    calls: int


@dataclass
class _Cells:
    """One window. `finals`: the pairs that are final, per partition; `closings`: how many there are to be, likewise."""

    counts: Counter[Pair] = field(default_factory=Counter)
    finals: dict[int, set[Pair]] = field(default_factory=dict)
    closings: dict[int, int] = field(default_factory=dict)
    partitions: int = 0

    def whole(self) -> bool:
        return is_complete(self.partitions, self.closings, self.finals)


class LiveTable:
    """Takes records of link-counts and link-windows in any order of the two; remembers the newest `kept` windows.

    Windows that ended by `since` (epoch milliseconds) are somebody else's, and left out.
    """

    def __init__(self, kept: int = 120, since: int = 0) -> None:
        self._since = since
        self._windows: dict[Window, _Cells] = {}
        self._kept = kept
        self._calls = 0

    def count(self, partition: int, record: LinkCount) -> None:
        """A count, read from that partition of link-counts. The latest of a window and pair is the truth."""
        if window_bounds(record.window)[1] <= self._since:
            return
        cells = self._cells(record.window)
        pair = (record.source, record.destination)
        self._calls += record.count - cells.counts[pair]
        cells.counts[pair] = record.count
        if record.final:
            cells.finals.setdefault(partition, set()).add(pair)

    def closed(self, record: WindowClosed) -> None:
        """A partition has closed a window."""
        if window_bounds(record.window)[1] <= self._since:
            return
        cells = self._cells(record.window)
        cells.partitions = record.partitions
        cells.closings[record.partition] = record.cells

    def snapshot(self, busiest: int = 10) -> Snapshot:
        """Returns the current state of the counts, with the `busiest` busiest links."""
        newest_first = sorted(self._windows.items(), key=lambda item: item[0].start, reverse=True)
        unfinished = [(window, cells) for window, cells in newest_first if cells.counts and not cells.whole()]
        return Snapshot(
            current=_total(*unfinished[0]) if unfinished else None,
            busiest=_busiest(unfinished[0][1].counts, busiest) if unfinished else [],
            closing=[_total(window, cells) for window, cells in unfinished[1:]],
            closed=[_total(window, cells) for window, cells in newest_first if cells.whole()],
            calls=self._calls,
        )

    def _cells(self, window: Window) -> _Cells:
        cells = self._windows.get(window)
        if cells is None:
            cells = self._windows[window] = _Cells()
            while len(self._windows) > self._kept:
                del self._windows[min(self._windows, key=lambda w: w.start)]
        return cells


def _total(window: Window, cells: _Cells) -> WindowTotal:
    return WindowTotal(window, cells.counts.total(), len(cells.counts))


def _busiest(counts: Mapping[Pair, int], most: int) -> list[Link]:
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [Link(*pair, count) for pair, count in ranked[:most]]


class Rate:
    """How fast a total grows, over the last `span` seconds of any clock."""

    def __init__(self, span: float = 5.0) -> None:
        self._span = span
        self._seen: deque[tuple[float, int]] = deque()

    def per_second(self, now: float, total: int) -> float:
        """Takes in the total of this moment; gives the growth per second, 0 at first."""
        self._seen.append((now, total))
        while len(self._seen) > 2 and self._seen[1][0] <= now - self._span:
            self._seen.popleft()
        then, before = self._seen[0]
        return (total - before) / (now - then) if now > then else 0.0
