"""What the functions of a keyed job see of one key, and what they do, until it is taken over or forgotten."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from schemas.dead_letters import Reason
from schemas.errors import PoisonError
from schemas.topic import Topic
from streams.engine.errors import EngineError
from streams.engine.records import FRAME, Produce, largest

S = TypeVar("S")

#: Stands for a state that nobody has asked for yet.
UNREAD: Any = object()

_json = msgspec.json.Encoder().encode


class Context(Generic[S]):
    """What `process` and `on_timer` see and do. All of it is committed with the source's offset, or none.

    `key` is the element's. `timestamp` is the event's, or the time that the timer was set to; `watermark` is how far
    event time has come, at least as far as every timer that has fired, None while unknown. Both in epoch ms. Where
    elements come through a repartition topic, in a job without timers and time to live, it may be far behind.
    """

    __slots__ = (
        "_changes", "_done_at", "_limits", "_load", "_out", "_state", "_timed", "_written", "key",
        "timestamp", "watermark",
    )  # fmt: skip

    def __init__(self, load: Callable[[str], S | None], outputs: Sequence[Topic], timed: bool) -> None:
        self.key, self.timestamp = "", 0
        self.watermark: int | None = None
        self._load, self._timed = load, timed
        self._limits = {topic.name: largest(topic) - FRAME for topic in outputs}
        self._state: S | None = None
        self._written = False
        self._changes: dict[str, int | None] = {}
        self._out: list[Produce] = []
        self._done_at = -1  # in on_timer: the timer's time

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

    def emit(self, topic: Topic, value: Any, key: str | bytes | None = None, timestamp: int | None = None) -> None:
        """Writes a record: `value` as it is where it is bytes or None (a tombstone), else as JSON. Its partition is the
        key's.

        `timestamp` (epoch ms) is the record's; None: the time at which it is written. Whoever reads the topic in event
        time wants `ctx.timestamp`; but a topic that is kept for a time forgets what is older than that.

        Raises EngineError for a topic that the job does not declare, PoisonError for a record that it would not take.
        """
        limit = self._limits.get(topic.name)
        if limit is None:
            raise EngineError(
                f"topic {topic.name} is not one of the job's outputs: {', '.join(self._limits) or 'none'}"
            )
        raw = value if value is None or isinstance(value, bytes) else _json(value)
        raw_key = key.encode() if isinstance(key, str) else key
        if (size := len(raw or b"") + len(raw_key or b"")) > limit:
            raise PoisonError(Reason.TOO_LARGE, f"the record for {topic.name} has {size} bytes, more than {limit}")
        self._out.append(Produce(topic.name, raw, raw_key, timestamp=timestamp or 0))

    def timer(self, name: str, at_ms: int) -> None:
        """Sets the key's timer of that name to fire once at `at_ms` (epoch ms of event time), or moves it there.

        One that is due already fires as soon as `process` returns. A timer that fires may set later ones only: raises
        EngineError for others, which might never end, and where the job has no `on_timer`.
        """
        if not self._timed:
            raise EngineError("a timer is set, and the job has no on_timer")
        if not isinstance(at_ms, int):
            raise TypeError(f"a timer's time is in whole milliseconds, not {at_ms!r}")
        if at_ms <= self._done_at:
            raise EngineError(f"a timer that fires at {self._done_at} sets one to {at_ms}, which is not later")
        self._changes[name] = at_ms

    def cancel(self, name: str) -> None:
        """Takes the timer back; nothing where there is none."""
        self._changes[name] = None
