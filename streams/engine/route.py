"""Sends elements to the partition that owns their key, where a source is not partitioned by it (Flink: `keyBy`).

One flush of a source partition gives each output partition an envelope, several where they are large, none where
there is nothing to say. Of those for one partition only the last says how far event time has come.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from schemas.dead_letters import REPLAYED_FROM, Headers
from schemas.topic import MIB
from streams.engine.aside import KEPT_KEY
from streams.engine.errors import unchanged
from streams.engine.metadata import read_metadata, write_metadata
from streams.engine.records import FRAME, Batch, Produce, Record, Stage, largest
from streams.engine.source import CHUNK, KEY, KeyedReader, Source, SourceState

if TYPE_CHECKING:
    from streams.engine.keyed import Keyed

#: How large an envelope is, in bytes of elements; one that holds a single larger element is larger.
ENVELOPE = 1 * MIB
#: What a row takes beside its element, about.
ROW = 64
#: How far (ms) event time has to come before partitions that get no elements are told: how late a timer may be by it.
TELL = 1000


class Row(msgspec.Struct, array_like=True, gc=False):
    """One element: its time (epoch ms), whose it is, its bytes; and the record that it came in: that one's offset, the
    element's place there (None: alone), its key, and the dead letter that it was replayed from, if any.
    """

    timestamp: int
    key: str
    raw: bytes
    offset: int
    place: int | None
    record_key: bytes | None
    replayed_from: bytes | None = None


class Envelope(msgspec.Struct, array_like=True, gc=False):
    """Elements of one source partition for one output partition, in source order. `watermark` as in `watermarks`."""

    source: int
    sources: int
    watermark: int | None
    rows: list[Row]


class RouteState(msgspec.Struct, array_like=True):
    """What is remembered with the source's committed offset."""

    sources: int
    outputs: int
    source: SourceState


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Envelope).decode


class Route(Stage):
    """The repartitioning stage of one source partition. `now_ms` is the clock, in epoch ms."""

    def __init__(
        self, job: Keyed[Any, Any], partition: int, sources: int, outputs: int, now_ms: Callable[[], int]
    ) -> None:
        assert job.repartition is not None
        self._job, self._topic = job, job.repartition
        self._partition, self._sources, self._outputs = partition, sources, outputs
        self._source = Source(job.name, job.source, job.max_skew, now_ms)
        self._reader = KeyedReader(self._source, job.source, job.key, largest(self._topic) - FRAME - 8 * KEY)
        self._room = min(ENVELOPE, largest(self._topic) - FRAME)
        self._rows: list[list[Row]] = [[] for _ in range(outputs)]
        self._told = [-TELL] * outputs  # the watermark that each output partition was told; below 0: none
        self._timed = job.on_timer is not None or job.ttl is not None  # whether anything waits for the watermark
        self._news = True

    def restore(self, metadata: str | None) -> None:
        if metadata is None:
            return
        state = read_metadata(metadata, RouteState)
        unchanged(self._job.source, state.sources, self._sources)
        unchanged(self._topic, state.outputs, self._outputs)
        self._source.restore(state.source)
        self._news = False

    def process(self, records: Sequence[Record]) -> None:
        self._source.begin()
        crc, outputs, rows = zlib.crc32, self._outputs, self._rows
        for at in range(0, len(records), CHUNK):
            found = self._reader.read(records[at : at + CHUNK])
            for timestamp, key, raw, record, place in zip(
                found.times, found.keys, found.raws(), found.records, found.places, strict=True
            ):
                origin = replayed_from(record.headers())
                record_key = record.key()
                row = Row(timestamp, key, raw, record.offset(), place, record_key and record_key[:KEPT_KEY], origin)
                rows[crc(key.encode()) % outputs].append(row)  # as partials.owner
            if found.times:
                self._source.mark.delivered(max(found.times))
            self._source.routed.counted += len(found.times)
        self._source.end()
        self._news = True

    def caught_up(self, elapsed_ms: int, others: int | None) -> None:
        self._source.caught_up(elapsed_ms, others)
        self._news = self._news or self._to_tell(min(self._told))

    def take(self, changelog_end: int) -> Batch | None:
        if not self._news:
            return None
        self._news = False
        produce = self._source.take()
        rows, self._rows = self._rows, [[] for _ in range(self._outputs)]
        watermark = self._watermark()
        for partition, own in enumerate(rows):
            if not own and not self._to_tell(self._told[partition]):
                continue
            self._told[partition] = watermark
            *before, last = _split(own, self._room)
            envelopes = [Envelope(self._partition, self._sources, None, some) for some in before]
            envelopes.append(Envelope(self._partition, self._sources, self._source.mark.watermark, last))
            produce += [Produce(self._topic.name, encode(one), partition=partition) for one in envelopes]
        state = RouteState(self._sources, self._outputs, self._source.state())
        return Batch(produce, write_metadata(state))

    def _to_tell(self, told: int) -> bool:
        return self._timed and self._watermark() >= told + TELL

    def _watermark(self) -> int:
        watermark = self._source.mark.watermark
        return -1 if watermark is None else watermark


def _split(rows: list[Row], room: int) -> Iterator[list[Row]]:
    """The rows in lists of no more than `room` bytes, or of one row; at least one list."""
    start, size = 0, 0
    for at, row in enumerate(rows):
        key = len(row.key) if row.key.isascii() else 4 * len(row.key)
        own = len(row.raw) + key + len(row.record_key or b"") + len(row.replayed_from or b"") + ROW
        if size + own > room and at > start:
            yield rows[start:at]
            start, size = at, 0
        size += own
    yield rows[start:]


def replayed_from(headers: Headers | None) -> bytes | None:
    """The dead letter that a record was replayed from, where it was."""
    return next((value for name, value in headers or () if name == REPLAYED_FROM), None)
