"""What goes into a stage and what comes out of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from schemas.dead_letters import Headers
from schemas.topic import MAX_DEAD_LETTER, MAX_RECORD, Topic

#: The header of a result that holds its cell's state, where the value alone does not say it.
STATE = "weir-state"
#: What a record has beside its value, its key and a state in a header, in bytes, at most.
FRAME = 1 << 10
#: `Stage.restore_from` of a stage that needs its whole changelog: a compacted one.
FROM_START = -1


class Record(Protocol):
    """One record of a topic, as confluent_kafka.Message gives it."""

    def topic(self) -> str: ...
    def partition(self) -> int: ...
    def offset(self) -> int: ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def headers(self) -> Headers | None: ...
    def timestamp(self) -> tuple[int, int]:
        """(type, epoch milliseconds); -1 where the record has none."""


def largest(topic: Topic) -> int:
    """How large a record of this topic may be, in bytes: what it takes, and what we write."""
    return min(int(topic.config.get("max.message.bytes", MAX_RECORD)), MAX_DEAD_LETTER)


class Produce(NamedTuple):
    """One record to be written. `topic` is the schema's name, without a prefix; `partition` -1: by key.

    `timestamp` in epoch ms; 0: the time at which it is written.
    """

    topic: str
    value: bytes | None
    key: bytes | None = None
    partition: int = -1
    headers: Headers | None = None
    timestamp: int = 0


class Bulk(NamedTuple):
    """Many records of one partition: (key, value) each; value None is a tombstone.

    `states`, one per record, are what a restore needs and the value does not say; they go into the header `STATE`.
    """

    topic: str
    partition: int
    records: Sequence[tuple[bytes, bytes | None]]
    states: Sequence[bytes] | None = None


class Batch(NamedTuple):
    """What one flush writes in one transaction: records, and what is remembered with the source offset.

    `metadata` goes with the committed offset, at most 4096 bytes (the broker's offset.metadata.max.bytes).
    """

    produce: Sequence[Produce]
    metadata: str
    bulks: Sequence[Bulk] = ()


class Stage(ABC):
    """The pure part of a task: one source partition's records in, one batch per flush out.

    Not thread-safe: `process` and `take` are called in turn. After `take` the stage holds nothing that was not handed
    out; what it handed out either commits, or the stage is thrown away and a new one is restored.

    `restore_from`, known after `restore`, is the changelog offset from which `restore_cells` wants records: None where
    it wants none, FROM_START where it wants all that the topic holds.

    `backlog` is set by the task: how long (s) it will take to process what its partition has left. `upstream` is the
    same of the stages before this one, as far as known: with more on its way, a flush may wait for it.
    """

    restore_from: int | None = None
    backlog: float = 0.0

    @property
    def upstream(self) -> float:
        return 0.0

    @property
    def dropped(self) -> int | None:
        """How many keys it had to drop for want of room, since the beginning; None where it never has to."""
        return None

    @abstractmethod
    def restore(self, metadata: str | None) -> None:
        """Takes up what the last committed offset remembers; None where nothing was ever committed."""

    def restore_cells(self, records: Iterable[Record]) -> int:
        """Takes the changelog from `restore_from` on, in offset order; gives how many entries are live again."""
        return 0

    @abstractmethod
    def process(self, records: Sequence[Record]) -> None:
        """Takes records in offset order."""

    def caught_up(self, elapsed_ms: int, others: int | None) -> None:  # noqa: B027 - not every stage has a time
        """The source partition has nothing more: read to its high watermark `elapsed_ms` after the last `process`.

        `others` is the least watermark of the other source partitions that had events, None where unknown.
        """

    @abstractmethod
    def take(self, changelog_end: int) -> Batch | None:
        """What is to be written now; None where there is nothing. `changelog_end` is the next offset there."""

    def committed(self) -> None:  # noqa: B027 - nor keeps anything until then
        """What `take` handed out last is committed. Called before the next `take`."""

    def close(self) -> None:  # noqa: B027 - nor holds anything
        """Lets go of what it holds outside memory. Called at any time, from any thread, also twice."""
