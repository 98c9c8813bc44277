"""Months of events for the archive's tests, and every row of them, wherever it is."""

from __future__ import annotations

import datetime as dt
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from psycopg import sql

from weir.consumers.archive.archiver import Archiver
from weir.consumers.archive.manifest import ArchivedFile, complete_files, parts
from weir.consumers.archive.storage import ArchiveStorage
from weir.consumers.sinks.partitions import following, partition
from weir.infra.config import Config
from weir.infra.postgres import connect, migrate

JANUARY, FEBRUARY = dt.date(2023, 1, 1), dt.date(2023, 2, 1)
#: tenant_id, created_at, id, processing_time, event_type, payload as text.
Row = tuple[Any, ...]


class Events:
    """The table, its partitions, and the archive's files."""

    def __init__(self, config: Config) -> None:
        migrate(config)
        self.connection = connect(config, "test")

    def add_month(self, month: dt.date) -> None:
        query = sql.SQL("CREATE TABLE IF NOT EXISTS {} PARTITION OF events FOR VALUES FROM ({}) TO ({})")
        edges = [sql.Literal(f"{day} 00:00:00+00") for day in (month, following(month))]
        self.connection.execute(query.format(sql.Identifier(partition(month)), *edges))

    def fill(self, month: dt.date, rows: int = 3000, tenants: int = 7) -> None:
        """Events of so many tenants, several at the same moment, with and without payload."""
        self.add_month(month)
        self.connection.execute(
            "INSERT INTO events (tenant_id, created_at, processing_time, event_type, payload)"
            " SELECT 1 + (n * n) %% %(tenants)s, %(start)s + (n / 3) * interval '7 minutes 1.001 s', n / 8.0 + 0.001,"
            " 'type-' || n %% 5, CASE WHEN n %% 10 > 0 THEN jsonb_build_object('n', n, 't', E'q\"\\n,é') END"
            " FROM generate_series(1, %(rows)s) AS n",
            {"tenants": tenants, "start": dt.datetime(month.year, month.month, 1, tzinfo=dt.UTC), "rows": rows},
        )

    def late(self, month: dt.date, tenant: int = 3) -> None:
        """One more event, as the sink stores what comes late."""
        self.add_month(month)
        moment = dt.datetime(month.year, month.month, 5, tzinfo=dt.UTC)
        self.connection.execute(
            "INSERT INTO events (tenant_id, created_at, processing_time, event_type) VALUES (%s, %s, 1.5, 'late')",
            [tenant, moment],
        )

    def in_postgres(self) -> Counter[Row]:
        query = "SELECT tenant_id, created_at, id, processing_time, event_type, payload::text FROM events"
        return Counter(self.connection.execute(query).fetchall())

    def files(self) -> list[ArchivedFile]:
        return complete_files(self.connection)

    def archived(self) -> Counter[Row]:
        found: Counter[Row] = Counter()
        for file in self.files():
            with ArchiveStorage(file.place).reading(file.name) as stream:
                found.update(tuple(row.values()) for row in pq.read_table(stream).to_pylist())
        return found

    def everywhere(self) -> Counter[Row]:
        """In one snapshot of Postgres, the manifest and the rows together."""
        with self.connection.transaction():
            return self.in_postgres() + self.archived()

    def states(self) -> list[tuple[dt.date, int, str]]:
        return [(part.month, part.part, part.state) for part in parts(self.connection)]

    def partitions(self) -> set[str]:
        query = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'events'::regclass"
        return {name for (name,) in self.connection.execute(query).fetchall()}


@contextmanager
def events_of(config: Config) -> Iterator[Events]:
    made = Events(config)
    try:
        yield made
    finally:
        made.connection.close()


def move(config: Config, folder: Path, *months: dt.date) -> None:
    """As `weir archive` does it, in this process."""
    with Archiver(config, f"file://{folder}") as archiver:
        for month in months:
            archiver.archive(month)


class Moving(threading.Thread):
    """The same in a thread of its own."""

    def __init__(self, config: Config, folder: Path, *months: dt.date) -> None:
        super().__init__(target=move, args=(config, folder, *months))

    def looks(self) -> Iterator[None]:
        """Look at what there is while it goes on, and once after its end."""
        while self.is_alive():
            yield
        yield


def lying_in(folder: Path) -> set[str]:
    """The files in a folder of the archive."""
    return {str(path) for path in folder.rglob("*") if path.is_file()}


def named_in(files: list[ArchivedFile]) -> set[str]:
    """The files that the manifest names, as paths."""
    return {f"{file.place.removeprefix('file://')}/{file.name}" for file in files}
