"""Whole windows back to the feed: none lost, none repeated, over restarts, disconnections and Kafka's absence."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from confluent_kafka import TopicPartition

from support.links.link_records import Job, cell, closed, window
from support.servers.own_servers import own
from support.wait import PATIENCE_S
from weir.consumers.feed.reporter import Reporter
from weir.infra.config import Config
from weir.infra.errors import FeedBrokenError, FeedClosedError
from weir.infra.kafka import client as kafka
from weir.infra.ports import free_ports
from weir.infra.servers.kafka import KafkaServer

URL = "ws://feed.example/"
Summary = tuple[str, dict[str, int]]


class Feed:
    """Stands for the feed's socket: notes what it gets. `before` runs first and may raise, or wait."""

    def __init__(self) -> None:
        self.got: list[Summary] = []
        self.before: Callable[[], Awaitable[None]] | None = None
        self._more = asyncio.Condition()

    async def send(self, payload: bytes) -> None:
        if self.before is not None:
            await self.before()
        summary = json.loads(payload)
        assert summary["window"]["start"] < summary["window"]["end"]
        links = {link["source"] + link["destination"]: link["count"] for link in summary["links"]}
        async with self._more:
            self.got.append((summary["window"]["start"], links))
            self._more.notify_all()

    async def gets(self, *summaries: Summary) -> None:
        """Waits for these, and fails where anything else came."""
        async with asyncio.timeout(40), self._more:
            await self._more.wait_for(lambda: len(self.got) >= len(summaries))
        assert self.got == list(summaries)


@contextlib.asynccontextmanager
async def reporting(config: Config, feed: Feed, name: str = URL) -> AsyncIterator[asyncio.Task[None]]:
    """A reporter for as long as the block runs; then it is cancelled and closed, as at the end of its process."""
    reporter = Reporter(config, feed.send, name)
    await reporter.start()
    task = asyncio.create_task(reporter.run())
    try:
        yield task
    finally:
        task.cancel()
        async with asyncio.timeout(5):
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await reporter.close()


def start(number: int) -> str:
    return window(number).start


def close(job: Job, number: int, partitions: int = 1, **counts: int) -> Summary:
    """Closes a window with these counts (`ab=3`) in partition 0 and nothing in the others, in one transaction."""
    finals = [(0, cell(number, pair[0], pair[1], count, final=True)) for pair, count in counts.items()]
    closings = [(p, closed(number, p, len(finals) if p == 0 else 0, partitions)) for p in range(partitions)]
    job.write(*finals, *closings)
    return start(number), dict(counts)


@pytest.fixture
def job(config: Config) -> Job:
    return Job(config)


def test_windows_are_sent_as_they_become_whole_the_empty_ones_too(config: Config, job: Job) -> None:
    async def run() -> None:
        feed = Feed()
        async with reporting(config, feed):
            job.write((0, cell(0, "a", "b", 1)), (1, cell(0, "c", "d", 7)))  # not final yet
            sent = [close(job, 0, partitions=4, ab=3)]
            await feed.gets(*sent)
            sent.append(close(job, 1, partitions=4))
            await feed.gets(*sent)
            for partition in range(4):
                job.write((partition, closed(2, partition, 1, 4)))
            for partition in range(4):
                job.write((partition, cell(2, "p", str(partition), partition, final=True)))
            sent.append((start(2), {"p0": 0, "p1": 1, "p2": 2, "p3": 3}))
            await feed.gets(*sent)

    asyncio.run(run())


def test_what_closed_before_the_first_start_is_not_sent_and_what_was_open_then_is_whole(
    config: Config, job: Job
) -> None:
    close(job, 0, partitions=2, ab=1)
    job.write((0, cell(1, "a", "b", 5, final=True)), (0, closed(1, 0, 1, 2)))  # one partition of two

    async def run() -> None:
        feed = Feed()
        async with reporting(config, feed):
            job.write((0, cell(0, "a", "b", 2, final=True)))  # revises what closed before this feed was there
            job.write((1, cell(1, "c", "d", 6, final=True)), (1, closed(1, 1, 1, 2)))
            await feed.gets((start(1), {"ab": 5, "cd": 6}))

    asyncio.run(run())


def test_a_revision_gives_the_whole_window_again(config: Config, job: Job) -> None:
    async def run() -> None:
        feed = Feed()
        async with reporting(config, feed):
            first = close(job, 0, ab=3, cd=4)
            await feed.gets(first)
            job.write((0, cell(0, "a", "b", 5, final=True)), (0, cell(0, "e", "f", 1, final=True)))
            await feed.gets(first, (start(0), {"ab": 5, "cd": 4, "ef": 1}))

    asyncio.run(run())


