"""Measures a BRIN index on the tenants' events: its gain and its cost, beside the B-tree and in its place.

    python -m benchmarks.analytics_brin [--rows 10000000] [--tenants 1000] [--batch 50000] [--late 0 0.01] [--rounds 5]

An embedded Postgres of its own, in a temporary folder that it deletes. `events` gets the rows as the sink stores them:
in order of time, within five seconds, over one month, sorted by tenant within each batch; and once for each `--late`
that share of them late, by up to 60 days. Each table is asked under each of `INDEXES`; those that do not belong there
are dropped in a transaction that is rolled back, so they take turns round by round:

- one tenant's events of a day, `consumers/analytics/sql/events.sql`: the first 100, and all; the month's first 100;
- how many events all tenants had in an hour and in a day, and their sum: bounded by nothing but the time;
- one file of the archive, a tenth of the tenants, as `weir archive` reads it.

In milliseconds, the median of the rounds, warm; `cold` is the first time after a restart (see `analytics_query`).
Then a million rows are written by binary COPY, a batch each, into the empty table under each of `INDEXES`, in turn:
rows/s, their share of those with the B-tree alone, and the milliseconds that `brin_summarize_new_values` takes
afterwards, which autovacuum does in life.
"""

from __future__ import annotations

import argparse
import datetime as dt
import itertools
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import truediv
from pathlib import Path

import psycopg
from psycopg import sql

from benchmarks.analytics_query import prepare, restarted
from weir.consumers.analytics.sql import query
from weir.consumers.archive.files import COLUMNS, COPY_OPTIONS
from weir.infra import postgres
from weir.infra.config import Config, load
from weir.infra.ports import free_ports
from weir.infra.servers.postgres import PostgresServer
from weir.infra.servers.server import running

MONTH = (dt.datetime(2025, 3, 1, tzinfo=dt.UTC), dt.datetime(2025, 4, 1, tzinfo=dt.UTC))
#: The months that late events are of, and the one that all questions are about.
STARTS = (dt.date(2024, 12, 1), dt.date(2025, 1, 1), dt.date(2025, 2, 1), dt.date(2025, 3, 1), dt.date(2025, 4, 1))
BTREE = "events_by_tenant"
#: What stands beside the B-tree, by name. `tenant` stands in its place: a batch is sorted by tenant.
BRINS = {
    "minmax": "USING brin (created_at)",
    "minmax32": "USING brin (created_at) WITH (pages_per_range = 32)",
    "multi": "USING brin (created_at timestamptz_minmax_multi_ops)",
    "tenant": "USING brin (tenant_id, created_at) WITH (pages_per_range = 8)",
}
INDEXES = {"btree": [BTREE], **{name: [BTREE, name] for name in ("minmax", "minmax32", "multi")}, "tenant": ["tenant"]}
#: Rows that are written to see what an index costs.
WRITTEN = 1_000_000
FIELDS = "tenant_id, created_at, processing_time, event_type, payload"
#: One batch, in the order in which the sink writes it.
_BATCH = """
INSERT INTO events (tenant_id, created_at, processing_time, event_type, payload)
SELECT
    1 + floor(random() * %(tenants)s)::bigint AS tenant,
    greatest(%(oldest)s, %(start)s + (%(end)s - %(start)s) * (i::double precision / %(rows)s) - make_interval(
        secs => random() * CASE WHEN random() < %(late)s THEN 60 * 86400 ELSE 5 END)) AS created_at,
    round((exp(3 + random_normal()) * 1000)::numeric)::double precision / 1000,
    (ARRAY['login', 'logout', 'page_view', 'purchase', 'search'])[1 + (random() * 4)::int],
    jsonb_build_object('page', (random() * 1000)::int, 'ok', random() < 0.99)
FROM generate_series(%(first)s::bigint, %(first)s::bigint + %(batch)s - 1) AS i
ORDER BY tenant
"""
_ALL = "SELECT count(*), sum(processing_time) FROM events WHERE created_at >= %(start)s AND created_at < %(end)s"

Connection = psycopg.Connection
Question = Callable[[Connection], object]


def make(config: Config, tenants: int) -> None:
    """Tables, tenants, and partitions of the months."""
    postgres.migrate(config)
    with psycopg.connect(config.dsn, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO tenants (id, plan) SELECT i, 'free' FROM generate_series(1, %s) AS i", [tenants]
        )
        for start, end in itertools.pairwise(STARTS):
            part = sql.SQL("CREATE TABLE {} PARTITION OF events FOR VALUES FROM ({}) TO ({})")
            connection.execute(part.format(sql.Identifier(f"events_{start:%Y%m}"), str(start), str(end)))


