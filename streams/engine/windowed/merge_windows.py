"""Stage two: partial results to the windowed table, its changes and its closed windows."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping

import msgspec

from weir.streams.engine.aggregates.aggregation import Key, shared
from weir.streams.engine.aggregates.partials import Partial
from weir.streams.engine.core.errors import StateLostError
from weir.streams.engine.core.offset_metadata import read_metadata, write_metadata
from weir.streams.engine.core.records import Bulk, FlushBatch, Produce, Record
from weir.streams.engine.state.tables import Cells, StateTable
from weir.streams.engine.windowed.merge_base import Merging, WindowCell
from weir.streams.engine.windowed.results import cell_key, closed, state_bytes
from weir.streams.engine.windowed.spec import WindowedSpec
from weir.streams.engine.windowed.window_runs import WindowRuns
from weir.streams.engine.windowed.windows import Windows

#: How many runs of windows are remembered across a restart, newest first: in a commit's metadata there is little room.
RUNS = 7
#: Of how many windows, the latest ones, a commit's metadata says where their cells begin; and up to how many source
#: partitions, whose watermarks stand there too, there is room for that.
BEGINNINGS, ROOMY = 7, 120
#: How many empty windows in a row are announced when event time jumps: a day of minutes. A jump over more is a replay.
EMPTY_WINDOWS = 1440


class MergeState(msgspec.Struct, array_like=True):
    """The state that is committed with the partials' offset. `restore_from` None: no window is live.

    `born`: when (epoch ms) the table began, before its first commit. `through`: the offset of the last partial in it:
    no two commits with other cells have the same (see `rocks`). `named` and `apart`: windows that are open, and that
    were closed before `announced_from`, as runs of [how many windows from there it begins, how many there are].
    `latest`: the start of the latest window that has cells; `gone`: of the latest whose cells Kafka has deleted.
    `begun`: of the latest windows, how many windows before `latest` each starts, and how many offsets after
    `restore_from` its cells begin.
    """

    outputs: int
    watermarks: list[int | None]
    horizons: list[int | None]
    open_from: int | None
    announced_from: int | None
    restore_from: int | None
    counted: int
    born: int
    through: int
    named: list[tuple[int, int]]
    apart: list[tuple[int, int]]
    latest: int | None = None
    gone: int | None = None
    begun: list[tuple[int, int]] = []


class Merge(Merging):
    """Stage two of windows that are aligned.

    A window is closed when it starts before `_open_from`. Its cells stay until no source partition can deliver an event
    for it any more (the merged horizon), so that a late event revises the final result.
    """

    def __init__(
        self,
        job: WindowedSpec,
        windows: Windows,
        table: StateTable,
        partition: int,
        sources: int,
        outputs: int,
        now: int,
    ) -> None:
        super().__init__(job, partition, sources, outputs)
        self._windows, self._table = windows, table
        self._dirty: defaultdict[int, set[Key]] = defaultdict(set)
        self._in_flight: Mapping[int, set[Key]] = {}  # what was dirty when the last flush began, until it is committed
        self._touched: set[int] = set()  # windows that some partition got its first cells for since the last flush
        self._named: set[int] = set()  # open windows that some output partition has cells for
        self._open_from: int | None = None  # before the first closing: the start of the earliest window heard of
        self._announced_from: int | None = None  # from here to _open_from every window was announced closed
        self._announced_apart = WindowRuns(windows.advance)  # earlier ones that were: closed before heard of, for one
        self._first_offset: dict[int, int] = {}  # window start to the changelog offset its cells begin at, or earlier
        self._born, self._through = now, -1
        self._beginnings = BEGINNINGS if sources <= ROOMY else 0
        self._latest: int | None = None  # the start of the latest window that had cells when this was committed
        self._gone: int | None = None  # the start of the latest window whose cells Kafka has deleted
        self._begun: dict[int, int] = {}  # where cells began when this was committed, of the latest windows

    @property
    def cells(self) -> int:
        return sum(len(self._table.cells(window)) for window in self._table.windows())

    def restore(self, metadata: str | None) -> None:
        if metadata is None:
            self._table.restore(None)
            return
        state = read_metadata(metadata, MergeState)
        self._take_up(state)
        self._open_from, self._announced_from = state.open_from, state.announced_from
        self._born, self._through = state.born, state.through
        self._latest, self._gone = state.latest, state.gone
        if state.latest is not None and state.restore_from is not None:
            latest, base = state.latest, state.restore_from
            self._begun = {latest - before * self._windows.advance: base + after for before, after in state.begun}
        named = WindowRuns(self._windows.advance)
        named.unpack(state.named, state.open_from or 0)
        self._named = set(named)
        self._announced_apart.unpack(state.apart, state.announced_from or 0)
        if self._table.restore(metadata) and state.restore_from is not None:
            self.restore_from = None
            self._first_offset = dict.fromkeys(self._table.windows(), state.restore_from)

    def restore_cells(self, records: Iterable[Record]) -> int:
        """The latest per key is the state. Cells that the table has kept by itself are not read again."""
        read, load, table = self._job.reads_cells, self._job.aggregation.load, self._table
        size, gone = self._windows.size, self._gone_through()
        for record in records:
            start, _, key, plain = read(record)
            if start + size > gone and (self._gone is None or start > self._gone):
                self._first_offset.setdefault(start, record.offset())
                table.cells(start)[shared(key)] = load(plain)
        table.restored()
        return sum(len(table.cells(window)) for window in table.windows())

    def forgo(self, first: int) -> bool:
        """Windows of which results have reached their topic's retention are gone, as in Kafka Streams: none of them is
        closed any more. An event for one of them would begin its count again, so that is refused when it comes.

        The windows after them are whole, since all of their cells are at `first` or behind it. They are found among the
        `BEGINNINGS` latest ones: where event time goes on after a stop, it does so there.
        """
        if self._latest is None:  # written by a version that did not say
            return False
        step = self._windows.advance
        lost = [window for window, offset in self._begun.items() if offset < first]
        self._gone = max(lost, default=min(self._begun, default=self._latest + step) - step)
        self._named = {window for window in self._named if window > self._gone}
        return True

    def _merge(self, partial: Partial, offset: int) -> None:
        self._through = offset
        windows: Iterable[int] = partial.windows
        if self._gone is not None:
            gone = self._gone
            windows = [window for window in windows if window > gone]
            if any(window <= gone for window, _, _ in partial.cells):
                raise StateLostError(
                    f"an event came for a window that is still open, but the window's counts reached the retention of "
                    f"topic {self._job.output.name} while no worker ran, and were deleted; stop the workers and run "
                    f"`weir reset {self._job.name}`, which recounts all events"
                )
        self._touched.update(windows)
        self._named.update(windows)
        for window, keys, plain in partial.cells:
            self._dirty[window].update(keys)
            self._job.aggregation.merge_into(self._table.fetched(window, keys), keys, plain)

    def take(self, changelog_end: int) -> FlushBatch | None:
        bulks, closings = self._close(changelog_end)
        if not bulks and not closings and not self._unflushed:
            return None
        self._forget()
        self._unflushed = self._advanced = False
        latest, restore_from = max(self._first_offset, default=None), min(self._first_offset.values(), default=None)
        begun = [
            ((latest - window) // self._windows.advance, self._first_offset[window] - restore_from)
            for window in heapq.nlargest(self._beginnings, self._first_offset)
            if latest is not None and restore_from is not None
        ]
        state = MergeState(
            self._outputs,
            self._marks.watermarks,
            self._marks.horizons,
            self._open_from,
            self._announced_from,
            restore_from,
            self._counted,
            self._born,
            self._through,
            WindowRuns(self._windows.advance, self._named).packed(self._open_from or 0, RUNS),
            self._announced_apart.packed(self._announced_from or 0, RUNS),
            latest,
            self._gone,
            begun,
        )
        metadata = write_metadata(state)
        self._table.flush(metadata)
        return FlushBatch(closings, metadata, bulks)

    def committed(self) -> None:
        self._in_flight = {}
        self._table.committed()

    def close(self) -> None:
        self._table.close()

    def find(self, key: Key) -> list[WindowCell]:
        """The key's cells, the latest window first."""
        table, size, result = self._table, self._windows.size, self._job.aggregation.result
        cells = ((window, table.cells(window).get(key)) for window in sorted(table.windows(), reverse=True))
        return [WindowCell(w, w + size, result(state), self._closed(w)) for w, state in cells if state is not None]

    def pending(self, key: Key) -> bool:
        """Whether something of the key's is not committed yet."""
        return any(key in keys for dirty in (self._dirty, self._in_flight) for keys in dirty.values())

    def _close(self, changelog_end: int) -> tuple[list[Bulk], list[Produce]]:
        """Dirty cells, and of the windows that close now all cells, and that they are closed."""
        dirty, self._dirty = self._dirty, defaultdict(set)
        touched, self._touched = self._touched, set()
        self._in_flight = dirty
        for window in dirty:
            self._first_offset.setdefault(window, changelog_end)
        closing = {window for window in self._advance(touched) if self._gone is None or window > self._gone}
        on_close = self._job.emits_on_close
        results = _Results(self._job, self._windows.size, self._table)
        for window, keys in dirty.items():
            if window not in closing and (not on_close or self._closed(window)):
                results.add(window, keys, self._closed(window))
        closings = []
        for window in sorted(closing | self._unannounced(touched)):
            own: Cells = self._table.cells(window) if window in self._table.windows() else {}
            if window in closing and own:
                results.add(window, own, True)
            if self._job.closings is not None:
                key, value = closed(window, window + self._windows.size, self._partition, self._outputs, len(own))
                closings.append(Produce(self._job.closings.name, value, key, self._partition))
        return results.bulks(self._partition, dirty), closings

    def _closed(self, window: int) -> bool:
        return self._open_from is not None and window < self._open_from

    def _advance(self, touched: set[int]) -> set[int]:
        """Moves `_open_from` to where the watermark allows; gives the starts of the windows that close."""
        step, before = self._windows.advance, self._open_from
        if self._announced_from is None and touched:
            before = self._open_from = min(touched) if before is None else min(before, *touched)
        watermark = self._marks.watermark
        if before is None or watermark is None:
            return set()
        through = self._windows.open_from(watermark)
        if through <= before:
            return set()
        first = max(before, through - EMPTY_WINDOWS * step)
        jumped_over = {w for w in {*self._table.windows(), *self._named} if before <= w < first}
        if self._announced_from is None or first > before:
            start = before if self._announced_from is None else self._announced_from
            again = {w for w in touched if start <= w < before}  # also if gone with the very flush that has them
            if self._announced_from is not None:
                self._announced_apart.add(self._announced_from, before)
            for window in again | jumped_over:
                self._announced_apart.add(window, window + step)
            self._announced_from = first
        self._open_from = through
        return jumped_over | set(range(first, through, step))

    def _unannounced(self, touched: set[int]) -> set[int]:
        """Windows that were closed before anyone had heard of them: they are announced with their first cells."""
        start = self._announced_from
        if start is None:
            return set()
        new = {window for window in touched if window < start and window not in self._announced_apart}
        for window in new:
            self._announced_apart.add(window, window + self._windows.advance)
        return new

    def _gone_through(self) -> int:
        """Windows that end at or before this are forgotten: they are closed, and every event for them would be late."""
        horizon = self._marks.horizon
        if horizon is None or self._open_from is None:
            return -1
        closed = self._open_from - self._windows.advance + self._windows.size  # where the last closed window ends
        return min(self._windows.late_before(horizon), closed)

    def _forget(self) -> None:
        size, gone = self._windows.size, self._gone_through()
        for window in [w for w in self._table.windows() if w + size <= gone]:
            self._table.drop(window)
            self._first_offset.pop(window, None)
        self._announced_apart.drop_before(gone - size + 1)
        self._named = {w for w in self._named if not self._closed(w)}


