"""Rows of archived events by tenant and time: DuckDB over Parquet files. Importing it takes half a second."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from consumers.archive_dataset import dataset, engine, translated
from consumers.archive_manifest import ArchivedFile

#: tenant_id, created_at (UTC), id, processing_time in ms, event_type, payload as text or None.
EventRow = tuple[int, dt.datetime, int, float, str, str | None]
#: A moment and an id: rows are in order of these.
Position = tuple[dt.datetime, int]

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_ORDERED = """
SELECT tenant_id, created_at, id, processing_time, event_type, payload FROM rows ORDER BY created_at, id LIMIT ?
"""
_time = ds.field("created_at")
_COLUMNS = {
    "tenant_id": ds.field("tenant_id"),
    "created_at": _time.cast(pa.int64()),  # microseconds: DuckDB makes no datetime without a library of time zones
    "id": ds.field("id"),
    "processing_time": ds.field("processing_time"),
    "event_type": ds.field("event_type"),
    "payload": ds.field("payload"),
}


class Rows:
    """Rows of one tenant from `start` to before `end`; those after `after`, and of one type, where that is given.

    Any number of threads may ask at once.
    """

    def __init__(self) -> None:
        self._engine = engine()

    def of(
        self,
        files: Sequence[ArchivedFile],
        tenant_id: int,
        start: dt.datetime,
        end: dt.datetime,
        limit: int,
        after: Position | None,
        event_type: str | None,
    ) -> list[EventRow]:
        """Of one month's files, of which a tenant's rows are in one of each part. In order, `limit` at most.

        Raises ArchiveUnavailableError and ArchiveDamagedError.
        """
        wanted = (ds.field("tenant_id") == tenant_id) & (_time >= _scalar(start)) & (_time < _scalar(end))
        if after is not None:
            wanted &= (_time > _scalar(after[0])) | (ds.field("id") > after[1])
        if event_type is not None:
            wanted &= ds.field("event_type") == event_type
        with translated(files[0].place), self._engine.cursor() as cursor:
            cursor.register("rows", dataset(files).scanner(columns=_COLUMNS, filter=wanted).to_reader())
            found: list[tuple[Any, ...]] = cursor.execute(_ORDERED, [limit]).fetchall()
        return [(tenant, _EPOCH + dt.timedelta(microseconds=at), *rest) for tenant, at, *rest in found]


def _scalar(at: dt.datetime) -> pa.Scalar:
    return pa.scalar(at, pa.timestamp("us", tz="UTC"))
