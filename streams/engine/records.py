"""What goes into a stage and what comes out of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from schemas.dead_letters import Headers


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


class Produce(NamedTuple):
    """One record to be written. `topic` is the schema's name, without a prefix; `partition` -1: by key."""

    topic: str
    value: bytes | None
    key: bytes | None = None
    partition: int = -1
    headers: Headers | None = None


class Bulk(NamedTuple):
    """Many records of one partition: (key, value) each."""

    topic: str
    partition: int
    records: Sequence[tuple[bytes, bytes]]


class Batch(NamedTuple):
    """What one flush writes in one transaction: records, and what is remembered with the source offset.

    `metadata` goes with the committed offset, at most 4096 bytes (the broker's offset.metadata.max.bytes).
    """

    produce: Sequence[Produce]
    metadata: str
    bulk: Bulk | None = None


class Stage(Protocol):
    """The pure part of a task: one source partition's records in, one batch per flush out.

    Not thread-safe: `process` and `take` are called in turn. After `take` the stage holds nothing that was not handed
    out; what it handed out either commits, or the stage is thrown away and a new one is restored.
    """

    def restore(self, metadata: str | None) -> None:
        """Takes up what the last committed offset remembers; None where nothing was ever committed."""

    def process(self, records: Sequence[Record]) -> None:
        """Takes records in offset order."""

    def caught_up(self, elapsed_ms: int, others: int | None) -> None:
        """The source partition has nothing more: read to its high watermark `elapsed_ms` after the last `process`.

        `others` is the least watermark of the other source partitions that had events, None where unknown.
        """

    def take(self, changelog_end: int) -> Batch | None:
        """What is to be written now; None where there is nothing. `changelog_end` is the next offset there."""
