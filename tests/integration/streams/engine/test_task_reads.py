"""When a task lets something be read: at a moment up to which all is committed, on a real Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

import pytest

from weir.infra.config import Config
from weir.infra.errors import StoppedError
from weir.infra.kafka import client as clients
from weir.infra.kafka.client import ensure_topics
from weir.streams.engine.aggregates.partials import Partial, encode
from weir.streams.engine.dataplane.dataplane import DataPlane
from weir.streams.engine.dataplane.reader import Slice
from weir.streams.engine.dataplane.task import Task
from weir.streams.engine.windowed.merge_windows import Merge
from weir.streams.jobs import links
from weir.streams.testing import FakeRecord

KEY = ("p1", "p2")


def partial(offset: int) -> FakeRecord:
    """One more event for the key, in window 0."""
    value = encode(Partial(0, 4, 0, 0, [], [(0, [KEY], [1])], 1, 0))
    return FakeRecord("links-partials", 0, offset, None, value, 0)


def play(config: Config, scene: Callable[[DataPlane, Task], Awaitable[None]]) -> None:
    """Runs the scene with a task of the merging stage that gets what the scene gives it.

    The topic holds as many records, or the offsets that the scene has committed would lie beyond its end.
    """
    ensure_topics(config)
    producer = clients.producer(config)
    for offset in range(3):
        producer.produce(config.topic("links-partials"), partial(offset).value(), partition=0)
    producer.flush()
    failures: list[BaseException] = []

    async def deliver(_: Slice) -> None:
        """Leaves what comes from the topic alone: the scene gives the task the same itself."""

    async def run() -> None:
        plane = DataPlane(config, links.job(config), deliver, failures.append)
        await plane.assign({("links-partials", 0)})
        await scene(plane, plane.tasks["links-partials", 0])
        await plane.stop()

    asyncio.run(run())
    assert failures == []


def test_what_is_read_is_what_the_next_flush_takes_and_not_before_it_is_committed(config: Config) -> None:
    async def scene(_: DataPlane, task: Task) -> None:
        merge = cast(Merge, task.stage)

        def read() -> int:
            return sum(found.result for found in merge.find(KEY))

        assert await task.committed(read) == 0
        await task.handle(0, [partial(0)], None, 1_000)
        await task.handle(1, [partial(1)], None, 0)
        answers = [task.committed(read)]
        assert merge.pending(KEY)
        while merge._dirty:  # until the flush has begun
            await asyncio.sleep(0)
        answers.append(task.committed(read))
        assert [answer.done() for answer in answers] == [False] * 2
        await task.handle(2, [partial(2)], None, 0)  # the flush may come to its end meanwhile
        answers.append(task.committed(read))
        assert not answers[2].done()
        assert await asyncio.gather(*answers) == [2, 2, 3]
        assert not merge.pending(KEY)
        assert task.committed(read).done()

    play(config, scene)


def test_where_the_task_ends_before_it_says_so(config: Config) -> None:
    async def scene(plane: DataPlane, task: Task) -> None:
        await task.handle(0, [partial(0)], None, 0)
        await task.committed(lambda: 0)
        await task.handle(1, [partial(1)], None, 1_000)  # there is more, so it waits
        answer = task.committed(lambda: 0)
        await plane.revoke()
        with pytest.raises(StoppedError):
            await answer

    play(config.replace(WEIR_LINKS_LINGER=60_000), scene)