def fill(connection: Connection, a: argparse.Namespace, late: float) -> None:
    """The rows, and only then the indexes: what is made over all rows is as good as it gets."""
    connection.execute("TRUNCATE events")
    for name in BRINS:
        connection.execute(f"DROP INDEX IF EXISTS {name}")
    [(btree,)] = connection.execute("SELECT pg_get_indexdef(%s::regclass)", [BTREE]).fetchall()
    connection.execute(f"DROP INDEX {BTREE}")
    known = {"tenants": a.tenants, "rows": a.rows, "batch": a.batch, "late": late,
             "oldest": STARTS[0], "start": MONTH[0], "end": MONTH[1]}  # fmt: skip
    for first in range(0, a.rows, a.batch):
        connection.execute(_BATCH, known | {"first": first})
    connection.execute(btree.replace(" ON ONLY ", " ON "))
    for name, definition in BRINS.items():
        connection.execute(f"CREATE INDEX {name} ON events {definition}")
    connection.execute("VACUUM (FREEZE, ANALYZE)")


def questions(chance: random.Random, tenants: int) -> dict[str, Question]:
    """Each is about a day of its own and a tenant of its own."""
    day = MONTH[0] + dt.timedelta(days=chance.randrange(31))
    night = day + dt.timedelta(days=1)
    hour = day + dt.timedelta(hours=chance.randrange(24))
    tenant, tenth = chance.randrange(1, tenants + 1), chance.randrange(10) * tenants // 10

    def events(start: dt.datetime, end: dt.datetime, limit: int) -> Question:
        asked = {"tenant_id": tenant, "start": start, "end": end, "after_id": None, "event_type": None, "limit": limit}

        def ask(connection: Connection) -> object:
            with connection.transaction(force_rollback=True):
                connection.execute(query("scope"), {"scope": str(tenant), "timeout_ms": "60000"})
                return connection.execute(query("events"), asked).fetchall()

        return ask

    def everyones(start: dt.datetime, length: dt.timedelta) -> Question:
        return lambda connection: connection.execute(_ALL, {"start": start, "end": start + length}).fetchone()

    def archived(connection: Connection) -> int:
        copy = (
            f"COPY (SELECT {COLUMNS} FROM events_{MONTH[0]:%Y%m} WHERE tenant_id BETWEEN {tenth + 1} AND"
            f" {tenth + tenants // 10} ORDER BY tenant_id, created_at, id) TO STDOUT {COPY_OPTIONS}"
        )
        with connection.cursor() as cursor, cursor.copy(copy.encode()) as lines:
            return sum(len(line) for line in lines)

    return {
        "tenant_day_100": events(day, night, 100),
        "tenant_day": events(day, night, 1_000_000),
        "tenant_month_100": events(*MONTH, 100),
        "all_hour": everyones(hour, dt.timedelta(hours=1)),
        "all_day": everyones(day, dt.timedelta(days=1)),
        "archive_file": archived,
    }


@contextmanager
def only(connection: Connection, kept: list[str]) -> Iterator[None]:
    """As if there were these indexes and no others."""
    with connection.transaction(force_rollback=True):
        for name in {BTREE, *BRINS} - set(kept):
            connection.execute(f"DROP INDEX {name}")
        connection.execute("SET LOCAL work_mem = '256MB'")
        yield


def timed(connection: Connection, ask: Question) -> tuple[float, object]:
    begun = time.perf_counter()
    found = ask(connection)
    return (time.perf_counter() - begun) * 1000, found


def warm(config: Config, a: argparse.Namespace) -> dict[str, dict[str, float]]:
    """By question and indexes. The first round is not counted; every round's answers have to be the same under all."""
    took: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with psycopg.connect(config.dsn, autocommit=True) as connection:
        for number in range(a.rounds + 1):
            answers: dict[str, object] = {}
            for name, kept in INDEXES.items():
                for asked, ask in questions(random.Random(number), a.tenants).items():
                    with only(connection, kept):
                        ms, found = timed(connection, ask)
                    if isinstance(found, tuple):
                        found = found[0]  # a sum of doubles depends on their order
                    assert answers.setdefault(asked, found) == found
                    if number:
                        took[asked][name].append(ms)
    return {asked: {name: round(statistics.median(ms), 2) for name, ms in of.items()} for asked, of in took.items()}


def cold(config: Config, a: argparse.Namespace) -> dict[str, dict[str, float]]:
    """The same, but for the archive's, each once after a restart."""
    took: dict[str, dict[str, float]] = defaultdict(dict)
    for name, kept in INDEXES.items():
        for asked in ("tenant_day", "all_hour", "all_day"):
            with (
                restarted(config) as dropped,
                psycopg.connect(config.dsn, autocommit=True) as connection,
                only(connection, kept),
            ):
                ms, _ = timed(connection, questions(random.Random(99), a.tenants)[asked])
            took[asked][name] = round(ms, 1)
    if not dropped:
        print("the kernel's page cache was kept: cold is not as cold as it gets", file=sys.stderr)
    return took


