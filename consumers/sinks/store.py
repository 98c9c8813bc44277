"""The Postgres half of a sink: rows and the offsets they came from, stored in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import psycopg
from psycopg import sql

from weir.consumers.sinks import sql as sink_sql
from weir.consumers.sinks.batch import Batch, Place, RefusedRow, TableRows, refusal
from weir.consumers.sinks.rollups import roll_up
from weir.consumers.sinks.row_bisector import RowBisector
from weir.consumers.sinks.table import Conflict, Rollup, Table
from weir.infra import postgres
from weir.infra.config import Config
from weir.infra.errors import PoisonError, RetryableError

#: The server ends a session that has been silent this long: a sink that hangs makes room for the next in line. One
#: that lives asks something every two seconds. A lock that others hold is waited for only so long, so that the sink
#: can be stopped meanwhile.
_SESSION = {
    "idle_session_timeout": "10s",
    "idle_in_transaction_session_timeout": "10s",
    "lock_timeout": "2s",
    "statement_timeout": "60s",
}
#: So many refused elements are told of at a time.
_TOLD = 50_000


class StandbyError(RetryableError):
    """Another instance of this sink is at work; this one stands by."""


class OffsetConflictError(RetryableError):
    """Another instance of this sink has stored these records."""


class SinkStore:
    """One session of one sink. Every method raises PostgresUnavailableError where Postgres cannot serve.

    Opening it takes the sink's lock for as long as the session lasts, and raises StandbyError where another session
    holds it. The lock only saves work: what keeps the rows right is that the offsets move from where this session
    knows them to be, or not at all.
    """

    def __init__(self, config: Config, sink: str, tables: Iterable[Table]) -> None:
        self._sink = sink
        self._tables = {table.name: table for table in tables}
        self._merges = {t.name: sink_sql.merge(t.name, t.columns, t.key, t.conflict) for t in self._tables.values()
                        if t.conflict is not Conflict.APPEND}  # fmt: skip
        self._copies = {table.name: sink_sql.copied(table) for table in self._tables.values()}
        self._rolls_up = any(table.rollups for table in self._tables.values())
        self._connection = postgres.connect(config, f"weir-{sink}", _SESSION)
        try:
            with postgres.translated():
                self._lock()
                self._make_missing()
                for table in self._tables.values():
                    staged = [] if table.conflict is Conflict.APPEND else [(table.name, table.columns)]
                    for name, columns in [*staged, *((rollup.name, rollup.columns) for rollup in table.rollups)]:
                        self._connection.execute(sink_sql.make_staging(name, columns))
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

    def _make_missing(self) -> None:
        """Makes the tables of an app's sink, for which there is no migration."""
        for table in self._tables.values():
            declared: Sequence[Table | Rollup] = (table, *table.rollups)
            for each in declared:
                if self._connection.execute("SELECT to_regclass(quote_ident(%s))", [each.name]).fetchone() == (None,):
                    self._connection.execute(sink_sql.make(each.name, each.columns, each.key))

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

    def prepare(self, batch: Batch) -> None:
        """Looks at references, and does what the tables want done before rows are written; outside of a transaction.

        Rows whose references are not there become refused ones of the batch, and nothing is made for them.
        """
        with postgres.translated(), self._connection.cursor() as cursor:
            for name, part in batch.parts.items():
                if part.rows:
                    part = batch.parts[name] = self._screened(cursor, part, batch.refused)
                    if part.table.prepare is not None:
                        part.table.prepare(self._connection, part.rows)

    def write(
        self,
        batch: Batch,
        expected: Mapping[Place, int],
        before_commit: Callable[[Sequence[RefusedRow]], object] = lambda refused: None,
        bisector: RowBisector | None = None,
    ) -> list[RefusedRow]:
        """Stores a prepared batch, all of it or nothing; returns what was refused, of the batch and here.

        `before_commit` is given that, some at a time, once all else is done. With a `bisector`, rows that Postgres does
        not take are found, and refused. Raises OffsetConflictError where an offset is not the `expected` one, and
        DataRefusedError where Postgres does not take a row and there is no bisector: nothing is stored then.
        """
        refused = list(batch.refused)
        with postgres.translated(), self._connection.transaction(), self._connection.cursor() as cursor:
            self._advance(cursor, batch.next_offsets, expected)
            for name in self._tables:
                if (part := batch.parts.get(name)) and part.rows:
                    if bisector is None:
                        self._put(cursor, part)
                    else:
                        part = bisector.put(self._connection, part, partial(self._put_alone, cursor), refused)
                    for rollup, cells in zip(part.table.rollups, part.cells(), strict=True):
                        roll_up(cursor, rollup, cells)
            refused.sort(key=_in_order)
            for start in range(0, len(refused), _TOLD):
                before_commit(refused[start : start + _TOLD])
                cursor.execute("SELECT")  # many take longer than the server lets a transaction be silent
        return refused

    def _advance(
        self, cursor: psycopg.Cursor, next_offsets: Mapping[Place, int], expected: Mapping[Place, int]
    ) -> None:
        if self._rolls_up:
            # Batches of two partitions may add to one cell: all of the sink's offsets are held, not only these.
            cursor.execute(
                "SELECT FROM sink_offsets WHERE sink = %s ORDER BY topic, partition FOR UPDATE", [self._sink]
            )
        cursor.execute(
            "UPDATE sink_offsets AS stored SET next_offset = new.next_offset"
            " FROM unnest(%s::text[], %s::int[], %s::bigint[], %s::bigint[])"
            " AS new (topic, partition, next_offset, expected)"
            " WHERE stored.sink = %s AND (stored.topic, stored.partition) = (new.topic, new.partition)"
            " AND stored.next_offset = new.expected",
            [*_columns(next_offsets), [expected[place] for place in next_offsets], self._sink],
        )
        if cursor.rowcount != len(next_offsets):
            raise OffsetConflictError(f"another {self._sink} has stored these records")

    def _screened(self, cursor: psycopg.Cursor, part: TableRows, refused: list[RefusedRow]) -> TableRows:
        """The rows whose references are there; of a batch with many that are not, one question finds them all."""
        for reference in part.table.references:
            place = part.table.place(reference.column)
            values = {row[place] for row in part.rows}
            query = sink_sql.known(reference, part.table.columns[reference.column])
            missing = values - {value for (value,) in cursor.execute(query, [list(values)], binary=True)}
            if missing:
                lost = {n for n, row in enumerate(part.rows) if row[place] in missing}
                for n in sorted(lost):
                    error = PoisonError(reference.reason, reference.detail(part.rows[n][place]))
                    refused.append(refusal(self._sink, part.sources[n], error))
                part = part.without(lost)
        return part

    def _put(self, cursor: psycopg.Cursor, part: TableRows) -> None:
        table = part.table
        if not part.rows:
            return
        with cursor.copy(self._copies[table.name]) as stream:
            if (whole := part.copy()) is not None:
                stream.write(whole)
            else:
                stream.set_types(list(table.columns.values()))
                for row in table.standing(part.rows):
                    stream.write_row(row)
        if table.conflict is not Conflict.APPEND:
            cursor.execute(self._merges[table.name])

    def _put_alone(self, cursor: psycopg.Cursor, part: TableRows) -> None:
        """Stores one of several parts, and leaves the staging table empty."""
        self._put(cursor, part)
        if part.table.conflict is not Conflict.APPEND:
            cursor.execute(sql.SQL("TRUNCATE {}").format(sink_sql.staging(part.table.name)))


def _in_order(refused: RefusedRow) -> tuple[str, int, int, int]:
    origin = refused.origin
    return origin.source, origin.partition or 0, origin.offset, origin.element or 0


def _columns(offsets: Mapping[Place, int]) -> Sequence[list[str] | list[int]]:
    return [topic for topic, _ in offsets], [partition for _, partition in offsets], list(offsets.values())
