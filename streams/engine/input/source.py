"""A source partition as the stage that reads it sees it: what it accepts, how far event time has come, what it refuses.

Shared by all stages that read a source topic. Pure: the clock is passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from weir.schemas.codec import BAD_INPUT
from weir.schemas.dead_letters import Reason
from weir.schemas.errors import PoisonError
from weir.schemas.topic import MIB, Topic
from weir.schemas.topics import DEAD_LETTERS
from weir.streams.engine.core.ledger import Routed
from weir.streams.engine.core.records import Produce, Record, Stage
from weir.streams.engine.core.watermarks import SourceWatermark
from weir.streams.engine.input.dead_letters import to_dead_letter

E = TypeVar("E")

#: The end of the year 9999, the last that RFC 3339 can write.
CALENDAR = 253_402_300_800_000
#: So many records are read together: what is made of them stays in the processor's cache.
CHUNK = 1024
#: So few records are looked at one by one rather than halved again.
FEW = 8
#: How long a key may be, in characters: it has to fit beside the state into one record.
MAX_RECORD_KEY = 16 << 10

_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode


class SourceState(msgspec.Struct, array_like=True):
    """The state of a source partition that is committed with its offset.

    `at` is when (epoch ms) the watermark was this. `pending` is the oldest declaration that the horizon does not follow
    yet: (epoch ms, watermark).
    """

    high: int | None
    declared: int | None
    horizon: int | None
    at: int
    pending: tuple[int, int] | None
    routed: Routed


def others_watermark(sources: Iterable[SourceState]) -> int | None:
    """The least watermark of the partitions that had events; None where none had."""
    marks = [max(s.high, s.declared or s.high) for s in sources if s.high is not None]
    return min(marks, default=None)


class SourcePartition:
    """One partition of `topic`, read by job `job`. `now_ms` is the clock (epoch ms); times from `end` on are refused.

    `retention` (ms) is how long the horizon stays behind what is declared; 0 where nothing is ever late. `timed`:
    whether the job's results depend on time. Of another job no event is too far ahead of the clock: such an event moves
    the watermark as far as `max_skew` allows.
    """

    def __init__(
        self,
        job: str,
        topic: Topic,
        max_skew: int,
        now_ms: Callable[[], int],
        retention: int = 0,
        end: int = CALENDAR,
        timed: bool = True,
    ) -> None:
        self._job, self._topic, self._max_skew, self._now, self._end = job, topic, max_skew, now_ms, end
        self._timed = timed
        self.mark = SourceWatermark(retention)
        self.routed = Routed()
        self.latest = 0  # how far ahead of the clock event time may be
        self.allowed = 0  # the largest timestamp that is not refused
        self._idle_from: int | None = None  # the watermark at which the clock took over from the events
        self._at = 0  # when the watermark was last moved
        self._away = 0  # how long nobody watched before this task was opened
        self._dead_letters: list[Produce] = []

    def restore(self, state: SourceState) -> None:
        """Takes up what was committed. The time that nobody watched counts as silence."""
        self.mark.high, self.mark.declared, self.mark.horizon = state.high, state.declared, state.horizon
        self.mark.pending.extend([state.pending] if state.pending else [])
        self._at, self._away = state.at, max(0, self._now() - state.at)
        self.routed = state.routed

    def state(self) -> SourceState:
        """Returns the state to commit."""
        mark = self.mark
        pending = mark.pending[0] if mark.pending else None
        return SourceState(mark.high, mark.declared, mark.horizon, self._at, pending, self.routed)

    def begin(self) -> None:
        """A slice of records is about to be read."""
        self.latest = min(self._now() + self._max_skew, self._end)
        self.allowed = self.latest if self._timed else self._end

    def delivered(self, high: int) -> None:
        """Events up to timestamp `high` were delivered."""
        self.mark.delivered(min(high, self.latest))

    def end(self) -> None:
        """The slice was read: the events, not the clock, say how far event time has come."""
        self._idle_from, self._away, self._at = None, 0, self._now()

    def caught_up(self, elapsed_ms: int, others: int | None) -> None:
        """Declares the partition idle: event time went on as the clock did since the last event; a partition that never
        had an event has come as far as the others.
        """
        if self._idle_from is None:
            self._idle_from = self.mark.watermark
        if self.mark.high is None:
            if others is not None:
                self.mark.declare(others, self._now())
        elif self._idle_from is not None:
            self.mark.declare(self._idle_from + self._away + elapsed_ms, self._now())
        self._at = self._now()

    def check(self, time: int, what: str = "record's timestamp") -> None:
        """Raises PoisonError for a time that is none, negative, or ahead of the clock; `what` is what it is."""
        if time < 0:
            raise PoisonError(Reason.TIMESTAMP, f"the {what} is missing or negative: {time}")
        if time > self.allowed:
            ahead = time - self.latest + self._max_skew
            raise PoisonError(Reason.TIMESTAMP, f"the {what} is {ahead} ms ahead of the clock")

    def refuse(self, record: Record, raw: bytes, element: int | None, why: PoisonError) -> None:
        """Puts `raw`, element `element` of the record, to the dead letters."""
        self.routed.dead += 1
        self._dead_letters.append(
            to_dead_letter(DEAD_LETTERS.name, self._topic.name, self._job, record, raw, element, why)
        )

    def take(self) -> list[Produce]:
        """Returns the dead letters since the last call."""
        dead_letters, self._dead_letters = self._dead_letters, []
        return dead_letters


class SourceStage(Stage):
    """A stage that reads a partition of the job's source."""

    _source: SourcePartition

    @property
    def routed(self) -> Routed:
        """Outcomes of the partition's events since the beginning."""
        return self._source.routed

    @property
    def watermark(self) -> int | None:
        """How far the partition's event time has come, in epoch ms."""
        return self._source.mark.watermark


