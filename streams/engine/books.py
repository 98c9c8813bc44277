"""Reads a job's ledger from what is committed: from anywhere, whether a worker runs or not."""

from __future__ import annotations

import msgspec

from infra.config import Config
from streams.engine.combine import CombineState
from streams.engine.job import WindowedCount
from streams.engine.ledger import Ledger, Routed
from streams.engine.merge import MergeState
from streams.engine.offsets import Group


class Books:
    """A job's ledger, read as often as wanted. Raises WeirError where Kafka does not answer."""

    def __init__(self, config: Config, job: WindowedCount) -> None:
        self._job, self._group = job, Group(config, job.name)

    def read(self) -> Ledger:
        """The ledger now. Stage two is asked first, so it never shows more merged than counted."""
        merged, partials_behind = self._committed(self._job.partials.name)
        routed, source_behind = self._committed(self._job.source.name)
        total = sum((msgspec.json.decode(m, type=CombineState).routed for m in routed), Routed())
        return Ledger(
            accepted=total.accepted,
            counted=total.counted,
            late=total.late,
            dead=total.dead,
            merged=sum(msgspec.json.decode(m, type=MergeState).counted for m in merged),
            behind={self._job.source.name: source_behind, self._job.partials.name: partials_behind},
        )

    def _committed(self, topic: str) -> tuple[list[str], int]:
        """The metadata of each partition that has any, and how many offsets the topic holds beyond the committed."""
        partitions = self._group.partitions(topic)
        committed = self._group.committed(topic, partitions)
        behind = 0
        for partition in range(partitions):
            first, end = self._group.ends(topic, partition)
            behind += end - max(first, committed.get(partition, (0, ""))[0])
        return [metadata for _, metadata in committed.values()], behind
