"""Ways to upsert a batch of link counts into Postgres: rows per second, one transaction per batch, the median batch.

    python -m benchmarks.sink_merge

Needs a running Postgres (`WEIR_POSTGRES`, or the embedded one of `weir up --only postgres`); works in a schema of its
own, which it drops. Half of the rows of a batch are there already.
"""

from __future__ import annotations

import os
import random
import statistics
import time
import uuid
from collections.abc import Callable

import psycopg

from weir.consumers.links.tables import LINK_COUNTS_TABLE as TABLE
from weir.consumers.links.tables import moment
from weir.consumers.sinks.batch import Batch, TableRows
from weir.consumers.sinks.store import SinkStore
from weir.consumers.sinks.table import Row
from weir.infra import postgres
from weir.infra.config import Config, load

SIZES = (1, 10, 100, 1_000, 10_000)
NAMES = ", ".join(TABLE.columns)
CHANGES = ", ".join(f"{name} = excluded.{name}" for name in TABLE.columns if name not in TABLE.key)
UPSERT = f"ON CONFLICT ({', '.join(TABLE.key)}) DO UPDATE SET {CHANGES}"


def main() -> None:
    """Prints a line per way and size."""
    config = load(os.environ)
    schema = f"bench_{uuid.uuid4().hex[:8]}"
    with postgres.connect(config, "weir-bench") as owner:
        owner.execute(f"CREATE SCHEMA {schema}")
        try:
            _measure(_within(config, schema))
        finally:
            owner.execute(f"DROP SCHEMA {schema} CASCADE")


def _measure(config: Config) -> None:
    postgres.migrate(config)
    with postgres.connect(config, "weir-bench") as connection, SinkStore(config, "bench", [TABLE]) as store:
        ways: dict[str, Callable[[list[Row]], object]] = {
            "unnest, arrays as text": lambda rows: _unnest(connection, rows, "%t"),
            "unnest, arrays binary": lambda rows: _unnest(connection, rows, "%b"),
            "binary COPY and merge (the sink)": lambda rows: store.write(_batch(rows), {}),
        }
        for name, way in ways.items():
            for size in SIZES:
                connection.execute("TRUNCATE link_counts")
                median = statistics.median(_seconds(way, size) for _ in range(max(5, min(40, 40_000 // size))))
                print(f"{name:34} {size:6} rows {median * 1e3:8.2f} ms {size / median:9.0f} rows/s")


def _seconds(way: Callable[[list[Row]], object], size: int) -> float:
    rows = _rows(size)
    began = time.perf_counter()
    way(rows)
    return time.perf_counter() - began


def _rows(size: int) -> list[Row]:
    start, end = moment(1_769_860_800_000), moment(1_769_860_860_000)
    pairs = random.sample(range(2 * size), size)
    return [(start, end, f"parent-{n // 224}", f"parent-{n % 224}", random.randrange(1000), True, n % 4) for n in pairs]


def _batch(rows: list[Row]) -> Batch:
    return Batch({TABLE.name: TableRows(TABLE, rows)})


def _unnest(connection: psycopg.Connection, rows: list[Row], form: str) -> None:
    arrays = ", ".join(f"{form}::{kind}[]" for kind in TABLE.columns.values())
    query = f"INSERT INTO {TABLE.name} ({NAMES}) SELECT * FROM unnest({arrays}) {UPSERT}"
    with connection.transaction():
        connection.execute(query.encode(), [list(column) for column in zip(*rows, strict=True)])


def _within(config: Config, schema: str) -> Config:
    found = dict(os.environ)
    joint = "&" if "?" in config.dsn else "?"
    return load(
        found | {"WEIR_POSTGRES": f"{config.dsn}{joint}options=-csearch_path%3D{schema}", "WEIR_LOG_LEVEL": "error"}
    )


if __name__ == "__main__":
    main()
