"""The sink of tenants' events: each is a row once, and the days are what the rows come to."""

from __future__ import annotations

import datetime as dt
import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import psycopg
import pytest

from support.command import started
from support.engine.messages import message
from support.links.link_records import cell
from support.tenants.analytics_store_client import DAY_MS, RUN, AnalyticsStoreClient, event, some_events
from support.wait import until
from weir.consumers.analytics.tables import tenant_tables
from weir.consumers.analytics.tenants import Tenant, add_tenants
from weir.consumers.links.tables import LINK_COUNTS_TABLE
from weir.consumers.sinks.batch import Batch, Batcher, TableRows
from weir.consumers.sinks.partitions import coming, ensure_months, month_of, months, partition
from weir.consumers.sinks.store import SinkStore
from weir.consumers.sinks.table import Conflict
from weir.infra import postgres
from weir.infra.config import Config
from weir.infra.errors import PostgresUnavailableError
from weir.schemas.dead_letters import Reason, from_headers


def test_every_event_is_stored_once_and_the_days_are_what_they_come_to(environ: dict[str, str], config: Config) -> None:
    probe = AnalyticsStoreClient(config, range(1, 6))
    events = some_events(random.Random(1), 3000, 5)
    probe.write(events)
    with started(environ, *RUN):
        until(lambda: probe.count() == 3000)
        probe.check(events)
        before = probe.versions()
        late = some_events(random.Random(2), 500, 5, days=1)
        probe.write(late)
        until(lambda: probe.count() == 3500)
        probe.check([*events, *late])
    assert {day for day, version in probe.versions().items() if version > before.get(day, 0)} == {
        "2026-01-31", "2026-02-01"
    }  # fmt: skip


def test_what_postgres_refuses_is_found_and_set_aside_and_the_rest_lands(
    environ: dict[str, str], config: Config
) -> None:
    probe = AnalyticsStoreClient(config, [1])
    good = some_events(random.Random(3), 2500, 1)
    bad = [
        event(payload=rf'{{"a":"{chr(92)}u0000"}}'),
        event(payload='{"a":1e131071}'),
        event(payload=rf'{{"b":"{chr(92)}u0000"}}'),
        event(payload='{"a":"x'),
    ]
    probe.write([*good[:1000], *bad[:2], *good[1000:2000]], partition=1)
    # Of an array only the element goes.
    array = b"[" + b",".join([*good[2000:2300], bad[2], *good[2300:2400]]) + b"]"
    probe.write([array, *good[2400:], bad[3]], partition=1)
    with started(environ, *RUN):
        until(lambda: probe.count() == 2500)
        until(lambda: probe.facts() == {"records": 2104, "refused": 4})
    probe.check(good)
    letters = probe.dead_letters()
    origins = [from_headers(letter.headers()) for letter in letters]
    assert [letter.value() for letter in letters] == bad
    assert [(o.reason, o.partition, o.offset, o.element) for o in origins] == [
        (Reason.INVALID, 1, 1000, None), (Reason.INVALID, 1, 1001, None),
        (Reason.INVALID, 1, 2002, 300), (Reason.NOT_JSON, 1, 2103, None),
    ]  # fmt: skip
    assert [o.detail.startswith("Postgres: ") for o in origins] == [True, False, True, False]
    assert "not within -324 to 308" in origins[1].detail
    assert "u0000" in origins[0].detail
    assert probe.offsets() == 2104


