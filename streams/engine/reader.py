"""Reads the assigned partitions in slices: everything here is touched by the data plane's reading thread alone."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import structlog
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from infra.config import Config
from infra.errors import RetryableError
from infra.kafka import consumer, translate
from streams.engine.errors import EngineError, OffsetLostError
from streams.engine.job import Job
from streams.engine.offsets import Group
from streams.engine.records import Record
from streams.engine.task import Task
from streams.engine.views import ViewReader

log = structlog.get_logger(__name__)

Partition = tuple[str, int]

#: The most records in one slice: large enough to pay the hand-over once for many, small enough to stay a few ms.
SLICE = 10_000
#: How long the reader waits for a first record.
WAIT_S = 0.05
#: How often an idle partition's end is asked for.
IDLE_S = 1.0


class Slice(NamedTuple):
    """What an agent gets: records of one task, in offset order, that follow on offset `start` (where the slice before
    ended: the log may have gaps); `left` is about how many more were there to be read.

    `idle`, where the partition was found read to its high watermark: when that was asked (monotonic seconds), and the
    least watermark of the job's other source partitions (epoch ms; None where unknown).
    """

    task: Task
    start: int
    records: Sequence[Record]
    idle: tuple[float, int | None] | None
    left: int


class Reader:
    """One librdkafka consumer over the partitions of the living tasks, and the view that is caught up before them."""

    def __init__(self, config: Config, job: Job, group: Group, counts: Mapping[str, int]) -> None:
        self._config, self._job, self._group, self._counts = config, job, group, counts
        self._consumer: Consumer = consumer(
            config, job.name, **{"enable.partition.eof": True, "queued.min.messages": 50_000, "fetch.wait.max.ms": 100}
        )
        self._names = {config.topic(topic): topic for topic in counts}
        self._current: Mapping[Partition, Task] = {}
        self._next: dict[Partition, int] = {}  # where each partition's next slice starts
        self._ended: dict[Partition, int] = {}  # partitions read to their last stable offset: that offset
        self._asked: dict[Partition, float] = {}
        self._view = ViewReader(config, group, job.view) if job.view is not None else None

    def next(self, tasks: Mapping[Partition, Task]) -> list[Slice]:
        """The slices that are there now; waits a little for the first record."""
        if tasks is not self._current:
            self._take_over(tasks)
        if not self._current:
            time.sleep(WAIT_S)
            return []
        records = self._poll()
        try:
            if any(topic == self._job.source.name for topic, _ in records) and self._view is not None:
                self._view.catch_up()
            idle = self._idle()
        except RetryableError as e:
            log.warning("kafka.away", error=str(e))
            if not records:
                return []
            if self._view is not None:
                self._catch_up_at_last()
            idle = {}
        pieces = [self._slice(key, found, None, self._left(key, found[-1].offset())) for key, found in records.items()]
        return pieces + [self._slice(key, [], said, 0) for key, said in idle.items()]

    def _slice(self, key: Partition, records: list[Record], idle: tuple[float, int | None] | None, left: int) -> Slice:
        start = self._next[key]
        if records:
            self._next[key] = records[-1].offset() + 1
        return Slice(self._current[key], start, records, idle, left)

    def _left(self, key: Partition, offset: int) -> int:
        """How many offsets the partition held beyond `offset` when it was last fetched from."""
        found = self._consumer.get_watermark_offsets(TopicPartition(self._config.topic(key[0]), key[1]), cached=True)
        return 0 if found is None else max(0, found[1] - offset - 1)

    def _take_over(self, tasks: Mapping[Partition, Task]) -> None:
        self._current, self._ended, self._asked = tasks, {}, {}
        self._next = {key: task.position for key, task in tasks.items()}
        self._consumer.assign(
            [TopicPartition(self._config.topic(topic), p, offset) for (topic, p), offset in self._next.items()]
        )

    def _poll(self) -> dict[Partition, list[Record]]:
        """Records by partition."""
        # consume() waits until it has as many as asked for: one first, then what is there.
        messages: list[Any] = self._consumer.consume(1, WAIT_S)
        if messages:
            messages += self._consumer.consume(SLICE - 1, 0)
        found: dict[Partition, list[Record]] = defaultdict(list)
        records = [message for message in messages if message.error() is None]
        places: Any = zip(map(Message.topic, records), map(Message.partition, records), records, strict=True)
        for topic, partition, record in places:
            found[topic, partition].append(record)
        known = {(self._names[topic], partition): own for (topic, partition), own in found.items()}
        for key in known:
            self._ended.pop(key, None)
        if len(records) < len(messages):
            self._events(messages)
        return known

    def _events(self, messages: Sequence[Any]) -> None:
        """What came between the records: ends of partitions, and errors."""
        for message in messages:
            error = message.error()
            if error is None:
                self._ended.pop((self._names[message.topic()], message.partition()), None)
            elif error.code() == KafkaError._PARTITION_EOF:
                self._ended[self._names[message.topic()], message.partition()] = message.offset()
            elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
                raise OffsetLostError(f"{message.topic()}[{message.partition()}]: {error.str()}")
            elif not isinstance(translate(error), RetryableError):
                raise EngineError(f"{message.topic()}[{message.partition()}] cannot be read: {error.str()}")
            else:
                log.debug("read.error", error=error.str())  # librdkafka goes on by itself

    def _catch_up_at_last(self) -> None:
        """Waits until the view can be caught up: a slice is never processed with relations it may not have seen."""
        assert self._view is not None
        while True:
            try:
                self._view.catch_up()
                return
            except RetryableError:
                time.sleep(WAIT_S)

    def _idle(self) -> dict[Partition, tuple[float, int | None]]:
        """Of the partitions that seem to be at their end, those that are: read to the high watermark."""
        found: dict[Partition, tuple[float, int | None]] = {}
        others: int | None = None
        asked_others = False
        for key, offset in self._ended.items():
            at = time.monotonic()
            if at - self._asked.get(key, 0.0) < IDLE_S:
                continue
            self._asked[key] = at
            topic, partition = key
            if topic == self._job.source.name:
                if self._group.ends(topic, partition)[1] > offset:
                    continue  # an open transaction, or records on their way
                if not asked_others:
                    others, asked_others = self._others(), True
            found[key] = at, others
        return found

    def _others(self) -> int | None:
        committed = self._group.committed(self._job.source.name, self._counts[self._job.source.name])
        return self._job.others([metadata for _, metadata in committed.values()])
