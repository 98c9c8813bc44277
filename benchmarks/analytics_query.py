"""The mission's query: what events come to per tenant and day, for tenants on a plan, over all days since a date.

    python -m benchmarks.analytics_query [--rows 1000000] [--tenants 1000] [--months 24] [--home DIR --keep] [--reuse]

An embedded Postgres of its own (in DIR, or a temporary folder) is filled: `events` with its index and `tenant_daily`
with real sketches, as the sink keeps them, and `plain_events`, the same rows in one table with nothing but a primary
key. Rows come in order of time, tenants at random. Then

- the original query on the plain table, as it is asked in the mission;
- the repository's answer to the same question: its first page (1 000 rows), all pages, one tenant's days, sums and
  events; cold (Postgres restarted, and where this process may, the kernel's page cache dropped: `cold_pages`), and
  warm: with nothing kept, with the cache in the process, and with a Redis (`WEIR_REDIS`, where it is set).

`--plans FILE` writes the plans of both. `--keep` leaves the filled database in DIR, `--reuse` asks it again.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import json
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.analytics_fill import fill, months_from
from weir.consumers.analytics.cache import DayCache, MemoryStore
from weir.consumers.analytics.days import DailyQuery
from weir.consumers.analytics.events import EventQuery
from weir.consumers.analytics.repository import AnalyticsRepository
from weir.consumers.analytics.rows import Scope
from weir.consumers.analytics.sql import query
from weir.infra.config import Config, load
from weir.infra.ports import free_ports
from weir.infra.redis import RedisStore
from weir.infra.servers.postgres import PostgresServer
from weir.infra.servers.server import running

FIRST = dt.date(2024, 1, 1)
ORIGINAL = """
SELECT tenant_id, DATE(created_at) AS date, COUNT(*) AS events, AVG(processing_time) AS avg_time
FROM plain_events
WHERE created_at >= '2024-01-01' AND tenant_id IN (SELECT id FROM tenants WHERE plan = 'enterprise')
GROUP BY tenant_id, DATE(created_at)
ORDER BY date DESC
"""
PAGE = 1_000
#: What the server of the benchmark is given: a quarter of the machine's memory would be usual.
SETTINGS = {"shared_buffers": "2GB", "max_wal_size": "2GB", "wal_level": "minimal", "max_wal_senders": "0",
            "maintenance_work_mem": "1GB", "work_mem": "64MB", "jit": "off"}  # fmt: skip

Answer = Callable[[AnalyticsRepository], Awaitable[int]]


def questions(months: int, tenants: int) -> dict[str, Answer]:
    """Each gives how many rows were answered."""
    last = months_from(FIRST, months)[-1][1]
    everything = Scope.all()

    async def first_page(repository: AnalyticsRepository, percentiles: bool = False) -> int:
        wanted = DailyQuery("enterprise", FIRST, last, PAGE, percentiles=percentiles)
        return len((await repository.daily(everything, wanted)).rows)

    async def with_percentiles(repository: AnalyticsRepository) -> int:
        return await first_page(repository, True)

    async def all_pages(repository: AnalyticsRepository) -> int:
        found, after = 0, None
        while True:
            wanted = DailyQuery("enterprise", FIRST, last, 10_000, after, percentiles=False)
            page = await repository.daily(everything, wanted)
            found += len(page.rows)
            if page.next is None:
                return found
            after = page.next

    async def tenant_days(repository: AnalyticsRepository) -> int:
        tenant = 1 + int(time.perf_counter_ns() // 1000 % tenants)
        wanted = DailyQuery(None, FIRST, last, PAGE)
        return len((await repository.tenant_daily(Scope.of(tenant), tenant, wanted)).rows)

    async def sums(repository: AnalyticsRepository) -> int:
        tenant = 1 + int(time.perf_counter_ns() // 1000 % tenants)
        return (await repository.summary(Scope.of(tenant), tenant, FIRST, last)).events

    async def raw(repository: AnalyticsRepository) -> int:
        tenant = 1 + int(time.perf_counter_ns() // 1000 % tenants)
        start = dt.datetime.combine(last - dt.timedelta(days=40), dt.time(), dt.UTC)
        wanted = EventQuery(start, start + dt.timedelta(days=1), 100)
        return len((await repository.events(Scope.of(tenant), tenant, wanted)).rows)

    return {
        "first_page": first_page, "first_page_percentiles": with_percentiles, "all_pages": all_pages,
        "tenant_days": tenant_days, "summary": sums, "events": raw,
    }  # fmt: skip


async def timed(repository: AnalyticsRepository, ask: Answer) -> tuple[float, int]:
    begun = time.perf_counter()
    rows = await ask(repository)
    return (time.perf_counter() - begun) * 1000, rows


async def cold(config: Config, ask: Answer) -> dict[str, Any]:
    repository = AnalyticsRepository(config)
    await repository.open()
    try:
        took, rows = await timed(repository, ask)
        return {"ms": round(took, 1), "rows": rows}
    finally:
        await repository.close()


async def warm(config: Config, ask: Answer, rounds: int, cache: DayCache | None) -> dict[str, float]:
    repository = AnalyticsRepository(config, cache)
    await repository.open()
    try:
        for _ in range(3):
            await ask(repository)
        took = [(await timed(repository, ask))[0] for _ in range(rounds)]
    finally:
        await repository.close()
    cuts = statistics.quantiles(took, n=100)
    return {"p50_ms": round(cuts[49], 2), "p99_ms": round(cuts[98], 2)}


@contextmanager
def restarted(config: Config) -> Iterator[bool]:
    """The server, with nothing read yet; gives whether the kernel had to forget its pages as well."""
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3")
        dropped = True
    except OSError:
        dropped = False
    with running(PostgresServer(config)):
        yield dropped


def measured(config: Config, a: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {"rows": a.rows, "tenants": a.tenants, "months": a.months}
    asked = questions(a.months, a.tenants)
    for name, ask in asked.items():
        with restarted(config) as dropped:
            found["cold_pages"] = "dropped" if dropped else "kept"
            found[name] = {"cold": asyncio.run(cold(config, ask))}
    with running(PostgresServer(config)):
        for name, ask in asked.items():
            rounds = max(3, a.rounds // 20) if name == "all_pages" else a.rounds
            found[name]["warm"] = asyncio.run(warm(config, ask, rounds, None))
            if name.startswith("first_page"):
                cache = DayCache(MemoryStore(64 << 20))
                found[name]["memory"] = asyncio.run(warm(config, ask, rounds, cache))
                if config.redis.url is not None:
                    cache = DayCache(RedisStore(config.redis.url))
                    found[name]["redis"] = asyncio.run(warm(config, ask, rounds, cache))
        found["sizes"] = sizes(config)
        if a.plans:
            a.plans.write_text(plans(config, a))
    if not a.skip_original:
        with restarted(config), psycopg.connect(config.dsn) as connection:
            begun = time.perf_counter()
            rows = len(connection.execute(ORIGINAL).fetchall())
            cold_s = time.perf_counter() - begun
            begun = time.perf_counter()
            connection.execute(ORIGINAL).fetchall()
            found["original"] = {"rows": rows, "cold_s": round(cold_s, 2), "s": round(time.perf_counter() - begun, 2)}
    return found


def sizes(config: Config) -> dict[str, int]:
    """Bytes by table: its rows, out of line included, and its indexes."""
    with psycopg.connect(config.dsn) as connection:
        rows = connection.execute(
            "SELECT relname, sum(pg_table_size(c.oid))::bigint, sum(pg_indexes_size(c.oid))::bigint FROM ("
            " SELECT oid, regexp_replace(relname, '_\\d{6}$', '') AS relname FROM pg_class"
            " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace) AS c"
            " WHERE relname IN ('events', 'plain_events', 'tenant_daily') GROUP BY relname"
        ).fetchall()
    return {f"{name}_{kind}": size for name, table, index in rows for kind, size in (("rows", table), ("index", index))}


def plans(config: Config, a: argparse.Namespace) -> str:
    """EXPLAIN of the repository's questions, as weir_reader and within a scope, and of the original."""
    last = months_from(FIRST, a.months)[-1][1]
    start = dt.datetime.combine(last - dt.timedelta(days=40), dt.time(), dt.UTC)
    pages: dict[str, Any] = {"start": FIRST, "end": last, "percentiles": False, "limit": PAGE + 1}
    asked: dict[str, dict[str, Any]] = {
        "daily": pages | {"plan": "enterprise", "after_tenant": None},
        "days": {"plan": "enterprise", "percentiles": True, "days": [last - dt.timedelta(days=n) for n in range(1, 9)]},
        "tenant_daily": pages | {"tenant_id": 7},
        "events": {"tenant_id": 7, "start": start, "end": start + dt.timedelta(days=1), "after_id": None,
                   "event_type": None, "limit": 101},
    }  # fmt: skip
    written = [f"-- {a.rows} rows, {a.tenants} tenants, {a.months} months"]
    with psycopg.connect(config.dsn, autocommit=True) as connection:
        for name, parameters in asked.items():
            with connection.transaction():
                connection.execute(query("scope"), {"scope": "*", "timeout_ms": "60000"})
                found = connection.execute(b"EXPLAIN (ANALYZE, BUFFERS) " + query(name), parameters).fetchall()
            written += [f"\n-- consumers/analytics/sql/{name}.sql", *(line for (line,) in found)]
        if not a.skip_original:
            found = connection.execute("EXPLAIN (ANALYZE, BUFFERS) " + ORIGINAL).fetchall()
            written += ["\n-- the original query on plain_events", *(line for (line,) in found)]
    return "\n".join(written) + "\n"


