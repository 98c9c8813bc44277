"""The data plane: which tasks live, and the one thread that reads their partitions.

Faust says which partitions are ours (`assign`, `revoke`, on its event loop). One librdkafka consumer, touched by its
own thread alone (also `assign`: called from elsewhere while `consume` runs, it hangs), reads them in slices and hands
each to the event loop, where the agents process it. The hand-over waits for room: a slow agent slows the reading.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import structlog
from confluent_kafka import Consumer, KafkaError, TopicPartition

from infra.config import Config
from infra.errors import RetryableError
from infra.kafka import consumer
from streams.engine.combine import Combine, CombineState, others_watermark
from streams.engine.errors import EngineError, OffsetLostError
from streams.engine.job import WindowedCount
from streams.engine.merge import Merge
from streams.engine.offsets import Group
from streams.engine.records import Record, Stage
from streams.engine.screen import Screen
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
    """What an agent gets: records of one task, in offset order; `drained` where nothing more was there at that moment.

    `idle`, where the partition was found read to its high watermark: when that was asked (monotonic seconds), and the
    least watermark of the job's other source partitions (epoch ms; None where unknown).
    """

    task: Task
    records: Sequence[Record]
    idle: tuple[float, int | None] | None
    drained: bool


class DataPlane:
    """The tasks of one job in this worker. `deliver` takes a slice to the agent of its topic, and waits for room."""

    def __init__(
        self, config: Config, job: WindowedCount, deliver: Callable[[Slice], Awaitable[None]], fail: Callable[..., None]
    ) -> None:
        self._config, self._job, self._deliver, self._fail = config, job, deliver, fail
        self._tasks: dict[Partition, Task] = {}
        self._lock = asyncio.Lock()
        self._generation = 0
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self.topics = [job.source.name, job.partials.name, *([job.view.topic.name] if job.view is not None else [])]

    @property
    def tasks(self) -> Mapping[Partition, Task]:
        """The living tasks, by topic and partition."""
        return self._tasks

    async def assign(self, partitions: set[Partition]) -> None:
        """Closes all tasks and opens these. An assignment that the next one overtakes never starts."""
        await self.revoke()
        mine = self._generation
        async with self._lock:
            if mine != self._generation:
                return
            try:
                tasks = await self._open(partitions)
            except Exception as e:  # noqa: BLE001 - it cannot start exactly, whatever it is: the process ends with this line
                self._fail(e)
                return
            if mine != self._generation:
                return
            for task in tasks.values():
                task.start()
            self._tasks = tasks
            log.info("tasks.assigned", partitions=[f"{topic}[{p}]" for topic, p in sorted(tasks)])

    async def revoke(self) -> None:
        """Closes all tasks; returns when no transaction of theirs is under way any more."""
        self._generation += 1
        async with self._lock:
            tasks, self._tasks = self._tasks, {}
            await asyncio.gather(*(task.close() for task in tasks.values()))

    async def stop(self) -> None:
        """Revokes all, and ends the reading thread."""
        self._stopping.set()
        await self.revoke()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, 3)

    async def _open(self, partitions: set[Partition]) -> dict[Partition, Task]:
        loop = asyncio.get_running_loop()
        if self._thread is None:
            group, counts = await asyncio.to_thread(self._ask_group)
            self._group, self._counts = group, counts
            self._thread = threading.Thread(target=self._read, args=(loop,), name=f"read {self._job.name}", daemon=True)
            self._thread.start()
        tasks = {key: self._task(*key) for key in partitions}
        await asyncio.gather(
            *(asyncio.to_thread(task.open, self._counts[task.topic]) for task in tasks.values()),
        )
        return tasks

    def _ask_group(self) -> tuple[Group, dict[str, int]]:
        group = Group(self._config, self._job.name)
        counts = {topic: group.partitions(topic) for topic in [*self.topics, self._job.output.name]}
        if counts[self._job.output.name] != counts[self._job.partials.name]:
            raise EngineError(
                f"topics {self._job.output.name} and {self._job.partials.name} must have the same number of partitions"
            )
        return group, counts

    def _task(self, topic: str, partition: int) -> Task:
        stage = self._stage(topic, partition)
        changelog = self._job.output.name if isinstance(stage, Merge) else None

        def reopen() -> None:
            asyncio.get_running_loop().create_task(self.assign(set(self._tasks)))

        return Task(
            self._config, self._group, self._job.name, topic, partition, stage, changelog,
            self._job.linger, self._fail, reopen,
        )  # fmt: skip

    def _stage(self, topic: str, partition: int) -> Stage:
        sources, outputs = self._counts[self._job.source.name], self._counts[self._job.partials.name]
        if topic == self._job.source.name:
            return Combine(self._job, partition, sources, outputs, _now_ms, _monotonic_ms)
        if topic == self._job.partials.name:
            return Merge(self._job, partition, sources, outputs)
        assert self._job.view is not None
        decoder = self._job.view.topic.decoder()
        assert decoder is not None
        return Screen(self._job.name, self._job.view.topic, decoder)

    # From here on: the reading thread.

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            reader = _Reader(self._config, self._job, self._group, self._counts)
            while not self._stopping.is_set():
                for piece in reader.next(self._tasks):
                    asyncio.run_coroutine_threadsafe(self._hand_over(piece), loop).result()
        except Exception as e:  # noqa: BLE001 - a reader that is gone would be taken for a silent topic
            if not self._stopping.is_set():
                loop.call_soon_threadsafe(self._fail, e)

    async def _hand_over(self, piece: Slice) -> None:
        if not piece.task.closed:
            await self._deliver(piece)


class _Reader:
    """What the reading thread does: everything here is touched by it alone."""

    def __init__(self, config: Config, job: WindowedCount, group: Group, counts: Mapping[str, int]) -> None:
        self._config, self._job, self._group, self._counts = config, job, group, counts
        self._consumer: Consumer = consumer(
            config, job.name, **{"enable.partition.eof": True, "queued.min.messages": 50_000, "fetch.wait.max.ms": 100}
        )
        self._names = {config.topic(topic): topic for topic in counts}
        self._current: Mapping[Partition, Task] = {}
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
        records, drained = self._poll()
        try:
            if any(topic == self._job.source.name for topic, _ in records) and self._view is not None:
                self._view.catch_up()
            idle = self._idle()
        except RetryableError as e:
            log.warning("kafka.away", error=str(e))
            if not records:
                return []
            self._catch_up_at_last()
            idle = {}
        pieces = [Slice(self._current[key], found, None, drained) for key, found in records.items()]
        return pieces + [Slice(self._current[key], [], said, True) for key, said in idle.items()]

    def _take_over(self, tasks: Mapping[Partition, Task]) -> None:
        self._current, self._ended, self._asked = tasks, {}, {}
        self._consumer.assign(
            [TopicPartition(self._config.topic(t.topic), t.partition, t.position) for t in tasks.values()]
        )

    def _poll(self) -> tuple[dict[Partition, list[Record]], bool]:
        """Records by partition, and whether that was all there was."""
        # consume() waits until it has as many as asked for: one first, then what is there.
        messages: list[Any] = self._consumer.consume(1, WAIT_S)
        if messages:
            messages += self._consumer.consume(SLICE - 1, 0)
        found: dict[Partition, list[Record]] = defaultdict(list)
        for message in messages:
            error = message.error()
            if error is None:
                key = self._names[message.topic()], message.partition()
                self._ended.pop(key, None)
                found[key].append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                key = self._names[message.topic()], message.partition()
                self._ended[key] = message.offset()
            elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
                raise OffsetLostError(f"{message.topic()}[{message.partition()}]: {error.str()}")
            elif error.fatal():
                raise EngineError(f"the reader cannot go on: {error.str()}")
            else:
                log.debug("read.error", error=error.str())  # librdkafka goes on by itself
        return found, len(messages) < SLICE

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
        return others_watermark([msgspec.json.decode(m, type=CombineState) for _, m in committed.values()])


def fail(error: BaseException) -> None:
    """Ends the process: it starts again from what is committed, which is always exact."""
    log.error("worker.failed", error=str(error) or type(error).__name__, exc_info=not isinstance(error, EngineError))
    os._exit(1)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000
