"""The stages that hold keyed state: one reads a source that is partitioned by the key, one reads what `route` sends."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from weir.schemas.dead_letters import REPLAYED_FROM, Headers
from weir.schemas.errors import PoisonError
from weir.schemas.topics import DEAD_LETTERS
from weir.streams.engine.core.errors import unchanged
from weir.streams.engine.core.offset_metadata import read_metadata, write_metadata
from weir.streams.engine.core.records import FROM_START, FlushBatch, Produce, Record, Stage
from weir.streams.engine.core.watermarks import MergedWatermarks
from weir.streams.engine.input.dead_letters import to_dead_letter
from weir.streams.engine.input.source import CHUNK, Elements, KeyedReader, SourcePartition, SourceStage, SourceState
from weir.streams.engine.keyed.repartition import RepartitionRecord, RepartitionRow, decode
from weir.streams.engine.keyed.spec import KeyedSpec
from weir.streams.engine.keyed.table import KeyedCell, KeyedTable
from weir.streams.engine.state.tables import StateTable


class KeyedState(msgspec.Struct, array_like=True):
    """The state that is committed with the offset of a source that is read directly. `born` as in `MergeState`.
    `dropped`: the number of keys dropped because the table was full.
    """

    sources: int
    source: SourceState
    born: int
    dropped: int = 0


class RoutedKeyedState(msgspec.Struct, array_like=True):
    """The state committed with a repartition topic's offset. `merged` elements were processed, `dead` were refused."""

    outputs: int
    watermarks: list[int | None]
    merged: int
    dead: int
    born: int
    dropped: int = 0


class _Table(Stage):
    """The common part of both keyed stages: the table, restored from its whole changelog."""

    def __init__(self, job: KeyedSpec[Any, Any], partition: int, table: StateTable, share: float, now: int) -> None:
        self._job, self._partition, self._born = job, partition, now
        self._table: KeyedTable[Any, Any] = KeyedTable(job, partition, table, share)

    def restore_cells(self, records: Iterable[Record]) -> int:
        """Takes the whole changelog partition; gives the number of keys."""
        return self._table.restore(records)

    def committed(self) -> None:
        self._table.committed()

    def close(self) -> None:
        self._table.close()

    @property
    def cells(self) -> int:
        return len(self._table)

    @property
    def dropped(self) -> int | None:
        return None if self._job.capacity is None else self._table.dropped

    def find(self, key: tuple[str, ...]) -> list[KeyedCell]:
        """Returns the key's cell for a query: a list of one or none. The cell may be uncommitted: see `pending`."""
        cell = self._table.cell(key[0]) if len(key) == 1 else None
        return [] if cell is None else [cell]

    def pending(self, key: tuple[str, ...]) -> bool:
        """Whether the key has changes that `committed` has not confirmed yet."""
        return len(key) == 1 and self._table.pending(key[0])

    @property
    def watermark(self) -> int | None:
        """How far event time has come in this table."""
        return self._table.mark if self._table.mark >= 0 else None


class KeyedStage(_Table, SourceStage):
    """Keyed state over one partition of a source whose producers put all records of a key into one partition."""

    def __init__(
        self,
        job: KeyedSpec[Any, Any],
        partition: int,
        table: StateTable,
        share: float,
        sources: int,
        now_ms: Callable[[], int],
    ) -> None:
        super().__init__(job, partition, table, share, now_ms())
        self._sources = sources
        self._source = SourcePartition(job.name, job.source, job.max_skew, now_ms, timed=job.timed)
        self._reader = KeyedReader(self._source, job.source, job.key)
        self._unflushed = True

    def restore(self, metadata: str | None) -> None:
        if metadata is None:
            self._table.kept(None)
            return
        state = read_metadata(metadata, KeyedState)
        unchanged(self._job.name, self._job.source, state.sources, self._sources)
        self._source.restore(state.source)
        self._born, self._table.dropped, self._unflushed = state.born, state.dropped, False
        self._table.advance(self._watermark())
        self.restore_from = None if self._table.kept(metadata) else FROM_START

    def process(self, records: Sequence[Record]) -> None:
        source = self._source
        source.begin()
        self._table.begin(source.latest)
        for at in range(0, len(records), CHUNK):
            found = self._reader.read(records[at : at + CHUNK])
            if found.times:
                refuse = self._refuser(found)
                own = self._watermark()
                source.routed.counted += self._table.run(
                    found.elements, found.times, found.keys, found.records, own, math.inf, refuse
                )
                source.delivered(max(found.times))
        source.end()
        self._unflushed = True

    def _refuser(self, found: Elements[Any]) -> Callable[[int, PoisonError], None]:
        def refuse(at: int, why: PoisonError) -> None:
            self._source.refuse(found.records[at], found.raw(at), found.places[at], why)

        return refuse

    def caught_up(self, elapsed_ms: int, others: int | None) -> None:
        self._source.caught_up(elapsed_ms, others)
        self._table.advance(self._watermark())

    def take(self, changelog_end: int) -> FlushBatch | None:
        if not self._unflushed and not self._table.changed:
            return None
        self._unflushed = False
        produce, changes = self._table.take()
        state = KeyedState(self._sources, self._source.state(), self._born, self._table.dropped)
        metadata = write_metadata(state)
        self._table.flush(metadata)
        return FlushBatch([*produce, *self._source.take()], metadata, [changes])

    def _watermark(self) -> int:
        watermark = self._source.mark.watermark
        return -1 if watermark is None else watermark


