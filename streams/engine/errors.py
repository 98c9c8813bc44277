"""What stops a task, or the process, rather than be guessed at."""

from __future__ import annotations

from schemas.errors import WeirError
from schemas.topic import Topic


class EngineError(WeirError):
    """The engine cannot go on exactly, so it stops."""


class PartitionsChangedError(EngineError):
    """A topic has another number of partitions than when its state was written."""

    def __init__(self, topic: str, before: int, now: int) -> None:
        super().__init__(
            f"topic {topic} has {now} partitions, and had {before} when the state was written: keys would change "
            f"owners and be counted apart"
        )


def unchanged(topic: Topic, before: int, now: int) -> None:
    """Raises PartitionsChangedError where a topic that had `before` partitions has another number of them now."""
    if before != now:
        raise PartitionsChangedError(topic.name, before, now)


class StateWithoutOffsetError(EngineError):
    """There are results, but no committed offset says how far they reach."""


class UnreadableStateError(EngineError):
    """What is committed was written by another version of weir; `weir reset JOB` drops it and recounts all."""


class OffsetLostError(EngineError):
    """The committed offset is no longer in the topic: what lay between was deleted before it was counted."""


class FencedError(EngineError):
    """Another process has taken over this partition's transactions."""


class TransactionAbortedError(EngineError):
    """The transaction was aborted: the task opens again at its last committed offset."""


class InDoubtError(TransactionAbortedError):
    """Whether the transaction was committed is unknown: the task fences it and starts from what is committed."""


class StoppedError(EngineError):
    """The task was closed: while it opened, or before what it had was committed."""
