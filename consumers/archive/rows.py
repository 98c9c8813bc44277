"""Rows of archived events by tenant and time, out of Parquet files. Importing it takes half a second."""

from __future__ import annotations

import datetime as dt
import heapq
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.dataset as ds

from weir.consumers.archive.dataset import dataset, translated
from weir.consumers.archive.manifest import ArchivedFile

#: tenant_id, created_at (UTC), id, processing_time in ms, event_type, payload as text or None.
EventRow = tuple[int, dt.datetime, int, float, str, str | None]
#: A moment and an id: rows are in order of these.
Position = tuple[dt.datetime, int]

#: Rows that are decoded at a time, of one row group at most: 8 MB. Were batches read ahead, it would be by their rows,
#: and a thousand large ones are many row groups.
_BATCH, _AHEAD = 1_000, 0
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_time = ds.field("created_at")
_COLUMNS = {
    "tenant_id": ds.field("tenant_id"),
    "created_at": _time.cast(pa.int64()),  # microseconds: a datetime of these is made sooner
    "id": ds.field("id"),
    "processing_time": ds.field("processing_time"),
    "event_type": ds.field("event_type"),
    "payload": ds.field("payload"),
}


def rows(
    files: Sequence[ArchivedFile],
    tenant_id: int,
    start: dt.datetime,
    end: dt.datetime,
    after: Position | None,
    event_type: str | None,
) -> Iterator[EventRow]:
    """Returns one tenant's rows from `start` to before `end`, in order; after `after`, and of one type, where these are
    given.

    Of one month's files, of which a tenant's rows are in one of each part, in order there: they are merged as they are
    read, a few megabytes of each at a time. Raises ArchiveUnavailableError and ArchiveDamagedError.
    """
    wanted = (ds.field("tenant_id") == tenant_id) & (_time >= _scalar(start)) & (_time < _scalar(end))
    if after is not None:
        wanted &= (_time > _scalar(after[0])) | (ds.field("id") > after[1])
    if event_type is not None:
        wanted &= ds.field("event_type") == event_type
    yield from heapq.merge(*(_of(file, wanted) for file in files), key=lambda row: (row[1], row[2]))


def _of(file: ArchivedFile, wanted: ds.Expression) -> Iterator[EventRow]:
    with translated(f"{file.place}/{file.name}"):
        scanner = dataset([file], ahead=False).scanner(
            columns=_COLUMNS, filter=wanted, batch_size=_BATCH, batch_readahead=_AHEAD, fragment_readahead=1
        )
        for batch in scanner.to_batches():
            columns = [column.to_pylist() for column in batch.columns]
            for tenant, at, *rest in zip(*columns, strict=True):
                yield (tenant, _EPOCH + dt.timedelta(microseconds=at), *rest)


def _scalar(at: dt.datetime) -> pa.Scalar:
    return pa.scalar(at, pa.timestamp("us", tz="UTC"))
