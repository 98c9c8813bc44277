"""Reads the assigned partitions in slices: everything here is touched by the data plane's reading thread alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

from weir.infra.config import Config
from weir.infra.errors import OffsetLostError, RetryableError, StoppedError, TopicMissingError
from weir.infra.kafka.partition_reader import PartitionReader
from weir.infra.log import get_logger
from weir.streams.engine.core.errors import SourceOffsetLostError
from weir.streams.engine.core.job import Job
from weir.streams.engine.core.records import Idle, Record
from weir.streams.engine.dataplane.task import Task
from weir.streams.engine.dataplane.view_reader import ViewReader
from weir.streams.engine.progress.offsets import Group
from weir.streams.engine.progress.waits import ASK_S, QUIET_S, Blocked, Waits

log = get_logger(__name__)

Partition = tuple[str, int]

#: The most records in one slice: large enough to pay the hand-over once for many, small enough to stay a few ms.
SLICE = 10_000
#: How long the reader waits for a first record.
WAIT_S = 0.05
#: How often an idle partition's end is asked for.
IDLE_S = 1.0


class Slice(NamedTuple):
    """The records that an agent gets at once: of one task, in offset order, following on offset `start`, where the
    slice before ended (the log may have gaps). `left`: about how many more records were ready to be read. `idle` is set
    if the partition was read to its high watermark.
    """

    task: Task
    start: int
    records: Sequence[Record]
    idle: Idle | None
    left: int


class Reader:
    """One librdkafka consumer over the partitions of the living tasks, and the view that is caught up before them.

    What it waits for stands in `waits`; it does not wait any longer once `stopped` says so.
    """

    def __init__(
        self,
        config: Config,
        job: Job,
        group: Group,
        counts: Mapping[str, int],
        waits: Waits,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._config, self._job, self._group, self._counts = config, job, group, counts
        self._waits, self._stopped, self._blocked = waits, stopped, Blocked(waits)
        settings = {"queued.min.messages": 50_000, "fetch.wait.max.ms": 100}
        self._reader = PartitionReader(config, job.name, settings, self._passing)
        self._current: Mapping[Partition, Task] = {}
        self._next: dict[Partition, int] = {}  # where each partition's next slice starts
        self._asked: dict[Partition, float] = {}
        self._missing: dict[Partition, TopicMissingError] = {}
        self._looked = 0.0  # when a view that was gone on without was last caught up
        self._heard = time.monotonic()  # when Kafka last gave something or answered
        self._view = ViewReader(config, group, job.view, waits, stopped) if job.view is not None else None

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
            self._look_for_what_is_missing()
        except RetryableError as e:
            self._waits.unanswered(e)
            if not records:
                return []
            if self._view is not None:
                self._catch_up_at_last()
            idle = {}
        pieces = [self._slice(key, found, None, self._left(key, found[-1].offset())) for key, found in records.items()]
        return pieces + [self._slice(key, [], said, 0) for key, said in idle.items()]

    def _slice(self, key: Partition, records: list[Record], idle: Idle | None, left: int) -> Slice:
        start = self._next[key]
        if records:
            self._next[key] = records[-1].offset() + 1
        if idle is not None:
            self._next[key] = idle.end
        return Slice(self._current[key], start, records, idle, left)

    def _left(self, key: Partition, offset: int) -> int:
        """How many offsets the partition held beyond `offset` when it was last fetched from."""
        return max(0, (self._reader.known_end(key) or 0) - offset - 1)

    def _take_over(self, tasks: Mapping[Partition, Task]) -> None:
        self._current, self._asked, self._missing = tasks, {}, {}
        self._blocked.forget()
        self._next = {key: task.position for key, task in tasks.items()}
        self._reader.assign(self._next)

    def _poll(self) -> dict[Partition, list[Record]]:
        """Records by partition."""
        try:
            found: Any = self._reader.read(SLICE, WAIT_S)
        except OffsetLostError as e:
            raise SourceOffsetLostError(
                f"{e}, or the topic was created again: job {self._job.name} has not counted them; stop the job's "
                f"workers and run `weir reset {self._job.name}`, which recounts the events that are left"
            ) from e
        for key in found:
            self._missing.pop(key, None)
            self._blocked.free(*key)
        if found:
            self._is_alive()
        return cast(dict[Partition, list[Record]], found)

    def _passing(self, partition: Partition, problem: RetryableError) -> None:
        """librdkafka goes on by itself, and says each error once: of a topic that is gone, too."""
        log.debug("read.error", error=str(problem))
        topic, number = partition
        if isinstance(problem, TopicMissingError) and topic in self._counts:
            # -1: the topic itself, each of whose partitions has to come back.
            keys = [key for key in self._current if key[0] == topic and number in (key[1], -1, None)]
            self._missing |= dict.fromkeys(keys, problem)

    def _look_for_what_is_missing(self) -> None:
        """Raises TopicMissingError where a topic is gone, KafkaUnavailableError where nothing comes since Kafka is: a
        consumer whose broker has gone just hears nothing.
        """
        for problem in self._missing.values():
            raise problem
        if time.monotonic() - self._heard > QUIET_S:
            topic, partition = next(iter(self._current))
            self._group.ends(topic, partition, ASK_S)
            self._is_alive()

    def _is_alive(self) -> None:
        self._heard = time.monotonic()
        if not self._missing:
            self._waits.answered()

    def _catch_up_at_last(self) -> None:
        """Waits until the view can be caught up: a slice is never processed with relations it may not have seen."""
        assert self._view is not None
        while True:
            try:
                self._view.catch_up()
                return
            except RetryableError as e:
                self._waits.unanswered(e)
            if self._stopped():
                raise StoppedError(f"job {self._job.name} was stopped")
            time.sleep(WAIT_S)

    def _idle(self) -> dict[Partition, Idle]:
        """Finds, among the partitions that seem to be at their end, those that are read to the high watermark."""
        found: dict[Partition, Idle] = {}
        others: int | None = None
        asked_others = False
        for key, offset in self._reader.ended.items():
            at = time.monotonic()
            if at - self._asked.get(key, 0.0) < IDLE_S:
                continue
            self._asked[key] = at
            topic, partition = key
            try:
                readable = self._group.ends(topic, partition, ASK_S)[1] <= offset
            except TopicMissingError as e:
                self._missing[key] = e
                raise
            self._missing.pop(key, None)
            self._is_alive()
            if readable:
                self._blocked.free(topic, partition)
            else:  # an open transaction, or records on their way
                self._blocked.at(topic, partition, offset)
            if topic == self._job.source.name:
                if not readable:
                    continue
                if not asked_others:
                    others, asked_others = self._others(), True
            found[key] = Idle(at, others, max(offset, self._next[key]))
        if self._view is not None and self._view.is_behind and time.monotonic() - self._looked >= IDLE_S:
            self._looked = time.monotonic()
            self._view.catch_up()
        return found

    def _others(self) -> int | None:
        committed = self._group.committed(self._job.source.name, self._counts[self._job.source.name])
        return self._job.others([known.state for known in committed.values()])
