"""Stage two: partial counts to the windowed table, its changes and its closed windows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec

from streams.engine.errors import PartitionsChangedError
from streams.engine.job import WindowedCount
from streams.engine.partials import Key, decode
from streams.engine.records import Batch, Bulk, Produce, Record
from streams.engine.watermarks import MergedWatermarks

#: How many empty windows in a row are announced when event time jumps: a day of minutes. A jump over more is a replay.
EMPTY_WINDOWS = 1440


class MergeState(msgspec.Struct, array_like=True):
    """What is remembered with the partials' committed offset. `restore_from` None: no window is live."""

    outputs: int
    watermarks: list[int | None]
    horizons: list[int | None]
    closed_through: int | None
    announced_from: int | None
    restore_from: int | None
    counted: int


class Merge:
    """The merging stage of one output partition: it owns the keys that `partials.owner` gives to that partition.

    A window is closed when its end is at or before `_closed_through`. Its cells stay until no source partition can
    deliver an event for it any more (the merged horizon), so that a late event revises the final count.
    """

    def __init__(self, job: WindowedCount, partition: int, sources: int, outputs: int) -> None:
        self._job, self._partition, self._outputs = job, partition, outputs
        self._marks = MergedWatermarks(sources)
        self._table: dict[int, dict[Key, int]] = {}
        self._dirty: defaultdict[int, set[Key]] = defaultdict(set)
        self._touched: set[int] = set()  # windows that some output partition got cells for since the last flush
        self._closed_through: int | None = None  # before the first closing: the start of the earliest window heard of
        self._announced_from: int | None = None  # from here to _closed_through every window was announced closed
        self._announced_apart: set[int] = set()  # earlier ones that were: they closed before anyone had heard of them
        self._first_offset: dict[int, int] = {}  # window start to the changelog offset its cells begin at, or earlier
        self._counted = 0
        self._news = self._unsaid = False
        self.restore_from: int | None = None

    def restore(self, metadata: str | None) -> None:
        if metadata is None:
            return
        state = msgspec.json.decode(metadata, type=MergeState)
        if len(state.watermarks) != len(self._marks.watermarks):
            raise PartitionsChangedError(self._job.source.name, len(state.watermarks), len(self._marks.watermarks))
        if state.outputs != self._outputs:
            raise PartitionsChangedError(self._job.partials.name, state.outputs, self._outputs)
        self._marks.watermarks, self._marks.horizons = state.watermarks, state.horizons
        self._closed_through, self._announced_from = state.closed_through, state.announced_from
        self._counted = state.counted
        self.restore_from = state.restore_from

    def restore_cells(self, records: Iterable[Record]) -> int:
        """Takes the changelog from `restore_from` on, in offset order; the latest per key is the count.

        Gives the number of cells that are live again.
        """
        gone = self._gone()
        for record in records:
            window, key, count = self._job.read_cell(record)
            if window + self._job.windows.size > gone:
                self._first_offset.setdefault(window, record.offset())
                self._table.setdefault(window, {})[key] = count
        if self._announced_from is not None:
            self._announced_apart = {window for window in self._table if window < self._announced_from}
        return sum(len(cells) for cells in self._table.values())

    def process(self, records: Sequence[Record]) -> None:
        """Merges partials in offset order."""
        table, dirty = self._table, self._dirty
        for record in records:
            partial = decode(record.value())  # type: ignore[arg-type]  # written by stage one, never without a value
            if partial.sources != len(self._marks.watermarks):
                raise PartitionsChangedError(self._job.source.name, len(self._marks.watermarks), partial.sources)
            self._marks.heard(partial.source, partial.watermark, partial.horizon)
            self._news = self._news or bool(partial.cells)
            self._unsaid = True
            self._touched.update(partial.windows)
            for window, keys, counts in partial.cells:
                dirty[window].update(keys)
                cells = table.setdefault(window, {})
                for key, count in zip(keys, counts, strict=True):
                    cells[key] = cells.get(key, 0) + count
                self._counted += sum(counts)

    def caught_up(self, elapsed_ms: int, others: int | None) -> None:
        """Event time comes with the partials alone; offsets of those without cells are committed when it is quiet."""
        self._news = self._news or self._unsaid

    def take(self, changelog_end: int) -> Batch | None:
        cells, closings = self._close(changelog_end)
        if not cells and not closings and not self._news:
            return None
        self._forget()
        self._news = self._unsaid = False
        state = MergeState(
            self._outputs,
            self._marks.watermarks,
            self._marks.horizons,
            self._closed_through,
            self._announced_from,
            min(self._first_offset.values(), default=None),
            self._counted,
        )
        metadata = msgspec.json.encode(state).decode()
        return Batch(closings, metadata, Bulk(self._job.output.name, self._partition, cells))

    def _close(self, changelog_end: int) -> tuple[list[tuple[bytes, bytes]], list[Produce]]:
        """Dirty cells, and of the windows that close now all cells, and that they are closed."""
        dirty, self._dirty = self._dirty, defaultdict(set)
        touched, self._touched = self._touched, set()
        for window in dirty:
            self._first_offset.setdefault(window, changelog_end)
        closing = self._advance(touched)
        cells: list[tuple[bytes, bytes]] = []
        for window, keys in dirty.items():
            if window not in closing:
                cells += self._write(window, keys)
        closings = []
        for window in sorted(closing | self._unannounced(touched)):
            own = self._table.get(window, {})
            if window in closing:
                cells += self._write(window, own)
            key, value = self._job.closed(window, self._partition, self._outputs, len(own))
            closings.append(Produce(self._job.closings.name, value, key, self._partition))
        return cells, closings

    def _write(self, window: int, keys: Iterable[Key]) -> list[tuple[bytes, bytes]]:
        make, final, cells = self._job.cell, self._closed(window), self._table.get(window, {})
        return [make(window, key, cells[key], final) for key in keys]

    def _closed(self, window: int) -> bool:
        return self._closed_through is not None and window + self._job.windows.size <= self._closed_through

    def _advance(self, touched: set[int]) -> set[int]:
        """Moves `_closed_through` to where the watermark allows; gives the starts of the windows that close."""
        size, before = self._job.windows.size, self._closed_through
        if self._announced_from is None and touched:
            before = self._closed_through = min(touched) if before is None else min(before, *touched)
        watermark = self._marks.watermark
        if before is None or watermark is None:
            return set()
        through = self._job.windows.closed_before(watermark)
        if through <= before:
            return set()
        first = max(before, through - EMPTY_WINDOWS * size)
        if self._announced_from is None or first > before:
            self._announced_apart |= {window for window in self._table if window < first}
            self._announced_from = first
        self._closed_through = through
        return {w for w in {*self._table, *touched} if before <= w < first} | set(range(first, through, size))

    def _unannounced(self, touched: set[int]) -> set[int]:
        """Windows that were closed before anyone had heard of them: they are announced with their first cells."""
        start = self._announced_from
        if start is None:
            return set()
        new = {window for window in touched if window < start} - self._announced_apart
        self._announced_apart |= new
        return new

    def _gone(self) -> int:
        """Windows that end at or before this are forgotten: every event for them is late."""
        horizon = self._marks.horizon
        if horizon is None or self._closed_through is None:
            return -1
        return min(self._job.windows.late_before(horizon), self._closed_through)

    def _forget(self) -> None:
        gone = self._gone()
        for window in [w for w in self._table if w + self._job.windows.size <= gone]:
            del self._table[window]
            self._first_offset.pop(window, None)
        self._announced_apart = {w for w in self._announced_apart if w + self._job.windows.size > gone}
