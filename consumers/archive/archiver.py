"""Months of events out of Postgres and into the archive: written, verified, recorded, and only then dropped.

A month stays attached to `events` until its rows are in verified files. Then one transaction detaches and drops the
partition and marks the files complete: no statement sees the rows in both places or in neither. How, and what a reader
has to do for it, is in docs/adr/0012-archive.md.
"""

from __future__ import annotations

import datetime as dt
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import psycopg
import pyarrow as pa
from psycopg import sql

from weir.consumers.archive import files as archive_files
from weir.consumers.archive import manifest as archive_manifest
from weir.consumers.archive.files import COLUMNS, COPY_OPTIONS, Content
from weir.consumers.archive.manifest import ArchivedFile, ArchivePart
from weir.consumers.archive.storage import ArchiveStorage, check, one_line
from weir.consumers.sinks import partitions
from weir.infra import log, postgres
from weir.infra.config import Config
from weir.infra.errors import ArchiveDamagedError, RetryableError, WeirError

#: Rows of one file, at most: unless they are of one tenant, whose rows are in one file.
FILE_ROWS = 1_000_000
#: How often a month is written that late events change meanwhile.
_ATTEMPTS = 3
#: How long the last step is tried, seconds, and waits for those who use the partition or all of events: while it waits
#: others wait for it. The first is longer than Postgres's deadlock_timeout, after which a vacuum gives way.
_PATIENCE_S = 60.0
_PARTITION_LOCK, _EVENTS_LOCK = "1500ms", "500ms"
#: A file's rows are sorted in memory where they fit. A month takes as long as it takes, whatever others are granted.
_SESSION = {
    "work_mem": "256MB",
    "jit": "off",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
}
#: Where a run may be made to crash by a test.
STEPS = ("empty", "begun", "file", "written", "read-back", "verified", "before-commit", "complete", "discard")

_IN_THE_WAY = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)
_log = log.get_logger(__name__)


class ArchiveBusyError(RetryableError):
    """Another `weir archive` is at work."""


@dataclass(frozen=True)
class Month:
    """A partition that is old enough: its table's name, about how many rows it has (None: not known), and its bytes
    with indexes.
    """

    month: dt.date
    partition: str
    rows: int | None
    bytes: int


@dataclass(frozen=True)
class Archived:
    """Result of archiving one month: its rows, and the number of its files with their total bytes. All are 0 for an
    empty month.
    """

    rows: int = 0
    files: int = 0
    bytes: int = 0


