"""The months of table events: a partition for each, made before a row needs it."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable

import psycopg
from psycopg import sql

from infra import log
from infra.errors import PostgresUnavailableError

#: A month: its number since the year 0. 2026-01 is 24 312.
Month = int

#: So many months after the present one have a partition before anything is in them.
AHEAD = 3
#: Where a month's bounds are in what Postgres says of a partition; its session's time zone is UTC.
_BOUND = re.compile(r"FROM \('(\d{4})-(\d\d)-01 00:00:00\+00'\)")

_log = log.get(__name__)


def month_of(epoch_ms: int) -> Month:
    """The month in UTC of a time in epoch milliseconds.

    >>> month_of(0) == 1970 * 12
    True
    """
    moment = dt.datetime.fromtimestamp(epoch_ms // 1000, dt.UTC)
    return moment.year * 12 + moment.month - 1


def name_of(month: Month) -> str:
    """The name of a month's partition.

    >>> name_of(2026 * 12)
    'events_202601'
    """
    return f"events_{month // 12:04d}{month % 12 + 1:02d}"


def start_of(month: Month) -> str:
    """When a month begins, in UTC, as Postgres reads it.

    >>> start_of(2026 * 12 + 11)
    '2026-12-01 00:00:00+00'
    """
    return f"{month // 12:04d}-{month % 12 + 1:02d}-01 00:00:00+00"


def months(connection: psycopg.Connection) -> set[Month]:
    """The months that have a partition now. The session's time zone is UTC."""
    rows = connection.execute(
        "SELECT pg_get_expr(part.relpartbound, part.oid) FROM pg_inherits JOIN pg_class AS part ON part.oid = inhrelid"
        " WHERE inhparent = 'events'::regclass AND NOT inhdetachpending"
    ).fetchall()
    found = [_BOUND.search(bound) for (bound,) in rows]
    return {int(match[1]) * 12 + int(match[2]) - 1 for match in found if match}


def ensure_months(connection: psycopg.Connection, wanted: Iterable[Month]) -> list[str]:
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
            raise PostgresUnavailableError(f"{name_of(month)} cannot be attached yet: {e.diag.message_primary}") from e
    for name in made:
        _log.info("partition.made", partition=name)
    return made


def _make(connection: psycopg.Connection, month: Month) -> str:
    name = _free_name(connection, month)
    connection.execute(sql.SQL("CREATE TABLE {} (LIKE events INCLUDING DEFAULTS)").format(sql.Identifier(name)))
    connection.execute(
        sql.SQL("ALTER TABLE events ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
            sql.Identifier(name), start_of(month), start_of(month + 1)
        )
    )
    return name


def _free_name(connection: psycopg.Connection, month: Month) -> str:
    """The month's name; another where a table that was taken off still has it, whose rows must not come back."""
    name = name_of(month)
    number = 1
    while connection.execute("SELECT to_regclass(%s)", [name]).fetchone() != (None,):
        number += 1
        name = f"{name_of(month)}_{number}"
    return name
