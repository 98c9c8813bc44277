"""Reads a job's ledger from what is committed: from anywhere, whether a worker runs or not."""

from __future__ import annotations

from weir.infra.config import Config
from weir.streams.engine.core.errors import EngineError
from weir.streams.engine.core.job import Job
from weir.streams.engine.core.ledger import Ledger
from weir.streams.engine.core.offset_metadata import RESETTING
from weir.streams.engine.progress.lag import GroupProgress
from weir.streams.engine.progress.offsets import Group


class LedgerReader:
    """A job's ledger, read as often as wanted. Raises WeirError where Kafka does not answer."""

    def __init__(self, config: Config, job: Job) -> None:
        self._job, self._group = job, Group(config, job.name)
        self._places = GroupProgress(config, self._group)

    def read(self) -> Ledger:
        """The ledger now. The last stage is asked first, so it never shows more merged than counted."""
        view = self._job.view.topic.name if self._job.view is not None else None
        topics = [task.topic.name for task in reversed(self._job.tasks) if task.topic.name != view]
        committed: dict[str, list[str]] = {topic: [] for topic in topics}
        behind = {task.topic.name: 0 for task in self._job.tasks if task.topic.name in committed}
        for (topic, _), place in self._places.ask({name: self._group.partitions(name) for name in topics}).items():
            if place.state == RESETTING:
                name = self._job.name
                raise EngineError(f"the reset of job {name} was interrupted: `weir reset {name}` completes it")
            if place.state is not None:
                committed[topic].append(place.state)
            behind[topic] += place.behind
        routed, merged, dropped = self._job.tally(committed)
        for task in self._job.tasks:
            if task.topic.internal:  # most of what idle stages say to each other are watermarks, and no events
                behind[task.topic.name] = routed.counted - merged
        return Ledger(routed.accepted, routed.counted, routed.late, routed.dead, merged, behind, dropped)
