"""Events and the truth about them: a plain Counter, and how many are late. Fast: values are made beforehand."""

from __future__ import annotations

import time
from collections import Counter
from functools import partial
from random import Random

from confluent_kafka import KafkaError, Message

from support.workers import Cell
from weir.infra.config import Config
from weir.infra.kafka.client import producer
from weir.schemas.times import to_rfc3339

MINUTE = 60_000
CHILDREN, PARENTS = 60, 20
#: Over how much event time a run's events are spread, and how far one may be behind the newest.
SPAN, BEHIND = 6 * MINUTE, 90_000
#: One event in so many is older than the retention allows.
LATE = 500


class Source:
    """Sends communications in an event time that goes on, out of order, over all partitions.

    `expected` and `late` are the truth; `acknowledged` is what the broker took, and `taken` where: by partition the
    offset of each event, and the cell it counts in, None where it is late.
    """

    def __init__(self, config: Config, seed: int, events: int) -> None:
        self._config, self._rng, self._events = config, Random(seed), events
        # A broker that is away for long must cost no event: the producer tries until the run is over.
        self._producer = producer(config, **{"message.timeout.ms": 0, "queue.buffering.max.messages": 1_000_000})
        self._topic, self._partitions = config.topic("communications"), config.kafka.partitions
        self._start = int(time.time() * 1000) // MINUTE * MINUTE - 10 * MINUTE
        self._high: list[int | None] = [None] * config.kafka.partitions
        self._pairs = [
            (b'{"source":"c%d","destination":"c%d"}' % (s, d), (f"p{s % PARENTS}", f"p{d % PARENTS}"))
            for s in range(CHILDREN)
            for d in range(CHILDREN)
        ]
        self._windows = {at: to_rfc3339(at) for at in range(self._start, self._start + 10 * MINUTE, MINUTE)}
        self.expected: Counter[Cell] = Counter()
        self.taken: list[dict[int, Cell | None]] = [{} for _ in range(config.kafka.partitions)]
        self.sent = self.late = self.acknowledged = 0
        for child in range(CHILDREN):
            value = f'{{"parent":"p{child % PARENTS}","child":"c{child}"}}'
            self._producer.produce(config.topic("relations"), value, key=f"c{child}", timestamp=self._start)
        self._producer.flush()

    def send(self, events: int) -> None:
        """Hands so many to the producer, which sends them in its own time."""
        for _ in range(events):
            partition = self._rng.randrange(self._partitions)
            at = self._start + self.sent * SPAN // self._events
            self._one(partition, max(self._start, at - self._rng.randrange(BEHIND)))
        self._producer.poll(0)

    def finish(self) -> None:
        """Brings every partition's watermark past all windows, and waits for every acknowledgement."""
        for partition in range(self._partitions):
            self._one(partition, self._start + SPAN + 3 * MINUTE, on_time=True)
        self.flush()

    def flush(self) -> None:
        """Waits for every acknowledgement."""
        assert self._producer.flush(120) == 0, "the broker has not acknowledged all events"

    def to_be_closed(self) -> set[str]:
        """The starts of the windows with events that every partition must close."""
        last = to_rfc3339(self._start + SPAN + 2 * MINUTE)
        return {window for window, _, _ in self.expected if window < last}

    def _one(self, partition: int, at: int, on_time: bool = False) -> None:
        value, (source, destination) = self._pairs[self._rng.randrange(len(self._pairs))]
        cell: Cell | None = None
        high = self._high[partition]
        if not on_time and high is not None and self._rng.randrange(LATE) == 0:
            at = high - self._config.links.retention - 1 - self._rng.randrange(60 * MINUTE)
            self.late += 1
        else:
            self._high[partition] = at if high is None else max(high, at)
            cell = self._windows[at - at % MINUTE], source, destination
            self.expected[cell] += 1
        told = partial(self._delivered, cell)
        self._producer.produce(self._topic, value, partition=partition, timestamp=at, on_delivery=told)
        self.sent += 1

    def _delivered(self, cell: Cell | None, error: KafkaError | None, message: Message) -> None:
        partition, offset = message.partition(), message.offset()
        if error is None and partition is not None and offset is not None:
            self.acknowledged += 1
            self.taken[partition][offset] = cell
