"""View of the minutes of metrics: reads metric-aggregates, and hands revisions over in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from threading import Event
from typing import Any, NamedTuple, cast

from confluent_kafka import Message

from weir.consumers.metrics.minute_buckets import MINUTES
from weir.consumers.metrics.states import MINUTE, Cell, read
from weir.consumers.views.view import TopicView
from weir.infra.config import Config
from weir.infra.progress.chain import Chain
from weir.infra.runtime.clock import wall_clock
from weir.schemas.dead_letters import Reason
from weir.schemas.errors import PoisonError
from weir.schemas.metrics import state_of
from weir.schemas.topics import METRIC_AGGREGATES

#: What is read.
TOPICS = (METRIC_AGGREGATES,)
CHAIN = Chain((), [topic.name for topic in TOPICS])
#: So many revisions wait at most to be taken, about: some 30 MB of full sketches.
_AHEAD = 2_000

_DECODER = cast(Any, METRIC_AGGREGATES.decoder())


class Revision(NamedTuple):
    """New state of one minute of an event type. `final_since`: when (epoch ms) the final state was written; None: not
    final yet.
    """

    event_type: str
    minute: int
    cell: Cell
    final_since: int | None


class MetricView(TopicView[Revision | None]):
    """View of the metrics job's results of the last day. Belongs to one event loop, but for `take`, `waiting` and
    `lag`; `TopicView` describes its life cycle. `chain` describes how events reach the view's topic. `clock` gives
    epoch milliseconds.
    """

    def __init__(self, config: Config, chain: Chain = CHAIN, clock: Callable[[], int] = wall_clock) -> None:
        self._clock = clock
        # The windows of a record are ahead of the time at which it was written by that much at most.
        self._kept = MINUTES * MINUTE + config.metrics.max_skew + MINUTE
        self._revisions: deque[Revision | None] = deque()
        self._room = Event()
        self._closed = False
        super().__init__(config, TOPICS, chain)

    async def close(self) -> None:
        """Reads no more."""
        self._closed = True
        self._room.set()
        await super().close()

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

    def since(self) -> int:
        """Leaves out what was written so long ago that its minutes are not kept."""
        return self._clock() - self._kept

    def decode(self, _: str, record: Message) -> Revision | None:
        """Returns the revision of a record, None for a minute that is not kept. Waits until there is room."""
        while len(self._revisions) >= _AHEAD and not self._closed:
            self._room.clear()
            self._room.wait(0.1)
        value = record.value()
        if value is None:
            raise PoisonError(Reason.EMPTY, "the record has no value")
        aggregate = _DECODER.one(value)
        minute, cell = read(aggregate, state_of(cast(Any, record.headers())))
        if minute <= self._clock() // MINUTE - MINUTES:
            return None
        return Revision(aggregate.event_type, minute, cell, record.timestamp()[1] if aggregate.final else None)

    def apply(self, revision: Revision | None) -> None:
        """Offers a revision to `take`."""
        if revision is not None:
            self._revisions.append(revision)

    def clear(self) -> None:
        """Tells `take` that everything before is void."""
        self._revisions.clear()
        self._revisions.append(None)
