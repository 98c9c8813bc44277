"""Reads a job's ledger from what is committed: from anywhere, whether a worker runs or not."""

from __future__ import annotations

from infra.config import Config
from streams.engine.errors import EngineError
from streams.engine.job import Job
from streams.engine.ledger import Ledger
from streams.engine.offsets import RESETTING, Group


class Books:
    """A job's ledger, read as often as wanted. Raises WeirError where Kafka does not answer."""

    def __init__(self, config: Config, job: Job) -> None:
        self._job, self._group = job, Group(config, job.name)

    def read(self) -> Ledger:
        """The ledger now. The last stage is asked first, so it never shows more merged than counted."""
        view = self._job.view.topic.name if self._job.view is not None else None
        committed: dict[str, list[str]] = {}
        behind: dict[str, int] = {}
        for task in reversed(self._job.tasks):
            if task.topic.name != view:
                committed[task.topic.name], behind[task.topic.name] = self._committed(task.topic.name)
        routed, merged, dropped = self._job.tally(committed)
        return Ledger(routed.accepted, routed.counted, routed.late, routed.dead, merged, behind, dropped)

    def _committed(self, topic: str) -> tuple[list[str], int]:
        """The metadata of each partition that has any, and how many offsets the topic holds beyond the committed."""
        partitions = self._group.partitions(topic)
        committed = self._group.committed(topic, partitions)
        behind = 0
        for partition in range(partitions):
            first, end = self._group.ends(topic, partition)
            if committed.get(partition, (0, ""))[1] == RESETTING:
                name = self._job.name
                raise EngineError(f"the reset of {name} was begun and not completed: `weir reset {name}` completes it")
            behind += end - max(first, committed.get(partition, (0, ""))[0])
        return [metadata for _, metadata in committed.values()], behind
