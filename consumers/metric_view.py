"""Minutes of metrics as a view: read from metric-aggregates, and handed over in order to whoever merges them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from threading import Event
from typing import Any, NamedTuple, cast

from confluent_kafka import Message

from consumers.memory_view import MemoryView, Viewed
from consumers.metric_cells import MINUTE, Cell, read
from consumers.metric_minutes import MINUTES
from infra.config import Config
from schemas.dead_letters import Reason
from schemas.errors import PoisonError
from schemas.metric_state import state_of
from schemas.topics import METRIC_AGGREGATES

#: What is read.
TOPICS = (METRIC_AGGREGATES,)
#: So many revisions wait at most to be taken, about: some 30 MB of full sketches.
_AHEAD = 2_000

_DECODER = cast(Any, METRIC_AGGREGATES.decoder())


class Revision(NamedTuple):
    """What a minute of a type has come to. `final_since`: when (epoch ms) that was written; None: it is not final."""

    event_type: str
    minute: int
    cell: Cell
    final_since: int | None


class MetricView(Viewed):
    """What the metrics job has written of the last day. Of one event loop, but for `take`, `waiting` and `lag`; see
    `MemoryView` for how it lives. `clock` gives epoch milliseconds.
    """

    def __init__(self, config: Config, clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self._clock = clock
        # The windows of a record are ahead of the time at which it was written by that much at most.
        self._kept = MINUTES * MINUTE + config.metrics_max_skew + MINUTE
        self._revisions: deque[Revision | None] = deque()
        self._room = Event()
        self._closed = False
        self._view = MemoryView[Revision | None](
            config, TOPICS, self._decode, self._apply, self._clear, clock, since=self._since
        )

    async def close(self) -> None:
        """Reads no more."""
        self._closed = True
        self._room.set()
        await super().close()

    def facts(self) -> dict[str, int]:
        """What was read."""
        return self._view.facts()

    @property
    def waiting(self) -> int:
        """How many revisions can be taken."""
        return len(self._revisions)

    def take(self, most: int) -> list[Revision | None]:
        """The next revisions, those of a partition in order; None: all before it is void. For one thread at a time."""
        found: list[Revision | None] = []
        with suppress(IndexError):
            while len(found) < most:
                found.append(self._revisions.popleft())
        self._room.set()
        return found

    def _since(self) -> int:
        return self._clock() - self._kept

    def _decode(self, _: str, message: Message) -> Revision | None:
        """In the reading thread: it waits until there is room."""
        while len(self._revisions) >= _AHEAD and not self._closed:
            self._room.clear()
            self._room.wait(0.1)
        value = message.value()
        if value is None:
            raise PoisonError(Reason.EMPTY, "the record has no value")
        aggregate = _DECODER.one(value)
        minute, cell = read(aggregate, state_of(cast(Any, message.headers())))
        if minute <= self._clock() // MINUTE - MINUTES:
            return None
        return Revision(aggregate.event_type, minute, cell, message.timestamp()[1] if aggregate.final else None)

    def _apply(self, revision: Revision | None) -> None:
        if revision is not None:
            self._revisions.append(revision)

    def _clear(self) -> None:
        self._revisions.clear()
        self._revisions.append(None)
