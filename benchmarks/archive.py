"""One month of events into the archive and back: seconds, and bytes a row in Postgres and in Parquet.

    python -m benchmarks.archive [--rows 5000000] [--tenants 1000] [--to file:///path|s3://bucket/prefix]

Uses the Postgres of `WEIR_POSTGRES`, or starts an embedded one; in a schema of its own, which it drops. Rows come in
order of time as the sink stores them, with a payload of about 90 bytes. `archive_s` is `weir archive` as a command,
from its start to its end; `query_s` and `aggregate_s` are `weir archive query` of one tenant's month and of an
aggregate over all rows, the quickest of three; `page_s` is a page of 100 events as the HTTP API asks for it, the
median of 50. `archive_cpu_s` is the CPU time of the command and of a Postgres on this machine together: on a machine
with other work it says more than the seconds. The archive's memory is the peak of its process. One line of JSON at the
end.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import psycopg

from weir.consumers.archive.reader import ArchiveReader
from weir.infra.config import Config, load
from weir.infra.ports import free_ports
from weir.infra.postgres import connect, migrate
from weir.infra.servers.postgres import PostgresServer
from weir.infra.servers.server import running

MONTH_START_MS, MONTH_END_MS = 1_672_531_200_000, 1_675_209_600_000  # January 2023
AGGREGATE = "SELECT event_type, count(*) AS events, avg(processing_time) AS avg FROM events GROUP BY event_type"
FILL = """
INSERT INTO events (tenant_id, created_at, processing_time, event_type, payload)
SELECT 1 + (random() * random() * %(tenants)s)::bigint %% %(tenants)s,
 timestamptz '2023-01-01 00:00:00+00' + n * (interval '31 days' / %(rows)s),
 round((random() * 1000000)::numeric) / 1000,
 'type-' || (random() * 20)::int,
 jsonb_build_object('path', '/items/' || (random() * 100000)::int, 'status', 200 + (random() * 4)::int,
  'session', md5(n::text))
FROM generate_series(0, %(rows)s - 1) AS n
"""


@contextmanager
def postgres(home: Path) -> Iterator[Config]:
    """A configuration with a Postgres that answers, and a schema with weir's tables."""
    config = load(os.environ).replace(WEIR_HOME=home)
    if config.postgres.url:
        yield from _with_schema(config)
    else:
        [port] = free_ports(1)
        config = config.replace(WEIR_POSTGRES_PORT=port)
        server = PostgresServer(config)
        server.prepare()
        server.administer("GRANT pg_checkpoint TO weir")
        with running(server):
            yield from _with_schema(config)


def _with_schema(config: Config) -> Iterator[Config]:
    name = f"bench_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(config.dsn, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
        address = f"{config.dsn}{'&' if '?' in config.dsn else '?'}options=-csearch_path%3D{name}"
        try:
            own = config.replace(WEIR_POSTGRES=address)
            migrate(own)
            yield own
        finally:
            connection.execute(f"DROP SCHEMA {name} CASCADE")


def fill(config: Config, rows: int, tenants: int) -> float:
    """Makes the month; bytes a row in Postgres, index and all."""
    with connect(config, "bench") as connection:
        connection.execute(
            "CREATE TABLE events_202301 PARTITION OF events"
            " FOR VALUES FROM ('2023-01-01 00:00:00+00') TO ('2023-02-01 00:00:00+00')"
        )
        connection.execute(FILL, {"rows": rows, "tenants": tenants})
        connection.execute("VACUUM (ANALYZE) events_202301")
        connection.execute("CHECKPOINT")
        [size] = connection.execute("SELECT pg_total_relation_size('events_202301')").fetchone() or (0,)
        return float(size) / rows


def weir(config: Config, *arguments: str) -> tuple[float, bytes]:
    """Runs the command; its seconds and its output."""
    environ = os.environ | {"WEIR_POSTGRES": config.dsn, "WEIR_HOME": str(config.home)}
    begin = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "weir", *arguments], env=environ, stdout=subprocess.PIPE, check=True)
    return time.monotonic() - begin, done.stdout


def cpu_s(config: Config) -> float:
    """CPU seconds of the commands that have ended, and of Postgres's processes that have or had no end yet."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    with connect(config, "bench") as connection:
        [pid] = connection.execute("SELECT pg_backend_pid()").fetchone() or (0,)
        server = psutil.Process(pid).parent()
        assert server is not None
        times = [server.cpu_times()]
        ended = times[0].children_user + times[0].children_system
        times += [process.cpu_times() for process in server.children()]
    return children.ru_utime + children.ru_stime + ended + sum(t.user + t.system for t in times)


def page_s(config: Config) -> float:
    """Seconds for 100 events of one tenant from some moment on."""
    reader = ArchiveReader(config)
    took = []
    for tenant in range(1, 51):
        begin = time.monotonic()
        reader.events(tenant, MONTH_START_MS + tenant * 40_000_000, MONTH_END_MS, 100)
        took.append(time.monotonic() - begin)
    reader.close()
    return statistics.median(took)


def quickest(run: Callable[[], tuple[float, bytes]]) -> tuple[float, bytes]:
    """Of three."""
    return min(run() for _ in range(3))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--tenants", type=int, default=1_000)
    parser.add_argument("--to", help="where; by default a folder that is deleted at the end")
    a = parser.parse_args()
    with TemporaryDirectory(prefix="weir-bench-") as folder, postgres(Path(folder) / "home") as config:
        in_postgres = fill(config, a.rows, a.tenants)
        print(f"{a.rows:,} rows of {a.tenants:,} tenants, {in_postgres:.0f} bytes a row in Postgres", flush=True)
        used = cpu_s(config)
        archive_s, said = weir(
            config, "archive", "--older-than", "1y", "--yes", "--to", a.to or f"file://{folder}/cold"
        )
        used = cpu_s(config) - used
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(said.decode().strip(), f"in {archive_s:.1f} s, {memory:.0f} MB", flush=True)
        size = int(said.split()[-2].replace(b",", b""))
        query_s, rows = quickest(
            lambda: weir(config, "archive", "query", "--tenant", str(a.tenants // 2), "--limit", "1000000")
        )
        aggregate_s, _ = quickest(lambda: weir(config, "archive", "query", "--sql", AGGREGATE))
        print(json.dumps({
            "rows": a.rows, "tenants": a.tenants, "archive_s": round(archive_s, 1), "archive_cpu_s": round(used, 1),
            "query_s": round(query_s, 2),
            "query_rows": rows.count(b"\n"), "aggregate_s": round(aggregate_s, 2), "page_s": round(page_s(config), 4),
            "postgres_bytes_a_row": round(in_postgres, 1), "parquet_bytes_a_row": round(size / a.rows, 1),
            "memory_mb": round(memory),
        }))  # fmt: skip


if __name__ == "__main__":
    main()