class Archiver:
    """One run of the archiver. Holds the archive's lock until it is closed.

    `place` is the archive's address. Every method raises PostgresUnavailableError and ArchiveUnavailableError; making
    it raises ArchiveBusyError where another run has the lock. `reached` is called at each of `STEPS`.
    """

    def __init__(
        self,
        config: Config,
        place: str,
        reached: Callable[[str], object] = lambda step: None,
        file_rows: int = FILE_ROWS,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        self._place, self._reached, self._file_rows, self._patience_s = place, reached, file_rows, patience_s
        self._config = config
        self._connection = self._opened()

    def _opened(self) -> psycopg.Connection:
        """A connection that holds the archive's lock."""
        connection = postgres.connect(self._config, "weir-archive", _SESSION)
        try:
            with postgres.translated():
                if connection.info.server_version >= 170000:  # older ones do not know it
                    connection.execute("SET transaction_timeout = 0")
                query = "SELECT pg_try_advisory_lock(hashtextextended(current_schema() || '/archive', 0))"
                if connection.execute(query).fetchone() != (True,):
                    raise ArchiveBusyError
        except BaseException:
            connection.close()
            raise
        return connection

    def __enter__(self) -> Archiver:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def go_on(self) -> None:
        """After an error: connects again if Postgres has ended the connection, and waits for it to come back.

        Raises PostgresUnavailableError and ArchiveBusyError once that took too long.
        """
        deadline = time.monotonic() + self._patience_s
        while self._connection.closed:
            try:
                self._connection = self._opened()
            except RetryableError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(1.0)

    def reach(self) -> None:
        """After a month that failed: raises ArchiveUnavailableError where the archive is away, so every month would.

        One that does not permit to ask for it as a whole is not away.
        """
        ArchiveStorage(self._place).reach()

    def due(self, before: dt.datetime) -> tuple[list[Month], list[str]]:
        """The months in Postgres that ended by then, oldest first; and the partitions that did, and are not one month
        each: why these cannot be archived.
        """
        found, others = [], []
        for name, tuples, size, bounds in self._partitions():
            end = partitions.end_of(bounds)
            if end is None or end > before:
                continue
            month = partitions.month_between(bounds)
            if month is None:
                others.append(f"{name} is not the partition of one month, it is {bounds}")
            else:
                found.append(Month(month, name, tuples, size))
        return sorted(found, key=lambda month: month.month), others

    def _partitions(self) -> list[tuple[str, int | None, int, str]]:
        """Name, about how many rows, bytes, and bounds of each."""
        with postgres.translated():
            return self._connection.execute(
                "SELECT c.relname, nullif(c.reltuples, -1)::bigint, pg_total_relation_size(c.oid),"
                " pg_get_expr(c.relpartbound, c.oid)"
                " FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid"
                " WHERE i.inhparent = 'events'::regclass ORDER BY c.relname"
            ).fetchall()

    def archive(self, month: dt.date) -> Archived:
        """Archives one month, or completes what an earlier run has begun. An empty partition is just dropped.

        Raises WeirError where there is no such partition, or what was read back is not what Postgres gave, and
        ArchiveBusyError where late events or a long query of others kept it from the last step: all rows are in
        Postgres then.
        """
        wanted = partitions.bounds(month)
        names = [name for name, _, _, bounds in self._partitions() if bounds == wanted]
        if not names:
            raise WeirError(f"table events has no partition of {month:%Y-%m}; `weir archive` lists those that are due")
        with postgres.translated():
            part = archive_manifest.unfinished(self._connection, month)
        for _ in range(_ATTEMPTS):
            if part is not None and not self._is_there(part):
                self._discard(part)
                part = None
            if part is None and not self._is_empty(names[0]):
                part = self._written(month, names[0])
            elif part is None:
                self._reached("empty")
            if self._moved(names[0], part):
                if part is None:
                    return Archived()
                with postgres.translated():
                    files = archive_manifest.files_of(self._connection, part)
                return Archived(part.rows, len(files), sum(file.bytes for file in files))
            _log.info("archive.changed", partition=names[0])
            if part is not None:
                self._discard(part)
                part = None
        raise ArchiveBusyError(
            f"{names[0]} got late events {_ATTEMPTS} times while it was archived, and stays in Postgres"
        )

    def _is_empty(self, name: str) -> bool:
        with postgres.translated():
            query = sql.SQL("SELECT FROM {} LIMIT 1").format(sql.Identifier(name))
            return self._connection.execute(query).fetchone() is None

    def _is_there(self, part: ArchivePart) -> bool:
        """Whether all of an earlier run's part was verified, and is as it was."""
        if part.state != "verified" or not part.rows:
            return False
        with postgres.translated():
            files = archive_manifest.files_of(self._connection, part)
        try:
            check(files)
        except ArchiveDamagedError as e:
            _log.warning("archive.damaged", error=str(e))
            return False
        return True

    def _discard(self, part: ArchivePart) -> None:
        """The files first: while the manifest knows their folder they can be found."""
        removed = ArchiveStorage(part.place).clear()
        self._reached("discard")
        with postgres.translated():
            archive_manifest.forget(self._connection, part)
        _log.info("archive.discarded", place=part.place, files=removed)

    def _written(self, month: dt.date, name: str) -> ArchivePart:
        """A new part with all rows of the month, in files that were read back."""
        folder = f"{self._place}/{partitions.partition(month)}/{uuid.uuid4().hex}"
        with postgres.translated():
            part = archive_manifest.begin(self._connection, month, folder)
        self._reached("begun")
        place = ArchiveStorage(folder)
        contents: list[tuple[ArchivedFile, Content]] = []
        with postgres.translated(), self._connection.transaction():
            # One moment for all files, whose lock keeps others from dropping the table, and nobody from anything else.
            self._connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            for first, last in self._ranges(name):
                contents.append(self._file(place, part, name, first, last))
                self._reached("file")
        self._reached("written")
        for file, content in contents:
            with place.reading(file.name) as stream:
                found = archive_files.read(stream)
            if (found.rows, found.id_sum, found.checksum) != (content.rows, content.id_sum, content.checksum):
                raise WeirError(
                    f"{folder}/{file.name} does not hold the rows that Postgres sent ({found.rows} of {content.rows}): "
                    f"nothing was dropped"
                )
        self._reached("read-back")
        with postgres.translated(), self._connection.transaction():
            part = archive_manifest.verified(
                self._connection, part, [file for file, _ in contents], sum(content.id_sum for _, content in contents)
            )
        self._reached("verified")
        return part

    def _ranges(self, name: str) -> Iterator[tuple[int, int]]:
        """First and last tenant of each file."""
        query = sql.SQL("SELECT tenant_id, count(*) FROM {} GROUP BY tenant_id ORDER BY tenant_id")
        tenants = self._connection.execute(query.format(sql.Identifier(name))).fetchall()
        return iter(ranges(tenants, self._file_rows))

    def _file(
        self, place: ArchiveStorage, part: ArchivePart, partition: str, first: int, last: int
    ) -> tuple[ArchivedFile, Content]:
        name = f"tenants-{first}-{last}.parquet"
        copy = sql.SQL(
            "COPY (SELECT {columns} FROM {table} WHERE tenant_id BETWEEN {first} AND {last}"
            " ORDER BY tenant_id, created_at, id) TO STDOUT {options}"
        ).format(
            columns=sql.SQL(COLUMNS),
            table=sql.Identifier(partition),
            first=sql.Literal(first),
            last=sql.Literal(last),
            options=sql.SQL(COPY_OPTIONS),
        )
        try:
            with self._connection.cursor() as cursor, place.writing(name) as stream, cursor.copy(copy) as lines:
                content = archive_files.write(stream, lines)
        except pa.ArrowException as e:
            raise WeirError(f"{place.url}/{name} cannot hold the rows that Postgres sent: {one_line(e)}") from e
        [size] = place.sizes([name])
        file = ArchivedFile(
            part.place, name, part.month, part.part, first, last, content.rows, size or 0, content.checksum
        )
        return file, content

    def _moved(self, partition: str, part: ArchivePart | None) -> bool:
        """The last step: the partition goes and the files stand for it, or nothing if it is empty.

        False where its rows have changed since.
        """
        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                with postgres.translated():
                    moved = self._try_to_move(partition, part)
            except WeirError as e:
                if not isinstance(e.__cause__, _IN_THE_WAY):
                    raise
                if time.monotonic() > deadline:
                    raise ArchiveBusyError(
                        f"{partition} is {'written and verified' if part else 'empty'}, but others use events all the "
                        "time; the next `weir archive` drops it"
                    ) from e
                time.sleep(1.0)  # let those pass who waited behind this
                continue
            if moved:
                self._reached("complete")
            return moved

    def _try_to_move(self, partition: str, part: ArchivePart | None) -> bool:
        table = sql.Identifier(partition)
        with self._connection.transaction():
            self._connection.execute(f"SET LOCAL lock_timeout = '{_PARTITION_LOCK}'")
            # From here on late events for this month wait, and nothing else does.
            self._connection.execute(sql.SQL("LOCK TABLE {} IN SHARE MODE").format(table))
            now = self._connection.execute(
                sql.SQL("SELECT count(*), coalesce(sum(id), 0) FROM {}").format(table)
            ).fetchone()
            if now != ((part.rows, part.id_sum) if part is not None else (0, 0)):
                return False
            # Whoever has read events in a transaction that goes on is waited for: it has not asked the manifest yet.
            self._connection.execute(f"SET LOCAL lock_timeout = '{_EVENTS_LOCK}'")
            self._connection.execute("LOCK TABLE ONLY events IN ACCESS EXCLUSIVE MODE")
            self._connection.execute(sql.SQL("ALTER TABLE events DETACH PARTITION {}").format(table))
            self._connection.execute(sql.SQL("DROP TABLE {}").format(table))
            if part is not None:
                archive_manifest.complete(self._connection, part)
            self._reached("before-commit")
        return True


def ranges(tenants: Sequence[tuple[int, int]], most: int) -> list[tuple[int, int]]:
    """Tenants, each with its number of rows and in order, cut into ranges of `most` rows at most.

    A tenant with more has a range of its own.

    >>> ranges([(1, 4), (2, 5), (5, 30), (6, 1)], 10)
    [(1, 2), (5, 5), (6, 6)]
    """
    found: list[tuple[int, int]] = []
    held = most
    for tenant, rows in tenants:
        if found and held + rows <= most:
            found[-1] = (found[-1][0], tenant)
            held += rows
        else:
            found.append((tenant, tenant))
            held = rows
    return found
