"""Archived events by tenant and time: DuckDB over the Parquet files that the manifest names."""

from __future__ import annotations

import datetime as dt
import itertools
import threading
from collections.abc import Sequence
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.dataset as ds

from consumers import archive_manifest
from consumers.archive_dataset import dataset, engine, translated
from consumers.archive_manifest import ArchivedFile
from consumers.archive_months import containing
from consumers.link_tables import moment
from infra import postgres
from infra.config import Config
from infra.errors import PostgresUnavailableError

#: tenant_id, created_at (UTC), id, processing_time in ms, event_type, payload as text or None.
EventRow = tuple[int, dt.datetime, int, float, str, str | None]

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


class ArchiveReader:
    """Reads what is archived. Any number of threads may ask at once; every method blocks.

    It sees what has left Postgres by the time it is asked. Whoever merges its rows with those of `events` asks Postgres
    first, and asks this before that transaction ends: no partition goes meanwhile, so no row is in both answers or in
    neither. Raises PostgresUnavailableError, ArchiveUnavailableError, and ArchiveDamagedError, which is one, for a file
    that is gone or not what was written.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._engine = engine()
        self._lock = threading.Lock()
        self._connection: psycopg.Connection | None = None

    def close(self) -> None:
        """Ends the connection to Postgres; the next question opens another."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def months(self, connection: psycopg.Connection) -> list[dt.date]:
        """The first day of each month of which something is archived, as `connection`'s transaction sees it."""
        with postgres.translated():
            parts = archive_manifest.parts(connection)
        return sorted({part.month for part in parts if part.state == "complete"})

    def events(
        self,
        tenant_id: int,
        start_ms: int,
        end_ms: int,
        limit: int,
        after: tuple[dt.datetime, int] | None = None,
        event_type: str | None = None,
    ) -> list[EventRow]:
        """A tenant's archived events from `start_ms` to before `end_ms`, epoch milliseconds.

        In order of (created_at, id), `limit` at most; those after `after`, a moment and an id, where it is given; of
        one type, or of any.
        """
        start, end = moment(start_ms), moment(end_ms)
        if after is not None:
            start = max(start, after[0])
        if start >= end or limit < 1:
            return []
        wanted = (ds.field("tenant_id") == tenant_id) & (_time >= _scalar(start)) & (_time < _scalar(end))
        if after is not None:
            wanted &= (_time > _scalar(after[0])) | (ds.field("id") > after[1])
        if event_type is not None:
            wanted &= ds.field("event_type") == event_type
        found: list[EventRow] = []
        for _, files in itertools.groupby(self._files(tenant_id, start, end), lambda file: file.month):
            found += self._rows(list(files), wanted, limit - len(found))
            if len(found) >= limit:
                break
        return found

    def _files(self, tenant_id: int, start: dt.datetime, end: dt.datetime) -> list[ArchivedFile]:
        first, last = containing(start), containing(end)
        with self._lock:
            try:
                return self._asked(tenant_id, first, last)
            except PostgresUnavailableError:
                if self._connection is None:
                    raise
                self._connection.close()  # it may have broken while nobody asked
                self._connection = None
                return self._asked(tenant_id, first, last)

    def _asked(self, tenant_id: int, first: dt.date | None, last: dt.date | None) -> list[ArchivedFile]:
        if self._connection is None:
            self._connection = postgres.connect(self._config, "weir-archive-reader", {"statement_timeout": "10s"})
        with postgres.translated():
            return archive_manifest.complete_files(self._connection, tenant_id, first, last)

    def _rows(self, files: Sequence[ArchivedFile], wanted: ds.Expression, limit: int) -> list[EventRow]:
        """Of one month's files, of which a tenant's rows are in one of each part."""
        with translated(files[0].place), self._engine.cursor() as cursor:
            cursor.register("rows", dataset(files).scanner(columns=_COLUMNS, filter=wanted).to_reader())
            found: list[tuple[Any, ...]] = cursor.execute(_ORDERED, [limit]).fetchall()
        return [(tenant, _EPOCH + dt.timedelta(microseconds=at), *rest) for tenant, at, *rest in found]


def _scalar(at: dt.datetime) -> pa.Scalar:
    return pa.scalar(at, pa.timestamp("us", tz="UTC"))
