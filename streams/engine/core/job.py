"""The interface of a job to the engine, whatever its kind. `windowed` and `keyed` are the two kinds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from weir.schemas.topic import Topic
from weir.streams.engine.core.ledger import Routed
from weir.streams.engine.core.records import Produce, Record, Stage


def check_name(name: str) -> None:
    """Raises ValueError for a job's name that cannot be part of a group's, a folder's or a transaction's name."""
    if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
        raise ValueError(f"job name {name!r}: only letters, digits, '.', '_' and '-' are allowed")


class View(Protocol):
    """A topic that every worker holds whole (Kafka Streams: global table), read before the source is processed.

    `apply` is called from the thread that reads; what the job's `key` asks meanwhile must stay consistent.
    """

    topic: Topic

    def apply(self, records: Sequence[Record]) -> None:
        """Takes records in offset order. One that is not acceptable is passed over: its own stage refuses it."""


@runtime_checkable
class CompactedView(View, Protocol):
    """A view of facts by time, whose topic the engine rewrites without what is repeated: see `compaction`.

    `facts` counts the facts that are held, `repeated` those of them that change no answer.
    """

    facts: int
    repeated: int

    def fresh(self) -> CompactedView:
        """A view of the same topic that has read nothing."""

    def history(self, before: int) -> Iterable[Produce]:
        """The records that stand for all that was read, without the repeated facts from before that time (epoch ms)."""


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


@runtime_checkable
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
        """The topics that the job reads as a member of its group, with the view's topic, which has its own stage."""

    @property
    def writes(self) -> Sequence[Topic]:
        """The topics that the job writes, including those between its own stages, without the dead letters."""

    @property
    def table(self) -> Topic | None:
        """The topic whose keys `GET /tables` answers for; None where there is nothing to ask."""

    def shape(self, counts: Mapping[str, int]) -> Mapping[str, int]:
        """How many partitions topics that only the job writes must have, where the topics have `counts` of them."""

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
