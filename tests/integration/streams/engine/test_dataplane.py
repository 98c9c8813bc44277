"""Assignments that overlap, and tasks that are opened again, on a real Kafka."""

from __future__ import annotations

import asyncio

from support.engine.planes import play
from support.wait import PATIENCE_S
from weir.infra.config import Config
from weir.infra.errors import TransactionAbortedError
from weir.streams.engine.dataplane.dataplane import ABORTS, DataPlane
from weir.streams.jobs import links

ABORTED = TransactionAbortedError("the broker was away")


def test_of_overlapping_assignments_the_last_holds_and_the_others_never_start(config: Config) -> None:
    async def scene(plane: DataPlane) -> None:
        await asyncio.gather(*(plane.assign({("communications", p)}) for p in (0, 1, 2)))
        assert set(plane.tasks) == {("communications", 2)}

    assert play(config, links.job(config), scene) == []


def test_a_revocation_while_tasks_open_leaves_none(config: Config) -> None:
    async def scene(plane: DataPlane) -> None:
        opening = asyncio.create_task(plane.assign({("communications", p) for p in range(4)}))
        await asyncio.sleep(0)
        await plane.revoke()
        await opening
        assert not plane.tasks

    assert play(config, links.job(config), scene) == []


def test_two_tasks_aborted_at_once_are_both_opened_again(config: Config) -> None:
    wanted = {("communications", 0), ("links-partials", 0), ("links-partials", 1)}

    async def scene(plane: DataPlane) -> None:
        await plane.assign(wanted)
        before = dict(plane.tasks)
        plane.reopen(ABORTED, committed=True)
        plane.reopen(ABORTED, committed=True)
        async with asyncio.timeout(PATIENCE_S):
            while set(plane.tasks) != wanted or plane.tasks == before:
                await asyncio.sleep(0.01)
        assert all(task.closed for task in before.values())

    assert play(config, links.job(config), scene) == []


def test_aborts_that_never_end_end_the_process(config: Config) -> None:
    async def scene(plane: DataPlane) -> None:
        for _ in range(ABORTS + 1):
            plane.reopen(ABORTED, committed=False)

    assert play(config, links.job(config), scene) == [ABORTED]