def prepare(config: Config) -> None:
    """A server with settings of its own, and the right to make checkpoints for the benchmark."""
    server = PostgresServer(config)
    server.prepare()
    settings = [f"ALTER SYSTEM SET {name} = '{value}'" for name, value in SETTINGS.items()]
    server.administer(";\n\n".join([*settings, "GRANT pg_checkpoint TO weir"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--tenants", type=int, default=1_000)
    parser.add_argument("--months", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--plans", type=Path)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--reuse", action="store_true")
    parser.add_argument("--skip-original", action="store_true", help="for a look at the repository's figures alone")
    a = parser.parse_args()
    if (a.keep or a.reuse) and a.home is None:
        parser.error("--keep and --reuse want --home DIR")
    with tempfile.TemporaryDirectory(prefix="weir-bench-") as folder:
        home = a.home.absolute() if a.keep or a.reuse else Path(folder)
        config = load(os.environ).replace(WEIR_HOME=home, WEIR_POSTGRES=None, WEIR_POSTGRES_PORT=free_ports(1)[0])
        begun = time.monotonic()
        if not a.reuse:
            prepare(config)
            with running(PostgresServer(config)):
                fill(config, a.rows, a.tenants, months_from(FIRST, a.months))
        filled_s = round(time.monotonic() - begun, 1)
        print(json.dumps({"fill_s": filled_s} | measured(config, a), indent=1), flush=True)


if __name__ == "__main__":
    main()
