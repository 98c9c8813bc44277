"""Rows of events as Parquet, and the checksum that tells whether what was written is what Postgres gave.

Postgres sends rows as lines of CSV, and their SHA-256 is taken from the bytes as they come. To verify a file its rows
are read back and written as the same lines: numbers as whole numbers (a moment in microseconds, a double as its 64
bits), texts in quotes. So every bit of every column counts, and the order, too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

#: As table events has them; `payload` is JSON.
SCHEMA = pa.schema(
    [
        pa.field("tenant_id", pa.int64(), nullable=False),
        pa.field("created_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("id", pa.int64(), nullable=False),
        pa.field("processing_time", pa.float64(), nullable=False),
        pa.field("event_type", pa.string(), nullable=False),
        pa.field("payload", pa.string()),
    ]
)
#: What COPY is asked for, in the same order; see `SCHEMA`.
COLUMNS = """tenant_id, (extract(epoch FROM created_at) * 1000000)::bigint, id,
 ('x' || encode(float8send(processing_time), 'hex'))::bit(64)::bigint, event_type, payload::text"""
COPY_OPTIONS = "(FORMAT csv, FORCE_QUOTE (event_type, payload), ENCODING 'UTF8')"
#: Bytes of lines that make one row group, some 70,000 rows: as much is held in memory.
GROUP_BYTES = 8 << 20

Bytes = bytes | bytearray | memoryview
_LINES = pa.schema([(f.name, f.type if pa.types.is_string(f.type) else pa.int64()) for f in SCHEMA])


@dataclass
class Content:
    """Checksums of rows: their number, the sum of their ids, and the SHA-256 of their lines."""

    rows: int = 0
    id_sum: int = 0
    sha: hashlib._Hash = field(default_factory=hashlib.sha256, repr=False)

    @property
    def checksum(self) -> str:
        """The checksum in hexadecimal."""
        return self.sha.hexdigest()

    def add(self, lines: bytes | pa.Buffer, ids: pa.Array) -> None:
        """Adds more rows, in order."""
        self.sha.update(lines)
        self.rows += len(ids)
        for part in ids.chunks if isinstance(ids, pa.ChunkedArray) else [ids]:
            numbers = part.to_numpy()  # the sum of many may be longer than 64 bits
            self.id_sum += (int(np.sum(numbers >> 32)) << 32) + int(np.sum(numbers & 0xFFFFFFFF))


def write(stream: pa.NativeFile, lines: Iterable[Bytes]) -> Content:
    """Writes a Parquet file of these lines, each a row; gives what they come to. Memory for one row group is held."""
    content = Content()
    with pq.ParquetWriter(
        stream,
        SCHEMA,
        compression="zstd",
        use_dictionary=["tenant_id", "event_type"],
        column_encoding={
            "created_at": "DELTA_BINARY_PACKED",
            "id": "DELTA_BINARY_PACKED",
            "processing_time": "BYTE_STREAM_SPLIT",
            "payload": "PLAIN",
        },
        write_statistics=["tenant_id", "created_at", "id", "event_type"],
        write_page_checksum=True,
        sorting_columns=pq.SortingColumn.from_ordering(
            SCHEMA, [("tenant_id", "ascending"), ("created_at", "ascending"), ("id", "ascending")]
        ),
    ) as writer:
        for block in _blocks(lines):
            table = _parsed(block)
            content.add(block, table["id"])
            writer.write_table(table, row_group_size=max(1, len(table)))
    return content


def read(stream: pa.NativeFile) -> Content:
    """Reads a Parquet file and returns the checksums of its rows. Raises pyarrow.ArrowException or OSError if it is
    damaged.
    """
    content = Content()
    file = pq.ParquetFile(stream, page_checksum_verification=True)
    if not file.schema_arrow.equals(SCHEMA):
        raise pa.ArrowInvalid("its columns are not those of events")
    for group in range(file.num_row_groups):  # one after the other: a batch over several may hold gigabytes of payload
        for batch in file.iter_batches(batch_size=1 << 16, row_groups=[group]):
            content.add(_lines(batch), batch.column("id"))
    return content


def _blocks(lines: Iterable[Bytes]) -> Iterator[bytes]:
    """Whole lines together, of `GROUP_BYTES` or a little more."""
    block: list[Bytes] = []
    size = 0
    for line in lines:
        block.append(line)
        size += len(line)
        if size >= GROUP_BYTES:
            yield b"".join(block)
            block, size = [], 0
    if block:
        yield b"".join(block)


def _parsed(block: bytes) -> pa.Table:
    table = pacsv.read_csv(
        pa.BufferReader(block),
        read_options=pacsv.ReadOptions(column_names=_LINES.names, block_size=len(block) + 1, use_threads=False),
        parse_options=pacsv.ParseOptions(newlines_in_values=True),
        convert_options=pacsv.ConvertOptions(
            column_types=_LINES, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
        ),
    ).combine_chunks()
    columns = [
        pa.chunked_array([chunk.view(wanted.type) for chunk in column.chunks], wanted.type)
        for column, wanted in zip(table.columns, SCHEMA, strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def _lines(batch: pa.RecordBatch) -> pa.Buffer:
    columns = [column.view(line.type) for column, line in zip(batch.columns, _LINES, strict=True)]
    out = pa.BufferOutputStream()
    pacsv.write_csv(pa.RecordBatch.from_arrays(columns, schema=_LINES), out, pacsv.WriteOptions(include_header=False))
    return out.getvalue()
