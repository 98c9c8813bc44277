"""The manifest: which months of events are archived, in which files, and how far an unfinished one has come."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

_PARTS = "SELECT month, part, place, state, rows, id_sum FROM archive_parts"
_FILES = """
SELECT p.place, f.name, f.month, f.part, f.first_tenant, f.last_tenant, f.rows, f.bytes, f.checksum
FROM archive_files AS f JOIN archive_parts AS p USING (month, part)
"""


@dataclass(frozen=True)
class ArchivePart:
    """One month's events, or those of it that came after the parts before. `state`: writing, verified or complete."""

    month: dt.date
    part: int
    place: str
    state: str
    rows: int = 0
    id_sum: int = 0


@dataclass(frozen=True)
class ArchivedFile:
    """One Parquet file: its folder's address, and what is in it."""

    place: str
    name: str
    month: dt.date
    part: int
    first_tenant: int
    last_tenant: int
    rows: int
    bytes: int
    checksum: str


def parts(connection: psycopg.Connection) -> list[ArchivePart]:
    """Returns all parts of the archive, oldest month first."""
    rows = connection.execute(f"{_PARTS} ORDER BY month, part").fetchall()
    return [_part(row) for row in rows]


def unfinished(connection: psycopg.Connection, month: dt.date) -> ArchivePart | None:
    """The month's part that a run began and did not complete."""
    row = connection.execute(f"{_PARTS} WHERE month = %s AND state <> 'complete'", [month]).fetchone()
    return None if row is None else _part(row)


def _part(row: Sequence[Any]) -> ArchivePart:
    month, part, place, state, rows, id_sum = row
    return ArchivePart(month, part, place, state, rows, int(id_sum))


def files_of(connection: psycopg.Connection, part: ArchivePart) -> list[ArchivedFile]:
    """The files of one part in order of their tenants, whatever its state."""
    query = f"{_FILES} WHERE f.month = %s AND f.part = %s ORDER BY f.first_tenant"
    return [ArchivedFile(*row) for row in connection.execute(query, [part.month, part.part]).fetchall()]


def complete_files(
    connection: psycopg.Connection,
    tenant: int | None = None,
    first: dt.date | None = None,
    last: dt.date | None = None,
) -> list[ArchivedFile]:
    """The files that stand for what Postgres has no longer, by month: those that can hold the tenant's events (None:
    anyone's) of the months from `first` to `last`, both included (None: without an end).
    """
    query = f"""{_FILES} WHERE p.state = 'complete'
     AND (%(tenant)s::bigint IS NULL OR %(tenant)s::bigint BETWEEN f.first_tenant AND f.last_tenant)
     AND (%(first)s::date IS NULL OR f.month >= %(first)s::date)
     AND (%(last)s::date IS NULL OR f.month <= %(last)s::date)
     ORDER BY f.month, f.part, f.first_tenant"""
    rows = connection.execute(query, {"tenant": tenant, "first": first, "last": last}).fetchall()
    return [ArchivedFile(*row) for row in rows]


def begin(connection: psycopg.Connection, month: dt.date, place: str) -> ArchivePart:
    """A new part of the month, of which nothing is written yet; `place` is its folder."""
    row = connection.execute(
        "INSERT INTO archive_parts (month, part, place, state)"
        " SELECT %s, coalesce(max(part), 0) + 1, %s, 'writing' FROM archive_parts WHERE month = %s RETURNING part",
        [month, place, month],
    ).fetchone()
    assert row is not None
    return ArchivePart(month, row[0], place, "writing")


def verified(
    connection: psycopg.Connection, part: ArchivePart, files: Sequence[ArchivedFile], id_sum: int
) -> ArchivePart:
    """Records what was written and verified: in one transaction, which the caller has begun."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO archive_files (month, part, first_tenant, last_tenant, name, rows, bytes, checksum)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
            [
                (f.month, f.part, f.first_tenant, f.last_tenant, f.name, f.rows, f.bytes, f.checksum)
                for f in files
            ],
        )  # fmt: skip
    rows = sum(file.rows for file in files)
    connection.execute(
        "UPDATE archive_parts SET state = 'verified', verified_at = now(), rows = %s, id_sum = %s"
        " WHERE month = %s AND part = %s AND state = 'writing'",
        [rows, id_sum, part.month, part.part],
    )
    return ArchivePart(part.month, part.part, part.place, "verified", rows, id_sum)


def complete(connection: psycopg.Connection, part: ArchivePart) -> None:
    """Marks the part as complete, in the transaction that drops its rows: its files stand for them from now on."""
    connection.execute(
        "UPDATE archive_parts SET state = 'complete', completed_at = now() WHERE month = %s AND part = %s",
        [part.month, part.part],
    )


def forget(connection: psycopg.Connection, part: ArchivePart) -> None:
    """Removes a part that is not complete, once its files are gone."""
    connection.execute(
        "DELETE FROM archive_parts WHERE month = %s AND part = %s AND state <> 'complete'", [part.month, part.part]
    )
