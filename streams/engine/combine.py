"""Stage one: a source partition's records to partial counts, late events and dead letters."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from schemas.codec import BAD_INPUT
from schemas.dead_letters import Reason
from schemas.errors import PoisonError
from schemas.topics import DEAD_LETTERS, LATE_EVENTS
from streams.engine.aside import set_aside
from streams.engine.errors import PartitionsChangedError
from streams.engine.job import WindowedCount
from streams.engine.ledger import Routed
from streams.engine.partials import Key, encode, split
from streams.engine.records import Batch, Produce, Record
from streams.engine.watermarks import SourceWatermark


class CombineState(msgspec.Struct, array_like=True):
    """What is remembered with the source's committed offset."""

    sources: int
    outputs: int
    high: int | None
    declared: int | None
    horizon: int | None
    routed: Routed


class Combine:
    """The combining stage of one source partition. `clock` gives epoch ms (skew) and monotonic ms (idleness)."""

    def __init__(
        self,
        job: WindowedCount,
        partition: int,
        sources: int,
        outputs: int,
        now_ms: Callable[[], int],
        monotonic_ms: Callable[[], int],
    ) -> None:
        self._job, self._partition, self._sources, self._outputs = job, partition, sources, outputs
        self._now, self._monotonic = now_ms, monotonic_ms
        self._mark = SourceWatermark(job.windows.retention)
        self._idle_from: int | None = None  # the watermark at which the clock took over from the events
        self._counts: dict[int, dict[Key, int]] = {}
        self._aside: list[Produce] = []
        self._routed = Routed()
        self._said = -1  # what the last flush said of closing; -1: nothing yet
        self._news = True

    def restore(self, metadata: str | None) -> None:
        if metadata is None:
            return
        state = msgspec.json.decode(metadata, type=CombineState)
        if state.sources != self._sources:
            raise PartitionsChangedError(self._job.source.name, state.sources, self._sources)
        if state.outputs != self._outputs:
            raise PartitionsChangedError(self._job.partials.name, state.outputs, self._outputs)
        self._mark.high, self._mark.declared, self._mark.horizon = state.high, state.declared, state.horizon
        self._routed = state.routed
        self._said, self._news = self._closing(), False

    def process(self, records: Sequence[Record]) -> None:
        """Counts the records. Every event pays for this loop, so nothing is in it that can be done later."""
        decode, key_of = self._job.decoder.fast, self._job.key
        size, retention = self._job.windows.size, self._job.windows.retention
        latest = self._now() + self._job.max_skew
        high, floor = self._bounds()
        start = end = counted = 0
        cells: dict[Key, int] = {}
        for record in records:
            timestamp = record.timestamp()[1]
            if floor <= timestamp <= latest:
                try:
                    element = decode(record.value())  # type: ignore[arg-type]
                    if element.__class__ is list:
                        keys = [key_of(one, timestamp) for one in element]
                    else:
                        keys = None
                        key = key_of(element, timestamp)
                except (TypeError, PoisonError, *BAD_INPUT):
                    pass  # no value, or something bad in it: below, one element at a time
                else:
                    if not start <= timestamp < end:
                        start = timestamp - timestamp % size
                        end = start + size
                        cells = self._counts.setdefault(start, {})
                    if keys is None:
                        cells[key] = cells.get(key, 0) + 1
                        counted += 1
                    elif keys:
                        for key in keys:
                            cells[key] = cells.get(key, 0) + 1
                        counted += len(keys)
                    else:
                        self._one_by_one(record, latest)  # an empty list
                        continue
                    if timestamp > high:
                        high = timestamp
                        floor = max(floor, high - retention)
                    continue
            self._delivered(high)
            self._one_by_one(record, latest)
            high, floor = self._bounds()
        self._routed.counted += counted
        self._delivered(high)
        self._idle_from = None
        self._news = True

    def _bounds(self) -> tuple[int, int]:
        """The largest timestamp so far (-1: none), and the one below which an event is late (0: none is)."""
        horizon = self._mark.horizon
        floor = 0 if horizon is None else max(0, self._job.windows.late_before(horizon))
        return (-1 if self._mark.high is None else self._mark.high), floor

    def _delivered(self, high: int) -> None:
        if high >= 0:
            self._mark.delivered(high)

    def _one_by_one(self, record: Record, latest: int) -> None:
        timestamp = record.timestamp()[1]
        high, floor = self._bounds()
        several = False
        for index, (element, raw) in enumerate(self._job.decoder.elements(record.value())):
            several = several or raw is not record.value()
            place = index if several else None
            try:
                if isinstance(element, PoisonError):
                    raise element
                if timestamp < 0:
                    raise PoisonError(Reason.TIMESTAMP, f"the record has no timestamp, or a negative one: {timestamp}")
                if timestamp > latest:
                    ahead = timestamp - latest + self._job.max_skew
                    raise PoisonError(Reason.TIMESTAMP, f"the record's timestamp is {ahead} ms ahead of the clock")
                key = self._job.key(element, timestamp)
            except PoisonError as e:
                self._routed.dead += 1
                self._set_aside(DEAD_LETTERS.name, record, raw, place, e)
                continue
            if timestamp < floor:
                self._routed.late += 1
                detail = f"older than the partition's watermark minus the retention, {floor}"
                self._set_aside(LATE_EVENTS.name, record, raw, place, PoisonError(Reason.LATE, detail))
                continue
            cells = self._counts.setdefault(self._job.windows.start(timestamp), {})
            cells[key] = cells.get(key, 0) + 1
            self._routed.counted += 1
            self._delivered(max(high, timestamp))

    def _set_aside(self, topic: str, record: Record, raw: bytes, element: int | None, why: PoisonError) -> None:
        self._aside.append(set_aside(topic, self._job.source.name, self._job.name, record, raw, element, why))

    def caught_up(self, elapsed_ms: int, others: int | None) -> None:
        """Declares the partition idle: event time went on as the clock did since the last event; a partition that never
        had an event has come as far as the others.
        """
        if self._idle_from is None:
            self._idle_from = self._mark.watermark
        if self._mark.high is None:
            if others is not None:
                self._mark.declare(others, self._monotonic())
        elif self._idle_from is not None:
            self._mark.declare(self._idle_from + elapsed_ms, self._monotonic())
        self._news = self._news or self._closing() > self._said

    def _closing(self) -> int:
        watermark = self._mark.watermark
        return 0 if watermark is None else self._job.windows.closed_before(watermark)

    def take(self, changelog_end: int) -> Batch | None:
        if not self._news:
            return None
        counts, self._counts = self._counts, {}
        produce, self._aside = self._aside, []
        mark = self._mark
        partials = split(self._partition, self._sources, mark.watermark, mark.horizon, counts, self._outputs)
        produce.extend(
            Produce(self._job.partials.name, encode(partial), partition=partition) for partition, partial in partials
        )
        self._said, self._news = self._closing(), False
        state = CombineState(self._sources, self._outputs, mark.high, mark.declared, mark.horizon, self._routed)
        return Batch(produce, msgspec.json.encode(state).decode())


def others_watermark(states: list[CombineState]) -> int | None:
    """The least watermark of the partitions that had events; None where none had."""
    marks = [max(s.high, s.declared or s.high) for s in states if s.high is not None]
    return min(marks, default=None)
