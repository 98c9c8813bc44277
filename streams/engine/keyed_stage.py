"""The stages that hold keyed state: one reads a source that is partitioned by the key, one reads what `route` sends."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from schemas.dead_letters import REPLAYED_FROM, Headers
from schemas.errors import PoisonError
from schemas.topics import DEAD_LETTERS
from streams.engine.aside import set_aside
from streams.engine.errors import unchanged
from streams.engine.keyed_table import Cell, KeyedTable
from streams.engine.metadata import read_metadata, write_metadata
from streams.engine.records import FROM_START, Batch, Produce, Record, Stage
from streams.engine.route import Envelope, Row, decode
from streams.engine.source import CHUNK, Elements, KeyedReader, Source, SourceState
from streams.engine.tables import Table
from streams.engine.watermarks import MergedWatermarks

if TYPE_CHECKING:
    from streams.engine.keyed import Keyed


class KeyedState(msgspec.Struct, array_like=True):
    """What is remembered with the offset of a source that is read directly. `born` as in `merge.MergeState`. `dropped`:
    keys that had to go for want of room.
    """

    sources: int
    source: SourceState
    born: int
    dropped: int = 0


class RoutedKeyedState(msgspec.Struct, array_like=True):
    """What is remembered with the offset of a repartition topic. `merged` were processed, `dead` were refused."""

    outputs: int
    watermarks: list[int | None]
    merged: int
    dead: int
    born: int
    dropped: int = 0


class _Table(Stage):
    """What both stages have: the table, restored from its whole changelog."""

    def __init__(self, job: Keyed[Any, Any], partition: int, table: Table, share: float, now: int) -> None:
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
    def dropped(self) -> int | None:
        return None if self._job.capacity is None else self._table.dropped

    def find(self, key: tuple[str, ...]) -> list[Cell]:
        """What is held for the key, for those who ask: one cell or none. Not committed yet where `pending` says so."""
        cell = self._table.cell(key[0]) if len(key) == 1 else None
        return [] if cell is None else [cell]

    def pending(self, key: tuple[str, ...]) -> bool:
        """Whether the key has changes that `committed` has not confirmed yet."""
        return len(key) == 1 and self._table.pending(key[0])

    @property
    def watermark(self) -> int | None:
        """How far event time has come in this table."""
        return self._table.mark if self._table.mark >= 0 else None


class KeyedStage(_Table):
    """Keyed state over one partition of a source whose producers put all records of a key into one partition."""

    def __init__(
        self,
        job: Keyed[Any, Any],
        partition: int,
        table: Table,
        share: float,
        sources: int,
        now_ms: Callable[[], int],
    ) -> None:
        super().__init__(job, partition, table, share, now_ms())
        self._sources = sources
        self._source = Source(job.name, job.source, job.max_skew, now_ms)
        self._reader = KeyedReader(self._source, job.source, job.key)
        self._news = True

    def restore(self, metadata: str | None) -> None:
        if metadata is None:
            self._table.kept(None)
            return
        state = read_metadata(metadata, KeyedState)
        unchanged(self._job.source, state.sources, self._sources)
        self._source.restore(state.source)
        self._born, self._table.dropped, self._news = state.born, state.dropped, False
        self._table.advance(self._watermark())
        self.restore_from = None if self._table.kept(metadata) else FROM_START

    def process(self, records: Sequence[Record]) -> None:
        source = self._source
        source.begin()
        for at in range(0, len(records), CHUNK):
            found = self._reader.read(records[at : at + CHUNK])
            if found.times:
                refuse = self._refuser(found)
                own = self._watermark()
                source.routed.counted += self._table.run(found.elements, found.times, found.keys, own, math.inf, refuse)
                source.mark.delivered(max(found.times))
        source.end()
        self._news = True

    def _refuser(self, found: Elements[Any]) -> Callable[[int, PoisonError], None]:
        def refuse(at: int, why: PoisonError) -> None:
            self._source.refuse(found.records[at], found.raw(at), found.places[at], why)

        return refuse

    def caught_up(self, elapsed_ms: int, others: int | None) -> None:
        self._source.caught_up(elapsed_ms, others)
        self._table.advance(self._watermark())

    def take(self, changelog_end: int) -> Batch | None:
        if not self._news and not self._table.changed:
            return None
        self._news = False
        produce, changes = self._table.take()
        state = KeyedState(self._sources, self._source.state(), self._born, self._table.dropped)
        metadata = write_metadata(state)
        self._table.flush(metadata)
        return Batch([*produce, *self._source.take()], metadata, [changes])

    def _watermark(self) -> int:
        watermark = self._source.mark.watermark
        return -1 if watermark is None else watermark


@dataclass(frozen=True, slots=True)
class Original:
    """The record of the source that a row came in, as far as a dead letter has to know it."""

    source: str
    number: int
    row: Row

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
        return None if self.row.replayed_from is None else [(REPLAYED_FROM, self.row.replayed_from)]

    def timestamp(self) -> tuple[int, int]:
        return 1, self.row.timestamp


class RoutedKeyedStage(_Table):
    """Keyed state over one partition of a repartition topic: it owns the keys that `route` sends there."""

    def __init__(
        self,
        job: Keyed[Any, Any],
        partition: int,
        table: Table,
        share: float,
        sources: int,
        outputs: int,
        now: int,
    ) -> None:
        super().__init__(job, partition, table, share, now)
        assert job.repartition is not None
        decoder = job.source.decoder()
        assert decoder is not None
        self._topic, self._outputs, self._decode = job.repartition, outputs, decoder.fast
        self._marks = MergedWatermarks(sources)
        self._merged = self._dead = 0
        self._aside: list[Produce] = []
        self._news = self._unsaid = False

    def restore(self, metadata: str | None) -> None:
        if metadata is None:
            self._table.kept(None)
            return
        state = read_metadata(metadata, RoutedKeyedState)
        unchanged(self._job.source, len(state.watermarks), len(self._marks.watermarks))
        unchanged(self._topic, state.outputs, self._outputs)
        self._marks.watermarks = state.watermarks
        self._merged, self._dead = state.merged, state.dead
        self._born, self._table.dropped = state.born, state.dropped
        self._table.advance(self._watermark())
        self.restore_from = None if self._table.kept(metadata) else FROM_START

    def process(self, records: Sequence[Record]) -> None:
        for record in records:
            envelope = decode(record.value())  # type: ignore[arg-type]  # written by `route`, never without a value
            unchanged(self._job.source, len(self._marks.watermarks), envelope.sources)
            if envelope.rows:
                self._run(envelope)
            self._marks.heard(envelope.source, envelope.watermark, None)
            self._table.advance(self._watermark())
        self._unsaid = True

    def _run(self, envelope: Envelope) -> None:
        """Event time comes with each element as far as the other sources let it, not only with the envelope's end."""
        source, rows = envelope.source, envelope.rows
        marks = self._marks.watermarks
        others = [mark for at, mark in enumerate(marks) if at != source]
        limit = -1 if None in others else min(others, default=math.inf)  # type: ignore[type-var]
        times = [row.timestamp for row in rows]
        own = marks[source]

        def refuse(at: int, why: PoisonError) -> None:
            row, topic = rows[at], self._job.source.name
            original = Original(topic, source, row)
            self._aside.append(set_aside(DEAD_LETTERS.name, topic, self._job.name, original, row.raw, row.place, why))
            self._dead += 1

        decode = self._decode
        self._merged += self._table.run(
            [decode(row.raw) for row in rows], times, [row.key for row in rows],
            -1 if own is None else own, -1 if limit is None else limit, refuse,
        )  # fmt: skip
        self._marks.heard(source, max(times), None)
        self._news = True

    def caught_up(self, elapsed_ms: int, others: int | None) -> None:
        """Event time comes with the envelopes alone; offsets of empty ones are committed when it is quiet."""
        self._news = self._news or self._unsaid

    def take(self, changelog_end: int) -> Batch | None:
        if not self._news and not self._table.changed:
            return None
        self._news = self._unsaid = False
        produce, changes = self._table.take()
        aside, self._aside = self._aside, []
        marks, dropped = self._marks.watermarks, self._table.dropped
        state = RoutedKeyedState(self._outputs, marks, self._merged, self._dead, self._born, dropped)
        metadata = write_metadata(state)
        self._table.flush(metadata)
        return Batch([*produce, *aside], metadata, [changes])

    def _watermark(self) -> int:
        watermark = self._marks.watermark
        return -1 if watermark is None else watermark
