"""Records of several topics to rows of their tables: pure, no I/O."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Any, NamedTuple, cast

from confluent_kafka import Message

from weir.consumers.sinks.table import Key, Row, Table
from weir.schemas.codec import Decoder
from weir.schemas.dead_letters import Origin
from weir.schemas.errors import PoisonError

#: A topic, by its name on the broker, and a partition.
Place = tuple[str, int]
#: A binary COPY begins and ends with these.
_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"


class RefusedRow(NamedTuple):
    """One element that cannot be stored: its bytes, its record's key, and why."""

    raw: bytes
    key: bytes | None
    origin: Origin


class Element(NamedTuple):
    """One element of a record: its place in the record's array, None where there is none, and its bytes."""

    record: Message
    place: int | None
    raw: bytes


#: Where a row came from: the record that is nothing else, or one of its elements.
Source = Message | Element


class TableRows:
    """The rows of one table in a batch, in the order of their records, and where each came from.

    `images`: each row as binary COPY has it, where the table says how.
    """

    def __init__(
        self, table: Table, rows: Sequence[Row] = (), sources: Sequence[Source] = (), images: Sequence[bytes] = ()
    ) -> None:
        self.table = table
        self.rows = list(rows)
        self.sources = list(sources)
        self._images = list(images)
        self._copy: bytes | None = None
        self._cells: list[Mapping[Key, Any]] | None = None

    def add(self, rows: Sequence[Row], sources: Sequence[Source]) -> None:
        """Adds rows. Their images are made at once, while they are in the processor's cache."""
        self.rows += rows
        self.sources += sources
        if self.table.encode is not None:
            self._images += self.table.encode(rows)

    def seal(self) -> None:
        """Makes what storing will ask for. No row may be added after it."""
        self._copy = self.copy()
        self._cells = self.cells()

    def copy(self) -> bytes | None:
        """Returns a binary COPY of all these rows; None if the table has no encoder."""
        if self.table.encode is None:
            return None
        return self._copy or b"".join((_HEADER, *self._in_order(), _TRAILER))

    def _in_order(self) -> Iterable[bytes]:
        if self.table.order is None:
            return self._images
        keys = list(map(self.table.order, self.rows))
        return map(self._images.__getitem__, sorted(range(len(keys)), key=keys.__getitem__))

    def cells(self) -> list[Mapping[Key, Any]]:
        """Returns the cells of these rows, for each of the table's rollups."""
        return [rollup.fold(self.rows) for rollup in self.table.rollups] if self._cells is None else self._cells

    def between(self, start: int, end: int) -> TableRows:
        """The rows from `start` to before `end`."""
        return TableRows(self.table, self.rows[start:end], self.sources[start:end], self._images[start:end])

    def without(self, places: Collection[int]) -> TableRows:
        """Returns the part without the rows at these places."""
        if not places:
            return self
        kept = [n not in places for n in range(len(self.rows))]
        images = list(compress(self._images, kept))
        return TableRows(self.table, list(compress(self.rows, kept)), list(compress(self.sources, kept)), images)


@dataclass
class Batch:
    """Rows of a run of records, by table name. `next_offsets`: the offsets at which to continue after them."""

    parts: dict[str, TableRows] = field(default_factory=dict)
    refused: list[RefusedRow] = field(default_factory=list)
    next_offsets: dict[Place, int] = field(default_factory=dict)
    records: list[Message] = field(default_factory=list)
    bytes: int = 0

    @property
    def elements(self) -> int:
        """The elements of its records, whatever becomes of them."""
        return sum(len(part.rows) for part in self.parts.values()) + len(self.refused)

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

    def batch(self, records: Iterable[Message]) -> Batch:
        """The batch of these records, in the order of their offsets within each partition."""
        batch = Batch()
        self.extend(batch, list(records))
        return batch

    def extend(self, batch: Batch, records: list[Message]) -> None:
        """Adds records that follow those of the batch."""
        for topic, some in _by_topic(records).items():
            table = self._tables[topic]
            part = batch.parts.setdefault(table.name, TableRows(table))
            values = [message.value() or b"" for message in some]
            rows = [None] * len(some) if table.plain is None else table.plain(values)
            if None not in rows:
                part.add(cast(Sequence[Row], rows), some)
            else:
                part.add(*self._closely(topic, zip(some, values, rows, strict=True), batch.refused))
            batch.bytes += sum(map(len, values))
            batch.next_offsets.update({(topic, cast(int, m.partition())): cast(int, m.offset()) + 1 for m in some})
        batch.records += records

    def _closely(
        self, topic: str, records: Iterable[tuple[Message, bytes, Row | None]], refused: list[RefusedRow]
    ) -> tuple[list[Row], list[Source]]:
        """Rows and where they came from: what of these records is a row already, and each element of the others."""
        elements, made = self._decoders[topic].elements, self._tables[topic].row
        rows: list[Row] = []
        sources: list[Source] = []
        for record, value, row in records:
            if row is not None:
                rows.append(row)
                sources.append(record)
                continue
            for place, (element, raw) in enumerate(elements(value)):
                source = Element(record, None if raw == value else place, raw)
                if isinstance(element, PoisonError):
                    # Not raised: an error that stands in a frame of its own traceback holds the batch until garbage is
                    # looked for.
                    refused.append(refusal(self._job, source, element))
                    continue
                try:
                    row = made(element, cast(int, record.partition()))
                except PoisonError as e:
                    refused.append(refusal(self._job, source, e))
                else:
                    rows.append(row)
                    sources.append(source)
        return rows, sources


def _by_topic(records: list[Message]) -> Mapping[str, list[Message]]:
    found: defaultdict[str, list[Message]] = defaultdict(list)
    for record in records:
        found[cast(str, record.topic())].append(record)
    return found


def refusal(job: str, source: Source, error: PoisonError) -> RefusedRow:
    """The element that came from there, refused by the sink `job` for that reason."""
    record, element, raw = (source, None, source.value() or b"") if isinstance(source, Message) else source
    kind, timestamp = record.timestamp()
    origin = Origin(
        error.reason,
        error.detail,
        source=cast(str, record.topic()),
        offset=cast(int, record.offset()),
        partition=cast(int, record.partition()),
        element=element,
        timestamp=timestamp if kind else None,
        job=job,
    )
    return RefusedRow(raw, record.key(), origin)


def _decoder(table: Table) -> Decoder[Any]:
    decoder = table.topic.decoder()
    if decoder is None:
        raise ValueError(
            f"topic {table.topic.name} has no value type, so table {table.name} cannot make rows of its records"
        )
    return decoder
