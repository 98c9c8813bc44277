"""When a task lets something be read: at a moment up to which all is committed, on a real Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import cast

import pytest

from infra.config import Config
from infra.kafka import ensure_topics
from streams import links
from streams.engine.dataplane import DataPlane
from streams.engine.errors import StoppedError
from streams.engine.merge import Merge
from streams.engine.partials import Partial, encode
from streams.engine.reader import Slice
from streams.engine.task import Task
from streams.testing import FakeRecord

KEY = ("p1", "p2")


def partial(offset: int) -> FakeRecord:
    """One more event for the key, in window 0."""
    value = encode(Partial(0, 4, 0, 0, [], [(0, [KEY], [1])], 1, 0))
    return FakeRecord("links-partials", 0, offset, None, value, 0)


def play(config: Config, scene: Callable[[DataPlane, Task], Awaitable[None]]) -> None:
    """Runs the scene with a task of the merging stage that gets what the scene gives it."""
    ensure_topics(config)
    failures: list[BaseException] = []

    async def deliver(_: Slice) -> None:
        """Nothing comes from the topic: the scene says what there is."""

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

    play(replace(config, links_linger=60_000), scene)