def test_a_restart_loses_nothing_and_repeats_nothing_and_knows_what_a_later_revision_revises(
    config: Config, job: Job
) -> None:
    async def run() -> None:
        feed = Feed()
        async with reporting(config, feed):
            sent = [close(job, 0, ab=3)]
            await feed.gets(*sent)
            job.write((0, cell(2, "x", "y", 9, final=True)))  # read before the restart, closed after it
            sent.append(close(job, 1, ab=4))
            await feed.gets(*sent)
        sent.append(close(job, 3, ab=5))  # while it is away
        async with reporting(config, feed):
            await feed.gets(*sent)
            job.write((0, closed(2, 0, 1, 1)))
            sent.append((start(2), {"xy": 9}))
            await feed.gets(*sent)
        async with reporting(config, feed):
            job.write((0, cell(0, "c", "d", 1, final=True)))
            sent.append((start(0), {"ab": 3, "cd": 1}))
            await feed.gets(*sent)
        async with reporting(config, feed):
            sent.append(close(job, 4))
            await feed.gets(*sent)

    asyncio.run(run())


def test_a_connection_that_breaks_while_sending_gets_the_same_window_again(config: Config, job: Job) -> None:
    async def run() -> None:
        feed = Feed()
        breaks = 3

        async def breaking() -> None:
            nonlocal breaks
            if breaks:
                breaks -= 1
                raise FeedBrokenError

        feed.before = breaking
        async with reporting(config, feed):
            await feed.gets(close(job, 0, ab=1))
        assert breaks == 0

    asyncio.run(run())


def test_windows_that_close_during_a_disconnection_are_sent_after_it_in_order(config: Config, job: Job) -> None:
    async def run() -> None:
        feed = Feed()
        connected = asyncio.Event()

        async def wait() -> None:
            await connected.wait()

        feed.before = wait
        async with reporting(config, feed):
            sent = [close(job, number, ab=number) for number in range(20)]
            assert feed.got == []
            connected.set()
            await feed.gets(*sent)

    asyncio.run(run())


def test_what_was_sent_and_not_committed_is_sent_again_after_a_crash(config: Config, job: Job) -> None:
    async def run() -> None:
        feed = Feed()
        reached = asyncio.Event()

        async def hang() -> None:
            reached.set()
            await asyncio.Event().wait()

        feed.before = hang
        async with reporting(config, feed):
            summary = close(job, 0, ab=1)
            await reached.wait()
        feed.before = None
        async with reporting(config, feed):
            await feed.gets(summary)

    asyncio.run(run())


def test_each_feed_has_its_own_place(config: Config, job: Job) -> None:
    async def run() -> None:
        one, other = Feed(), Feed()
        async with reporting(config, one):
            first = close(job, 0, ab=1)
            await one.gets(first)
            async with reporting(config, other, "ws://other.example/"):
                second = close(job, 1, ab=2)
                await one.gets(first, second)
                await other.gets(second)

    asyncio.run(run())


def test_what_cannot_be_read_and_what_was_taken_back_is_passed_over(config: Config, job: Job) -> None:
    async def run() -> None:
        feed = Feed()
        async with reporting(config, feed):
            job.write((0, b"hello"), (0, b'{"window": {}}'))
            job.abort((0, cell(0, "a", "b", 666, final=True)), (0, closed(0, 0, 1, 1)))
            await feed.gets(close(job, 1, ab=2))

    asyncio.run(run())


def test_it_ends_when_the_feed_was_closed_on_purpose(config: Config, job: Job) -> None:
    async def run() -> None:
        feed = Feed()

        async def gone() -> None:
            raise FeedClosedError

        feed.before = gone
        async with reporting(config, feed) as task:
            close(job, 0)
            async with asyncio.timeout(PATIENCE_S):
                await task

    asyncio.run(run())


def test_an_offset_that_retention_overtook_is_gone_on_from_what_is_there(config: Config, job: Job) -> None:
    async def run() -> None:
        feed = Feed()
        async with reporting(config, feed):
            first = close(job, 0, ab=1)
            await feed.gets(first)
        for number in range(1, 4):
            close(job, number, ab=number)
        admin = kafka.admin(config)
        places = [TopicPartition(config.topic(name), 0, 7) for name in ("link-counts", "link-windows")]
        for future in admin.delete_records(places).values():
            future.result()
        last = close(job, 9, ab=9)
        async with reporting(config, feed):
            await feed.gets(first, last)

    asyncio.run(run())


@pytest.mark.long
def test_kafka_away_is_waited_for(config: Config) -> None:
    port, controller = free_ports(2)
    settings = config.replace(WEIR_KAFKA=None, WEIR_KAFKA_PORT=port, WEIR_KAFKA_CONTROLLER_PORT=controller)

    async def run() -> None:
        feed = Feed()
        with own(KafkaServer(settings)) as server:
            async with reporting(settings, feed):
                sent = [close(Job(settings), 0, ab=1)]
                await feed.gets(*sent)
                await asyncio.to_thread(server.stop)
                await asyncio.to_thread(server.start)
                sent.append(await asyncio.to_thread(lambda: close(Job(settings), 1, ab=2)))
                await feed.gets(*sent)
                await asyncio.to_thread(server.stop)
        # The block above has ended within its five seconds though Kafka was away.
        starting = asyncio.create_task(Reporter(settings, feed.send, "another").start())
        done, _ = await asyncio.wait([starting], timeout=1)
        assert not done
        starting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            async with asyncio.timeout(5):
                await starting

    asyncio.run(run())
