"""What the engine needs to know of a job, whatever kind it is. `windowed` and `keyed` are the kinds there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from schemas.topic import Topic
from streams.engine.ledger import Routed
from streams.engine.records import Record, Stage


class View(Protocol):
    """A topic that every worker holds whole (Kafka Streams: global table), read before the source is processed.

    `apply` is called from the thread that reads; what the job's `key` asks meanwhile must stay consistent.
    """

    topic: Topic

    def apply(self, records: Sequence[Record]) -> None:
        """Takes records in offset order. One that is not acceptable is passed over: its own stage refuses it."""


class TaskTopic(NamedTuple):
    """A topic that a job reads, one task per partition. `stage` is what reads it, in a word.

    `changelog` is what the task's state is restored from, the partition of the same number. `source` where events come
    in: its partitions are watched for idleness, and the view is caught up before what they hold is processed.
    """

    topic: Topic
    stage: str
    changelog: Topic | None = None
    source: bool = False


class Tally(NamedTuple):
    """A job's ledger as its committed offsets hold it: what became of the source's events; how many are in a table; how
    many keys that had to go from there for want of room, None where there is always room.
    """

    routed: Routed
    merged: int
    dropped: int | None = None


class Job(Protocol):
    """A stream job. Pure: it makes stages, and knows nothing of the broker. `linger` (ms) is as in `Windowed`."""

    @property
    def name(self) -> str: ...
    @property
    def linger(self) -> int: ...
    @property
    def source(self) -> Topic: ...
    @property
    def view(self) -> View | None: ...
    @property
    def tasks(self) -> Sequence[TaskTopic]:
        """All that it reads as a member of its group; the view's topic too, which a stage of its own screens."""

    @property
    def writes(self) -> Sequence[Topic]:
        """All that it writes, the topics between its own stages included, the dead letters not."""

    @property
    def table(self) -> Topic | None:
        """The topic whose keys `GET /tables` answers for; None where there is nothing to ask."""

    def check(self, counts: Mapping[str, int]) -> None:
        """Raises EngineError where the topics' numbers of partitions do not go together."""

    def open(
        self,
        topic: str,
        partition: int,
        counts: Mapping[str, int],
        now_ms: Callable[[], int],
        state: Path | None = None,
    ) -> Stage:
        """A new stage for one partition. `now_ms` is the clock (epoch ms); `state` a folder for what does not stay in
        memory, of this partition alone; None: everything stays in memory.
        """

    def others(self, metadata: Sequence[str]) -> int | None:
        """The least watermark of the source partitions whose committed metadata this is; None where none had events."""

    def tally(self, committed: Mapping[str, Sequence[str]]) -> Tally:
        """The ledger, from the committed metadata of each of `tasks`' topics."""
