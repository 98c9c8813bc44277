"""A test's look at the sink link-store: its rows in Postgres, its offsets in Kafka, its status file."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import psycopg
from confluent_kafka import Message

from support.dead_letters import dead_letters
from weir.infra.config import Config
from weir.infra.runtime.status import ServiceStatus, read_all
from weir.schemas.links import LinkCount
from weir.schemas.times import from_rfc3339

#: (window start in epoch milliseconds, source, destination): (count, final)
Rows = dict[tuple[int, str, str], tuple[int, bool]]


def expected(records: Iterable[LinkCount]) -> Rows:
    """The latest of each window and pair."""
    return {(from_rfc3339(r.window.start), r.source, r.destination): (r.count, r.final) for r in records}


class LinkStoreClient:
    """Looks at one test's tables and topics."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def ask(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self._config.dsn, autocommit=True) as connection:
            return connection.execute(query.encode(), values).fetchall()

    def rows(self) -> Rows:
        """Returns the stored counts; none if the table does not exist yet or Postgres is away."""
        with suppress(psycopg.errors.UndefinedTable, psycopg.OperationalError):
            query = "SELECT (extract(epoch FROM window_start) * 1000)::bigint, source, destination, count, final"
            return {(w, s, d): (c, f) for w, s, d, c, f in self.ask(query + " FROM link_counts")}
        return {}

    def offsets(self) -> dict[tuple[str, int], int]:
        rows = self.ask("SELECT topic, partition, next_offset FROM sink_offsets WHERE sink = 'link-store'")
        return {
            (topic.removeprefix(self._config.kafka.topic_prefix), partition): offset
            for topic, partition, offset in rows
        }

    def sessions(self) -> list[int]:
        """The process ids of Postgres' ends of the sink's connections, in this test's schema."""
        query = """
            SELECT l.pid FROM pg_locks l JOIN pg_stat_activity a USING (pid)
            WHERE l.locktype = 'advisory' AND l.granted AND a.application_name = 'weir-link-store'
            AND ((l.classid::bigint << 32) | l.objid::bigint) = hashtextextended(current_schema() || '/link-store', 0)
        """
        return [pid for (pid,) in self.ask(query)]

    def storing(self) -> bool:
        """Whether the sink is in the midst of a transaction, held up by a lock of the test's."""
        query = """
            SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'link_counts'::regclass AND pid = ANY(%s)
        """
        return bool(self.ask(query, self.sessions()))

    def status(self) -> ServiceStatus | None:
        return next((status for status in read_all(self._config) if status.name == "link-store"), None)

    def state(self) -> str:
        status = self.status()
        return status.state if status else ""

    def error(self) -> str:
        status = self.status()
        return str(status.detail.get("error", "")) if status else ""

    def facts(self) -> dict[str, Any]:
        status = self.status()
        return dict(status.detail) if status else {}

    def dead_letters(self) -> list[Message]:
        """Returns every dead letter of the sink's."""
        return dead_letters(self._config)