def test_events_of_unknown_tenants_and_of_impossible_times_are_dead_letters(
    environ: dict[str, str], config: Config
) -> None:
    probe = AnalyticsStoreClient(config, [1, 2])
    now = time.time_ns() // 1_000_000
    good = [event(1 + n % 2, now - n * 1000, payload=f'{{"n":{n}}}') for n in range(1000)]
    # Each of these is of a month of its own, or nearly: it gets no partition.
    unknown = [event(3 + n % 500, now - n % 100 * 31 * DAY_MS) for n in range(1000)]
    untimely = [event(1, now + 3_700_000), event(1, now - 3651 * DAY_MS), event(1, 1)]
    probe.write([value for pair in zip(good, unknown, strict=True) for value in pair] + untimely)
    with started(environ, *RUN):
        until(lambda: probe.facts() == {"records": 2003, "refused": 1003})
        probe.check(good)
        reasons = Counter(from_headers(letter.headers()).reason for letter in probe.dead_letters())
        assert reasons == {Reason.UNKNOWN_TENANT: 1000, Reason.TIMESTAMP: 2, Reason.INVALID: 1}
        add_tenants(config, [Tenant(3, "free", "")])
        probe.write([unknown[0]])
        until(lambda: probe.count() == 1001)
    probe.check([*good, unknown[0]])
    # Three months ahead, the present one, and that before where it has just ended; none for what was refused.
    wanted = {month_of(now), month_of(now - 999_000), *coming(month_of(now))}
    assert len(probe.ask("SELECT FROM pg_inherits WHERE inhparent = 'events'::regclass")) == len(wanted)


def test_a_tenant_deleted_in_the_midst_of_a_batch_loses_nothing_of_the_others(config: Config) -> None:
    probe = AnalyticsStoreClient(config, [1, 2])
    [table] = tenant_tables(3650 * DAY_MS, DAY_MS)
    batch = Batcher("s", {"t": table}).batch(message("t", 0, n, value) for n, value in enumerate([event(1), event(2)]))
    with SinkStore(config, "s", [table]) as store, psycopg.connect(config.dsn, autocommit=True) as other:
        store.offsets({("t", 0): 0})
        store.prepare(batch)
        other.execute("DELETE FROM tenants WHERE id = 2")
        with pytest.raises(PostgresUnavailableError, match="rejected a row of tenant_daily"):
            store.write(batch, {("t", 0): 0})
        assert probe.count() == 0
        store.prepare(batch)
        [refused] = store.write(batch, {("t", 0): 0})
    assert refused.origin.reason == Reason.UNKNOWN_TENANT
    probe.check([event(1)])


def test_partitions_are_made_by_many_at_once_and_without_waiting_for_readers_or_writers(config: Config) -> None:
    probe = AnalyticsStoreClient(config, [1])
    wanted = [dt.date(2025, number, 1) for number in range(1, 13)]

    def make(_: int) -> list[str]:
        with postgres.connect(config, "test", {"lock_timeout": "20s"}) as connection:
            return ensure_months(connection, wanted)

    with postgres.connect(config, "test") as busy, busy.transaction(), ThreadPoolExecutor(4) as pool:
        busy.execute("SELECT count(*) FROM events")
        busy.execute("LOCK TABLE events IN ROW EXCLUSIVE MODE")  # as a writer has it
        made = [name for names in pool.map(make, range(4)) for name in names]
    assert sorted(made) == [partition(month) for month in wanted]
    with postgres.connect(config, "test") as connection:
        assert months(connection) == set(wanted)
        # One that was taken off, and not yet dropped, does not come back.
        connection.execute("ALTER TABLE events DETACH PARTITION events_202503")
        assert ensure_months(connection, wanted) == ["events_202503_2"]
        assert months(connection) == set(wanted)
    assert probe.count() == 0


def test_first_ones_stand_where_the_rule_says_so(config: Config) -> None:
    table = replace(LINK_COUNTS_TABLE, conflict=Conflict.IGNORE)
    postgres.migrate(config)
    with SinkStore(config, "s", [table]) as store:
        for count in (1, 2):
            rows = [table.row(cell(0, "a", destination, count * 10 + n), 0) for n, destination in enumerate("bcb")]
            store.write(Batch({table.name: TableRows(table, rows, [])}), {})
    with psycopg.connect(config.dsn) as connection:
        found = connection.execute("SELECT destination, count FROM link_counts ORDER BY 1").fetchall()
    assert found == [("b", 10), ("c", 11)]
