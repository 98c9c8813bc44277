"""Sends elements to the partition that owns their key, where a source is not partitioned by it (Flink: `keyBy`).

One flush of a source partition gives each output partition an envelope, several where they are large, none where
there is nothing to say. Of those for one partition only the last says how far event time has come.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from weir.schemas.dead_letters import REPLAYED_FROM, Headers, Reason
from weir.schemas.errors import PoisonError
from weir.schemas.topic import MIB
from weir.streams.engine.core.errors import unchanged
from weir.streams.engine.core.offset_metadata import read_metadata, write_metadata
from weir.streams.engine.core.records import FRAME, FlushBatch, Produce, Record, largest
from weir.streams.engine.input.dead_letters import KEPT_KEY
from weir.streams.engine.input.source import (
    CHUNK,
    MAX_RECORD_KEY,
    KeyedReader,
    SourcePartition,
    SourceStage,
    SourceState,
)
from weir.streams.engine.keyed.context import handed_on, headers_size
from weir.streams.engine.keyed.spec import KeyedSpec

#: How large an envelope is, in bytes of elements; one that holds a single larger element is larger.
ENVELOPE = 1 * MIB
#: What a row takes beside its element, about.
ROW = 64
#: How far (ms) event time has to come before partitions that get no elements hear of it: a timer may be so much late.
ANNOUNCE_MS = 1000


class RepartitionRow(msgspec.Struct, array_like=True, gc=False):
    """One element: its time (epoch ms), whose it is, its bytes; and the record that it came in: that one's offset, the
    element's place there (None: alone), its key, the dead letter that it was replayed from, if any, and its headers
    without weir's own.
    """

    timestamp: int
    key: str
    raw: bytes
    offset: int
    place: int | None
    record_key: bytes | None
    replayed_from: bytes | None = None
    headers: list[tuple[str, Any]] | None = None


class RepartitionRecord(msgspec.Struct, array_like=True, gc=False):
    """Elements of one source partition for one output partition, in source order. `watermark` as in `watermarks`."""

    source: int
    sources: int
    watermark: int | None
    rows: list[RepartitionRow]


class RepartitionState(msgspec.Struct, array_like=True):
    """The state of the repartition stage that is committed with the source's offset."""

    sources: int
    outputs: int
    source: SourceState


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(RepartitionRecord).decode


class RepartitionStage(SourceStage):
    """The repartitioning stage of one source partition. `now_ms` is the clock, in epoch ms."""

    def __init__(
        self, job: KeyedSpec[Any, Any], partition: int, sources: int, outputs: int, now_ms: Callable[[], int]
    ) -> None:
        assert job.repartition is not None
        self._job, self._topic = job, job.repartition
        self._partition, self._sources, self._outputs = partition, sources, outputs
        self._source = SourcePartition(job.name, job.source, job.max_skew, now_ms, timed=job.timed)
        self._limit = largest(self._topic) - FRAME - 8 * MAX_RECORD_KEY
        self._reader = KeyedReader(self._source, job.source, job.key, self._limit)
        self._room = min(ENVELOPE, largest(self._topic) - FRAME)
        self._rows: list[list[RepartitionRow]] = [[] for _ in range(outputs)]
        self._announced = [-ANNOUNCE_MS] * outputs  # the watermark that each output partition knows; below 0: none
        self._timed = job.timed
        self._unflushed = True

    def restore(self, metadata: str | None) -> None:
        if metadata is None:
            return
        state = read_metadata(metadata, RepartitionState)
        unchanged(self._job.name, self._job.source, state.sources, self._sources)
        unchanged(self._job.name, self._topic, state.outputs, self._outputs)
        self._source.restore(state.source)
        self._unflushed = False

    def process(self, records: Sequence[Record]) -> None:
        self._source.begin()
        crc, outputs, rows = zlib.crc32, self._outputs, self._rows
        for at in range(0, len(records), CHUNK):
            found = self._reader.read(records[at : at + CHUNK])
            for timestamp, key, raw, record, place in zip(
                found.times, found.keys, found.raws(), found.records, found.places, strict=True
            ):
                record_key, headers = record.key(), record.headers()
                row = RepartitionRow(timestamp, key, raw, record.offset(), place, record_key and record_key[:KEPT_KEY])
                self._source.routed.counted += 1
                if headers and not self._with_headers(row, record, headers):
                    continue
                rows[crc(key.encode()) % outputs].append(row)  # as partials.owner
            if found.times:
                self._source.delivered(max(found.times))
        self._source.end()
        self._unflushed = True

    def _with_headers(self, row: RepartitionRow, record: Record, headers: Headers) -> bool:
        """Gives the row the record's headers; refuses what does not fit with them, and says no."""
        row.replayed_from, row.headers = replayed_from(headers), handed_on(headers)
        if (size := len(row.raw) + headers_size(row.headers)) <= self._limit:
            return True
        self._source.routed.counted -= 1
        why = PoisonError(Reason.TOO_LARGE, f"the element has {size} bytes with its headers, more than {self._limit}")
        self._source.refuse(record, row.raw, row.place, why)
        return False

    def caught_up(self, elapsed_ms: int, others: int | None) -> None:
        self._source.caught_up(elapsed_ms, others)
        self._unflushed = self._unflushed or self._to_announce(min(self._announced))

    def take(self, changelog_end: int) -> FlushBatch | None:
        if not self._unflushed:
            return None
        self._unflushed = False
        produce = self._source.take()
        rows, self._rows = self._rows, [[] for _ in range(self._outputs)]
        watermark = self._watermark()
        for partition, own in enumerate(rows):
            if not own and not self._to_announce(self._announced[partition]):
                continue
            self._announced[partition] = watermark
            *before, last = _split(own, self._room)
            envelopes = [RepartitionRecord(self._partition, self._sources, None, some) for some in before]
            envelopes.append(RepartitionRecord(self._partition, self._sources, self._source.mark.watermark, last))
            produce += [Produce(self._topic.name, encode(one), partition=partition) for one in envelopes]
        state = RepartitionState(self._sources, self._outputs, self._source.state())
        return FlushBatch(produce, write_metadata(state))

    def _to_announce(self, announced: int) -> bool:
        return self._timed and self._watermark() >= announced + ANNOUNCE_MS

    def _watermark(self) -> int:
        watermark = self._source.mark.watermark
        return -1 if watermark is None else watermark


def _split(rows: list[RepartitionRow], room: int) -> Iterator[list[RepartitionRow]]:
    """The rows in lists of no more than `room` bytes, or of one row; at least one list."""
    start, size = 0, 0
    for at, row in enumerate(rows):
        key = len(row.key) if row.key.isascii() else 4 * len(row.key)
        own = len(row.raw) + key + len(row.record_key or b"") + len(row.replayed_from or b"") + ROW
        if row.headers:
            own += headers_size(row.headers)
        if size + own > room and at > start:
            yield rows[start:at]
            start, size = at, 0
        size += own
    yield rows[start:]


def replayed_from(headers: Headers | None) -> bytes | None:
    """The dead letter that a record was replayed from, where it was."""
    return next((value for name, value in headers or () if name == REPLAYED_FROM), None)
