"""Archived events by tenant and time, out of the Parquet files that the manifest names."""

from __future__ import annotations

import datetime as dt
import itertools
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import psycopg

from weir.consumers.analytics.events import EventQuery, Part
from weir.consumers.analytics.sql import query
from weir.consumers.archive import manifest as archive_manifest
from weir.consumers.archive.manifest import ArchivedFile
from weir.consumers.archive.months import containing
from weir.consumers.links.tables import moment
from weir.infra import postgres
from weir.infra.config import Config
from weir.infra.errors import ArchiveUnavailableError, MissingExtraError, PostgresUnavailableError
from weir.infra.extras import require

if TYPE_CHECKING:
    from weir.consumers.archive.rows import EventRow, Position


class ArchiveReader:
    """Reads what is archived. Any number of threads may ask at once; every method but `part` blocks.

    It sees what has left Postgres by the time it is asked. Whoever merges its rows with those of `events` asks Postgres
    first, and asks this before that transaction ends: no partition goes meanwhile, so no row is in both answers or in
    neither. The files may be read later: those of a complete part are never deleted. Raises PostgresUnavailableError,
    ArchiveUnavailableError, and ArchiveDamagedError, which is one, for a file that is gone or not what was written.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
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

    async def part(
        self, connection: psycopg.AsyncConnection, tenant_id: int, wanted: EventQuery
    ) -> Callable[[], Part] | None:
        """Returns a function that reads a tenant's archived events, as `connection`'s transaction sees them; None if
        there are none.

        What is given blocks, and needs no connection.
        """
        start = wanted.start if wanted.after is None else max(wanted.start, wanted.after[0])
        parameters = {"tenant_id": tenant_id, "first": containing(start), "last": containing(wanted.end)}
        cursor = await connection.execute(query("archive_files"), parameters)
        files = [ArchivedFile(*row) for row in await cursor.fetchall()]
        return (lambda: read(files, tenant_id, wanted)) if files and start < wanted.end else None

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

        In order of (created_at, id), `limit` at most, and as many as a page may have bytes; those after `after`, a
        moment and an id, where it is given; of one type, or of any.
        """
        wanted = EventQuery(moment(start_ms), moment(end_ms), limit, event_type, after)
        start = wanted.start if after is None else max(wanted.start, after[0])
        if start >= wanted.end or limit < 1:
            return []
        found = read(self._files(tenant_id, start, wanted.end), tenant_id, wanted)
        return [(row[0], row[1], row[2], row[3], row[4], row[5]) for row in found.rows[:limit]]

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


def read(files: Sequence[ArchivedFile], tenant_id: int, wanted: EventQuery) -> Part:
    """A tenant's rows in files that are in order of their months: one more than `limit`, or up to `max_bytes`."""
    try:
        require("archive", "reading archived months")
    except MissingExtraError as e:
        raise ArchiveUnavailableError(str(e)) from e
    from weir.consumers.archive.rows import rows  # where nothing is archived, nobody pays for it

    start = wanted.start if wanted.after is None else max(wanted.start, wanted.after[0])
    found: list[EventRow] = []
    size = 0
    for _, group in itertools.groupby(files, lambda file: file.month):
        for row in rows(list(group), tenant_id, start, wanted.end, wanted.after, wanted.event_type):
            found.append(row)
            size += 0 if row[5] is None else len(row[5])
            if len(found) > wanted.limit or size > wanted.max_bytes:
                return Part(found, True)
    return Part(found, False)
