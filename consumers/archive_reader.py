"""Archived events by tenant and time, out of the Parquet files that the manifest names."""

from __future__ import annotations

import datetime as dt
import itertools
import threading
from typing import TYPE_CHECKING

import psycopg

from consumers import archive_manifest
from consumers.archive_manifest import ArchivedFile
from consumers.archive_months import containing
from consumers.link_tables import moment
from infra import postgres
from infra.config import Config
from infra.errors import PostgresUnavailableError

if TYPE_CHECKING:
    from consumers.archive_rows import EventRow, Position, Rows


class ArchiveReader:
    """Reads what is archived. Any number of threads may ask at once; every method blocks.

    It sees what has left Postgres by the time it is asked. Whoever merges its rows with those of `events` asks Postgres
    first, and asks this before that transaction ends: no partition goes meanwhile, so no row is in both answers or in
    neither. Raises PostgresUnavailableError, ArchiveUnavailableError, and ArchiveDamagedError, which is one, for a file
    that is gone or not what was written.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._made: Rows | None = None
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
        after: Position | None = None,
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
        found: list[EventRow] = []
        for _, files in itertools.groupby(self._files(tenant_id, start, end), lambda file: file.month):
            found += self._rows().of(list(files), tenant_id, start, end, limit - len(found), after, event_type)
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

    def _rows(self) -> Rows:
        """What reads files. It is loaded with the first of them: where nothing is archived, nobody pays for it."""
        from consumers.archive_rows import Rows

        with self._lock:
            if self._made is None:
                self._made = Rows()
            return self._made
