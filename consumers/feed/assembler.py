"""Whole windows out of records of link-counts and link-windows, which are read apart: pure, no I/O, no clock.

A window is whole once every partition has closed it, and as many final counts of each have come as it said. It is
reported then, and again whenever a final count of it changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from weir.schemas.links import Link, LinkCount, WindowSummary
from weir.schemas.topic import PartitionId
from weir.schemas.windows import Window, WindowClosed, is_complete, window_bounds

_NEVER = -(2**63)


class At(NamedTuple):
    """Where a record stands, and what is known of it.

    `reported`: an earlier run has reported everything up to it. `ours`: it was written after this reporter's very
    first start; a window is reported if a partition closed it since then.
    """

    place: PartitionId
    offset: int
    reported: bool = False
    ours: bool = True


@dataclass
class _Assembly:
    """One window as far as it is known.

    `first` is the oldest record of each place that it was made from. `touched` is how far event time was when the last
    record came, its own end at least; None until that is looked at.
    """

    window: Window
    end: int
    partitions: int = 0
    cells: dict[int, dict[tuple[str, str], int]] = field(default_factory=dict)
    closings: dict[int, int] = field(default_factory=dict)
    first: dict[PartitionId, int] = field(default_factory=dict)
    ours: bool = False
    news: bool = False
    touched: int | None = None
    overdue_since: float | None = None

    def whole(self) -> bool:
        return is_complete(self.partitions, self.closings, self.cells)

    def pending(self) -> bool:
        return self.ours and self.news and self.whole()

    def summary(self) -> WindowSummary:
        counts = {pair: count for cells in self.cells.values() for pair, count in cells.items()}
        return WindowSummary(self.window, [Link(*pair, count) for pair, count in sorted(counts.items())])


class WindowAssembler:
    """Takes records in the order of their offsets within each partition, gives the summaries of whole windows.

    `partitions` are those of link-counts. A window is forgotten once event time, as far as it was read, has moved
    `horizon` milliseconds past the window's end and past the last change to it; one that is not whole by then is
    waited for another `patience` seconds.
    """

    def __init__(self, partitions: Iterable[int], horizon: int, patience: float = 600.0) -> None:
        self._horizon = horizon
        self._patience = patience
        self._windows: dict[tuple[int, int], _Assembly] = {}
        # Per partition: the end of the newest window it has closed, and of the newest with a final count read of it.
        self._closed = dict.fromkeys(partitions, _NEVER)
        self._counted = dict.fromkeys(self._closed, _NEVER)
        self._at_end: set[int] = set()

    def __len__(self) -> int:
        return len(self._windows)

    def count(self, at: At, record: LinkCount) -> None:
        """Takes a record of link-counts. One that is not final says nothing about a whole window."""
        partition = at.place[1]
        self._at_end.discard(partition)
        if not record.final:
            return
        assembly = self._assembly(at, record.window)
        self._counted[partition] = max(self._counted.get(partition, _NEVER), assembly.end)
        cells = assembly.cells.setdefault(partition, {})
        pair = (record.source, record.destination)
        if cells.get(pair) != record.count:
            cells[pair] = record.count
            assembly.news = assembly.news or not at.reported

    def closed(self, at: At, record: WindowClosed) -> None:
        """Takes a record of link-windows."""
        assembly = self._assembly(at, record.window)
        self._closed[record.partition] = max(self._closed.get(record.partition, _NEVER), assembly.end)
        assembly.ours = assembly.ours or at.ours
        assembly.news = assembly.news or not at.reported
        assembly.partitions = record.partitions
        assembly.closings[record.partition] = record.cells

    def at_end(self, partition: int) -> None:
        """Records that this partition of link-counts has been read to its end."""
        self._at_end.add(partition)

    def take(self) -> list[WindowSummary]:
        """The windows that are whole and not yet reported as they are now, in order of their start."""
        found = sorted(bounds for bounds, assembly in self._windows.items() if assembly.pending())
        for bounds in found:
            self._windows[bounds].news = False
        return [self._windows[bounds].summary() for bounds in found]

    def forget(self, now: float) -> list[Window]:
        """Forgets what is past; gives the windows that were waited for in vain. `now` is any clock in seconds."""
        reference = self._reference()
        given_up = []
        for bounds, assembly in list(self._windows.items()):
            if assembly.touched is None:
                assembly.touched = max(assembly.end, reference)
            if assembly.touched + self._horizon > reference or assembly.pending():
                continue
            if assembly.news and not assembly.whole():
                if assembly.overdue_since is None:
                    assembly.overdue_since = now
                if now - assembly.overdue_since < self._patience:
                    continue
                given_up.append(assembly.window)
            del self._windows[bounds]
        return given_up

    def needed(self) -> dict[PartitionId, int]:
        """The offset of the oldest record of each place that a window remembered here was made from."""
        oldest: dict[PartitionId, int] = {}
        for assembly in self._windows.values():
            for place, offset in assembly.first.items():
                oldest[place] = min(offset, oldest.get(place, offset))
        return oldest

    def _assembly(self, at: At, window: Window) -> _Assembly:
        bounds = window_bounds(window)
        assembly = self._windows.get(bounds)
        if assembly is None:
            assembly = self._windows[bounds] = _Assembly(window, bounds[1])
        assembly.first.setdefault(at.place, at.offset)
        assembly.touched = None
        assembly.overdue_since = None
        return assembly

    def _reference(self) -> int:
        """How far event time was read: up to the newest window that every partition has closed, but no further than
        the final counts read of a partition that has more to read."""
        closed = min(self._closed.values(), default=_NEVER)
        return min([closed, *(end for p, end in self._counted.items() if p not in self._at_end)])
