"""The Postgres half of a sink: rows and the offsets they came from, stored in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

import psycopg
from psycopg import sql

from consumers.batch import Batch, Place
from consumers.tables import Row, Table
from infra import postgres
from infra.config import Config
from infra.errors import RetryableError

#: The server ends a session that has been silent this long: a sink that hangs makes room for the next in line. One
#: that lives asks something every two seconds. A lock that others hold is waited for only so long, so that the sink
#: can be stopped meanwhile.
_SESSION = {
    "idle_session_timeout": "10s",
    "idle_in_transaction_session_timeout": "10s",
    "lock_timeout": "2s",
    "statement_timeout": "60s",
}


class StandbyError(RetryableError):
    """Another instance of this sink is at work; this one stands by."""


class FencedError(RetryableError):
    """Another instance of this sink has stored these records."""


class SinkStore:
    """One session of one sink. Every method raises PostgresUnavailableError where Postgres cannot serve.

    Opening it takes the sink's lock for as long as the session lasts, and raises StandbyError where another session
    holds it. The lock only saves work: what keeps the rows right is that the offsets move from where this session
    knows them to be, or not at all.
    """

    def __init__(self, config: Config, sink: str, tables: Iterable[Table]) -> None:
        self._sink = sink
        self._tables = list(tables)
        self._merges = {table.name: _merge(table) for table in self._tables}
        self._connection = postgres.connect(config, f"weir-{sink}", _SESSION)
        try:
            with postgres.translated():
                self._lock()
                for table in self._tables:
                    self._connection.execute(_make_staging(table))
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> SinkStore:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def _lock(self) -> None:
        query = "SELECT pg_try_advisory_lock(hashtextextended(current_schema() || '/' || %s, 0))"
        row = self._connection.execute(query, [self._sink]).fetchone()
        if row != (True,):
            raise StandbyError(f"another {self._sink} is at work; this one stands by")

    def ping(self) -> None:
        """Asks for a sign of life, and gives one."""
        with postgres.translated():
            self._connection.execute("SELECT")

    def offsets(self, beginnings: Mapping[Place, int]) -> dict[Place, int]:
        """Where to go on in each of these places: as stored; one never read before starts at its beginning."""
        with postgres.translated(), self._connection.transaction():
            self._connection.execute(
                "INSERT INTO sink_offsets (sink, topic, partition, next_offset)"
                " SELECT %s, * FROM unnest(%s::text[], %s::int[], %s::bigint[]) ON CONFLICT DO NOTHING",
                [self._sink, *_columns(beginnings)],
            )
            stored = self._connection.execute(
                "SELECT topic, partition, next_offset FROM sink_offsets WHERE sink = %s", [self._sink]
            ).fetchall()
        found = {(topic, partition): offset for topic, partition, offset in stored}
        return {place: found[place] for place in beginnings}

    def write(
        self, batch: Batch, expected: Mapping[Place, int], before_commit: Callable[[], object] = lambda: None
    ) -> None:
        """Stores the batch, all of it or nothing; `before_commit` is called once all else is done.

        Raises FencedError where an offset is not the `expected` one: nothing is stored then.
        """
        with postgres.translated(), self._connection.transaction(), self._connection.cursor() as cursor:
            self._advance(cursor, batch.next_offsets, expected)
            for table in self._tables:
                if rows := batch.rows.get(table.name):
                    self._upsert(cursor, table, rows)
            before_commit()

    def _advance(
        self, cursor: psycopg.Cursor, next_offsets: Mapping[Place, int], expected: Mapping[Place, int]
    ) -> None:
        cursor.execute(
            "UPDATE sink_offsets AS stored SET next_offset = new.next_offset"
            " FROM unnest(%s::text[], %s::int[], %s::bigint[], %s::bigint[])"
            " AS new (topic, partition, next_offset, expected)"
            " WHERE stored.sink = %s AND (stored.topic, stored.partition) = (new.topic, new.partition)"
            " AND stored.next_offset = new.expected",
            [*_columns(next_offsets), [expected[place] for place in next_offsets], self._sink],
        )
        if cursor.rowcount != len(next_offsets):
            raise FencedError(f"another {self._sink} has stored these records")

    def _upsert(self, cursor: psycopg.Cursor, table: Table, rows: Mapping[Hashable, Row]) -> None:
        names = sql.SQL(", ").join(map(sql.Identifier, table.columns))
        copy = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(_staging(table), names)
        with cursor.copy(copy) as stream:
            stream.set_types(list(table.columns.values()))
            for row in rows.values():
                stream.write_row(row)
        cursor.execute(self._merges[table.name])


def _columns(offsets: Mapping[Place, int]) -> Sequence[list[str] | list[int]]:
    return [topic for topic, _ in offsets], [partition for _, partition in offsets], list(offsets.values())


def _staging(table: Table) -> sql.Identifier:
    return sql.Identifier("pg_temp", f"staging_{table.name}")


def _make_staging(table: Table) -> sql.Composed:
    return sql.SQL("CREATE TEMP TABLE {} (LIKE {}) ON COMMIT DELETE ROWS").format(
        sql.Identifier(f"staging_{table.name}"), sql.Identifier(table.name)
    )


def _merge(table: Table) -> sql.Composed:
    """From the staging table into the table itself: a row whose key is there already is replaced."""
    changing = [name for name in table.columns if name not in table.key]
    return sql.SQL(
        "INSERT INTO {table} ({names}) SELECT {names} FROM {staging} ON CONFLICT ({key}) DO UPDATE SET {changes}"
    ).format(
        table=sql.Identifier(table.name),
        staging=_staging(table),
        names=sql.SQL(", ").join(map(sql.Identifier, table.columns)),
        key=sql.SQL(", ").join(map(sql.Identifier, table.key)),
        changes=sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in changing),
    )
