"""The months of table events: a partition for each, made before a row needs it."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable

import psycopg
from psycopg import sql

from weir.infra import log
from weir.infra.errors import PostgresUnavailableError

#: So many months after the present one have a partition before anything is in them.
AHEAD = 3
#: A partition's bounds as Postgres writes them; its session's time zone is UTC.
_BOUNDS = re.compile(r"FOR VALUES FROM \(.*\) TO \('([^']+)'\)")

_log = log.get_logger(__name__)


def month_of(epoch_ms: int) -> dt.date:
    """The month in UTC of a time in epoch milliseconds: its first day.

    >>> month_of(0)
    datetime.date(1970, 1, 1)
    """
    return dt.datetime.fromtimestamp(epoch_ms // 1000, dt.UTC).date().replace(day=1)


def following(month: dt.date) -> dt.date:
    """The first day of the next month.

    >>> following(dt.date(2025, 12, 1))
    datetime.date(2026, 1, 1)
    """
    return (month.replace(day=1) + dt.timedelta(days=32)).replace(day=1)


def coming(month: dt.date) -> list[dt.date]:
    """The month, and those after it that have a partition before anything is in them."""
    found = [month]
    for _ in range(AHEAD):
        found.append(following(found[-1]))
    return found


def partition(month: dt.date) -> str:
    """Returns the usual name of a month's partition, and of its folders in the archive.

    >>> partition(dt.date(2024, 1, 1))
    'events_202401'
    """
    return f"events_{month:%Y%m}"


def bounds(month: dt.date) -> str:
    """The bounds of its partition, as Postgres writes them in UTC.

    >>> bounds(dt.date(2023, 12, 1))
    "FOR VALUES FROM ('2023-12-01 00:00:00+00') TO ('2024-01-01 00:00:00+00')"
    """
    first, last = (f"{day.isoformat()} 00:00:00+00" for day in (month, following(month)))
    return f"FOR VALUES FROM ('{first}') TO ('{last}')"


def end_of(text: str) -> dt.datetime | None:
    """When the events of a partition with these bounds end; None where it has no end, or one after the year 9999.

    >>> end_of("FOR VALUES FROM (MINVALUE) TO ('2023-02-01 00:00:00+00')"), end_of("DEFAULT")
    (datetime.datetime(2023, 2, 1, 0, 0, tzinfo=datetime.timezone.utc), None)
    """
    match = _BOUNDS.fullmatch(text)
    try:
        return dt.datetime.fromisoformat(match[1]) if match else None
    except ValueError:
        return None


def month_between(text: str) -> dt.date | None:
    """The first day of the month whose partition has these bounds; None where they are not those of one month.

    >>> month_between(bounds(dt.date(2024, 1, 1))), month_between("DEFAULT")
    (datetime.date(2024, 1, 1), None)
    """
    end = end_of(text)
    if end is None or end.date() <= dt.date(1, 1, 31):
        return None
    month = (end.date() - dt.timedelta(days=1)).replace(day=1)
    return month if text == bounds(month) else None


def months(connection: psycopg.Connection) -> set[dt.date]:
    """The months that have a partition now. The session's time zone is UTC."""
    rows = connection.execute(
        "SELECT pg_get_expr(part.relpartbound, part.oid) FROM pg_inherits JOIN pg_class AS part ON part.oid = inhrelid"
        " WHERE inhparent = 'events'::regclass AND NOT inhdetachpending"
    ).fetchall()
    return {month for (bound,) in rows if (month := month_between(bound))}


def ensure_months(connection: psycopg.Connection, wanted: Iterable[dt.date]) -> list[str]:
    """Makes the partitions that are missing; returns their names. `connection` is in autocommit mode.

    Each is made beside the table and then attached, in one short transaction: nobody who reads or writes events waits
    for it, and a crash leaves nothing behind. Two that make the same one take turns. Raises PostgresUnavailableError
    where a month is just being taken off, and psycopg.Error.
    """
    made = []
    for month in sorted(set(wanted) - months(connection)):
        try:
            with connection.transaction():
                connection.execute(
                    "SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || '/event-partitions', 0))"
                )
                if month not in months(connection):
                    made.append(_make(connection, month))
        except psycopg.errors.InvalidObjectDefinition as e:  # its bounds are still another's
            raise PostgresUnavailableError(
                f"{partition(month)} cannot be attached yet: {e.diag.message_primary}"
            ) from e
    for name in made:
        _log.info("partition.made", partition=name)
    return made


def _make(connection: psycopg.Connection, month: dt.date) -> str:
    name = _free_name(connection, month)
    connection.execute(sql.SQL("CREATE TABLE {} (LIKE events INCLUDING DEFAULTS)").format(sql.Identifier(name)))
    connection.execute(
        sql.SQL("ALTER TABLE events ATTACH PARTITION {} {}").format(sql.Identifier(name), sql.SQL(bounds(month)))
    )
    return name


def _free_name(connection: psycopg.Connection, month: dt.date) -> str:
    """The month's name; another where a table that was taken off still has it, whose rows must not come back."""
    name = partition(month)
    number = 1
    while connection.execute("SELECT to_regclass(%s)", [name]).fetchone() != (None,):
        number += 1
        name = f"{partition(month)}_{number}"
    return name
