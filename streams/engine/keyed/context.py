"""The context of a keyed job's functions: reads one key's state and collects changes, to be applied or dropped."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter, methodcaller
from typing import Any, Generic, TypeVar

import msgspec

from weir.schemas.dead_letters import PREFIX, Headers, Reason
from weir.schemas.errors import PoisonError
from weir.schemas.topic import Topic, ahead_of
from weir.streams.engine.core.errors import EngineError
from weir.streams.engine.core.records import FRAME, STATE, Produce, Record, largest

S = TypeVar("S")

#: Stands for a state that nobody has asked for yet.
UNREAD: Any = object()

#: What a header takes in a record beside its name and its value, at most.
HEADER = 10

_headers_of_record = methodcaller("headers")
_headers_of_row = attrgetter("headers")
_json = msgspec.json.Encoder().encode


def handed_on(headers: Headers | None) -> Headers | None:
    """The headers that a record which was made of another has from that one: all but weir's own."""
    if not headers:
        return None
    return [one for one in headers if not one[0].startswith(PREFIX) and one[0] != STATE] or None


def headers_size(headers: Headers | None) -> int:
    """About how many bytes headers take, rather more."""
    return sum(len(name.encode()) + len(value or b"") + HEADER for name, value in headers) if headers else 0


def _as_it_is(record: Any) -> Any:
    return record


class Context(Generic[S]):
    """The argument of `process` and `on_timer`: reads one key's state and records what to do. All changes are committed
    with the source's offset, or none.

    `key` is the element's. `timestamp` is the event's, or the time that the timer was set to; `watermark` is how far
    event time has come, at least as far as every timer that has fired, None while unknown. Both in epoch ms. Where
    elements come through a repartition topic, in a job without timers and time to live, it may be far behind.
    """

    __slots__ = (
        "_ahead", "_changes", "_done_at", "_from", "_headers", "_latest", "_limits", "_load", "_out", "_record",
        "_state", "_timed", "_written", "key", "timestamp", "watermark",
    )  # fmt: skip

    def __init__(self, load: Callable[[str], S | None], outputs: Sequence[Topic], timed: bool, max_skew: int) -> None:
        self.key, self.timestamp = "", 0
        self.watermark: int | None = None
        self._load, self._timed = load, timed
        self._limits = {topic.name: largest(topic) - FRAME for topic in outputs}
        self._ahead = {t.name: ahead - max_skew for t in outputs if (ahead := ahead_of(t)) is not None}
        self._state: S | None = None
        self._written = False
        self._changes: dict[str, int | None] = {}
        self._out: list[Produce] = []
        self._done_at = -1  # in on_timer: the timer's time
        self._from: Any = None  # what the element came in; None in on_timer
        self._record: Callable[[Any], Record] = _as_it_is  # makes a record of that
        self._headers: Callable[[Any], Headers | None] = _headers_of_record
        self._latest: float = math.inf  # what is written gets no time later than this from what was read

    def _of_rows(self, record: Callable[[Any], Record]) -> None:
        """Elements come in rows, of which `record` makes the record of the source."""
        self._record, self._headers = record, _headers_of_row

    @property
    def record(self) -> Record | None:
        """The record of the source that the element came in: `topic()` without a prefix where elements come through a
        repartition topic, `partition()`, `offset()`, `key()` and `headers()`, with the methods of
        confluent_kafka.Message. None in `on_timer`.

        Through a repartition topic come the first 32 KiB of the record's key, of its headers those that are not weir's
        own, and of its value the element.
        """
        return None if self._from is None else self._record(self._from)

    @property
    def state(self) -> S | None:
        """The key's state; None where there is none. Assign to change it, None to delete it; an object that is changed
        and not assigned changes nothing. What is assigned is encoded when `process` returns.
        """
        if self._state is UNREAD:
            self._state = self._load(self.key)
        return self._state

    @state.setter
    def state(self, state: S | None) -> None:
        self._state, self._written = state, True

    def emit(
        self,
        topic: Topic,
        value: Any,
        key: str | bytes | None = None,
        timestamp: int | None = None,
        headers: Iterable[tuple[str, bytes]] | None = None,
    ) -> None:
        """Writes a record: `value` as it is where it is bytes or None (a tombstone), else as JSON. Its partition is the
        CRC-32 of its key modulo their number, also of an empty one; any where there is no key.

        `timestamp` (epoch ms) is the record's; None: `ctx.timestamp`, as in Kafka Streams, but no later than `max_skew`
        ahead of the clock. 0 is written as 1: librdkafka cannot write the epoch itself. A topic that is kept for a time
        forgets what is older than that. `headers` are the record's; None: those of the record that the element came in,
        without weir's own.

        Raises EngineError for a topic that the job does not declare, PoisonError for a record that it would not take:
        one that is too large, has a negative timestamp, or one so far ahead of the clock that Kafka refuses it.
        """
        limit = self._limits.get(topic.name)
        if limit is None:
            raise EngineError(
                f"topic {topic.name} is not one of the job's outputs ({', '.join(self._limits) or 'none'}): add it to "
                f"`outputs`"
            )
        raw = value if value is None or isinstance(value, bytes) else _json(value)
        raw_key = key.encode() if isinstance(key, str) else key
        size = len(raw or b"") + len(raw_key or b"")
        own_headers: Headers | None = None
        if headers is not None:
            own_headers = [*headers]
            size += headers_size(own_headers)
        elif self._from is not None and (received := self._headers(self._from)):
            own_headers = handed_on(received)
            size += headers_size(own_headers)
        if size > limit:
            raise PoisonError(
                Reason.TOO_LARGE, f"the record for {topic.name} has {size} bytes, more than the limit of {limit}"
            )
        if timestamp is None:
            timestamp = self.timestamp if self.timestamp <= self._latest else int(self._latest)
        elif timestamp < 0:
            raise PoisonError(Reason.TIMESTAMP, f"the record for {topic.name} has a negative timestamp: {timestamp}")
        elif timestamp > self._latest + self._ahead.get(topic.name, math.inf):
            raise PoisonError(
                Reason.TIMESTAMP,
                f"the record for {topic.name} has the timestamp {timestamp}, too far ahead of the clock for the topic",
            )
        self._out.append(Produce(topic.name, raw, raw_key, -1, own_headers, timestamp))

    def timer(self, name: str, at_ms: int) -> None:
        """Sets the key's timer of that name to fire once at `at_ms` (epoch ms of event time), or moves it there.

        One that is due already fires as soon as `process` returns. A timer that fires may set later ones only: raises
        EngineError for others, which might never end, and where the job has no `on_timer`.
        """
        if not self._timed:
            raise EngineError(f"timer {name!r} cannot be set: the job has no on_timer")
        if not isinstance(at_ms, int):
            raise TypeError(f"timer {name!r}: the time must be an int, in epoch milliseconds, not {at_ms!r}")
        if at_ms <= self._done_at:
            raise EngineError(
                f"timer {name!r} cannot be set to {at_ms}: the timer that is firing is of {self._done_at}, and may "
                f"only set later ones"
            )
        self._changes[name] = at_ms

    def cancel(self, name: str) -> None:
        """Takes the timer back; nothing where there is none."""
        self._changes[name] = None
