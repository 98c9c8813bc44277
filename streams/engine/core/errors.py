"""Errors that stop a task or the whole process, where going on would mean guessing."""

from __future__ import annotations

from weir.schemas.errors import WeirError
from weir.schemas.topic import Topic


class EngineError(WeirError):
    """The engine cannot go on exactly, so it stops."""


class JobRefusedError(EngineError):
    """A job's committed state and its topics do not fit together. Restarting does not help: an operator must act."""


class PartitionsChangedError(JobRefusedError):
    """A topic's number of partitions has changed since its state was written."""

    def __init__(self, job: str, topic: str, before: int, now: int) -> None:
        super().__init__(
            f"topic {topic} has {now} partitions, but had {before} when job {job} committed its state: keys would "
            f"move to other partitions and be counted twice; stop the job's workers and run `weir reset {job}`, which "
            f"recounts all events"
        )


class PartitionsDifferError(JobRefusedError):
    """Topics of a job that must have the same number of partitions have different numbers."""


def unchanged(job: str, topic: Topic, before: int, now: int) -> None:
    """Raises PartitionsChangedError where a topic that had `before` partitions has another number of them now."""
    if before != now:
        raise PartitionsChangedError(job, topic.name, before, now)


class TopicReplacedError(JobRefusedError):
    """A topic was deleted and created again since the job committed its state."""


class StateLostError(JobRefusedError):
    """Records that a state is restored from were deleted."""


class StateAtRiskError(JobRefusedError):
    """The settings of a topic that a state is restored from let Kafka delete records that are needed."""


class StateWithoutOffsetError(JobRefusedError):
    """The job has results, but no committed offset for them."""


class UnreadableStateError(JobRefusedError):
    """The committed state was written by another version of weir; `weir reset JOB` drops it and recounts all events."""


class SourceOffsetLostError(JobRefusedError):
    """The committed offset is no longer in the topic: events were deleted before they were counted."""
