"""A flush that cannot be committed: another owner, a record that the broker refuses. What is committed stays exact.

The tasks run in the test's own process, without Faust: what ends a worker is here what the data plane gives up for.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.links.communications import Source
from support.wait import PATIENCE_S
from support.workers import Results
from weir.infra.config import Config
from weir.infra.errors import FencedError, StoppedError, TransactionAbortedError, WeirError
from weir.infra.kafka import topic_settings
from weir.infra.kafka.client import ensure_topics
from weir.schemas.topic import MAX_DEAD_LETTER
from weir.streams.engine.core.offset_metadata import Committed
from weir.streams.engine.core.records import Bulk, FlushBatch, Produce
from weir.streams.engine.dataplane.dataplane import DataPlane
from weir.streams.engine.dataplane.reader import Slice
from weir.streams.engine.dataplane.task import Task
from weir.streams.engine.dataplane.transactions import TaskProducer, transactional_id
from weir.streams.engine.progress.layout import Layout
from weir.streams.engine.progress.offsets import Group
from weir.streams.engine.progress.waits import Waits
from weir.streams.jobs import links

#: What a batch may have by default, in bytes.
LARGE = 1 << 20


@pytest.fixture
def source(config: Config) -> Source:
    ensure_topics(config)
    return Source(config, seed=8)


def largest(config: Config, topic: str, size: int) -> None:
    """Sets how large a batch the topic takes, in bytes."""
    topic_settings.alter(config, topic, {"max.message.bytes": str(size)})


class Plane(DataPlane):
    """A data plane whose process does not end; `aborted` are the transactions that were."""

    def __init__(self, config: Config, at_abort: Callable[[], None] = lambda: None) -> None:
        self.failures: list[BaseException] = []
        self.aborted: list[TransactionAbortedError] = []
        self._at_abort = at_abort
        super().__init__(config, links.job(config), self._handle, self.failures.append)

    async def _handle(self, piece: Slice) -> None:
        await piece.task.handle(piece.start, piece.records, piece.idle, piece.left)

    def reopen(self, error: TransactionAbortedError, committed: bool) -> None:
        self.aborted.append(error)
        self._at_abort()
        super().reopen(error, committed)


def never(*_: object) -> None:
    """Fails the test: a task that is only opened must not call this."""
    raise AssertionError


async def count(plane: Plane, config: Config, done: Callable[[], bool]) -> None:
    """Lets the plane have all partitions until it is done, or gives up."""
    if not plane.tasks:
        topics = ("communications", "links-partials")
        await plane.assign({(topic, p) for topic in topics for p in range(config.kafka.partitions)})
    async with asyncio.timeout(PATIENCE_S):
        while not plane.failures and not await asyncio.to_thread(done):
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("topic", ["communications", "links-partials"])
def test_a_task_whose_producer_was_taken_over_ends_the_process_and_what_it_had_not_committed_is_counted_once(
    topic: str, config: Config, source: Source
) -> None:
    results = Results(config)

    def done() -> bool:
        return results.merged >= source.sent

    async def scene() -> list[BaseException]:
        source.send(1_000)
        first, second = Plane(config), Plane(config)
        await count(first, config, done)
        for partition in range(config.kafka.partitions):
            TaskProducer(config, transactional_id(config, "links", topic, partition)).open()
        source.send(1_000)
        await count(first, config, done)
        await first.stop()
        await count(second, config, done)
        await second.stop()
        assert second.failures == []
        return first.failures

    failures = asyncio.run(scene())
    assert {type(failure) for failure in failures} == {FencedError}
    assert results.counts() == source.expected
    assert results.routed.accepted == source.sent


def test_partitions_are_given_back_once_no_task_fences_any_more(
    config: Config, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    fencing: set[int] = set()
    last = threading.Lock()

    def fence(producer: TaskProducer, stopped: Callable[[], bool]) -> None:
        """Goes on until its task is given up, and one longer than that: its call to Kafka is under way."""
        fencing.add(id(producer))
        while not stopped():
            time.sleep(0.01)
        if last.acquire(blocking=False):
            time.sleep(0.5)
        fencing.remove(id(producer))
        raise StoppedError

    async def scene() -> list[BaseException]:
        plane = Plane(config)
        everything = {("communications", p) for p in range(config.kafka.partitions)}
        assigning = asyncio.create_task(plane.assign(everything))
        async with asyncio.timeout(PATIENCE_S):
            while len(fencing) < len(everything):
                await asyncio.sleep(0.01)
            await plane.revoke()
            assert not fencing
            await assigning
            await plane.stop()
        return plane.failures

    monkeypatch.setattr(TaskProducer, "open", fence)
    assert asyncio.run(scene()) == []


def test_nothing_is_asked_that_a_task_starts_from_before_the_owner_before_it_is_fenced(
    config: Config, source: Source, tmp_path: Path
) -> None:
    asked = []

    class Asked(Group):
        """The owner before tries to commit whenever the new one asks where it is."""

        def committed(self, topic: str, partitions: int) -> dict[int, Committed]:
            with pytest.raises(FencedError):
                before.write(FlushBatch([], "{}"), topic, 0, 1_000, self.metadata())
            asked.append(topic)
            return super().committed(topic, partitions)

        def settled(self, topic: str, partition: int) -> Committed | None:
            with pytest.raises(FencedError):
                before.write(FlushBatch([], "{}"), topic, 0, 1_000, self.metadata())
            asked.append("settled")
            return super().settled(topic, partition)

    job, group = links.job(config), Asked(config, "links")
    before = TaskProducer(config, transactional_id(config, "links", "communications", 0))
    before.open()
    layout = Layout(job, group.describe(Layout.names(job)))
    stage = job.open("communications", 0, layout.counts, lambda: 0, tmp_path)
    Task(config, group, job.name, "communications", 0, stage, None, 200, never, never, Waits()).open(layout)
    assert asked == ["communications", "settled"]


@pytest.mark.parametrize("topic", ["links-partials", "link-counts"])
def test_after_an_aborted_transaction_the_tasks_open_again_at_what_they_had_committed(
    topic: str, config: Config, source: Source
) -> None:
    results = Results(config)

    async def scene() -> Plane:
        plane = Plane(config, at_abort=lambda: largest(config, topic, LARGE))
        for size in (LARGE, 100):
            largest(config, topic, size)
            source.send(1_000)
            await count(plane, config, lambda: results.merged >= source.sent)
        await plane.stop()
        return plane

    plane = asyncio.run(scene())
    assert plane.failures == []
    assert plane.aborted
    assert results.counts() == source.expected
    assert results.routed.accepted == source.sent


@pytest.mark.parametrize("topic", ["links-partials", "link-counts"])
def test_a_record_that_the_broker_finds_too_large_ends_the_process_and_says_so(
    topic: str, config: Config, source: Source
) -> None:
    results = Results(config)

    async def scene() -> list[BaseException]:
        largest(config, topic, 100)
        source.send(1_000)
        refused = Plane(config)
        await count(refused, config, lambda: False)
        await refused.stop()
        assert results.merged == 0
        largest(config, topic, LARGE)
        for _ in range(3):  # a process would have ended; here, tasks that were just opening may still fence the next
            allowed = Plane(config)
            await count(allowed, config, lambda: results.merged >= source.sent)
            await allowed.stop()
            if not allowed.failures:
                break
            assert isinstance(allowed.failures[0], FencedError)
        assert results.merged >= source.sent
        return refused.failures

    failures = asyncio.run(scene())
    assert "too large" in str(failures[0])
    assert config.topic(topic) in str(failures[0])
    assert results.counts() == source.expected


@pytest.mark.parametrize("bulk", [False, True])
def test_a_record_that_no_broker_would_take_is_refused_at_once_with_its_size_and_its_topic(
    bulk: bool, config: Config, source: Source
) -> None:
    value = b"x" * (MAX_DEAD_LETTER + 1)
    produce = [] if bulk else [Produce("links-partials", value, partition=0)]
    bulks = [Bulk("links-partials", 0, [(b"key", value)])] if bulk else []
    producer = TaskProducer(config, transactional_id(config, "links", "communications", 0))
    producer.open()
    with pytest.raises(WeirError, match=f"refused {len(value)} bytes for links-partials: .*too large"):
        producer.write(FlushBatch(produce, "{}", bulks), "communications", 0, 1, Group(config, "links").metadata())
