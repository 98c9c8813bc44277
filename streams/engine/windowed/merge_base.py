"""The common part of both kinds of stage two: follows the source partitions' watermarks and merges their partials."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from weir.streams.engine.aggregates.partials import Partial, decode
from weir.streams.engine.core.errors import unchanged
from weir.streams.engine.core.records import Record, Stage
from weir.streams.engine.core.watermarks import MergedWatermarks
from weir.streams.engine.windowed.spec import WindowedSpec


class WindowCell(NamedTuple):
    """A cell as it is asked for: its window (epoch ms), what is in it, and whether the window is closed."""

    start: int
    end: int
    result: Any
    final: bool


class MergingState(Protocol):
    """The fields that the states of both stages have, committed with the partials' offset."""

    outputs: int
    watermarks: list[int | None]
    horizons: list[int | None]
    restore_from: int | None
    counted: int


class Merging(Stage):
    """The merging stage of one output partition: it owns the keys that `partials.owner` gives to that partition."""

    def __init__(self, job: WindowedSpec, partition: int, sources: int, outputs: int) -> None:
        self._job, self._partition, self._outputs = job, partition, outputs
        self._marks = MergedWatermarks(sources)
        self._backlogs = [0] * sources  # of the source partitions, in ms, when they were last heard of
        self._counted = 0
        self._unflushed = self._advanced = False  # whether cells, or offsets alone, wait for a flush

    def _take_up(self, state: MergingState) -> None:
        unchanged(self._job.name, self._job.source, len(state.watermarks), len(self._marks.watermarks))
        unchanged(self._job.name, self._job.partials, state.outputs, self._outputs)
        self._marks.watermarks, self._marks.horizons = state.watermarks, state.horizons
        self._counted, self.restore_from = state.counted, state.restore_from

    def process(self, records: Sequence[Record]) -> None:
        """Merges partials in offset order."""
        for record in records:
            partial = decode(record.value())  # type: ignore[arg-type]  # written by stage one, never without a value
            unchanged(
                self._job.name, self._job.source, len(self._marks.watermarks), max(partial.sources, partial.source + 1)
            )
            self._marks.heard(partial.source, partial.watermark, partial.horizon)
            self._backlogs[partial.source] = partial.backlog
            self._unflushed = self._unflushed or bool(partial.cells)
            self._advanced = True
            self._counted += partial.events
            self._merge(partial, record.offset())

    @abstractmethod
    def _merge(self, partial: Partial, offset: int) -> None:
        """Puts a partial's cells to what is there."""

    @property
    def upstream(self) -> float:
        return max(self._backlogs) / 1000

    def caught_up(self, elapsed_ms: int, others: int | None) -> None:
        """Event time comes with the partials alone; offsets of those without cells are committed when it is quiet."""
        self._unflushed = self._unflushed or self._advanced

    @property
    def watermark(self) -> int | None:
        """How far event time has come in this table."""
        return self._marks.watermark
