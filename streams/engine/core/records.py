"""The records that go into a stage, and the batches that come out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from weir.schemas.dead_letters import Headers
from weir.schemas.topic import MAX_DEAD_LETTER, MAX_RECORD, Topic
from weir.streams.engine.core.ledger import Routed

#: The header of a result that holds its cell's state, where the value alone does not say it.
STATE = "weir-state"
#: What a record has beside its value, its key and a state in a header, in bytes, at most.
FRAME = 1 << 10
#: The header of a record that a compaction has written: which of how many facts of its child it is, as in b"0/2".
HISTORY = "weir-history"
#: A header of the first of these records: its own offset, which a topic that was compacted begins at.
COMPACTED = "weir-compacted"
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


class Idle(NamedTuple):
    """A partition was read to its high watermark: `at` is when that was asked (monotonic seconds), `others` the least
    watermark of the job's other source partitions (epoch ms; None where unknown).

    `end` is the consumer's position (KIP-98): the offset after the last record and after what no reader sees, control
    records and aborted transactions.
    """

    at: float
    others: int | None
    end: int


class Produce(NamedTuple):
    """One record to be written. `topic` is the schema's name, without a prefix; `partition` -1: by key.

    `timestamp` in epoch ms; None: the time at which it is written.
    """

    topic: str
    value: bytes | None
    key: bytes | None = None
    partition: int = -1
    headers: Headers | None = None
    timestamp: int | None = None


class Bulk(NamedTuple):
    """Many records of one partition: (key, value) each; value None is a tombstone.

    `states`, one per record, are what a restore needs and the value does not say; they go into the header `STATE`.
    """

    topic: str
    partition: int
    records: Sequence[tuple[bytes, bytes | None]]
    states: Sequence[bytes] | None = None


class FlushBatch(NamedTuple):
    """The output of one flush, written in one transaction: records, and the state that is committed with the source
    offset.

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

    @property
    def routed(self) -> Routed | None:
        """Outcomes of the source's events since the beginning; None of a stage that reads no source."""
        return None

    @property
    def watermark(self) -> int | None:
        """How far event time has come here, in epoch ms; None while unknown, or where the stage has no event time."""
        return None

    @property
    def cells(self) -> int | None:
        """How many cells of state it holds; None of a stage that holds none."""
        return None

    @abstractmethod
    def restore(self, metadata: str | None) -> None:
        """Takes up what the last committed offset remembers; None where nothing was ever committed."""

    def restore_cells(self, records: Iterable[Record]) -> int:
        """Takes the changelog from `restore_from` on, in offset order; gives how many entries are live again."""
        return 0

    def forgo(self, first: int) -> bool:
        """The changelog begins at `first`, after `restore_from`: whether the stage goes on without what it has lost,
        and takes the rest. What it cannot do without it then refuses when that is asked of it.
        """
        return False

    @abstractmethod
    def process(self, records: Sequence[Record]) -> None:
        """Takes records in offset order."""

    def caught_up(self, elapsed_ms: int, others: int | None) -> None:  # noqa: B027 - not every stage has a time
        """The source partition has nothing more: read to its high watermark `elapsed_ms` after the last `process`.

        `others` is the least watermark of the other source partitions that had events, None where unknown.
        """

    @abstractmethod
    def take(self, changelog_end: int) -> FlushBatch | None:
        """Returns the batch to write now, None if there is none. `changelog_end`: the changelog's next offset."""

    def committed(self) -> None:  # noqa: B027 - nor keeps anything until then
        """Called once the batch that `take` returned last is committed, before the next `take`."""

    def close(self) -> None:  # noqa: B027 - nor holds anything
        """Lets go of what it holds outside memory. Called at any time, from any thread, also twice."""