def sizes(connection: Connection) -> dict[str, int]:
    """Bytes of the month's rows, and of each index on them."""
    month = f"events_{MONTH[0]:%Y%m}"
    found = connection.execute(
        "SELECT p.relname, pg_relation_size(i.inhrelid) FROM pg_inherits AS i JOIN pg_class AS p ON p.oid = i.inhparent"
        " JOIN pg_index AS x ON x.indexrelid = i.inhrelid WHERE x.indrelid = %s::regclass",
        [month],
    ).fetchall()
    [rows] = connection.execute("SELECT pg_table_size(%s::regclass)", [month]).fetchall()
    return {"rows": rows[0], **dict(sorted(found))}


def plans(connection: Connection, tenants: int) -> str:
    """How each index's hour is found."""
    hour = {"start": MONTH[0] + dt.timedelta(days=14), "end": MONTH[0] + dt.timedelta(days=14, hours=1)}
    written = []
    for name, kept in INDEXES.items():
        with only(connection, kept):
            found = connection.execute("EXPLAIN (ANALYZE, BUFFERS) " + _ALL, hour).fetchall()
        written += [f"\n-- all tenants' hour under {name}", *(line for (line,) in found)]
    return "\n".join(written) + "\n"


def writing(connection: Connection, a: argparse.Namespace) -> dict[str, dict[str, float]]:
    """The last batches once more, as the bytes of a binary COPY, into the table emptied before each time."""
    [(last,)] = connection.execute("SELECT max(id) FROM events").fetchall()
    batches = []
    for number in range(WRITTEN // a.batch, 0, -1):
        rows = f"SELECT {FIELDS} FROM events WHERE id > {last - number * a.batch} ORDER BY id LIMIT {a.batch}"
        with connection.cursor() as cursor, cursor.copy(f"COPY ({rows}) TO STDOUT (FORMAT binary)".encode()) as found:
            batches.append(b"".join(found))
    made = {name: f"CREATE INDEX {name} ON events {kind}" for name, kind in BRINS.items()}
    [(btree,)] = connection.execute("SELECT pg_get_indexdef(%s::regclass)", [BTREE]).fetchall()
    made[BTREE] = btree.replace(" ON ONLY ", " ON ")
    copied, summarized = defaultdict(list), defaultdict(list)
    for number in range(2 * a.rounds):
        names = list(INDEXES)
        for name in names if number % 2 else reversed(names):
            connection.execute("TRUNCATE events")
            for index in made:
                connection.execute(f"DROP INDEX IF EXISTS {index}")
            for index in INDEXES[name]:
                connection.execute(made[index])
            connection.execute("CHECKPOINT")
            begun = time.perf_counter()
            for batch in batches:
                with (
                    connection.transaction(),
                    connection.cursor() as cursor,
                    cursor.copy(f"COPY events ({FIELDS}) FROM STDIN (FORMAT binary)".encode()) as stream,
                ):
                    stream.write(batch)
            copied[name].append(len(batches) * a.batch / (time.perf_counter() - begun))
            summarized[name].append(summarize(connection))
    rate = {name: statistics.median(of) for name, of in copied.items()}
    return {
        "rows_per_s": {name: round(of) for name, of in rate.items()},
        "of_btree": {
            name: round(statistics.median(map(truediv, of, copied["btree"])), 3) for name, of in copied.items()
        },
        "summarize_ms": {name: round(statistics.median(of), 1) for name, of in summarized.items()},
    }


def summarize(connection: Connection) -> float:
    """Milliseconds that the ranges of pages take that no BRIN index knows yet."""
    begun = time.perf_counter()
    connection.execute(
        "SELECT brin_summarize_new_values(c.oid) FROM pg_class AS c JOIN pg_am AS m ON m.oid = c.relam"
        " WHERE m.amname = 'brin' AND c.relkind = 'i' AND c.relnamespace = 'public'::regnamespace"
    )
    return (time.perf_counter() - begun) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--tenants", type=int, default=1_000)
    parser.add_argument("--batch", type=int, default=50_000)
    parser.add_argument("--late", type=float, nargs="+", default=[0.0, 0.01])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--plans", type=Path)
    a = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="weir-bench-") as folder:
        config = load(os.environ).replace(
            WEIR_HOME=Path(folder), WEIR_POSTGRES=None, WEIR_POSTGRES_PORT=free_ports(1)[0]
        )
        prepare(config)
        with running(PostgresServer(config)):
            make(config, a.tenants)
        for late in a.late:
            begun = time.monotonic()
            with running(PostgresServer(config)), psycopg.connect(config.dsn, autocommit=True) as connection:
                fill(connection, a, late)
                print(f"filled, {late} late: {time.monotonic() - begun:.0f} s", file=sys.stderr)
                found: dict[str, object] = {"late": late, "bytes": sizes(connection), "warm": warm(config, a)}
                if a.plans:
                    a.plans.with_suffix(f".{late}.txt").write_text(plans(connection, a.tenants))
            found["cold"] = cold(config, a)
            print(json.dumps(found), flush=True)
        with running(PostgresServer(config)), psycopg.connect(config.dsn, autocommit=True) as connection:
            print(json.dumps({"write": writing(connection, a)}), flush=True)


if __name__ == "__main__":
    main()
