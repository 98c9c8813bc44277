"""Stage one: a source partition's records to partial results, late events and dead letters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from schemas.codec import BAD_INPUT
from schemas.dead_letters import Reason
from schemas.errors import PoisonError
from schemas.topics import DEAD_LETTERS, LATE_EVENTS
from streams.engine.aside import set_aside
from streams.engine.cells import cells_for
from streams.engine.errors import PartitionsChangedError
from streams.engine.ledger import Routed
from streams.engine.partials import Partial, encode, split
from streams.engine.records import Batch, Produce, Record
from streams.engine.watermarks import SourceWatermark

if TYPE_CHECKING:
    from streams.engine.windowed import Windowed

#: The end of the year 9998: a window must end in the year after to be written as RFC 3339.
CALENDAR = 253_370_764_800_000
#: So many records are counted together: what is made of them stays in the processor's cache.
CHUNK = 1024
#: So many windows are remembered as told of: to tell it twice does no harm.
NAMED = 4096
#: So few records are looked at one by one rather than halved again.
FEW = 8


class CombineState(msgspec.Struct, array_like=True):
    """What is remembered with the source's committed offset.

    `at` is when (epoch ms) the watermark was this. `pending` is the oldest declaration that the horizon does not follow
    yet: (epoch ms, watermark).
    """

    sources: int
    outputs: int
    high: int | None
    declared: int | None
    horizon: int | None
    at: int
    pending: tuple[int, int] | None
    routed: Routed


class Combine:
    """The combining stage of one source partition. `now_ms` is the clock, in epoch ms."""

    def __init__(
        self,
        job: Windowed,
        partition: int,
        sources: int,
        outputs: int,
        now_ms: Callable[[], int],
    ) -> None:
        self._job, self._partition, self._sources, self._outputs = job, partition, sources, outputs
        self._now = now_ms
        self._mark = SourceWatermark(job.windows.retention)
        self._idle_from: int | None = None  # the watermark at which the clock took over from the events
        self._at = 0  # when the watermark was last moved
        self._away = 0  # how long nobody watched before this task was opened
        self._latest = 0  # the largest timestamp that the clock allows
        self._cells = cells_for(job.windows, job.aggregation)
        self._named: set[int] = set()  # the windows that every output partition was told of
        self._aside: list[Produce] = []
        self._routed = Routed()
        self._said = -1  # what the last flush said of closing; -1: nothing yet
        self._news = True
        self.restore_from: int | None = None

    def restore_cells(self, records: Iterable[Record]) -> int:
        """Nothing: what was not committed is read again."""
        return 0

    def committed(self) -> None:
        """Nothing is kept until then."""

    def restore(self, metadata: str | None) -> None:
        if metadata is None:
            return
        state = msgspec.json.decode(metadata, type=CombineState)
        if state.sources != self._sources:
            raise PartitionsChangedError(self._job.source.name, state.sources, self._sources)
        if state.outputs != self._outputs:
            raise PartitionsChangedError(self._job.partials.name, state.outputs, self._outputs)
        self._mark.high, self._mark.declared, self._mark.horizon = state.high, state.declared, state.horizon
        self._at, self._away = state.at, max(0, self._now() - state.at)
        self._mark.pending.extend([state.pending] if state.pending else [])
        self._routed = state.routed
        self._said, self._news = self._closing(), False

    def process(self, records: Sequence[Record]) -> None:
        """Counts the records. Nearly always all are good and are counted together; what is not is found by halving."""
        self._latest = min(self._now() + self._job.max_skew, CALENDAR)
        for at in range(0, len(records), CHUNK):
            self._halve(records[at : at + CHUNK])
        self._idle_from, self._away, self._at = None, 0, self._now()
        self._news = True

    def _halve(self, records: Sequence[Record]) -> None:
        if self._together(records):
            return
        if len(records) <= FEW:
            for record in records:
                self._one_by_one(record)
            return
        middle = len(records) // 2
        self._halve(records[:middle])
        self._halve(records[middle:])

    def _together(self, records: Sequence[Record]) -> bool:
        """Counts the records where all are good, else does nothing and says no. Every event pays for this method."""
        timestamps = [record.timestamp()[1] for record in records]
        first, last = min(timestamps), max(timestamps)
        decode = self._job.decoder.fast
        high, floor = self._bounds()
        if first < max(floor, max(high, last) - self._job.windows.retention, 0) or last > self._latest:
            return False
        try:
            found = [decode(record.value()) for record in records]  # type: ignore[arg-type]
            elements, times = (found, timestamps) if list not in set(map(type, found)) else _flat(found, timestamps)
            keys = self._job.keys_of(elements, times)
            rows = self._job.aggregation.rows(elements)
        except (TypeError, PoisonError, *BAD_INPUT):  # TypeError: a record without a value
            return False
        self._cells.add(keys, times, rows, first, last)
        self._routed.counted += len(keys)
        self._mark.delivered(last)
        return True

    def _bounds(self) -> tuple[int, int]:
        """The largest timestamp so far (-1: none), and the one below which an event is late (0: none is)."""
        horizon = self._mark.horizon
        floor = 0 if horizon is None else max(0, self._job.windows.late_before(horizon))
        return (-1 if self._mark.high is None else self._mark.high), floor

    def _one_by_one(self, record: Record) -> None:
        """Counts, or sets aside, each element of one record."""
        timestamp, value = record.timestamp()[1], record.value()
        _, floor = self._bounds()
        for index, (element, raw) in enumerate(self._job.decoder.elements(value)):
            place = None if raw is value else index
            try:
                if isinstance(element, PoisonError):
                    raise element
                self._check(timestamp)
                keys = self._job.keys_of([element], [timestamp])
                rows = self._job.aggregation.rows([element])
            except PoisonError as e:
                self._routed.dead += 1
                self._set_aside(DEAD_LETTERS.name, record, raw, place, e)
                continue
            if timestamp < floor:
                self._routed.late += 1
                detail = f"older than the partition's watermark minus the retention, {floor}"
                self._set_aside(LATE_EVENTS.name, record, raw, place, PoisonError(Reason.LATE, detail))
                continue
            self._cells.add(keys, [timestamp], rows, timestamp, timestamp)
            self._routed.counted += 1
            self._mark.delivered(timestamp)

    def _check(self, timestamp: int) -> None:
        if timestamp < 0:
            raise PoisonError(Reason.TIMESTAMP, f"the record has no timestamp, or a negative one: {timestamp}")
        if timestamp > self._latest:
            ahead = timestamp - self._latest + self._job.max_skew
            raise PoisonError(Reason.TIMESTAMP, f"the record's timestamp is {ahead} ms ahead of the clock")

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
                self._mark.declare(others, self._now())
        elif self._idle_from is not None:
            self._mark.declare(self._idle_from + self._away + elapsed_ms, self._now())
        self._at = self._now()
        self._news = self._news or self._closing() > self._said

    def _closing(self) -> int:
        watermark = self._mark.watermark
        return 0 if watermark is None else max(0, self._job.windows.open_from(watermark))

    def take(self, changelog_end: int) -> Batch | None:
        if not self._news:
            return None
        produce, self._aside = self._aside, []
        produce.extend(self._partials())
        mark = self._mark
        self._said, self._news = self._closing(), False
        state = CombineState(
            self._sources, self._outputs, mark.high, mark.declared, mark.horizon,
            self._at, mark.pending[0] if mark.pending else None, self._routed,
        )  # fmt: skip
        return Batch(produce, msgspec.json.encode(state).decode())

    def _partials(self) -> Iterable[Produce]:
        """One record or more for every output partition that has to know something.

        Of several for one partition only the last says how far event time has come: what closes a window follows all
        that the flush has for it.
        """
        cells = self._cells.take()
        new = self._new_windows(cells)
        tell_all = bool(new) or self._closing() > self._said
        watermark, horizon, topic = self._mark.watermark, self._mark.horizon, self._job.partials.name
        shares = split(cells, self._job.starts, self._job.events, self._job.weigh, self._outputs)
        for partition, share in enumerate(shares):
            if not tell_all and not share.events:
                continue
            *before, last = share.groups
            for group in before:
                partial = Partial(self._partition, self._sources, None, None, [], group, 0)
                yield Produce(topic, encode(partial), partition=partition)
            partial = Partial(self._partition, self._sources, watermark, horizon, new, last, share.events)
            yield Produce(topic, encode(partial), partition=partition)

    def _new_windows(self, panes: Iterable[int]) -> list[int]:
        """The windows of these panes that not every output partition has been told of."""
        new = {start for pane in panes for start in self._job.starts(pane)} - self._named
        if new:
            self._named |= new
            if len(self._named) > NAMED:
                self._named = set(sorted(self._named)[NAMED // 2 :])
        return sorted(new)


def others_watermark(states: list[CombineState]) -> int | None:
    """The least watermark of the partitions that had events; None where none had."""
    marks = [max(s.high, s.declared or s.high) for s in states if s.high is not None]
    return min(marks, default=None)


def _flat(found: Sequence[Any], timestamps: Sequence[int]) -> tuple[list[Any], list[int]]:
    """Elements of records of which some are lists, each with its record's timestamp. An empty list is poison."""
    elements: list[Any] = []
    times: list[int] = []
    for one, timestamp in zip(found, timestamps, strict=True):
        several = one if isinstance(one, list) else [one]
        if not several:
            raise PoisonError(Reason.EMPTY, "the list is empty")
        elements += several
        times += [timestamp] * len(several)
    return elements, times