@dataclass(frozen=True, slots=True)
class Original:
    """The record of the source that a row came in, as far as a dead letter has to know it."""

    source: str
    number: int
    row: RepartitionRow

    def topic(self) -> str:
        return self.source

    def partition(self) -> int:
        return self.number

    def offset(self) -> int:
        return self.row.offset

    def key(self) -> bytes | None:
        return self.row.record_key

    def value(self) -> bytes | None:
        return self.row.raw

    def headers(self) -> Headers | None:
        own = [] if self.row.replayed_from is None else [(REPLAYED_FROM, self.row.replayed_from)]
        return [*own, *(self.row.headers or ())] or None

    def timestamp(self) -> tuple[int, int]:
        return 1, self.row.timestamp


class RoutedKeyedStage(_Table):
    """Keyed state over one partition of a repartition topic: it owns the keys that `route` sends there."""

    def __init__(
        self,
        job: KeyedSpec[Any, Any],
        partition: int,
        table: StateTable,
        share: float,
        sources: int,
        outputs: int,
        now_ms: Callable[[], int],
    ) -> None:
        super().__init__(job, partition, table, share, now_ms())
        self._now = now_ms
        assert job.repartition is not None
        decoder = job.source.decoder()
        assert decoder is not None
        self._topic, self._outputs, self._decode = job.repartition, outputs, decoder.fast
        self._marks = MergedWatermarks(sources)
        self._merged = self._dead = 0
        self._dead_letters: list[Produce] = []
        self._unflushed = self._advanced = False

    def restore(self, metadata: str | None) -> None:
        if metadata is None:
            self._table.kept(None)
            return
        state = read_metadata(metadata, RoutedKeyedState)
        unchanged(self._job.name, self._job.source, len(state.watermarks), len(self._marks.watermarks))
        unchanged(self._job.name, self._topic, state.outputs, self._outputs)
        self._marks.watermarks = state.watermarks
        self._merged, self._dead = state.merged, state.dead
        self._born, self._table.dropped = state.born, state.dropped
        self._table.advance(self._watermark())
        self.restore_from = None if self._table.kept(metadata) else FROM_START

    def process(self, records: Sequence[Record]) -> None:
        self._latest = self._now() + self._job.max_skew
        for record in records:
            envelope = decode(record.value())  # type: ignore[arg-type]  # written by `route`, never without a value
            sources = max(envelope.sources, envelope.source + 1)
            unchanged(self._job.name, self._job.source, len(self._marks.watermarks), sources)
            if envelope.rows:
                self._run(envelope)
            self._marks.heard(envelope.source, envelope.watermark, None)
            self._table.advance(self._watermark())
        self._advanced = True

    def _run(self, envelope: RepartitionRecord) -> None:
        """Event time comes with each element as far as the other sources let it, not only with the envelope's end."""
        source, rows = envelope.source, envelope.rows
        marks = self._marks.watermarks
        others = [mark for at, mark in enumerate(marks) if at != source]
        limit = -1 if None in others else min(others, default=math.inf)  # type: ignore[type-var]
        times = [row.timestamp for row in rows]
        own, topic = marks[source], self._job.source.name
        self._table.begin(self._latest, lambda row: Original(topic, source, row))

        def refuse(at: int, why: PoisonError) -> None:
            row = rows[at]
            original = Original(topic, source, row)
            self._dead_letters.append(
                to_dead_letter(DEAD_LETTERS.name, topic, self._job.name, original, row.raw, row.place, why)
            )
            self._dead += 1

        decode = self._decode
        self._merged += self._table.run(
            [decode(row.raw) for row in rows], times, [row.key for row in rows], rows,
            -1 if own is None else own, -1 if limit is None else limit, refuse,
        )  # fmt: skip
        self._marks.heard(source, max(times) if self._job.timed else min(max(times), self._latest), None)
        self._unflushed = True

    def caught_up(self, elapsed_ms: int, others: int | None) -> None:
        """Event time comes with the envelopes alone; offsets of empty ones are committed when it is quiet."""
        self._unflushed = self._unflushed or self._advanced

    def take(self, changelog_end: int) -> FlushBatch | None:
        if not self._unflushed and not self._table.changed:
            return None
        self._unflushed = self._advanced = False
        produce, changes = self._table.take()
        dead_letters, self._dead_letters = self._dead_letters, []
        marks, dropped = self._marks.watermarks, self._table.dropped
        state = RoutedKeyedState(self._outputs, marks, self._merged, self._dead, self._born, dropped)
        metadata = write_metadata(state)
        self._table.flush(metadata)
        return FlushBatch([*produce, *dead_letters], metadata, [changes])

    def _watermark(self) -> int:
        watermark = self._marks.watermark
        return -1 if watermark is None else watermark
