"""Those who wait for a position: how many may, and what they are told when nothing comes."""

from __future__ import annotations

import asyncio

import pytest

from weir.infra.config import Config
from weir.infra.errors import OverloadError
from weir.infra.progress.chain import Chain
from weir.infra.progress.position import Position
from weir.infra.progress.progress import UNKNOWN, BehindError, Progress


def test_so_many_may_wait_and_no_more() -> None:
    async def ask() -> None:
        progress = Progress(Config(), Chain((), ("t",)))
        waiting = [asyncio.create_task(progress.wait(Position(1, {0: n}), 60)) for n in range(1_000)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadError):
            await progress.wait(None, 60)
        waiting[0].cancel()  # a client that hangs up makes room
        await asyncio.gather(waiting[0], return_exceptions=True)
        with pytest.raises(BehindError):
            await progress.wait(None, 0.01)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    asyncio.run(ask())


def test_before_kafka_has_answered_nothing_is_known_and_nothing_has_a_position() -> None:
    progress = Progress(Config(), Chain((), ("t",)))
    progress.acknowledge({0: 5})
    assert progress.lag() == UNKNOWN
    assert progress.position({0: 5}) is None
