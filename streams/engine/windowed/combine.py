"""Stage one: a source partition's records to partial results, late events and dead letters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from weir.schemas.codec import BAD_INPUT
from weir.schemas.dead_letters import Reason
from weir.schemas.errors import PoisonError
from weir.schemas.topics import LATE_EVENTS
from weir.streams.engine.aggregates.partials import Owners, Partial, encode, split
from weir.streams.engine.core.errors import unchanged
from weir.streams.engine.core.offset_metadata import read_metadata, write_metadata
from weir.streams.engine.core.records import FlushBatch, Produce, Record
from weir.streams.engine.input.dead_letters import to_dead_letter
from weir.streams.engine.input.source import CHUNK, SourcePartition, SourceStage, SourceState, flattened, halve
from weir.streams.engine.windowed.preaggregation import preaggregator
from weir.streams.engine.windowed.spec import WindowedSpec

#: The end of the year 9998: a window must end in the year after to be written as RFC 3339.
CALENDAR = 253_370_764_800_000
#: So many windows are remembered as told of: to tell it twice does no harm.
NAMED = 4096


class CombineState(msgspec.Struct, array_like=True):
    """The state of stage one that is committed with the source's offset."""

    sources: int
    outputs: int
    source: SourceState


class Combine(SourceStage):
    """The combining stage of one source partition. `now_ms` is the clock, in epoch ms."""

    def __init__(
        self,
        job: WindowedSpec,
        partition: int,
        sources: int,
        outputs: int,
        now_ms: Callable[[], int],
    ) -> None:
        self._job, self._partition, self._sources, self._outputs = job, partition, sources, outputs
        self._source = SourcePartition(job.name, job.source, job.max_skew, now_ms, job.windows.retention, CALENDAR)
        self._aggregator = preaggregator(job.windows, job.aggregation)
        self._owners = Owners(outputs)
        self._named: set[int] = set()  # the windows that every output partition was told of
        self._late: list[Produce] = []
        self._announced = -1  # the closing time in the last flush; -1: none yet
        self._unflushed = True

    def restore(self, metadata: str | None) -> None:
        if metadata is None:
            return
        state = read_metadata(metadata, CombineState)
        unchanged(self._job.name, self._job.source, state.sources, self._sources)
        unchanged(self._job.name, self._job.partials, state.outputs, self._outputs)
        self._source.restore(state.source)
        self._announced, self._unflushed = self._closing(), False

    def process(self, records: Sequence[Record]) -> None:
        """Counts the records. Nearly always all are good and are counted together; what is not is found by halving."""
        self._source.begin()
        for at in range(0, len(records), CHUNK):
            halve(records[at : at + CHUNK], self._together, self._one_by_one)
        self._source.end()
        self._unflushed = True

    def _together(self, records: Sequence[Record]) -> bool:
        """Counts the records where all are good, else does nothing and says no. Every event pays for this method."""
        timestamps = [record.timestamp()[1] for record in records]
        times_of = self._job.times_of
        span = self._span(timestamps) if times_of is None else None
        if times_of is None and span is None:
            return False
        decode = self._job.decoder.fast
        times: Sequence[int]
        try:
            found = [decode(record.value()) for record in records]  # type: ignore[arg-type]
            elements, times = found, timestamps
            if list in set(map(type, found)):
                elements, (times,), _ = flattened(found, timestamps)
            self._job.check_all(elements)
            if times_of is not None:
                times = times_of(elements, times)
                span = self._span(times)
            if span is None:
                return False
            keys = self._job.keys_of(elements, times)
            rows = self._job.aggregation.rows(elements)
        except (TypeError, ValueError, PoisonError, *BAD_INPUT):  # TypeError: a record without a value
            return False
        first, last = span
        self._aggregator.add(keys, times, rows, first, last)
        self._source.routed.counted += len(keys)
        self._source.mark.delivered(last)
        return True

    def _span(self, times: Sequence[int]) -> tuple[int, int] | None:
        """The first and the last of these times; None where one is late or refused, or might be by their order."""
        first, last = min(times), max(times)
        high, floor = self._bounds()
        if first < max(floor, max(high, last) - self._job.windows.retention, 0) or last > self._source.latest:
            return None
        return first, last

    def _bounds(self) -> tuple[int, int]:
        """The largest timestamp so far (-1: none), and the one below which an event is late (0: none is)."""
        high, horizon = self._source.mark.high, self._source.mark.horizon
        floor = 0 if horizon is None else max(0, self._job.windows.late_before(horizon))
        return (-1 if high is None else high), floor

    def _one_by_one(self, record: Record) -> None:
        """Counts, or sets aside, each element of one record."""
        stamped, value = record.timestamp()[1], record.value()
        source, times_of = self._source, self._job.times_of
        for index, (element, raw) in enumerate(self._job.decoder.elements(value)):
            place = None if raw is value else index
            if isinstance(element, PoisonError):  # not raised here: its traceback would hold this frame, which holds it
                source.refuse(record, raw, place, element)
                continue
            try:
                times = [stamped] if times_of is None else times_of([element], [stamped])
                source.check(times[0], "record's timestamp" if times_of is None else "event's time")
                keys = self._job.keys_of([element], times)
                rows = self._job.aggregation.rows([element])
            except PoisonError as e:
                source.refuse(record, raw, place, e)
                continue
            time, (_, floor) = times[0], self._bounds()
            if time < floor:
                self._too_late(record, raw, place, floor)
                continue
            self._aggregator.add(keys, times, rows, time, time)
            source.routed.counted += 1
            source.mark.delivered(time)

    def _too_late(self, record: Record, raw: bytes, element: int | None, floor: int) -> None:
        self._source.routed.late += 1
        why = PoisonError(
            Reason.LATE, f"the event is older than {floor}, the partition's watermark minus the retention"
        )
        late = to_dead_letter(LATE_EVENTS.name, self._job.source.name, self._job.name, record, raw, element, why)
        self._late.append(late)

    def caught_up(self, elapsed_ms: int, others: int | None) -> None:
        self._source.caught_up(elapsed_ms, others)
        self._unflushed = self._unflushed or self._closing() > self._announced

    def _closing(self) -> int:
        watermark = self._source.mark.watermark
        return 0 if watermark is None else max(0, self._job.windows.open_from(watermark))

    def take(self, changelog_end: int) -> FlushBatch | None:
        if not self._unflushed:
            return None
        late, self._late = self._late, []
        produce = [*self._source.take(), *late, *self._partials()]
        self._announced, self._unflushed = self._closing(), False
        state = CombineState(self._sources, self._outputs, self._source.state())
        return FlushBatch(produce, write_metadata(state))

    def _partials(self) -> Iterable[Produce]:
        """One record or more for every output partition that has to know something.

        Of several for one partition only the last says how far event time has come: what closes a window follows all
        that the flush has for it.
        """
        cells = self._aggregator.take()
        new = self._new_windows(cells)
        tell_all = bool(new) or self._closing() > self._announced
        mark, topic, backlog = self._source.mark, self._job.partials.name, round(1000 * self.backlog)
        starts, aggregator = self._job.windows.starts, self._aggregator
        shares = split(cells, starts, aggregator.events, aggregator.weigh, aggregator.cut, self._owners, self._outputs)
        for partition, share in enumerate(shares):
            if not tell_all and not share.events:
                continue
            *before, last = share.groups
            for group in before:
                partial = Partial(self._partition, self._sources, None, None, [], group, 0, backlog)
                yield Produce(topic, encode(partial), partition=partition)
            partial = Partial(
                self._partition, self._sources, mark.watermark, mark.horizon, new, last, share.events, backlog
            )
            yield Produce(topic, encode(partial), partition=partition)

    def _new_windows(self, panes: Iterable[int]) -> list[int]:
        """The windows of these panes that not every output partition has been told of."""
        new = {start for pane in panes for start in self._job.windows.starts(pane)} - self._named
        if new:
            self._named |= new
            if len(self._named) > NAMED:
                self._named = set(sorted(self._named)[NAMED // 2 :])
        return sorted(new)
