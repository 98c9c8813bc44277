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
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

from confluent_kafka import KafkaException

from weir.infra import prometheus
from weir.infra.config import Config
from weir.infra.errors import InDoubtError, RetryableError, TransactionAbortedError, WeirError
from weir.infra.kafka.errors import missing
from weir.infra.log import get_logger
from weir.infra.prometheus import Reading
from weir.infra.runtime.clock import wall_clock
from weir.infra.runtime.threads import in_daemon
from weir.streams.engine.core.errors import EngineError
from weir.streams.engine.core.job import CompactedView, Job
from weir.streams.engine.dataplane.compaction import Compactor
from weir.streams.engine.dataplane.purge import PURGE_S, Purge
from weir.streams.engine.dataplane.reader import Partition, Reader, Slice
from weir.streams.engine.dataplane.task import Task
from weir.streams.engine.progress.layout import Layout
from weir.streams.engine.progress.ledger_reader import LedgerReader
from weir.streams.engine.progress.offsets import Group
from weir.streams.engine.progress.waits import Waits

log = get_logger(__name__)

#: How long to wait before tasks are opened again that could not be, since Kafka did not answer.
RETRY_S = 0.5
#: How long a task that opens may make no progress; after it the process ends. Every call to Kafka has a limit of its
#: own below this, but librdkafka was seen not to return from some after its broker was killed and came back.
STUCK_S = 40.0
#: How long tasks that are given up while they open may take to notice: longer than one attempt to fence.
ABANDON_S = 5.0
#: How long the tasks have to end in order.
STOP_S = 2.0
#: So many aborted transactions in a row, without one that commits, and the process ends.
ABORTS = 5
#: How often a worker looks whether its topics are still what they were.
LOOK_S = 5.0


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
        self._generation = self._aborts = self._aborted = 0
        self._thread: threading.Thread | None = None
        self._group: Group | None = None
        self._layout: Layout | None = None
        self._watching: asyncio.Task[None] | None = None
        self._purge = Purge(config, job)
        self._purging: asyncio.Task[None] | None = None
        self._stopping = threading.Event()
        self.waits = Waits()
        self.topics = {task.topic.name: task for task in job.tasks}

    @property
    def tasks(self) -> Mapping[Partition, Task]:
        """The living tasks, by topic and partition."""
        return self._tasks

    @property
    def state(self) -> tuple[str, list[str], str | None]:
        """`running` or `waiting`, the partitions in order, and why it waits; None where it just has no partitions."""
        own = sorted(f"{topic}[{partition}]" for topic, partition in self._tasks)
        reason = self.waits.reason
        return "running" if own and reason is None else "waiting", own, reason

    @property
    def dropped(self) -> int | None:
        """How many keys the tasks had to drop for want of room, since the beginning; None where they never have to."""
        known = [dropped for task in self._tasks.values() if (dropped := task.stage.dropped) is not None]
        return sum(known) if known else None

    def metrics(self) -> Iterator[Reading]:
        """The metrics of the job in this worker."""
        job = (self._job.name,)
        yield Reading(prometheus.ABORTED, self._aborted, job)
        for _, task in sorted(self._tasks.items()):
            yield from task.metrics()

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
        for task in (self._watching, self._purging):
            if task is not None:
                task.cancel()
        try:
            await asyncio.wait_for(self.revoke(), STOP_S)
        except TimeoutError:
            log.warning("stop.hard", after_s=STOP_S)
            log.info("worker.stopped")
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
                opened = await self._open(self._wanted)
            except RetryableError as e:
                self.waits.unanswered(e)
            except InDoubtError as e:
                self.waits.begin("open", "tasks.waiting", str(e))
            else:
                self.waits.answered()
                self.waits.end("open")
                return opened
            await asyncio.sleep(RETRY_S)
        return {}

    def reopen(self, error: TransactionAbortedError, committed: bool) -> None:
        """Opens all tasks again after one's transaction was aborted; gives up where that does not help."""
        self._aborts = 1 if committed else self._aborts + 1
        self._aborted += 1
        log.warning("transaction.aborted", error=str(error), in_a_row=self._aborts)
        if self._aborts > ABORTS:
            self._fail(error)
        else:
            self._reopening = asyncio.get_running_loop().create_task(self._renew())

    async def _open(self, partitions: set[Partition]) -> dict[Partition, Task]:
        loop = asyncio.get_running_loop()
        if self._group is None:
            self._group = await asyncio.to_thread(Group, self._config, self._job.name)
        layout = await asyncio.to_thread(self._ask, self._group)
        for topic, partition in partitions:
            if partition >= layout.counts[topic]:
                raise EngineError(
                    f"{topic}[{partition}] was assigned to this worker, but topic {topic} has only "
                    f"{layout.counts[topic]} partitions"
                )
        if self._layout is None:
            self._layout = layout
            arguments = loop, self._group, layout
            self._thread = threading.Thread(
                target=self._read, args=arguments, name=f"read {self._job.name}", daemon=True
            )
            self._thread.start()
            self._start_compacting(layout)
            self._watching = loop.create_task(self._watch(self._group, layout), name=f"watch {self._job.name}")
            if self._purge.topics:
                self._purging = loop.create_task(self._purge_now_and_then(layout), name=f"purge {self._job.name}")
        tasks = {key: self._task(self._group, layout, *key) for key in partitions}
        self._opening = list(tasks.values())
        opens = [asyncio.ensure_future(asyncio.to_thread(task.open, layout)) for task in self._opening]
        try:
            await self._all_open(opens)
        except BaseException:
            for task in tasks.values():
                task.abandon()
            await asyncio.wait(opens, timeout=ABANDON_S)  # one that still fences would fence who opens it next
            raise
        finally:
            self._opening = []
        return tasks

    async def _all_open(self, opens: Sequence[asyncio.Future[None]]) -> None:
        """Waits for all; raises what the first that fails raises, and EngineError where one makes no progress."""
        for one in opens:
            one.add_done_callback(_looked_at)
        while True:
            done, pending = await asyncio.wait(opens, timeout=1.0, return_when=asyncio.FIRST_EXCEPTION)
            for one in done:
                one.result()
            if not pending:
                return
            since = time.monotonic() - STUCK_S
            if stuck := [task for task in self._opening if not task.opened and task.progress < since]:
                where = " ".join(f"{task.topic}[{task.partition}]" for task in stuck)
                raise EngineError(f"Kafka has not answered for {STUCK_S:.0f} s while this worker was opening {where}")

    def _ask(self, group: Group) -> Layout:
        """The job's topics, asked anew. Raises JobRefusedError where they are not those that its offsets were committed
        for or do not go together, EngineError where they have changed since this process began, and TopicMissingError.
        """
        layout = Layout(self._job, group.describe(Layout.names(self._job)))
        if layout.missing:
            raise missing(self._config, self._config.topic(layout.missing[0]))
        for topic in self.topics:
            committed = group.committed(topic, layout.counts[topic])
            layout.unchanged(topic, committed.values())
            if before := [one for one in committed.values() if one.version == 0]:
                layout.unchanged_before(topic, before[0])
        layout.check()
        layout.safe(group.settings(topic.name for topic in layout.logs))
        if self._layout is not None and layout != self._layout:
            raise EngineError(f"a topic of job {self._job.name} has changed since this worker started: start it again")
        return layout

    async def _watch(self, group: Group, layout: Layout) -> None:
        """Ends the process where a topic is no longer what it was; Faust hears of that after minutes."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await asyncio.to_thread(self._look, group, layout)
            except RetryableError as e:
                log.debug("topics.unknown", error=str(e))  # whoever reads and commits says that Kafka is away
            except Exception as e:  # noqa: BLE001 - it cannot go on exactly, whatever it is: the process ends
                self._fail(e)
                return

    def _look(self, group: Group, layout: Layout) -> None:
        now = Layout(self._job, group.describe(Layout.names(self._job)))
        if not now.missing and now != layout:
            self._ask(group)

    def _task(self, group: Group, layout: Layout, topic: str, partition: int) -> Task:
        topic_of_changelog = self.topics[topic].changelog
        changelog = topic_of_changelog.name if topic_of_changelog is not None else None
        folder = self._config.home / "state" / self._config.topic(self._job.name) / f"{topic}-{partition}"
        stage = self._job.open(topic, partition, layout.counts, wall_clock, folder)

        return Task(
            self._config, group, self._job.name, topic, partition, stage, changelog,
            self._job.linger, self._fail, self.reopen, self.waits,
            self._all_arrived if topic in self._purge.topics else _never,
        )  # fmt: skip

    def _start_compacting(self, layout: Layout) -> None:
        """Where the job has a view whose topic can be compacted: the worker that screens the topic does it."""
        view = self._job.view
        if isinstance(view, CompactedView) and layout.counts[view.topic.name] == 1:
            place, compactor = (view.topic.name, 0), Compactor(self._config, self._job.name, view)
            mine = (lambda: place in self._tasks, self._stopping)
            threading.Thread(target=compactor.run, args=mine, name=f"compact {place[0]}", daemon=True).start()

    def _all_arrived(self) -> bool:
        """Whether all that the job's stages have sent each other is in the committed state. Blocks."""
        ledger = LedgerReader(self._config, self._job).read()
        return ledger.counted == ledger.merged

    async def _purge_now_and_then(self, layout: Layout) -> None:
        """Deletes what the tasks have committed of the topics between the job's stages."""
        while True:
            await asyncio.sleep(PURGE_S)
            committed = {own: task.saved for own, task in self._tasks.items() if own[0] in self._purge.topics}
            try:
                await in_daemon(lambda committed=committed: self._purge.delete(committed, layout))  # type: ignore[misc]
            except KafkaException as e:
                log.debug("purge.away", error=str(e))
            except Exception:  # a task that ends would end the deletions without a word
                log.exception("purge.failed", job=self._job.name)

    # From here on: the reading thread.

    def _read(self, loop: asyncio.AbstractEventLoop, group: Group, layout: Layout) -> None:
        try:
            reader = Reader(self._config, self._job, group, layout.counts, self.waits, self._stopping.is_set)
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


def _looked_at(one: asyncio.Future[None]) -> None:
    """Takes note of an error: of several tasks that cannot be opened the first one's error is told."""
    if not one.cancelled():
        one.exception()


def _never() -> bool:
    return False


def fail(error: BaseException) -> None:
    """Ends the process: it starts again from what is committed, which is always exact."""
    log.error("worker.failed", error=str(error) or type(error).__name__, exc_info=not isinstance(error, WeirError))
    os._exit(1)
