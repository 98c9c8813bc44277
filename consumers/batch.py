"""Records of several topics to rows of their tables: pure, no I/O."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from consumers.tables import Row, Table
from schemas.codec import Decoder
from schemas.dead_letters import Origin
from schemas.errors import PoisonError

#: A topic, by its name on the broker, and a partition.
Place = tuple[str, int]


class Record(NamedTuple):
    """One Kafka record. `timestamp` is in epoch milliseconds, None where it has none."""

    topic: str
    partition: int
    offset: int
    timestamp: int | None
    key: bytes | None
    value: bytes | None


class Refused(NamedTuple):
    """One element that cannot be stored: its bytes, its record's key, and why."""

    raw: bytes
    key: bytes | None
    origin: Origin


@dataclass
class Batch:
    """What a run of records comes to.

    `rows` holds the latest row per primary key, by table name; `next_offsets` where to go on after these records.
    """

    rows: dict[str, dict[Hashable, Row]] = field(default_factory=dict)
    refused: list[Refused] = field(default_factory=list)
    next_offsets: dict[Place, int] = field(default_factory=dict)
    records: int = 0


class Batcher:
    """Makes batches for the sink `job`, whose `tables` are given by their topics' names on the broker."""

    def __init__(self, job: str, tables: dict[str, Table]) -> None:
        self._job = job
        self._tables = tables
        self._decoders = {name: _decoder(table) for name, table in tables.items()}

    def batch(self, records: Iterable[Record]) -> Batch:
        """The batch of these records, in the order of their offsets within each partition."""
        batch = Batch()
        for record in records:
            self._add(record, batch)
            batch.next_offsets[record.topic, record.partition] = record.offset + 1
            batch.records += 1
        return batch

    def _add(self, record: Record, batch: Batch) -> None:
        table, decoder = self._tables[record.topic], self._decoders[record.topic]
        rows = batch.rows.setdefault(table.name, {})
        for place, (element, raw) in enumerate(decoder.elements(record.value)):
            if isinstance(element, PoisonError):
                whole = raw == (record.value or b"")
                batch.refused.append(self._refused(record, raw, None if whole else place, element))
            else:
                row = table.row(element, record.partition)
                rows[table.key_of(row)] = row

    def _refused(self, record: Record, raw: bytes, element: int | None, error: PoisonError) -> Refused:
        origin = Origin(
            error.reason,
            error.detail,
            source=record.topic,
            offset=record.offset,
            partition=record.partition,
            element=element,
            timestamp=record.timestamp,
            job=self._job,
        )
        return Refused(raw, record.key, origin)


def _decoder(table: Table) -> Decoder[Any]:
    decoder = table.topic.decoder()
    if decoder is None:
        raise ValueError(f"topic {table.topic.name} has no type: there is nothing to make rows of")
    return decoder
