"""What both kinds of stage two are: they hear how far the source partitions are, and merge what these have counted."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from streams.engine.errors import unchanged
from streams.engine.partials import Partial, decode
from streams.engine.records import Record, Stage
from streams.engine.watermarks import MergedWatermarks

if TYPE_CHECKING:
    from streams.engine.windowed import Windowed


class Found(NamedTuple):
    """A cell as it is asked for: its window (epoch ms), what is in it, and whether the window is closed."""

    start: int
    end: int
    result: Any
    final: bool


class Remembered(Protocol):
    """What both remember with the partials' committed offset."""

    outputs: int
    watermarks: list[int | None]
    horizons: list[int | None]
    restore_from: int | None
    counted: int


class Merging(Stage):
    """The merging stage of one output partition: it owns the keys that `partials.owner` gives to that partition."""

    def __init__(self, job: Windowed, partition: int, sources: int, outputs: int) -> None:
        self._job, self._partition, self._outputs = job, partition, outputs
        self._marks = MergedWatermarks(sources)
        self._backlogs = [0] * sources  # of the source partitions, in ms, when they were last heard of
        self._counted = 0
        self._news = self._unsaid = False  # whether there are cells, or anything, that no flush has taken

    def _take_up(self, state: Remembered) -> None:
        unchanged(self._job.source, len(state.watermarks), len(self._marks.watermarks))
        unchanged(self._job.partials, state.outputs, self._outputs)
        self._marks.watermarks, self._marks.horizons = state.watermarks, state.horizons
        self._counted, self.restore_from = state.counted, state.restore_from

    def process(self, records: Sequence[Record]) -> None:
        """Merges partials in offset order."""
        for record in records:
            partial = decode(record.value())  # type: ignore[arg-type]  # written by stage one, never without a value
            unchanged(self._job.source, len(self._marks.watermarks), partial.sources)
            self._marks.heard(partial.source, partial.watermark, partial.horizon)
            self._backlogs[partial.source] = partial.backlog
            self._news = self._news or bool(partial.cells)
            self._unsaid = True
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
        self._news = self._news or self._unsaid

    @property
    def watermark(self) -> int | None:
        """How far event time has come in this table."""
        return self._marks.watermark
