"""The metrics job's aggregates inside a process: thread-safe, without Kafka. How: docs/explanation/metrics.md."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import repeat, starmap
from operator import itemgetter, length_hint
from threading import Lock
from typing import Any

import msgspec

from weir.infra.errors import OverloadError
from weir.infra.runtime.clock import wall_clock
from weir.schemas.codec import BAD_INPUT, poison
from weir.schemas.dead_letters import Reason
from weir.schemas.errors import PoisonError, WeirError
from weir.schemas.metrics import RANKS, MetricEvent, check_metric
from weir.schemas.times import SECONDS_BELOW, readable
from weir.streams.api import Key, TumblingWindows
from weir.streams.engine.aggregates.aggregation import Several
from weir.streams.engine.windowed.preaggregation import preaggregator
from weir.streams.jobs.metric_times import timestamps_ms
from weir.streams.jobs.metrics import AGGREGATES, MINUTE

#: How many minutes are kept.
MINUTES = 1440
#: So many events are taken over by whoever brings the last of them.
BATCH = 1024
#: So many wait at most while others aggregate; who brings more waits, too.
FULL = 8 * BATCH
#: So many events are aggregated at once, or so many for each type: a column costs much less than its values one by one.
ROWS, EACH = 32 * BATCH, 128
#: An event that is so much younger than the oldest minute kept is taken without a look at the clock, in ms.
_MARGIN = 3_600_000
#: `weir.schemas.fields.LIMIT` as a float, which is compared faster.
_LIMIT = 1e100
_row = itemgetter(0)


class ProcessorClosedError(WeirError):
    """The processor is closed: it takes no more events."""


class MetricsProcessor:
    """Aggregates `MetricEvent`s per event type and minute; any number of threads may call any of its methods.

    An event is in every answer that is asked for after `process_event` has returned for it, in any thread, and in none
    twice. `now_ms` is the clock (epoch ms). An event may be `max_skew` ms ahead of it. There are at most `types` event
    types at a time; a type is forgotten with its last minute.

    Nothing here relies on the interpreter running one thread at a time but what Python promises without it: that
    appends to a deque and pops from it are thread-safe, and that a dict may be read while another thread writes to it.
    """

    def __init__(
        self,
        now_ms: Callable[[], int] = wall_clock,
        max_skew: int = 3_600_000,
        types: int = 10_000,
    ) -> None:
        self._now, self._max_skew, self._max_types = now_ms, max_skew, types
        self._pending: deque[MetricEvent] = deque()  # their timestamps in ms, whatever they came with
        self._append = self._pending.append
        self._closed = False
        # Times from `_first` to `_last` were allowed when the clock was last looked at, which is whenever events are
        # taken over, and for an hour from then on; they are in ms whatever the clock says.
        self._first, self._last = 0, -1
        self._keys: dict[str, Key] = {}  # the event types that were let in
        self._admitting = Lock()  # for writing to the keys
        self._folding = Lock()  # for popping what is pending, and for what follows
        self._aggregation = Several(AGGREGATES)
        self._taken = _nothing()
        self._cells = preaggregator(TumblingWindows(MINUTE, 0, 0), self._aggregation)
        self._rows = 0  # that the cells hold
        self._minutes: dict[int, dict[Key, Any]] = {}  # start to plain states, which are replaced and never changed
        self._load()

    def process_event(self, event: MetricEvent | Mapping[str, Any] | object) -> None:
        """Takes one event: a `MetricEvent`, or a mapping or an object with its fields.

        Raises PoisonError, which names the field, for what is no event, or one too far ahead of the clock or behind it;
        OverloadError for one of a type too many; ProcessorClosedError after `close`. An event that has become too old
        since the clock was looked at, over an hour ago and fewer than 1 024 events, may be taken; no answer has it.

        Whatever else is raised, by a signal's handler for one, the event may have been taken; none that was is lost
        unless it is being folded into sketches just then.
        """
        if type(event) is not MetricEvent:
            event = _checked(event)
        at, user, event_type, value = event.timestamp, event.user_id, event.event_type, event.value
        if not (
            type(at) is int
            and self._first <= at <= self._last
            and type(event_type) is str
            and event_type in self._keys
            and type(user) is str
            and 0 < len(user) <= 128
            and user.isprintable()
            and type(value) is float
            and -_LIMIT < value < _LIMIT
        ):
            event = self._admitted(_checked(event))
        if self._closed:
            raise ProcessorClosedError
        self._append(event)
        pending = len(self._pending)
        if pending >= BATCH and self._folding.acquire(pending >= FULL):
            try:
                self._take_over()
            finally:
                self._folding.release()

    def get_aggregates(self, minutes: int) -> dict[str, float]:
        """Returns the aggregates of the last `minutes` minutes, 1 to 1440, up to and including the clock's current
        minute: "login.count", ".sum", ".avg", ".min", ".max", ".p50", ".p95", ".p99" and ".users" for type "login". A
        type without events in that time is left out. Raises ValueError for any other number of minutes.
        """
        if type(minutes) is not int or not 1 <= minutes <= MINUTES:
            raise ValueError(f"minutes is {minutes!r}; it must be an int from 1 to {MINUTES}")
        found: defaultdict[Key, list[Any]] = defaultdict(list)
        with self._folding:
            self._take_over()
            self._fold()
            last = _start(self._now())
            for start in range(last - (minutes - 1) * MINUTE, last + 1, MINUTE):
                for key, plain in self._minutes.get(start, {}).items():
                    found[key].append(plain)
        return {
            f"{event_type}.{name}": value
            for (event_type,), plains in sorted(found.items())
            for name, value in _figures(self._merged(plains)).items()
        }

    def close(self, timeout: float = 5) -> None:
        """No event is taken from now on; what was taken is still answered for.

        Waits up to `timeout` seconds for threads that aggregate; raises TimeoutError where they need longer, and then
        it is closed as well.
        """
        self._closed = True
        if not self._folding.acquire(timeout=timeout):
            raise TimeoutError(f"events were still being aggregated after {timeout} s")
        try:
            self._take_over()
            self._fold()
        finally:
            self._folding.release()

    def _load(self) -> None:
        """Aggregates what nobody asks for: the sketches' library is loaded now, in 0.2 s that no event waits for."""
        events = [MetricEvent(0, "", "", 0.0)] * BATCH
        self._cells.add([("",)] * BATCH, [0] * BATCH, self._aggregation.rows(events), 0, 0)
        self._cells.take()

    def _admitted(self, event: MetricEvent) -> MetricEvent:
        """The event with its time in ms. Raises PoisonError for one not allowed, OverloadError for a type too many."""
        (at,) = timestamps_ms([event.timestamp])
        now = self._looked()
        if at > now + self._max_skew:
            why = f"`timestamp` is {at - now} ms ahead of the clock; at most {self._max_skew} ms are allowed"
            raise PoisonError(Reason.TIMESTAMP, why)
        if at < _oldest(now):
            raise PoisonError(Reason.LATE, f"`timestamp` {readable(at)} is more than {MINUTES} minutes ago")
        with self._admitting:
            if event.event_type not in self._keys:
                if len(self._keys) >= self._max_types:
                    raise OverloadError(
                        f"event type {event.event_type!r} is one too many: {self._max_types} types are held already"
                    )
                self._keys[event.event_type] = (event.event_type,)
        return MetricEvent(at, event.user_id, event.event_type, event.value)

    def _looked(self) -> int:
        """Looks at the clock, and renews what is allowed by it."""
        now = self._now()
        self._first, self._last = max(_oldest(now) + _MARGIN, SECONDS_BELOW), now + self._max_skew
        return now

    def _take_over(self) -> None:
        """Groups what is pending by minute and type. With `_folding` held: no answer misses what is taken here.

        Where it is interrupted, what was popped and is not grouped is so the next time: nothing but `add` moves the
        second of `_taken` on, by one event as it takes one, and events are popped by one call that runs no Python.
        """
        pop, known = self._pending.popleft, self._keys
        events, rest = self._taken
        left = length_hint(rest) + len(self._pending)  # what others bring meanwhile is for the next time
        while left:
            size = min(left, BATCH)
            left -= size
            events = events[len(events) - length_hint(rest) :]
            self._taken = events, (rest := iter(events))
            events.extend(starmap(pop, repeat((), size - len(events))))
            times: list[int] = [event.timestamp for event in events]  # type: ignore[misc]
            keys = [known.get(event.event_type) or (event.event_type,) for event in events]
            rows = map(_row, zip(self._aggregation.rows(events), rest))  # noqa: B905 - `rest` is not to be read past its end
            self._cells.add(keys, times, rows, min(times), max(times))
            self._rows += len(events)
            if self._rows >= max(ROWS, EACH * len(known)):
                self._fold()
        self._looked()

    def _fold(self) -> None:
        """Takes what was grouped into the minutes, and drops those that are too old. With `_folding` held."""
        self._rows = 0
        own = self._aggregation
        for start, cells in self._cells.take().items():
            minute = self._minutes.setdefault(start, {})
            for key, plain in cells.items():
                before = minute.get(key)
                minute[key] = plain if before is None else own.dump(own.merge(own.load(before), own.load(plain)))
        first = _oldest(self._now())
        if old := [start for start in self._minutes if start < first]:
            for start in old:
                del self._minutes[start]
            self._forget()

    def _forget(self) -> None:
        """Forgets the types that are in no minute."""
        live = {key for minute in self._minutes.values() for key in minute}
        with self._admitting:
            self._keys = {event_type: key for event_type, key in self._keys.items() if key in live}

    def _merged(self, plains: Sequence[Any]) -> dict[str, Any]:
        """Returns the result of a type, from its states of several minutes."""
        own = self._aggregation
        state = own.load(plains[0])
        for plain in plains[1:]:
            state = own.merge(state, own.load(plain))
        return own.result(state)


