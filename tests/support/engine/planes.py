"""A data plane of a job in the test's own process."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from weir.infra.config import Config
from weir.infra.kafka.client import ensure_topics
from weir.schemas.topics import TOPICS
from weir.streams.engine.core.errors import EngineError
from weir.streams.engine.core.job import Job
from weir.streams.engine.dataplane.dataplane import DataPlane
from weir.streams.engine.dataplane.reader import Slice
from weir.streams.engine.progress.offsets import Group


def play(config: Config, job: Job, scene: Callable[[DataPlane], Awaitable[None]]) -> list[BaseException]:
    """Runs the scene with a data plane of the job; what the plane gave up for."""
    failures: list[BaseException] = []
    _run(config, job, scene, failures)
    return failures


def play_until(
    config: Config, job: Job, done: Callable[[], bool], of: Iterable[str] | None = None
) -> list[BaseException]:
    """Runs every partition of all that the job reads, or of some of it, until `done`, which blocks, or until the plane
    gives up.
    """
    failures: list[BaseException] = []

    async def scene(plane: DataPlane) -> None:
        group = Group(config, job.name)
        await plane.assign({(topic, p) for topic in of or plane.topics for p in range(group.partitions(topic))})
        async with asyncio.timeout(120):
            while not failures and not await asyncio.to_thread(done):
                await asyncio.sleep(0.02)

    _run(config, job, scene, failures)
    return failures


def _run(
    config: Config, job: Job, scene: Callable[[DataPlane], Awaitable[None]], failures: list[BaseException]
) -> None:
    ensure_topics(config, [*TOPICS, *(topic for topic in (job.source, *job.writes) if topic not in TOPICS)])

    async def deliver(piece: Slice) -> None:
        await piece.task.handle(piece.start, piece.records, piece.idle, piece.left)

    def said(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        failures.append(context.get("exception") or EngineError(context["message"]))

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(said)  # of a task whose exception nobody retrieved, say
        plane = DataPlane(config, job, deliver, failures.append)
        await scene(plane)
        await plane.stop()
        gc.collect()

    asyncio.run(run())
