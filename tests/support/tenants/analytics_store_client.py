"""A test's look at the sink analytics-store: it writes to topic tenant-events and queries Postgres."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import datasketches
import msgspec
import psycopg
from confluent_kafka import Message

from support.dead_letters import dead_letters
from weir.consumers.analytics.tenants import Tenant, add_tenants
from weir.infra import postgres
from weir.infra.config import Config
from weir.infra.kafka import client as kafka
from weir.infra.runtime.status import read_one
from weir.schemas.times import from_rfc3339
from weir.schemas.topics import DEAD_LETTERS, TENANT_EVENTS

#: 2026-01-31T12:00:00Z
NOON = from_rfc3339("2026-01-31T12:00:00Z")
DAY_MS = 86_400_000
RUN = ("run", "analytics-store")


def event(tenant: int = 1, ms: int = NOON, us: int = 1500, payload: str = "") -> bytes:
    """A record's value. `payload` is put in as it is."""
    more = f',"payload":{payload}' if payload else ""
    return (
        f'{{"tenant_id":{tenant},"created_at":{ms},"event_type":"login","processing_time":{us / 1000}{more}}}'.encode()
    )


def some_events(chance: random.Random, count: int, tenants: int, days: int = 3) -> list[bytes]:
    """Events of random tenants and moments from NOON on, each with a payload that tells it from the others."""
    return [
        event(
            chance.randrange(1, tenants + 1),
            NOON + chance.randrange(days * DAY_MS),
            chance.randrange(10_000_000),
            f'{{"n":{chance.randrange(2**62)}}}',
        )
        for _ in range(count)
    ]


class AnalyticsStoreClient:
    """Writes to one test's topic, and looks at its tables."""

    def __init__(self, config: Config, tenants: Iterable[int] = ()) -> None:
        self._config = config
        postgres.migrate(config)
        kafka.ensure_topics(config, [TENANT_EVENTS, DEAD_LETTERS])
        add_tenants(config, [Tenant(number, "free", "") for number in tenants])
        self._producer = kafka.producer(config)

    def write(self, values: Iterable[bytes], partition: int | None = None) -> None:
        """One record each, over the partitions in turn where none is named."""
        for n, value in enumerate(values):
            self._producer.produce(
                self._config.topic(TENANT_EVENTS.name), value, partition=n % 4 if partition is None else partition
            )
            self._producer.poll(0)
        assert self._producer.flush(30) == 0

    def ask(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self._config.dsn, autocommit=True) as connection:
            connection.execute("SET TIME ZONE 'UTC'")
            return connection.execute(query.encode(), values).fetchall()

    def count(self) -> int:
        """The events that are stored; 0 where Postgres does not answer."""
        with suppress(psycopg.OperationalError):
            return int(self.ask("SELECT count(*) FROM events")[0][0])
        return 0

    def rows(self) -> list[tuple[Any, ...]]:
        """(tenant, epoch ms, microseconds of processing, payload) of every event, sorted."""
        return self.ask(
            "SELECT tenant_id, (extract(epoch FROM created_at) * 1000)::bigint, round(processing_time * 1000)::bigint,"
            " payload::text FROM events ORDER BY 1, 2, 3, 4"
        )

    def check(self, values: Iterable[bytes]) -> None:
        """Fails unless the rows are these events, each once, and the days are what a recount of the rows gives."""
        assert self.rows() == sorted(map(expected_row, values), key=lambda row: (*row[:3], row[3] or ""))
        self.check_days()

    def check_days(self) -> None:
        """Fails unless tenant_daily is what a recount of the rows gives."""
        recount = self.ask(
            "SELECT tenant_id, created_at::date, count(*), sum(round(processing_time * 1000)::bigint),"
            " min(round(processing_time * 1000)::bigint), max(round(processing_time * 1000)::bigint)"
            " FROM events GROUP BY 1, 2 ORDER BY 1, 2"
        )
        days = self.ask("SELECT tenant_id, day, events, sum_us, min_us, max_us, sketch FROM tenant_daily ORDER BY 1, 2")
        assert [day[:6] for day in days] == recount
        times = defaultdict(list)
        for tenant, day, us in self.ask(
            "SELECT tenant_id, created_at::date, round(processing_time * 1000)::bigint FROM events"
        ):
            times[tenant, day].append(us)
        for tenant, day, events, *_, sketch in days:
            read = datasketches.kll_floats_sketch.deserialize(sketch)
            assert read.n == events
            median, slack = read.get_quantile(0.5), 0.05 + 1 / events
            assert sum(us < median for us in times[tenant, day]) / events < 0.5 + slack
            assert sum(us <= median for us in times[tenant, day]) / events > 0.5 - slack

    def versions(self) -> dict[str, int]:
        return {str(day): version for day, version in self.ask("SELECT day, version FROM tenant_daily_versions")}

    def offsets(self) -> int:
        """How many records the sink has been through."""
        with suppress(psycopg.OperationalError):
            query = "SELECT coalesce(sum(next_offset), 0) FROM sink_offsets WHERE sink = 'analytics-store'"
            return int(self.ask(query)[0][0])
        return 0

    def state(self) -> str:
        said = read_one(self._config, "analytics-store")
        return said.state if said else ""

    def facts(self) -> dict[str, Any]:
        said = read_one(self._config, "analytics-store")
        return dict(said.detail) if said else {}

    def error(self) -> str:
        return str(self.facts().get("error", ""))

    def sessions(self) -> list[int]:
        """The process ids of Postgres' ends of the sink's connections, in this test's schema."""
        query = """
            SELECT l.pid FROM pg_locks l JOIN pg_stat_activity a USING (pid)
            WHERE l.locktype = 'advisory' AND l.granted AND a.application_name = 'weir-analytics-store'
            AND ((l.classid::bigint << 32) | l.objid::bigint)
                = hashtextextended(current_schema() || '/analytics-store', 0)
        """
        return [pid for (pid,) in self.ask(query)]

    def storing(self) -> bool:
        """Whether the sink is in the midst of a transaction, held up by a lock of the test's."""
        query = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'events'::regclass AND pid = ANY(%s)"
        return bool(self.ask(query, self.sessions()))

    def dead_letters(self) -> list[Message]:
        """Returns every dead letter of the sink's."""
        return dead_letters(self._config)


def expected_row(value: bytes) -> tuple[int, int, int, str | None]:
    """Returns the row that `AnalyticsStoreClient.rows` has for one of these events."""
    found = msgspec.json.decode(value)
    payload = found.get("payload")
    text = None if payload is None else "{" + ", ".join(f'"{name}": {number}' for name, number in payload.items()) + "}"
    return found["tenant_id"], found["created_at"], round(found["processing_time"] * 1000), text
