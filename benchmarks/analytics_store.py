"""Tenants' events from Kafka into Postgres, per second, and a bare binary COPY of the same rows beside it.

    python -m benchmarks.analytics_store [--rows 3000000] [--seconds 0] [--tenants 1000]

Kafka and Postgres of its own, in a folder that it deletes, on the same cores as everything else. The rows wait in the
topic (4 partitions, one event a record, about 150 bytes of JSON): 400 000 draws of a tenant, a time of today (one in
a hundred within the last 60 days), a type, a processing time and a payload, over and over. `weir run analytics-store`
stores them: row, index, what tenant and day come to, offsets. Measured from its first commit to its last, or for
`--seconds`. Then `events` is emptied, and the same rows are copied into it by a connection that has them ready as
binary COPY, 50 000 a transaction: as they came, and sorted by tenant as the sink sorts them.

`least`: of the whole five seconds, the one with the fewest rows, per second.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import psutil
import psycopg
from confluent_kafka import Message

from weir.consumers.analytics.tables import prepare_months, tenant_tables
from weir.consumers.analytics.tenants import Tenant, add_tenants
from weir.consumers.sinks.batch import Batcher
from weir.consumers.sinks.table import Table
from weir.infra import postgres
from weir.infra.config import Config, load
from weir.infra.kafka import client as kafka
from weir.infra.ports import free_ports
from weir.infra.servers.kafka import KafkaServer
from weir.infra.servers.postgres import PostgresServer
from weir.infra.servers.server import running
from weir.schemas.times import to_rfc3339
from weir.schemas.topics import DEAD_LETTERS, TENANT_EVENTS

DRAWS = 400_000
BATCH = 50_000
DAY_MS = 86_400_000
TYPES = ("login", "search", "export", "view", "purchase")


def draws(tenants: int) -> list[bytes]:
    """Events as JSON."""
    chance, now = random.Random(7), time.time_ns() // 1_000_000
    midnight = now - now % DAY_MS
    return [
        b'{"tenant_id":%d,"created_at":"%b","event_type":"%b","processing_time":%.3f,"payload":{"page":"/p/%d","ok":true}}'
        % (
            chance.randrange(1, tenants + 1),
            to_rfc3339(
                chance.randrange(midnight, now) if chance.random() > 0.01 else now - chance.randrange(60 * DAY_MS)
            ).encode(),
            chance.choice(TYPES).encode(),
            chance.lognormvariate(3, 1),
            chance.randrange(10_000),
        )
        for _ in range(DRAWS)
    ]


def fill(config: Config, values: list[bytes], rows: int) -> None:
    """Puts the rows into the topic."""
    producer = kafka.producer(config, **{"linger.ms": 50, "queue.buffering.max.messages": 200_000})
    topic = config.topic(TENANT_EVENTS.name)
    for n in range(rows):
        while True:
            try:
                producer.produce(topic, values[n % DRAWS], partition=n // 500 % 4)
                break
            except BufferError:
                producer.poll(0.1)
        if n % 1000 == 0:
            producer.poll(0)
    producer.flush(60)


def sink(config: Config, environ: dict[str, str], rows: int, seconds: float) -> dict[str, float]:
    """The sink at work, until all is stored or the time is up."""
    with psycopg.connect(config.dsn, autocommit=True) as asker:

        def stored() -> int:
            row = asker.execute("SELECT coalesce(sum(next_offset), 0)::bigint FROM sink_offsets").fetchone()
            return int(row[0]) if row else 0

        process = subprocess.Popen([sys.executable, "-m", "weir", "run", "analytics-store"], env=environ)
        try:
            while not (first := stored()):
                time.sleep(0.005)
            began, used = time.perf_counter(), _cpu(process.pid)
            marks = [(began, first)]
            while marks[-1][1] < rows and (not seconds or marks[-1][0] - began < seconds):
                time.sleep(0.02)
                marks.append((time.perf_counter(), stored()))
            taken, done = marks[-1][0] - began, marks[-1][1] - first
            used = _cpu(process.pid) - used
            memory = psutil.Process(process.pid).memory_info().rss / 1e6
        finally:
            process.terminate()
            process.wait()
    return {
        "rows_per_s": done / taken,
        "least": min(_fives(marks), default=0.0),
        "seconds": taken,
        "cpus": used / taken,
        "rss_mb": memory,
    }


def _fives(marks: list[tuple[float, int]]) -> Iterator[float]:
    """Rows per second of each whole five seconds."""
    start = marks[0]
    for mark in marks:
        if mark[0] - start[0] >= 5:
            yield (mark[1] - start[1]) / (mark[0] - start[0])
            start = mark


def _cpu(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def bare(config: Config, table: Table, values: list[bytes], rows: int, seconds: float, order: bool) -> float:
    """Rows per second of a binary COPY that only has to be sent."""
    records = [Message(topic=table.topic.name, partition=0, offset=n, value=value) for n, value in enumerate(values)]
    table = table if order else replace(table, order=None)
    every = Batcher("bench", {table.topic.name: table}).batch(records).parts[table.name]
    copies = [every.between(n, n + BATCH).copy() for n in range(0, DRAWS, BATCH)]
    with postgres.connect(config, "weir-bench") as connection:
        connection.execute("TRUNCATE events")
        prepare_months(connection, every.rows, lambda: time.time_ns() // 1_000_000)
        connection.execute("CHECKPOINT")
        names = ", ".join(table.columns)
        began, done = time.perf_counter(), 0
        while done < rows and (not seconds or time.perf_counter() - began < seconds):
            copy = f"COPY events ({names}) FROM STDIN (FORMAT binary)".encode()
            with connection.transaction(), connection.cursor() as cursor, cursor.copy(copy) as stream:
                stream.write(copies[done // BATCH % len(copies)] or b"")
            done += BATCH
        return done / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--seconds", type=float, default=0.0, help="stop after so many; 0: when all rows are stored")
    parser.add_argument("--tenants", type=int, default=1000)
    chosen = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="weir-bench-"))
    broker, controller, database = free_ports(3)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WEIR_")}
    environ = inherited | {
        "WEIR_HOME": str(home),
        "WEIR_KAFKA_PORT": str(broker),
        "WEIR_KAFKA_CONTROLLER_PORT": str(controller),
        "WEIR_POSTGRES_PORT": str(database),
        "WEIR_LOG_LEVEL": os.environ.get("WEIR_LOG_LEVEL", "warning"),
    }
    config = load({name: value for name, value in environ.items() if name.startswith("WEIR_")})
    try:
        with ExitStack() as stack:
            stack.enter_context(running(KafkaServer(config)))
            server = PostgresServer(config)
            server.prepare()
            server.administer("GRANT pg_checkpoint TO weir")
            stack.enter_context(running(server))
            postgres.migrate(config)
            kafka.ensure_topics(config, [TENANT_EVENTS, DEAD_LETTERS])
            add_tenants(config, [Tenant(n, "free", "") for n in range(1, chosen.tenants + 1)])
            values = draws(chosen.tenants)
            fill(config, values, chosen.rows)
            found = sink(config, environ, chosen.rows, chosen.seconds)
            [table] = tenant_tables(3650 * DAY_MS, DAY_MS)
            for name, order in (("bare", False), ("bare_sorted", True)):
                found[name] = bare(config, table, values, chosen.rows, chosen.seconds, order)
            found["of_bare"] = found["rows_per_s"] / found["bare"]
            found["of_bare_sorted"] = found["rows_per_s"] / found["bare_sorted"]
            print(json.dumps({name: round(value, 2) for name, value in found.items()}))
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
