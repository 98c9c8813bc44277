"""Fills the tables of the tenants' analytics with events of many months, for benchmarks/analytics_query.py."""

from __future__ import annotations

import datetime as dt
import itertools
import sys
import time

import numpy
import psycopg
from datasketches import kll_floats_sketch
from psycopg import sql

from weir.infra import postgres
from weir.infra.config import Config

_EVENTS = """
INSERT INTO {partition} (tenant_id, created_at, processing_time, event_type, payload)
SELECT
    1 + floor(random() * {tenants})::bigint,
    {start}::timestamptz + ({end}::timestamptz - {start}::timestamptz) * (i::double precision / {rows}),
    round((exp(3 + random_normal()) * 1000)::numeric)::double precision / 1000,
    (ARRAY['login', 'logout', 'page_view', 'purchase', 'search'])[1 + (random() * 4)::int],
    jsonb_build_object('page', (random() * 1000)::int, 'ok', random() < 0.99)
FROM generate_series(0, {rows} - 1) AS i
"""
_GROUPS = """
SELECT tenant_id, (created_at AT TIME ZONE 'UTC')::date, count(*), sum(us), min(us), max(us), array_agg(us::real)
FROM (SELECT tenant_id, created_at, round(processing_time * 1000)::bigint AS us FROM {partition}) AS e
GROUP BY 1, 2
"""
_ARRAY = numpy.dtype([("length", ">i4"), ("value", ">f4")])
#: What stands before the elements of a binary array of one dimension.
_ARRAY_HEAD = 20

Month = tuple[dt.date, dt.date]


def months_from(first: dt.date, count: int) -> list[Month]:
    """So many months, each with the first day of the next.

    >>> months_from(dt.date(2024, 12, 1), 2)[-1]
    (datetime.date(2025, 1, 1), datetime.date(2025, 2, 1))
    """
    starts = [
        dt.date(first.year + (first.month - 1 + n) // 12, (first.month - 1 + n) % 12 + 1, 1) for n in range(count + 1)
    ]
    return list(itertools.pairwise(starts))


def fill(config: Config, rows: int, tenants: int, months: list[Month]) -> None:
    """Makes and fills tenants (every fifth on the plan enterprise), events, tenant_daily and plain_events."""
    postgres.migrate(config)
    with psycopg.connect(config.dsn, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO tenants (id, plan) SELECT i, CASE WHEN i % 5 = 0 THEN 'enterprise' ELSE 'free' END"
            f" FROM generate_series(1, {tenants}) AS i"
        )
        indexes = "SELECT indexdef FROM pg_indexes WHERE indexname = 'events_by_tenant'"
        [(index,)] = connection.execute(indexes).fetchall()
        connection.execute("DROP INDEX events_by_tenant")
        connection.execute(
            "CREATE UNLOGGED TABLE plain_events (id bigint NOT NULL, tenant_id bigint NOT NULL,"
            " created_at timestamptz NOT NULL, processing_time double precision NOT NULL,"
            " event_type text NOT NULL, payload jsonb)"
        )
        begun = time.monotonic()
        for number, month in enumerate(months):
            _month(connection, rows // len(months), tenants, month)
            print(f"{month[0]:%Y-%m}, {number + 1} of {len(months)}: {time.monotonic() - begun:.0f} s", file=sys.stderr)
        connection.execute(index.replace(" ON ONLY ", " ON "))
        connection.execute("ALTER TABLE plain_events ADD PRIMARY KEY (id)")
        connection.execute("VACUUM (FREEZE, ANALYZE)")


def _month(connection: psycopg.Connection, rows: int, tenants: int, month: Month) -> None:
    start, end = month
    partition = f"events_{start:%Y%m}"
    name = sql.Identifier(partition)
    made = sql.SQL("CREATE TABLE {} PARTITION OF events FOR VALUES FROM ({}) TO ({})")
    with connection.transaction():  # what is filled where it is made needs no write-ahead log
        connection.execute(made.format(name, str(start), str(end)))
        connection.execute(
            sql.SQL(_EVENTS).format(partition=name, tenants=tenants, rows=rows, start=str(start), end=str(end))
        )
    connection.execute(
        sql.SQL(
            "INSERT INTO plain_events (id, tenant_id, created_at, processing_time, event_type, payload)"
            " SELECT id, tenant_id, created_at, processing_time, event_type, payload FROM {}"
        ).format(name)
    )
    _rollup(connection, partition)
    connection.execute(
        "INSERT INTO tenant_daily_versions (day, version) SELECT day::date, 1"
        " FROM generate_series(%s::date, %s::date - 1, '1 day') AS day",
        [start, end],
    )


def _rollup(connection: psycopg.Connection, partition: str) -> None:
    """tenant_daily of one month, its sketches made of the values."""
    with connection.cursor(binary=True) as cursor:
        cursor.adapters.register_loader(cursor.adapters.types["float4"].array_oid, _Raw)
        cursor.execute(sql.SQL(_GROUPS).format(partition=sql.Identifier(partition)))
        groups = cursor.fetchall()
    groups.sort(key=lambda group: (group[1], group[0]))
    with connection.cursor().copy(
        "COPY tenant_daily (tenant_id, day, events, sum_us, min_us, max_us, sketch) FROM STDIN (FORMAT binary)"
    ) as copy:
        copy.set_types(["int8", "date", "int8", "numeric", "int8", "int8", "bytea"])
        for tenant_id, day, events, sum_us, min_us, max_us, values in groups:
            sketch = kll_floats_sketch(200)
            sketch.update(numpy.frombuffer(values, _ARRAY, offset=_ARRAY_HEAD)["value"].astype(numpy.float32))
            copy.write_row((tenant_id, day, events, sum_us, min_us, max_us, sketch.serialize()))


class _Raw(psycopg.adapt.Loader):
    format = psycopg.pq.Format.BINARY

    def load(self, data: psycopg.abc.Buffer) -> bytes:
        return bytes(data)
