"""A task: one assignment of one source partition, its producer, its memory, its position.

Made at assignment, closed at revocation, never reused: what a closed task still holds has no effect. That rule is what
makes counting exact across rebalances.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from weir.infra import prometheus
from weir.infra.config import Config
from weir.infra.errors import InDoubtError, StoppedError, TransactionAbortedError
from weir.infra.kafka.transactional import TransactionalProducer
from weir.infra.log import get_logger
from weir.infra.prometheus import Reading
from weir.infra.runtime.clock import wall_clock
from weir.schemas.topic import kept_whole
from weir.streams.engine.core.crash_points import reached
from weir.streams.engine.core.errors import EngineError, SourceOffsetLostError, StateLostError, StateWithoutOffsetError
from weir.streams.engine.core.offset_metadata import Log, write_envelope
from weir.streams.engine.core.records import FROM_START, FlushBatch, Idle, Record, Stage
from weir.streams.engine.dataplane.compaction import begins_compacted
from weir.streams.engine.dataplane.flush_policy import FlushPolicy
from weir.streams.engine.dataplane.transactions import TaskProducer, former_id, transactional_id
from weir.streams.engine.progress.layout import Layout, intact
from weir.streams.engine.progress.offsets import Group, read_to
from weir.streams.engine.progress.waits import Waits

log = get_logger(__name__)

T = TypeVar("T")

#: A commit that takes longer is given up with the process: librdkafka's call was seen not to return after its broker
#: was killed and came back, whatever its timeout.
COMMIT_S = 20.0
#: A partition in which nothing came for so long (s) has its committed offset moved past control records. A partition
#: with an event a second never pays for that, and an idle one once.
SETTLED_S = 2.0
#: How often (s) the log reports keys that were dropped because the table was full.
REPORT_S = 60.0


class Task:
    """Runs one stage over one partition of `topic`; flushes are transactions, one at a time.

    `fail` is called with what the task cannot go on from; `reopen` when its last transaction was aborted, with whether
    the task had committed any before. What its opening waits for stands in `waits`. `all_arrived` blocks, and says
    whether all events that the stages before this one have sent are in the committed state.
    """

    def __init__(
        self,
        config: Config,
        group: Group,
        job: str,
        topic: str,
        partition: int,
        stage: Stage,
        changelog: str | None,
        linger_ms: int,
        fail: Callable[[BaseException], None],
        reopen: Callable[[TransactionAbortedError, bool], None],
        waits: Waits,
        all_arrived: Callable[[], bool] = lambda: False,
    ) -> None:
        self.topic, self.partition, self.stage = topic, partition, stage
        self.closed = self.opened = self._committed = False
        self.progress = time.monotonic()  # when opening last came a step further
        self.position = 0
        self.last_event = time.monotonic()
        self._config, self._group, self._job, self._changelog = config, group, job, changelog
        self._fail, self._reopen, self._waits, self._all_arrived = fail, reopen, waits, all_arrived
        self._flush_policy = FlushPolicy(linger_ms / 1000)
        self._longest = 5 * linger_ms / 1000  # a commit that takes longer stops the processing
        self._due: asyncio.TimerHandle | None = None  # when the next flush is wanted
        self._producer = TaskProducer(config, transactional_id(config, job, topic, partition))
        self._log: Log | None = None  # what the state is read back from, as far as its end is known
        self._dropped, self._reported_at = 0, -REPORT_S  # dropped keys as reported last, and when
        self._flush_requested = asyncio.Event()
        self._free = asyncio.Event()
        self._flushed = 0.0  # when the last transaction began, in monotonic seconds
        self._fresh = False  # whether something was processed since the last flush began
        self._unflushed = False  # whether records were processed since the stage last gave a batch
        self._saved: tuple[int, str] | None = None  # the offset and the metadata that were committed last
        self._next: list[tuple[Callable[[], Any], asyncio.Future[Any]]] = []  # to be read when the next flush begins
        self._in_flight: list[tuple[Any, asyncio.Future[Any]]] | None = (
            None  # was read then; None: no flush is under way
        )
        self._flusher: asyncio.Task[None] | None = None
        self._processed = self._left = self._commits = 0
        self._commit_s = 0.0

    def open(self, layout: Layout) -> None:
        """Fences, then asks for the committed offset, then restores: in this order, and off the event loop.

        Raises EngineError where it cannot start exactly: JobRefusedError where that is for good.
        """
        self._layout, log_topic = layout, layout.log_of(self.topic)
        self._producer.open(self._stopped)
        if log_topic is not None:
            began, ended = self._group.ends(log_topic.name, self.partition)
            self._log = Log(layout.id(log_topic.name), began if kept_whole(log_topic) else None, ended)
        # Ends before offsets: a first commit of another partition between the two then is seen with its offset.
        first, end = self._group.ends(self.topic, self.partition)
        committed = self._group.committed(self.topic, layout.counts[self.topic])
        layout.unchanged(self.topic, committed.values())
        known = committed.get(self.partition)
        if known is None or known.version == 0:  # a worker of a version before the envelope may have its own id still
            former = former_id(self._config, self._job, self.topic, self.partition)
            TransactionalProducer(self._config, former).open(self._stopped)
        if (mine := self._group.settled(self.topic, self.partition)) is not None:
            if mine.offset < first and self._all_arrived():
                # Nothing but control records and watermarks was deleted.
                log.warning("offset.deleted", topic=self.topic, partition=self.partition, offset=mine.offset, to=first)
                mine = mine._replace(offset=first)
            if not first <= mine.offset <= end:
                raise SourceOffsetLostError(
                    f"{self.topic}[{self.partition}] holds offsets {first} to {end}, but job {self._job} has processed "
                    f"up to {mine.offset}: events were lost before they were counted; stop the job's workers and run "
                    f"`weir reset {self._job}`, which recounts the events that are left"
                )
            if self._log is not None and log_topic is not None and mine.log is not None:
                before = self._log_before(log_topic.name, mine.log, self._log)
                intact(self._job, log_topic.name, self.partition, before, self._log)
                if before.first is not None and self._log.first is not None:
                    self._log = msgspec.structs.replace(self._log, first=before.first)
            self.stage.restore(mine.state)
            self.position, self._saved = mine.offset, (mine.offset, mine.state)
            reached("restore", self.topic)
            self._restore_cells()
        elif self._has_results():
            raise StateWithoutOffsetError(
                f"{self._changelog}[{self.partition}] holds results, but group {self._config.topic(self._job)} has no "
                f"committed offset for {self.topic}[{self.partition}]: starting from the beginning would count events "
                f"twice; run `weir reset {self._job}`, which drops the results and recounts all events"
            )
        else:
            self.stage.restore(None)
            self.position = first
        self.opened = True
        log.info("task.opened", topic=self.topic, partition=self.partition, offset=self.position)

    def _log_before(self, topic: str, before: Log, now: Log) -> Log:
        """The log that was committed, beginning where it begins now if it was compacted since."""
        if before.first is None or now.first is None or now.first <= before.first or before.id != now.id:
            return before
        if now.first >= self._group.ends(topic, self.partition)[1]:
            return before  # nothing is there any more
        is_compacted = begins_compacted(self._config, topic, self.partition, now.first, self._stopped)
        return msgspec.structs.replace(before, first=now.first) if is_compacted else before

    def start(self) -> None:
        """Starts flushing; called on the event loop once the task is open and wanted."""
        self._free.set()
        self._flusher = asyncio.create_task(self._flush_on_request(), name=f"flush {self.topic}[{self.partition}]")

    async def handle(self, start: int, records: Sequence[Record], idle: Idle | None, left: int) -> None:
        """Processes one slice, and sees to it that it is flushed when `FlushPolicy` says so.

        The slice follows on offset `start`; raises EngineError where that is not what was processed up to. `idle`,
        where the partition was found read to its high watermark.
        """
        if self.closed:
            return
        if start != self.position:
            raise EngineError(
                f"{self.topic}[{self.partition}]: a slice begins at offset {start}, but {self.position} is next"
            )
        self._fresh = True
        self._left = left
        if records:
            self._processed += len(records)
            self.stage.process(records)
            self.position = records[-1].offset() + 1
            self.last_event = time.monotonic()
            self._unflushed = True
        if idle is not None:
            self.position = idle.end
            self.stage.caught_up(max(0, round((idle.at - self.last_event) * 1000)), idle.others)
        now = time.monotonic()
        self._flush_policy.handled(now, len(records), left)
        self.stage.backlog = self._flush_policy.backlog
        wait = self._flush_policy.due(now, self.stage.upstream)
        if wait <= 0:
            self._request_flush()
        else:
            loop = asyncio.get_running_loop()
            if self._due is None or self._due.when() > loop.time() + wait:
                self._cancel()
                self._due = loop.call_later(wait, self._request_flush)
        if now - self._flushed >= self._longest:
            await self._free.wait()  # the last commit takes long: do not pile up what cannot be written

    def _request_flush(self) -> None:
        """Asks for a flush."""
        self._cancel()
        self._flush_requested.set()

    def _cancel(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def committed(self, read: Callable[[], T]) -> asyncio.Future[T]:
        """Returns a future of the result of `read`, resolved once all changes that `read` saw are committed: `read` is
        called now, or when the next flush begins. The future raises StoppedError if the task ends first.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if self._fresh:
            self._next.append((read, future))
        elif self._in_flight is not None:
            self._in_flight.append((read(), future))
        else:
            future.set_result(read())
        return future

    def abandon(self) -> None:
        """Ends a task that never started, also while it still opens in its thread."""
        self.closed = True
        self.stage.close()

    async def close(self) -> None:
        """Ends the task; waits for the transaction that is under way, and leaves the rest undone."""
        self.closed = True
        if self._flusher is not None and self._flusher is not asyncio.current_task():
            self._flush_requested.set()
            await self._flusher
        await asyncio.to_thread(self.stage.close)

    async def _flush_on_request(self) -> None:
        try:
            await self._flush_again_and_again()
        finally:
            self.closed = True
            for _, future in [*self._next, *(self._in_flight or ())]:
                if not future.done():
                    future.set_exception(StoppedError(f"{self.topic}[{self.partition}] has left this worker"))

    async def _flush_again_and_again(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._flush_requested.wait()
            self._flush_requested.clear()
            if self.closed:
                return
            self._free.clear()
            try:
                self._fresh = False
                batch = self.stage.take(self._log_end)
                of_stage = batch is not None
                if of_stage:
                    self._unflushed = False
                else:
                    batch = self._passed()
                waiting, self._next = self._next, []
                self._in_flight = [(read(), future) for read, future in waiting]
                if batch is None:
                    self._confirm()
                    continue
                self._flushed = time.monotonic()
                self._flush_policy.flushes(self._flushed)
                position = self.position
                commit = loop.run_in_executor(None, self._commit, batch, position)
                await asyncio.wait_for(commit, COMMIT_S)
                self._committed = True
                self._commits += 1
                self._commit_s += time.monotonic() - self._flushed
                self._saved = position, batch.metadata
                if of_stage:
                    self.stage.committed()
                self._confirm()
                self._report_dropped()
            except TimeoutError:
                if not self.closed:
                    self._fail(
                        InDoubtError(
                            f"{self.topic}[{self.partition}]: Kafka has not confirmed a commit within {COMMIT_S:.0f} s"
                        )
                    )
                return
            except TransactionAbortedError as e:
                if not self.closed:
                    self.closed = True
                    self._reopen(e, self._committed)
                return
            except Exception as e:  # noqa: BLE001 - whatever it is, the outcome is in doubt: never skipped
                if not self.closed:
                    self._fail(e)
                return
            finally:
                self._free.set()

    @property
    def saved(self) -> int:
        """The offset that was committed last, as far as is known."""
        return 0 if self._saved is None else self._saved[0]

    def metrics(self) -> Iterator[Reading]:
        """Yields what the task has done since it was opened, and how far it is."""
        place, stage = (self._job, self.topic, str(self.partition)), self.stage
        yield Reading(prometheus.RECORDS, self._processed, place)
        yield Reading(prometheus.LEFT, self._left, place)
        yield Reading(prometheus.COMMIT, self._commit_s, place, self._commits)
        if stage.watermark is not None:
            yield Reading(prometheus.WATERMARK, (wall_clock() - stage.watermark) / 1000, place)
        if stage.cells is not None:
            yield Reading(prometheus.CELLS, stage.cells, place)
        if stage.dropped is not None:
            yield Reading(prometheus.DROPPED, stage.dropped, place)
        if stage.routed is not None:
            for fate in ("counted", "late", "dead"):
                yield Reading(prometheus.EVENTS, getattr(stage.routed, fate), (*place, fate))

    def _passed(self) -> FlushBatch | None:
        """Returns a batch that commits the position alone, if only control records and aborted transactions lie between
        the committed offset and the end. Such a transaction writes no record, so it leaves no marker that would have to
        be passed in turn.
        """
        quiet = time.monotonic() - self.last_event >= SETTLED_S
        if self._saved is None or self._unflushed or not quiet or self.position <= self._saved[0]:
            return None
        return FlushBatch((), self._saved[1])

    def _confirm(self) -> None:
        """Resolves the futures of `committed` whose changes are now committed."""
        in_flight, self._in_flight = self._in_flight, None
        for what, future in in_flight or ():
            if not future.done():
                future.set_result(what)

    def _report_dropped(self) -> None:
        """Logs, at most once in REPORT_S, that keys were dropped."""
        now, dropped = time.monotonic(), self.stage.dropped or 0
        if dropped > self._dropped and now - self._reported_at >= REPORT_S:
            self._dropped, self._reported_at = dropped, now
            log.warning("keys.dropped", job=self._job, topic=self.topic, partition=self.partition, in_all=dropped)

    def _commit(self, batch: FlushBatch, position: int) -> None:
        envelope = batch._replace(metadata=write_envelope(batch.metadata, self._layout.known, self._log))
        self._producer.write(envelope, self.topic, self.partition, position, self._group.metadata())
        if self._log is not None and self._changelog is not None:
            end = self._producer.ends.get((self._changelog, self.partition), 0)
            self._log = msgspec.structs.replace(self._log, end=max(self._log.end, end))

    @property
    def _log_end(self) -> int:
        """An offset that the changelog has certainly come to: no record of the next flush is before it."""
        return 0 if self._log is None else self._log.end

    def _stopped(self) -> bool:
        """Whether opening is to be given up; asked now and then by what takes long, so it is a sign of life as well."""
        self.progress = time.monotonic()
        return self.closed

    def _has_results(self) -> bool:
        """Whether the changelog holds anything committed; what an aborted first transaction left is no result."""
        if self._changelog is None or self._log is None:
            return False
        first, end = self._group.ends(self._changelog, self.partition)
        records = read_to(self._config, self._changelog, self.partition, first, end, self._stopped, self._waits)
        return any(True for _ in records)

    def _restore_cells(self) -> None:
        if self._changelog is not None and self._log is not None and self.stage.restore_from is not None:
            begun = time.monotonic()
            start, topic = self.stage.restore_from, self._changelog
            first = self._group.ends(topic, self.partition)[0]
            if start == FROM_START:
                start = first
            if first > start and self.stage.forgo(first):
                log.warning("windows.gone", topic=topic, partition=self.partition, offset=start, begins_at=first)
                start = first
            if first > start:
                raise StateLostError(
                    f"{topic}[{self.partition}] begins at offset {first}, but open windows began at {start}: counts "
                    f"that are still needed were deleted; keep the topic longer than windows are retained, stop the "
                    f"job's workers and run `weir reset {self._job}`, which recounts all events"
                )
            cells = self.stage.restore_cells(
                read_to(self._config, topic, self.partition, start, self._log.end, self._stopped, self._waits)
            )
            log.info("task.restored", partition=self.partition, cells=cells, seconds=round(time.monotonic() - begun, 3))
