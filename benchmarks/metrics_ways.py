"""Ways to bring events from many threads to one aggregation: what `streams/jobs/metrics_processor.py` was chosen from.

None checks an event. All aggregate as it does, with the engine's own code; they differ in what a thread does with its
event.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from queue import SimpleQueue

from weir.schemas.metrics import MetricEvent
from weir.streams.api import TumblingWindows
from weir.streams.engine.aggregates.aggregation import Several
from weir.streams.engine.windowed.preaggregation import preaggregator
from weir.streams.jobs.metrics import AGGREGATES, MINUTE
from weir.streams.jobs.metrics_processor import BATCH, ROWS


class Aggregated:
    """The aggregates of all events so far: for one thread at a time."""

    def __init__(self) -> None:
        self._several = Several(AGGREGATES)
        self._cells = preaggregator(TumblingWindows(MINUTE, 0, 0), self._several)
        self._rows = self.count = 0

    def add(self, events: Sequence[MetricEvent]) -> None:
        """Aggregates more events."""
        times: list[int] = [event.timestamp for event in events]  # type: ignore[misc]
        keys = [(event.event_type,) for event in events]
        self._cells.add(keys, times, self._several.rows(events), min(times), max(times))
        self._rows += len(events)
        if self._rows >= ROWS:
            self.fold()

    def fold(self) -> None:
        """Folds what was added."""
        self._rows = 0
        for cells in self._cells.take().values():
            self.count += self._several.events(cells.values())


class _Way:
    def __init__(self) -> None:
        self._all, self._lock = Aggregated(), threading.Lock()

    def read(self) -> None:
        """Nobody asks."""

    def counted(self) -> int:
        self._all.fold()
        return self._all.count


class OneByOne(_Way):
    """Aggregates each event by itself, under a lock."""

    def put(self, event: MetricEvent) -> None:
        with self._lock:
            self._all.add([event])


class SharedDeque(_Way):
    """Appends to a deque; who fills a batch aggregates it, under a lock: what `MetricsProcessor` does."""

    def __init__(self) -> None:
        super().__init__()
        self._pending: deque[MetricEvent] = deque()

    def put(self, event: MetricEvent) -> None:
        self._pending.append(event)
        pending = len(self._pending)
        if pending >= BATCH and self._lock.acquire(pending >= 8 * BATCH):
            try:
                self._take_over()
            finally:
                self._lock.release()

    def _take_over(self) -> None:
        left = len(self._pending)
        while left:
            size = min(left, BATCH)
            left -= size
            self._all.add([self._pending.popleft() for _ in range(size)])

    def counted(self) -> int:
        self._take_over()
        return super().counted()


class SharedList(_Way):
    """Appends to a list under a lock of its own; who fills a batch aggregates it under another."""

    def __init__(self) -> None:
        super().__init__()
        self._appending, self._pending = threading.Lock(), list[MetricEvent]()

    def put(self, event: MetricEvent) -> None:
        with self._appending:
            self._pending.append(event)
            pending = len(self._pending)
        if pending >= BATCH and self._lock.acquire(pending >= 8 * BATCH):
            try:
                self._take_over()
            finally:
                self._lock.release()

    def _take_over(self) -> None:
        with self._appending:
            events, self._pending = self._pending, []
        for at in range(0, len(events), BATCH):
            self._all.add(events[at : at + BATCH])

    def counted(self) -> int:
        self._take_over()
        return super().counted()


class ListPerThread(_Way):
    """Each thread appends to a list of its own, under a lock that only a reader would contend for."""

    def __init__(self) -> None:
        super().__init__()
        self._own = threading.local()
        self._lists: list[tuple[threading.Lock, list[MetricEvent]]] = []

    def put(self, event: MetricEvent) -> None:
        try:
            appending, pending = self._own.pair
        except AttributeError:
            appending, pending = self._own.pair = threading.Lock(), []
            with self._lock:
                self._lists.append(self._own.pair)
        with appending:
            pending.append(event)
        if len(pending) >= BATCH:
            with self._lock:
                self._take_over(appending, pending)

    def _take_over(self, appending: threading.Lock, pending: list[MetricEvent]) -> None:
        with appending:
            events = pending[:]
            pending.clear()
        if events:
            self._all.add(events)

    def counted(self) -> int:
        for pair in self._lists:
            self._take_over(*pair)
        return super().counted()


class FoldingThread(_Way):
    """Puts events into a queue that a thread of its own empties."""

    def __init__(self) -> None:
        super().__init__()
        self._queue: SimpleQueue[MetricEvent | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._aggregate)
        self._thread.start()
        self.put = self._queue.put

    def _aggregate(self) -> None:
        batch: list[MetricEvent] = []
        while (event := self._queue.get()) is not None:
            batch.append(event)
            if len(batch) >= BATCH:
                self._all.add(batch)
                batch = []
        if batch:
            self._all.add(batch)

    def counted(self) -> int:
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()
        return super().counted()


WAYS = {
    "one by one under a lock": OneByOne,
    "shared deque": SharedDeque,
    "shared list under a lock": SharedList,
    "list per thread": ListPerThread,
    "queue and a folding thread": FoldingThread,
}
