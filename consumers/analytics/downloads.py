"""Answers as files, written while they are read: CSV (RFC 4180) and Parquet."""

from __future__ import annotations

import csv
import datetime as dt
import io
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec

from weir.consumers.analytics.requests import Format, moment_text
from weir.consumers.analytics.rows import Daily, Event, Summary

#: Columns by their name, with their type in Parquet.
Columns = Mapping[str, str]

_FIGURES = {"sum": "double", "avg": "double", "min": "double", "max": "double",
            "p50": "double", "p95": "double", "p99": "double"}  # fmt: skip
#: In the order of the structs' fields.
COLUMNS: Mapping[type[msgspec.Struct], Columns] = {
    Daily: {"tenant_id": "int64", "day": "date32[day]", "events": "int64", **_FIGURES},
    Summary: {"tenant_id": "int64", "from": "date32[day]", "to": "date32[day]", "events": "int64", **_FIGURES},
    Event: {
        "tenant_id": "int64", "created_at": "timestamp[us, tz=UTC]", "id": "int64", "processing_time": "double",
        "event_type": "string", "payload": "string",
    },
}  # fmt: skip
#: A program that shows tables takes a text that begins so for a formula, and the ' is how it is told not to.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")

Row = msgspec.Struct
Pages = AsyncIterator[Sequence[Row]]


async def written(pages: Pages, kind: type[Row], form: Format) -> AsyncIterator[bytes]:
    """The pages' rows, all of one kind, as the bytes of a file. Holds one page at a time."""
    writer = _Csv(COLUMNS[kind]) if form is Format.CSV else _Parquet(COLUMNS[kind])
    async for page in pages:
        yield writer.page([_values(row) for row in page])
    yield writer.end()


def _values(row: Row) -> list[Any]:
    values = list(msgspec.structs.astuple(row))
    if isinstance(row, Event) and row.payload is not None:
        values[-1] = bytes(row.payload).decode()
    return values


class _Csv:
    def __init__(self, columns: Columns) -> None:
        self._text = io.StringIO(newline="")
        self._writer = csv.writer(self._text, lineterminator="\r\n")
        self._writer.writerow(columns)

    def page(self, rows: Sequence[Sequence[Any]]) -> bytes:
        self._writer.writerows([_cell(value) for value in row] for row in rows)
        return self.end()

    def end(self) -> bytes:
        text = self._text.getvalue()
        self._text.seek(0)
        self._text.truncate()
        return text.encode()


def _cell(value: object) -> object:
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_FORMULA) else value
    return moment_text(value) if isinstance(value, dt.datetime) else value


class _Parquet:
    """Parquet writer: each page is a row group, and about a kilobyte is kept per group for the footer."""

    def __init__(self, columns: Columns) -> None:
        import pyarrow  # it imports numpy: 0.2 s
        from pyarrow import parquet

        types = {"int64": pyarrow.int64(), "double": pyarrow.float64(), "string": pyarrow.string(),
                 "date32[day]": pyarrow.date32(), "timestamp[us, tz=UTC]": pyarrow.timestamp("us", "UTC")}  # fmt: skip
        self._arrow = pyarrow
        self._schema = pyarrow.schema([(name, types[kind]) for name, kind in columns.items()])
        self._file = _Outgoing()
        self._writer = parquet.ParquetWriter(self._file, self._schema, compression="zstd")

    def page(self, rows: Sequence[Sequence[Any]]) -> bytes:
        if rows:
            columns = [list(column) for column in zip(*rows, strict=True)]
            arrays = [self._arrow.array(column, kind) for column, kind in zip(columns, self._schema.types, strict=True)]
            self._writer.write_table(self._arrow.Table.from_arrays(arrays, schema=self._schema))
        return self._file.taken()

    def end(self) -> bytes:
        self._writer.close()
        return self._file.taken()


class _Outgoing(io.RawIOBase):
    """A file that is written to, whose bytes are taken away as they come."""

    def __init__(self) -> None:
        super().__init__()
        self._bytes = bytearray()
        self._written = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._written

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        self._bytes += data
        self._written += size
        return size

    def taken(self) -> bytes:
        data = bytes(self._bytes)
        self._bytes.clear()
        return data
