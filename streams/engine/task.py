"""A task: one assignment of one source partition, its producer, its memory, its position.

Made at assignment, closed at revocation, never reused: what a closed task still holds has no effect. That rule is what
makes counting exact across rebalances.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import structlog

from infra.config import Config
from infra.errors import RetryableError
from streams.engine.crash_points import reached
from streams.engine.errors import (
    EngineError,
    InDoubtError,
    OffsetLostError,
    StateWithoutOffsetError,
    StoppedError,
    TransactionAbortedError,
)
from streams.engine.offsets import RESETTING, Group, read_to
from streams.engine.pace import Pace
from streams.engine.records import FROM_START, Batch, Record, Stage
from streams.engine.transactions import TransactionalProducer

log = structlog.get_logger(__name__)

T = TypeVar("T")

#: A commit that takes longer is given up with the process: librdkafka's call was seen not to return after its broker
#: was killed and came back, whatever its timeout.
COMMIT_S = 20.0
#: So often it is said that keys are dropped for want of room.
TELL_S = 60.0
#: How old the known end of the changelog may be: a restore reads at most this much more than it needs.
CHANGELOG_END_S = 10.0


class Task:
    """Runs one stage over one partition of `topic`; flushes are transactions, one at a time.

    `fail` is called with what the task cannot go on from; `reopen` when its last transaction was aborted, with whether
    the task had committed any before.
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
    ) -> None:
        self.topic, self.partition, self.stage = topic, partition, stage
        self.closed = self.opened = self._committed = False
        self.progress = time.monotonic()  # when opening last came a step further
        self.position = 0
        self.last_event = time.monotonic()
        self._config, self._group, self._job, self._changelog = config, group, job, changelog
        self._fail, self._reopen = fail, reopen
        self._pace = Pace(linger_ms / 1000)
        self._longest = 5 * linger_ms / 1000  # a commit that takes longer stops the processing
        self._due: asyncio.TimerHandle | None = None  # when the next flush is wanted
        self._producer = TransactionalProducer(config, f"{job}-{topic}-{partition}")
        self._changelog_end, self._changelog_asked = 0, 0.0
        self._dropped, self._told = 0, -TELL_S  # how many keys it is known to have dropped, and since when
        self._wanted = asyncio.Event()
        self._free = asyncio.Event()
        self._flushed = 0.0  # when the last transaction began, in monotonic seconds
        self._fresh = False  # whether something was processed since the last flush began
        self._next: list[tuple[Callable[[], Any], asyncio.Future[Any]]] = []  # to be read when the next flush begins
        self._flying: list[tuple[Any, asyncio.Future[Any]]] | None = None  # was read then; None: no flush is under way
        self._flusher: asyncio.Task[None] | None = None

    def open(self, partitions: int) -> None:
        """Fences, then asks for the committed offset, then restores: in this order, and off the event loop.

        `partitions` is how many the topic has. Raises EngineError where it cannot start exactly.
        """
        self._producer.open(self._stopped)
        self._ask_changelog_end()
        # Ends before offsets: a first commit of another partition between the two then is seen with its offset.
        first, _ = self._group.ends(self.topic, self.partition)
        committed = self._group.committed(self.topic, partitions)
        if self.partition in committed:
            offset, metadata = committed[self.partition]
            if metadata == RESETTING:
                raise StateWithoutOffsetError(
                    f"the reset of {self._job} was begun and not completed: `weir reset {self._job}` completes it"
                )
            if offset < first:
                raise OffsetLostError(
                    f"{self.topic}[{self.partition}] begins at offset {first}, and was processed up to {offset}: "
                    f"what lay between was deleted before it was counted"
                )
            self.stage.restore(metadata)
            self.position = offset
            reached("restore", self.topic)
            self._restore_cells()
        elif not committed and self._has_results():
            raise StateWithoutOffsetError(
                f"{self._changelog}[{self.partition}] holds results, but group {self._config.topic(self._job)} has no "
                f"committed offset for {self.topic}: starting from the beginning would count twice; "
                f"`weir reset {self._job}` drops both"
            )
        else:
            self.stage.restore(None)
            self.position = first
        self.opened = True
        log.info("task.opened", topic=self.topic, partition=self.partition, offset=self.position)

    def start(self) -> None:
        """Starts flushing; called on the event loop once the task is open and wanted."""
        self._free.set()
        self._flusher = asyncio.create_task(self._flush_when_wanted(), name=f"flush {self.topic}[{self.partition}]")

    async def handle(
        self, start: int, records: Sequence[Record], idle: tuple[float, int | None] | None, left: int
    ) -> None:
        """Processes one slice, and sees to it that it is flushed when `Pace` says so.

        The slice follows on offset `start`; raises EngineError where that is not what was processed up to. `idle`,
        where the partition was found read to its high watermark: when (monotonic seconds), and the least watermark of
        the other partitions.
        """
        if self.closed:
            return
        if start != self.position:
            raise EngineError(f"{self.topic}[{self.partition}]: offset {start} came after {self.position}")
        self._fresh = True
        if records:
            self.stage.process(records)
            self.position = records[-1].offset() + 1
            self.last_event = time.monotonic()
        if idle is not None:
            at, others = idle
            self.stage.caught_up(max(0, round((at - self.last_event) * 1000)), others)
        now = time.monotonic()
        self._pace.handled(now, len(records), left)
        self.stage.backlog = self._pace.backlog
        wait = self._pace.due(now, self.stage.upstream)
        if wait <= 0:
            self._want()
        else:
            loop = asyncio.get_running_loop()
            if self._due is None or self._due.when() > loop.time() + wait:
                self._cancel()
                self._due = loop.call_later(wait, self._want)
        if now - self._flushed >= self._longest:
            await self._free.wait()  # the last commit takes long: do not pile up what cannot be written

    def _want(self) -> None:
        """Asks for a flush."""
        self._cancel()
        self._wanted.set()

    def _cancel(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def committed(self, read: Callable[[], T]) -> asyncio.Future[T]:
        """What `read` gives at a moment up to which all is committed, as soon as that is so: now, or it reads when the
        next flush begins. StoppedError where the task ends before.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if self._fresh:
            self._next.append((read, future))
        elif self._flying is not None:
            self._flying.append((read(), future))
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
            self._wanted.set()
            await self._flusher
        await asyncio.to_thread(self.stage.close)

    async def _flush_when_wanted(self) -> None:
        try:
            await self._flush_again_and_again()
        finally:
            self.closed = True
            for _, future in [*self._next, *(self._flying or ())]:
                if not future.done():
                    future.set_exception(StoppedError(f"{self.topic}[{self.partition}] is no longer here"))

    async def _flush_again_and_again(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            if self.closed:
                return
            self._free.clear()
            try:
                self._fresh = False
                batch = self.stage.take(self._changelog_end)
                waiting, self._next = self._next, []
                self._flying = [(read(), future) for read, future in waiting]
                if batch is None:
                    self._landed()
                    continue
                self._flushed = time.monotonic()
                self._pace.flushes(self._flushed)
                commit = loop.run_in_executor(None, self._commit, batch, self.position)
                await asyncio.wait_for(commit, COMMIT_S)
                self._committed = True
                self.stage.committed()
                self._landed()
                self._tell()
            except TimeoutError:
                if not self.closed:
                    self._fail(InDoubtError(f"{self.topic}[{self.partition}]: no commit within {COMMIT_S:.0f} s"))
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

    def _landed(self) -> None:
        """Nothing of what was taken is left to be committed."""
        flying, self._flying = self._flying, None
        for what, future in flying or ():
            if not future.done():
                future.set_result(what)

    def _tell(self) -> None:
        """Says in the log, now and then, that keys were dropped."""
        now, dropped = time.monotonic(), self.stage.dropped or 0
        if dropped > self._dropped and now - self._told >= TELL_S:
            self._dropped, self._told = dropped, now
            log.warning("keys.dropped", job=self._job, topic=self.topic, partition=self.partition, in_all=dropped)

    def _commit(self, batch: Batch, position: int) -> None:
        self._producer.commit(batch, self.topic, self.partition, position, self._group.metadata())
        if time.monotonic() - self._changelog_asked > CHANGELOG_END_S:
            try:
                self._ask_changelog_end()
            except RetryableError as e:  # what was committed stays so; the end known before is early, which is allowed
                log.warning("changelog.end_unknown", partition=self.partition, error=str(e))

    def _ask_changelog_end(self) -> None:
        if self._changelog is not None:
            self._changelog_asked = time.monotonic()
            self._changelog_end = self._group.ends(self._changelog, self.partition)[1]

    def _stopped(self) -> bool:
        """Whether opening is to be given up; asked now and then by what takes long, so it is a sign of life as well."""
        self.progress = time.monotonic()
        return self.closed

    def _changelog_first(self) -> int:
        return self._group.ends(self._changelog, self.partition)[0] if self._changelog is not None else 0

    def _has_results(self) -> bool:
        """Whether the changelog holds anything committed; what an aborted first transaction left is no result."""
        if self._changelog is None:
            return False
        first, end = self._changelog_first(), self._changelog_end
        records = read_to(self._config, self._changelog, self.partition, first, end, self._stopped)
        return any(True for _ in records)

    def _restore_cells(self) -> None:
        if self._changelog is not None and self.stage.restore_from is not None:
            begun = time.monotonic()
            start, topic, first = self.stage.restore_from, self._changelog, self._changelog_first()
            if start == FROM_START:
                start = first
            if first > start:
                raise OffsetLostError(
                    f"{topic}[{self.partition}] begins at offset {first}, and live windows began at {start}: counts "
                    f"that are still needed were deleted; keep the topic longer than windows are retained"
                )
            cells = self.stage.restore_cells(
                read_to(self._config, topic, self.partition, start, self._changelog_end, self._stopped)
            )
            log.info("task.restored", partition=self.partition, cells=cells, seconds=round(time.monotonic() - begun, 3))
