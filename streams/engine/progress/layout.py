"""A job's topics as the broker has them now, held against what they were when its offsets were committed.

A key's partition follows from a topic's number of partitions, an offset means something in one topic alone, and a state
is what its changelog holds. So a topic that has other partitions, was deleted and made anew, or has lost records that a
state is restored from is refused. No restart cures that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from weir.infra.kafka.client import Described
from weir.infra.kafka.topic_settings import losses
from weir.schemas.topic import Topic
from weir.streams.engine.core.errors import (
    EngineError,
    PartitionsChangedError,
    PartitionsDifferError,
    StateAtRiskError,
    StateLostError,
    StateWithoutOffsetError,
    TopicReplacedError,
)
from weir.streams.engine.core.job import Job
from weir.streams.engine.core.offset_metadata import ID, Committed, Known, Log

#: What fits into the metadata of an offset: two numbers of 13 digits for each source partition.
PARTITIONS = 128


@dataclass(frozen=True)
class Layout:
    """The topics that `job` reads and writes: `found` is what the broker says of each, by name."""

    job: Job
    found: Mapping[str, Described]

    @staticmethod
    def names(job: Job) -> list[str]:
        """The topics that a layout of this job is made of."""
        return list(dict.fromkeys(topic.name for topic in (*(task.topic for task in job.tasks), *job.writes)))

    @cached_property
    def missing(self) -> list[str]:
        """The topics that the broker does not have."""
        return [name for name in self.names(self.job) if name not in self.found]

    @cached_property
    def counts(self) -> Mapping[str, int]:
        """How many partitions each topic has."""
        return {name: described.partitions for name, described in self.found.items()}

    @cached_property
    def known(self) -> tuple[Known, ...]:
        """The topics that the job reads as an envelope records them, in the order of `Job.tasks`."""
        return tuple(Known(self.id(task.topic.name), self.counts[task.topic.name]) for task in self.job.tasks)

    def id(self, topic: str) -> str | None:
        """The beginning of a topic's id, as an envelope has it."""
        found = self.found[topic].id
        return None if found is None else found[:ID]

    def log_of(self, topic: str) -> Topic | None:
        """The topic that the state of the tasks over `topic` is read back from: their changelog, or the view's topic,
        which is read whole; None where there is no such state.
        """
        view = self.job.view.topic if self.job.view is not None else None
        if view is not None and view.name == topic:
            return view
        return next(task.changelog for task in self.job.tasks if task.topic.name == topic)

    def check(self) -> None:
        """Raises EngineError where the topics' numbers of partitions are too large, or do not go together."""
        for name, partitions in self.counts.items():
            if partitions > PARTITIONS:
                raise EngineError(
                    f"topic {name} has {partitions} partitions, more than the limit of {PARTITIONS}: the metadata of a "
                    f"commit has no room for more watermarks; use a topic with fewer partitions"
                )
        shape = self.job.shape(self.counts)
        for name, partitions in shape.items():
            if self.counts[name] != partitions:
                like = [one for one in (self.job.source.name, *shape) if self.counts[one] == partitions]
                raise PartitionsDifferError(
                    f"topic {name} has {self.counts[name]} partitions, but job {self.job.name} needs {partitions}, as "
                    f"many as {', '.join(like)}; stop the job's workers and run `weir reset {self.job.name}`, which "
                    f"changes the topic and recounts all events"
                )

    @cached_property
    def logs(self) -> list[Topic]:
        """The topics that the job's state is read back from."""
        found = (self.log_of(task.topic.name) for task in self.job.tasks)
        return list({topic.name: topic for topic in found if topic is not None}.values())

    def safe(self, settings: Mapping[str, Mapping[str, str]]) -> None:
        """Raises StateAtRiskError if `settings`, the broker's settings of topics by name, let Kafka delete records that
        a state is restored from.
        """
        for topic in self.logs:
            if topic.name in settings and (found := losses(topic, settings[topic.name])):
                raise StateAtRiskError(
                    f"{found[0]}: Kafka would delete records that the state of job {self.job.name} is restored from; "
                    f"run `weir topics --update`, which configures topics as declared"
                )

    def unchanged(self, topic: str, committed: Iterable[Committed]) -> None:
        """Raises JobRefusedError if a topic that the job relies on has changed since one of these commits, which are of
        offsets of `topic`.
        """
        log = self.log_of(topic)
        for one in committed:
            if one.resetting:
                name = self.job.name
                raise StateWithoutOffsetError(
                    f"the reset of job {name} was interrupted: `weir reset {name}` completes it"
                )
            for task, before, now in zip(self.job.tasks, one.topics, self.known, strict=False):
                replaced(self.job.name, task.topic.name, before.id, now.id)
                if before.partitions != now.partitions:
                    raise PartitionsChangedError(self.job.name, task.topic.name, before.partitions, now.partitions)
            if log is not None and one.log is not None:
                replaced(self.job.name, log.name, one.log.id, self.id(log.name))

    def unchanged_before(self, topic: str, one: Committed) -> None:
        """The same of an offset of `topic` that was committed without an envelope: the state itself says it."""
        stage = self.job.open(topic, 0, self.counts, lambda: 0)
        try:
            stage.restore(one.state)
        finally:
            stage.close()


def replaced(job: str, topic: str, before: str | None, now: str | None) -> None:
    """Raises TopicReplacedError where a topic has another id than before, as far as both are known."""
    if before is not None and now is not None and before != now:
        raise TopicReplacedError(
            f"topic {topic} was deleted and created again since job {job} committed its state (its id began with "
            f"{before}, and now begins with {now}), so its former records are gone; stop the job's workers and run "
            f"`weir reset {job}`, which recounts the events that are left"
        )


def intact(job: str, topic: str, partition: int, before: Log, now: Log) -> None:
    """Raises JobRefusedError where a partition is not the one that a state was kept in, or has lost records of it.

    `now.end` is its high watermark.
    """
    replaced(job, topic, before.id, now.id)
    remedy = (
        f"the state of job {job} cannot be restored; stop the job's workers and run `weir reset {job}`, which recounts "
        f"all events"
    )
    if now.end < before.end:
        raise StateLostError(
            f"{topic}[{partition}] ends at offset {now.end}, but reached {before.end} before: records were lost, and "
            f"{remedy}"
        )
    if before.first is not None and now.first is not None and now.first > before.first:
        raise StateLostError(
            f"{topic}[{partition}] begins at offset {now.first}, but began at {before.first} before: records were "
            f"deleted, and {remedy}"
        )
