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
from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog

from infra.config import Config
from infra.errors import RetryableError
from streams.engine.errors import EngineError, InDoubtError, TransactionAbortedError
from streams.engine.job import Job
from streams.engine.offsets import Group
from streams.engine.reader import Partition, Reader, Slice
from streams.engine.task import Task

log = structlog.get_logger(__name__)

#: What fits into the metadata of an offset: two numbers of 13 digits for each source partition.
PARTITIONS = 128
#: How long to wait before tasks are opened again that could not be, since Kafka did not answer.
RETRY_S = 0.5
#: How long a task that opens may make no progress; after it the process ends. Every call to Kafka has a limit of its
#: own below this, but librdkafka was seen not to return from some after its broker was killed and came back.
STUCK_S = 40.0
#: How long the tasks have to end in order.
STOP_S = 2.0
#: So many aborted transactions in a row, without one that commits, and the process ends.
ABORTS = 5


class DataPlane:
    """The tasks of one job in this worker. `deliver` takes a slice to the agent of its topic, and waits for room."""

    def __init__(
        self, config: Config, job: Job, deliver: Callable[[Slice], Awaitable[None]], fail: Callable[..., None]
    ) -> None:
        self._config, self._job, self._deliver, self._fail = config, job, deliver, fail
        self._tasks: dict[Partition, Task] = {}
        self._lock = asyncio.Lock()
        self._wanted: set[Partition] = set()
        self._opening: list[Task] = []
        self._generation = self._aborts = 0
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self.topics = {task.topic.name: task for task in job.tasks}

    @property
    def tasks(self) -> Mapping[Partition, Task]:
        """The living tasks, by topic and partition."""
        return self._tasks

    @property
    def dropped(self) -> int | None:
        """How many keys the tasks had to drop for want of room, since the beginning; None where they never have to."""
        known = [dropped for task in self._tasks.values() if (dropped := task.stage.dropped) is not None]
        return sum(known) if known else None

    async def assign(self, partitions: set[Partition]) -> None:
        """Closes all tasks and opens these. An assignment that the next one overtakes never starts."""
        self._wanted = set(partitions)
        await self._renew()

    async def revoke(self) -> None:
        """Closes all tasks; returns when no transaction of theirs is under way any more."""
        self._wanted = set()
        await self._renew()

    async def stop(self) -> None:
        """Revokes all, and ends the reading thread. What does not end in time ends with the process."""
        self._stopping.set()
        try:
            await asyncio.wait_for(self.revoke(), STOP_S)
        except TimeoutError:
            log.warning("stop.hard", after_s=STOP_S)
            os._exit(0)  # every effect is a transaction: what is under way is aborted, and done again
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, STOP_S)

    async def _renew(self) -> None:
        """Makes the living tasks those that are wanted, all of them new."""
        self._generation += 1
        mine = self._generation
        for task in self._opening:
            task.closed = True
        async with self._lock:
            try:
                tasks, self._tasks = self._tasks, {}
                await asyncio.gather(*(task.close() for task in tasks.values()))
                if mine != self._generation or not self._wanted:
                    return
                opened = await self._open_when_kafka_answers(mine)
                if mine != self._generation:
                    for task in opened.values():
                        task.abandon()
                    return
                for task in opened.values():
                    task.start()
                self._tasks = opened
                log.info("tasks.assigned", partitions=[f"{topic}[{p}]" for topic, p in sorted(opened)])
            except Exception as e:  # noqa: BLE001 - it cannot start exactly, whatever it is: the process ends
                if mine == self._generation:
                    self._fail(e)

    async def _open_when_kafka_answers(self, mine: int) -> dict[Partition, Task]:
        """The wanted tasks, opened; none where the next assignment overtakes."""
        while mine == self._generation:
            try:
                return await self._open(self._wanted)
            except (RetryableError, InDoubtError) as e:
                log.warning("tasks.waiting", error=str(e))
                await asyncio.sleep(RETRY_S)
        return {}

    def reopen(self, error: TransactionAbortedError, committed: bool) -> None:
        """Opens all tasks again after one's transaction was aborted; gives up where that does not help."""
        self._aborts = 1 if committed else self._aborts + 1
        log.warning("transaction.aborted", error=str(error), in_a_row=self._aborts)
        if self._aborts > ABORTS:
            self._fail(error)
        else:
            self._reopening = asyncio.get_running_loop().create_task(self._renew())

    async def _open(self, partitions: set[Partition]) -> dict[Partition, Task]:
        loop = asyncio.get_running_loop()
        if self._thread is None:
            group, counts = await asyncio.to_thread(self._ask_group)
            self._group, self._counts = group, counts
            self._thread = threading.Thread(target=self._read, args=(loop,), name=f"read {self._job.name}", daemon=True)
            self._thread.start()
        tasks = {key: self._task(*key) for key in partitions}
        self._opening = list(tasks.values())
        try:
            opens = [asyncio.to_thread(task.open, self._counts[task.topic]) for task in self._opening]
            await self._all_open([asyncio.ensure_future(one) for one in opens])
        except BaseException:
            for task in tasks.values():
                task.abandon()
            raise
        finally:
            self._opening = []
        return tasks

    async def _all_open(self, opens: Sequence[asyncio.Future[None]]) -> None:
        """Waits for all; raises what the first that fails raises, and EngineError where one makes no progress."""
        while True:
            done, pending = await asyncio.wait(opens, timeout=1.0, return_when=asyncio.FIRST_EXCEPTION)
            for one in done:
                one.result()
            if not pending:
                return
            since = time.monotonic() - STUCK_S
            if stuck := [task for task in self._opening if not task.opened and task.progress < since]:
                where = " ".join(f"{task.topic}[{task.partition}]" for task in stuck)
                raise EngineError(f"no answer from Kafka for {STUCK_S:.0f} s while opening {where}")

    def _ask_group(self) -> tuple[Group, dict[str, int]]:
        group = Group(self._config, self._job.name)
        topics = [*self.topics, *(topic.name for topic in self._job.writes)]
        counts = {topic: group.partitions(topic) for topic in topics}
        if max(counts.values()) > PARTITIONS:
            raise EngineError(f"more than {PARTITIONS} partitions: a commit's metadata would not hold their watermarks")
        self._job.check(counts)
        return group, counts

    def _task(self, topic: str, partition: int) -> Task:
        topic_of_changelog = self.topics[topic].changelog
        changelog = topic_of_changelog.name if topic_of_changelog is not None else None
        folder = self._config.home / "state" / self._config.topic(self._job.name) / f"{topic}-{partition}"
        stage = self._job.open(topic, partition, self._counts, _now_ms, folder)

        return Task(
            self._config, self._group, self._job.name, topic, partition, stage, changelog,
            self._job.linger, self._fail, self.reopen,
        )  # fmt: skip

    # From here on: the reading thread.

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            reader = Reader(self._config, self._job, self._group, self._counts)
            while not self._stopping.is_set():
                if pieces := reader.next(self._tasks):
                    asyncio.run_coroutine_threadsafe(self._hand_over(pieces), loop).result()
        except Exception as e:  # noqa: BLE001 - a reader that is gone would be taken for a silent topic
            if not self._stopping.is_set():
                loop.call_soon_threadsafe(self._fail, e)

    async def _hand_over(self, pieces: Sequence[Slice]) -> None:
        # All at once: each crossing from thread to thread waits until the other one lets go of the interpreter.
        for piece in pieces:
            if not piece.task.closed:
                await self._deliver(piece)


def fail(error: BaseException) -> None:
    """Ends the process: it starts again from what is committed, which is always exact."""
    log.error("worker.failed", error=str(error) or type(error).__name__, exc_info=not isinstance(error, EngineError))
    os._exit(1)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
