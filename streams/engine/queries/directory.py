"""The directory of a job's table: which partition owns a key, and which worker has that partition."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from weir.infra.config import Config
from weir.infra.kafka.worker_directory import AFTER_A_MISS_S, FRESH_S, WorkerDirectory
from weir.infra.runtime.single_flight import SingleFlight
from weir.streams.engine.aggregates.aggregation import Key
from weir.streams.engine.aggregates.partials import owner
from weir.streams.engine.core.job import Job, TaskTopic
from weir.streams.engine.progress.offsets import Group


def table_task(job: Job) -> TaskTopic | None:
    """Returns the task whose table `GET /tables` answers from: the one with a changelog. None: the job has no table."""
    return next((task for task in job.tasks if task.changelog is not None), None) if job.table is not None else None


class Directory:
    """The partitions and workers of one job's table. Every method raises WeirError where Kafka does not answer."""

    def __init__(self, config: Config, job: Job, task: TaskTopic) -> None:
        self._config, self._job, self._task = config, job, task
        self._workers = WorkerDirectory(config, job.name)
        self._counts = SingleFlight(lambda: asyncio.to_thread(self._ask_counts))

    async def counts(self) -> Mapping[str, int]:
        """The number of partitions of the job's source and of what its table is made from. They never change: a job
        whose topics grow refuses to go on.
        """
        return await self._counts.get(float("inf"))

    async def partitions(self, key: Key) -> Sequence[int]:
        """The partitions that may own the key: one, unless it is the source's producers who chose it."""
        partitions = (await self.counts())[self._task.topic.name]
        return range(partitions) if self._task.source else [owner(key, partitions)]

    async def addresses(self) -> Sequence[str]:
        """host:port of every worker of the job."""
        return await self._workers.addresses()

    async def workers(self, partitions: Sequence[int], missed: bool = False) -> dict[str | None, list[int]]:
        """Of these partitions, host:port of the worker that has them; None: of those that nobody has now.

        `missed`: what this said a moment ago was wrong.
        """
        found: dict[str | None, list[int]] = {}
        for partition in partitions:
            topic = self._config.topic(self._task.topic.name)
            address = await self._workers.owner(topic, partition, AFTER_A_MISS_S if missed else FRESH_S)
            found.setdefault(address, []).append(partition)
        return found

    def _ask_counts(self) -> dict[str, int]:
        group = Group(self._config, self._job.name)
        return {topic.name: group.partitions(topic.name) for topic in (self._job.source, self._task.topic)}