class _Results:
    """Collects what a flush writes: results, and the states of changed cells where a restore needs them apart."""

    def __init__(self, job: WindowedSpec, size: int, table: StateTable) -> None:
        self._job, self._size, self._table = job, size, table
        self._records: list[tuple[bytes, bytes]] = []
        self._states: list[bytes] | None = [] if job.states_in_headers else None

    def add(self, window: int, keys: Iterable[Key], final: bool) -> None:
        """Results of these cells of a window."""
        end = window + self._size
        cells = self._table.cells(window)
        found = list(cells.items()) if keys is cells else [(key, cells[key]) for key in keys]
        self._records += self._job.writes_cells(window, end, self._job.aggregation.results(found), final)
        if self._states is not None:
            dump = self._job.aggregation.dump
            self._states += [state_bytes(window, end, key, dump(state)) for key, state in found]
        settle = self._job.aggregation.settle
        if final and settle is not None and self._job.store == "memory":
            for key, state in found:
                cells[key] = settle(state)

    def bulks(self, partition: int, dirty: Mapping[int, set[Key]]) -> list[Bulk]:
        """Returns the collected results, and the states of the `dirty` cells if the job has a changelog for them."""
        job, dump = self._job, self._job.aggregation.dump
        found = [Bulk(job.output.name, partition, self._records, self._states)] if self._records else []
        if job.changelog is not None and dirty:
            changed = []
            for window, keys in dirty.items():
                cells, end = self._table.cells(window), window + self._size
                changed += [(cell_key(window, key), state_bytes(window, end, key, dump(cells[key]))) for key in keys]
            found.append(Bulk(job.changelog.name, partition, changed))
        return found