class Elements(Generic[E]):
    """Checked elements in source order, as columns of one length: what, when (epoch ms), whose, and where from.

    `places` is the element's place within its record's array, None where the record is one object.
    """

    __slots__ = ("elements", "keys", "places", "records", "times")

    def __init__(self) -> None:
        self.elements: list[E] = []
        self.times: list[int] = []
        self.keys: list[str] = []
        self.records: list[Record] = []
        self.places: list[int | None] = []

    def add(
        self,
        elements: Iterable[E],
        times: Iterable[int],
        keys: Iterable[str],
        records: Iterable[Record],
        places: Iterable[int | None],
    ) -> None:
        """Takes more rows, as columns."""
        self.elements += elements
        self.times += times
        self.keys += keys
        self.records += records
        self.places += places

    def raw(self, index: int) -> bytes:
        """The bytes that an element was made of."""
        value, place = self.records[index].value() or b"", self.places[index]
        return value if place is None else bytes(_raws(value)[place])

    def raws(self) -> list[bytes]:
        """The bytes of all elements."""
        found: list[bytes] = []
        last, of_last = None, []
        for record, place in zip(self.records, self.places, strict=True):
            if place is None:
                found.append(record.value() or b"")
                continue
            if record is not last:
                last, of_last = record, _raws(record.value() or b"")
            found.append(bytes(of_last[place]))
        return found


class KeyedReader(Generic[E]):
    """Records of a source to elements with their keys; `source` gets what is refused. `limit` is an element's size."""

    def __init__(self, source: SourcePartition, topic: Topic, key: Callable[[E], str], limit: int = 16 * MIB) -> None:
        decoder = topic.decoder()
        assert decoder is not None, f"topic {topic.name} has no type"
        self._source, self._key, self._limit = source, key, limit
        self._fast, self._elements, self._check = decoder.fast, decoder.elements, topic.check

    def read(self, records: Sequence[Record]) -> Elements[E]:
        """The elements of a few records. What is refused moves no watermark."""
        found: Elements[E] = Elements()
        halve(records, lambda some: self._together(found, some), lambda record: self._one_by_one(found, record))
        return found

    def _together(self, found: Elements[E], records: Sequence[Record]) -> bool:
        """Reads the records where all are good, else does nothing and says no. Every event pays for this method."""
        times = [record.timestamp()[1] for record in records]
        if min(times) < 0 or max(times) > self._source.allowed:
            return False
        values = [record.value() for record in records]
        if None in values or len(max(values, key=len)) > self._limit:  # type: ignore[arg-type]
            return False
        places: list[int | None] = [None] * len(records)
        try:
            elements: list[Any] = list(map(self._fast, values))  # type: ignore[arg-type]
            if list in set(map(type, elements)):
                elements, (times, records), places = flattened(elements, times, records)
            if self._check is not None:
                for element in elements:
                    self._check(element)
        except (PoisonError, ValueError, *BAD_INPUT):
            return False
        try:
            keys = list(map(self._key, elements))
        except PoisonError:
            return False
        if len(max(keys, key=len)) > MAX_RECORD_KEY:
            return False
        found.add(elements, times, keys, records, places)
        return True

    def _one_by_one(self, found: Elements[E], record: Record) -> None:
        """Reads, or refuses, each element of one record."""
        timestamp, value = record.timestamp()[1], record.value()
        for index, (element, raw) in enumerate(self._elements(value)):
            place = None if raw is value else index
            if isinstance(element, PoisonError):  # not raised here: its traceback would hold this frame, which holds it
                self._source.refuse(record, raw, place, element)
                continue
            try:
                self._source.check(timestamp)
                if len(raw) > self._limit:
                    raise PoisonError(Reason.TOO_LARGE, f"the element has {len(raw)} bytes, more than {self._limit}")
                key = self._key(element)
                if len(key) > MAX_RECORD_KEY:
                    raise PoisonError(
                        Reason.TOO_LARGE, f"the key has {len(key)} characters, more than {MAX_RECORD_KEY}"
                    )
            except PoisonError as e:
                self._source.refuse(record, raw, place, e)
                continue
            found.add([element], [timestamp], [key], [record], [place])


def halve(
    records: Sequence[Record], together: Callable[[Sequence[Record]], bool], one_by_one: Callable[[Record], None]
) -> None:
    """Handles the records in order: as a whole where `together` returns that all are good; the others are found by
    halving and handled by `one_by_one`.
    """
    if together(records):
        return
    if len(records) <= FEW:
        for record in records:
            one_by_one(record)
        return
    middle = len(records) // 2
    halve(records[:middle], together, one_by_one)
    halve(records[middle:], together, one_by_one)


def flattened(found: Iterable[Any], *columns: Sequence[Any]) -> tuple[list[Any], list[list[Any]], list[int | None]]:
    """Elements of records of which some are arrays; what `columns` have of each record, for each of its elements; and
    its place in its array, if any. An empty array is poison.
    """
    elements: list[Any] = []
    flat: list[list[Any]] = [[] for _ in columns]
    places: list[int | None] = []
    for one, *beside in zip(found, *columns, strict=True):
        several = one if isinstance(one, list) else [one]
        if not several:
            raise PoisonError(Reason.EMPTY, "the list is empty")
        elements += several
        for column, value in zip(flat, beside, strict=True):
            column += [value] * len(several)
        places += range(len(several)) if isinstance(one, list) else [None]
    return elements, flat, places
