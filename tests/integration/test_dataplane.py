"""Assignments that overlap, and tasks that are opened again, on a real Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from infra.config import Config
from infra.kafka import ensure_topics
from streams import links
from streams.engine.dataplane import ABORTS, DataPlane
from streams.engine.errors import TransactionAbortedError
from streams.engine.reader import Slice

ABORTED = TransactionAbortedError("the broker was away")


def play(config: Config, scene: Callable[[DataPlane], Awaitable[None]]) -> list[BaseException]:
    """Runs the scene with a data plane of the links job; what the plane gave up for."""
    ensure_topics(config)
    failures: list[BaseException] = []

    async def deliver(piece: Slice) -> None:
        await piece.task.handle(piece.start, piece.records, piece.idle, piece.left)

    async def run() -> None:
        plane = DataPlane(config, links.job(config), deliver, failures.append)
        await scene(plane)
        await plane.stop()

    asyncio.run(run())
    return failures


def test_of_overlapping_assignments_the_last_holds_and_the_others_never_start(config: Config) -> None:
    async def scene(plane: DataPlane) -> None:
        await asyncio.gather(*(plane.assign({("communications", p)}) for p in (0, 1, 2)))
        assert set(plane.tasks) == {("communications", 2)}

    assert play(config, scene) == []


def test_a_revocation_while_tasks_open_leaves_none(config: Config) -> None:
    async def scene(plane: DataPlane) -> None:
        opening = asyncio.create_task(plane.assign({("communications", p) for p in range(4)}))
        await asyncio.sleep(0)
        await plane.revoke()
        await opening
        assert not plane.tasks

    assert play(config, scene) == []


def test_two_tasks_aborted_at_once_are_both_opened_again(config: Config) -> None:
    wanted = {("communications", 0), ("links-partials", 0), ("links-partials", 1)}

    async def scene(plane: DataPlane) -> None:
        await plane.assign(wanted)
        before = dict(plane.tasks)
        plane.reopen(ABORTED, committed=True)
        plane.reopen(ABORTED, committed=True)
        async with asyncio.timeout(30):
            while set(plane.tasks) != wanted or plane.tasks == before:
                await asyncio.sleep(0.01)
        assert all(task.closed for task in before.values())

    assert play(config, scene) == []


def test_aborts_that_never_end_end_the_process(config: Config) -> None:
    async def scene(plane: DataPlane) -> None:
        for _ in range(ABORTS + 1):
            plane.reopen(ABORTED, committed=False)

    assert play(config, scene) == [ABORTED]