def _nothing() -> tuple[list[MetricEvent], Iterator[MetricEvent]]:
    """No events, and those of them that are still to be grouped."""
    events: list[MetricEvent] = []
    return events, iter(events)


def _checked(event: Any) -> MetricEvent:
    """Returns the argument of `process_event` as an event. Raises PoisonError, which names the field, for a bad one."""
    try:
        fields = msgspec.structs.asdict(event) if type(event) is MetricEvent else event
        made = msgspec.convert(fields, MetricEvent, from_attributes=True)
        check_metric(made)
    except BAD_INPUT as e:
        raise poison(e) from e
    except ValueError as e:
        raise PoisonError(Reason.INVALID, str(e)) from e
    return made


def _start(time_ms: int) -> int:
    """The start of the minute that a time is in."""
    return time_ms - time_ms % MINUTE


def _oldest(now_ms: int) -> int:
    """The start of the first minute that is kept."""
    return _start(now_ms) - (MINUTES - 1) * MINUTE


def _figures(result: Mapping[str, Any]) -> dict[str, float]:
    """The result of a type by the names that `get_aggregates` has."""
    quantiles = zip((f"p{100 * rank:g}" for rank in RANKS), result["quantiles"], strict=True)
    return {**{name: float(value) for name, value in result.items() if name != "quantiles"}, **dict(quantiles)}
