"""Records of several topics to rows of their tables: pure, no I/O."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from consumers.tables import Key, Row, Table
from schemas.codec import Decoder
from schemas.dead_letters import Origin
from schemas.errors import PoisonError

#: A topic, by its name on the broker, and a partition.
Place = tuple[str, int]
#: A binary COPY begins and ends with these.
_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"


class Record(msgspec.Struct, frozen=True, gc=False):
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


#: Where a row came from: its record, its place in the record's array or None, and its bytes.
Source = tuple[Record, int | None, bytes]


class Part:
    """The rows of one table in a batch, in the order of their records, and where each came from."""

    def __init__(self, table: Table, rows: list[Row] | None = None, sources: list[Source] | None = None) -> None:
        self.table = table
        self.rows: list[Row] = [] if rows is None else rows
        self.sources: list[Source] = [] if sources is None else sources
        self._copy: bytes | None = None
        self._cells: list[Mapping[Key, Any]] | None = None

    def seal(self) -> None:
        """Makes what storing will ask for. No row may be added after it."""
        if self.table.encode is not None:
            self._copy = self._encoded(self.table.encode)
        self._cells = [rollup.fold(self.rows) for rollup in self.table.rollups]

    def copy(self) -> bytes | None:
        """All of a binary COPY of these rows; None where the table does not say how."""
        if self._copy is None and self.table.encode is not None:
            self._copy = self._encoded(self.table.encode)
        return self._copy

    def _encoded(self, encode: Callable[[Row], bytes]) -> bytes:
        return b"".join((_HEADER, *map(encode, self.table.standing(self.rows)), _TRAILER))

    def cells(self) -> list[Mapping[Key, Any]]:
        """What the rows come to, for each of the table's rollups."""
        if self._cells is None:
            self._cells = [rollup.fold(self.rows) for rollup in self.table.rollups]
        return self._cells

    def between(self, start: int, end: int) -> Part:
        """The rows from `start` to before `end`."""
        return Part(self.table, self.rows[start:end], self.sources[start:end])

    def without(self, places: Collection[int]) -> Part:
        """All but the rows at these places."""
        if not places:
            return self
        kept = [n for n in range(len(self.rows)) if n not in places]
        return Part(self.table, [self.rows[n] for n in kept], [self.sources[n] for n in kept])


@dataclass
class Batch:
    """What a run of records comes to: `rows` by table name; `next_offsets` says where to go on after them."""

    parts: dict[str, Part] = field(default_factory=dict)
    refused: list[Refused] = field(default_factory=list)
    next_offsets: dict[Place, int] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    bytes: int = 0

    @property
    def rows(self) -> dict[str, list[Row]]:
        """The rows by table name, in the order of their records."""
        return {name: part.rows for name, part in self.parts.items()}

    def seal(self) -> None:
        """Makes what storing will ask for. Nothing may be added after it."""
        for part in self.parts.values():
            part.seal()


class Batcher:
    """Makes batches for the sink `job`, whose `tables` are given by their topics' names on the broker.

    Holds no state: several threads may use it.
    """

    def __init__(self, job: str, tables: Mapping[str, Table]) -> None:
        self._job = job
        self._tables = tables
        self._decoders = {name: _decoder(table) for name, table in tables.items()}

    def batch(self, records: Iterable[Record]) -> Batch:
        """The batch of these records, in the order of their offsets within each partition."""
        batch = Batch()
        self.extend(batch, list(records))
        return batch

    def extend(self, batch: Batch, records: list[Record]) -> None:
        """Adds records that follow those of the batch."""
        size = 0
        for record in records:
            value = record.value
            table = self._tables[record.topic]
            part = batch.parts.get(table.name)
            if part is None:
                part = batch.parts[table.name] = Part(table)
            if value is not None:
                size += len(value)
            if value and table.plain is not None and (row := table.plain(value)) is not None:
                part.rows.append(row)
                part.sources.append((record, None, value))
            else:
                self._closely(record, part, batch.refused)
            batch.next_offsets[record.topic, record.partition] = record.offset + 1
        batch.records += records
        batch.bytes += size

    def _closely(self, record: Record, part: Part, refused: list[Refused]) -> None:
        for place, (element, raw) in enumerate(self._decoders[record.topic].elements(record.value)):
            source = (record, None if raw == (record.value or b"") else place, raw)
            try:
                if isinstance(element, PoisonError):
                    raise element
                row = part.table.row(element, record.partition)
            except PoisonError as e:
                refused.append(refusal(self._job, source, e))
            else:
                part.rows.append(row)
                part.sources.append(source)


def refusal(job: str, source: Source, error: PoisonError) -> Refused:
    """The element that came from there, refused by the sink `job` for that reason."""
    record, element, raw = source
    origin = Origin(
        error.reason,
        error.detail,
        source=record.topic,
        offset=record.offset,
        partition=record.partition,
        element=element,
        timestamp=record.timestamp,
        job=job,
    )
    return Refused(raw, record.key, origin)


def _decoder(table: Table) -> Decoder[Any]:
    decoder = table.topic.decoder()
    if decoder is None:
        raise ValueError(f"topic {table.topic.name} has no type: there is nothing to make rows of")
    return decoder
