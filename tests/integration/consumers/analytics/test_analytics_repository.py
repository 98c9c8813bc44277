"""The answers of the repository: days, ranges and events, in pages, within a scope, as of one moment."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TypeVar

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.tenants.tenant_rows import DAYS, FIRST, LAST, Made, Tables, every_event, shown
from weir.consumers.analytics.days import DailyQuery
from weir.consumers.analytics.events import Archive, EventQuery, EventRow, Part
from weir.consumers.analytics.repository import AnalyticsRepository, UnknownTenantError
from weir.consumers.analytics.rows import Daily, Scope
from weir.consumers.analytics.sql import query
from weir.infra import postgres
from weir.infra.config import Config
from weir.infra.errors import PostgresUnavailableError
from weir.schemas.errors import WeirError

T = TypeVar("T")
EVERY = DailyQuery(None, FIRST, LAST, 1_000)
ALL_TIME = EventQuery(dt.datetime(2025, 1, 1, tzinfo=dt.UTC), dt.datetime(2027, 1, 1, tzinfo=dt.UTC), 1_000)


@pytest.fixture
def tables(config: Config) -> Iterator[Tables]:
    made = Tables(config)
    for number in range(1, 10):
        made.tenant(number, "enterprise" if number % 2 else "free")
    yield made
    made.close()


@asynccontextmanager
async def opened(config: Config, archive: Archive | None = None) -> AsyncIterator[AnalyticsRepository]:
    repository = AnalyticsRepository(config, archive=archive)
    await repository.open()
    try:
        yield repository
    finally:
        await repository.close()


def ask(config: Config, question: Callable[[AnalyticsRepository], Awaitable[T]], archive: Archive | None = None) -> T:
    async def asked() -> T:
        async with opened(config, archive) as repository:
            return await question(repository)

    return asyncio.run(asked())


def test_a_day_has_the_exact_figures_and_the_sketchs_percentiles(config: Config, tables: Tables) -> None:
    tables.store(*(Made(7, DAYS[0], n, us) for n, us in enumerate([1, 1_000, 1_000_001])))
    page = ask(config, lambda r: r.daily(Scope.all(), EVERY))
    assert page.rows == [
        Daily(7, DAYS[0], 3, 1001.002, 1_001_002 / 3000, 0.001, 1000.001, p50=1.0, p95=1000.001, p99=1000.001)
    ]
    [row] = ask(config, lambda r: r.daily(Scope.all(), replace(EVERY, percentiles=False))).rows
    assert (row.events, row.p50) == (3, None)


def test_days_come_newest_first_and_pages_lose_and_repeat_nothing(config: Config, tables: Tables) -> None:
    tables.store(*(Made(tenant, day, 0, 1) for tenant in range(1, 10) for day in DAYS if (tenant + day.day) % 3))

    async def pages(repository: AnalyticsRepository, plan: str | None, limit: int) -> list[Daily]:
        found: list[Daily] = []
        wanted = replace(EVERY, plan=plan, limit=limit)
        while True:
            page = await repository.daily(Scope.all(), wanted)
            assert len(page.rows) == limit or page.next is None
            found += page.rows
            if page.next is None:
                return found
            wanted = replace(wanted, after=page.next)

    for plan in ("enterprise", "free", None, "nobody"):
        for limit in (1, 4, 1_000):
            assert shown(ask(config, lambda r: pages(r, plan, limit))) == tables.expected(plan)  # noqa: B023


def test_one_tenants_days_and_their_sum(config: Config, tables: Tables) -> None:
    tables.store(*(Made(3, day, n, 1000 * n) for day in DAYS for n in range(5)), Made(4, DAYS[0], 0, 9))
    page = ask(config, lambda r: r.tenant_daily(Scope.of(3), 3, replace(EVERY, limit=2)))
    assert ([row.day for row in page.rows], page.next) == ([DAYS[-1], DAYS[-2]], (DAYS[-2], 3))
    rest = ask(config, lambda r: r.tenant_daily(Scope.of(3), 3, replace(EVERY, after=page.next)))
    assert ([row.day for row in rest.rows], rest.next) == (DAYS[-3::-1], None)
    total = ask(config, lambda r: r.summary(Scope.of(3), 3, DAYS[1], DAYS[3]))
    assert (total.events, total.sum, total.avg, total.min, total.max, total.p50) == (10, 20.0, 2.0, 0.0, 4.0, 2.0)
    none = ask(config, lambda r: r.summary(Scope.of(3), 3, FIRST, FIRST))
    assert (none.events, none.sum, none.p50) == (0, None, None)


def test_events_come_in_order_of_time_and_of_their_ids(config: Config, tables: Tables) -> None:
    tables.store(*(Made(5, DAYS[n % 6], 250 * (n % 3), n, "ab"[n % 2], f'{{"n": {n}}}') for n in range(60)))
    whole = ask(config, lambda r: r.events(Scope.of(5), 5, ALL_TIME)).rows
    assert len(whole) == 60
    assert [(e.created_at, e.id) for e in whole] == sorted((e.created_at, e.id) for e in whole)
    assert sorted(bytes(e.payload or b"") for e in whole) == sorted(b'{"n": %d}' % n for n in range(60))

    for limit in (1, 7, 60):
        assert ask(config, lambda r: every_event(r, 5, replace(ALL_TIME, limit=limit))) == whole  # noqa: B023
    typed = ask(config, lambda r: r.events(Scope.of(5), 5, replace(ALL_TIME, event_type="b"))).rows
    assert typed == [event for event in whole if event.event_type == "b"]
    start, end = whole[10].created_at, whole[40].created_at
    within = ask(config, lambda r: r.events(Scope.of(5), 5, replace(ALL_TIME, start=start, end=end))).rows
    assert within == [event for event in whole if start <= event.created_at < end]


def test_a_page_of_large_payloads_is_cut_by_its_bytes(config: Config, tables: Tables) -> None:
    tables.store(*(Made(5, DAYS[0], n, n, payload=f'{{"a": "{"x" * 10_000}"}}') for n in range(250)))
    page = ask(config, lambda r: r.events(Scope.of(5), 5, replace(ALL_TIME, max_bytes=100_000)))
    assert 0 < len(page.rows) < 250
    rest = ask(config, lambda r: r.events(Scope.of(5), 5, replace(ALL_TIME, after=page.next)))
    assert rest.rows[0].processing_time == len(page.rows) / 1000


def test_only_the_months_of_the_range_are_looked_at(config: Config, tables: Tables) -> None:
    for number in range(1, 13):
        tables.month(dt.date(2025, number, 1))
    start = dt.datetime(2025, 3, 20, tzinfo=dt.UTC)
    parameters = {"tenant_id": 5, "start": start, "end": start + dt.timedelta(days=20), "after_id": None,
                  "event_type": None, "limit": 10}  # fmt: skip
    with postgres.connect(config, "test") as connection, connection.transaction():
        connection.execute(query("scope"), {"scope": "5", "timeout_ms": "1000"})
        plan = connection.execute(b"EXPLAIN " + query("events"), parameters).fetchall()
    text = "\n".join(line for (line,) in plan)
    assert {number for number in range(1, 13) if f"events_2025{number:02}" in text} == {3, 4}


class Archived:
    """An archive that is a list."""

    def __init__(self, rows: list[EventRow]) -> None:
        self._rows = rows

    async def part(
        self, connection: psycopg.AsyncConnection, tenant_id: int, wanted: EventQuery
    ) -> Callable[[], Part] | None:
        found = [
            row for row in self._rows
            if row[0] == tenant_id and wanted.start <= row[1] < wanted.end
            and (wanted.after is None or (row[1], row[2]) > wanted.after) and wanted.event_type in (None, row[4])
        ]  # fmt: skip
        first = sorted(found, key=lambda row: (row[1], row[2]))[: wanted.limit + 1]
        return lambda: Part(first, len(found) > wanted.limit)


def test_archived_events_come_in_their_place_and_those_in_both_once(config: Config, tables: Tables) -> None:
    tables.store(*(Made(5, day, 250 * n, n) for day in DAYS for n in range(10)))
    whole = ask(config, lambda r: r.events(Scope.of(5), 5, ALL_TIME)).rows
    rows: list[EventRow] = [(e.tenant_id, e.created_at, e.id, e.processing_time, e.event_type, None) for e in whole]
    tables.execute(f"DELETE FROM events WHERE id IN ({','.join(str(row[2]) for row in rows[::3])}) RETURNING id")
    archive = Archived([row for n, row in enumerate(rows) if n % 3 == 0 or n % 5 == 0])

    for limit in (1, 7, 1_000):
        assert ask(config, lambda r: every_event(r, 5, replace(ALL_TIME, limit=limit)), archive) == whole  # noqa: B023


def test_who_is_not_in_the_scope_is_unknown(config: Config, tables: Tables) -> None:
    tables.store(Made(3, DAYS[0], 0, 1), Made(4, DAYS[0], 0, 1))
    for scope in (Scope.of(4), Scope.of()):
        with pytest.raises(UnknownTenantError):
            ask(config, lambda r: r.tenant_daily(scope, 3, EVERY))  # noqa: B023
        with pytest.raises(UnknownTenantError):
            ask(config, lambda r: r.events(scope, 3, ALL_TIME))  # noqa: B023
        with pytest.raises(UnknownTenantError):
            ask(config, lambda r: r.summary(scope, 3, FIRST, LAST))  # noqa: B023
    with pytest.raises(UnknownTenantError):
        ask(config, lambda r: r.tenant_daily(Scope.all(), 99, EVERY))
    assert shown(ask(config, lambda r: r.daily(Scope.of(4, 9), EVERY)).rows) == [(4, DAYS[0], 1)]
    assert ask(config, lambda r: r.daily(Scope.of(), EVERY)).rows == []


def test_a_question_that_takes_too_long_is_ended(config: Config, tables: Tables) -> None:
    async def waits(repository: AnalyticsRepository) -> None:
        async with repository._reading(Scope.all()) as connection:
            await connection.execute("SELECT pg_sleep(20)")

    async def asked() -> None:
        repository = AnalyticsRepository(config, timeout_ms=50)
        await repository.open()
        try:
            await waits(repository)
        finally:
            await repository.close()

    with pytest.raises(PostgresUnavailableError, match="timeout"):
        asyncio.run(asked())


def test_nothing_can_be_written(config: Config, tables: Tables) -> None:
    async def writes(repository: AnalyticsRepository) -> None:
        async with repository._reading(Scope.all()) as connection:
            await connection.execute("DELETE FROM tenants")

    with pytest.raises(PostgresUnavailableError, match="read-only"):
        ask(config, writes)


def test_without_tables_it_is_unavailable(config: Config) -> None:
    with pytest.raises(PostgresUnavailableError):
        ask(config, lambda r: r.check())


#: Hand-written queries that forget whose rows they are for, each of which gives the tenant first.
CARELESS = (
    "SELECT tenant_id FROM events",
    "SELECT tenant_id FROM tenant_daily",
    "SELECT id FROM tenants",
    "SELECT e.tenant_id FROM events AS e JOIN tenants AS t ON true",
    "SELECT (SELECT max(tenant_id) FROM events) FROM tenants",
    "SELECT tenant_id FROM tenant_daily WHERE tenant_id = 4 OR true",
    "WITH found AS MATERIALIZED (SELECT * FROM events) SELECT tenant_id FROM found",
    "SELECT tenant_id FROM (SELECT tenant_id FROM tenant_daily UNION ALL SELECT tenant_id FROM events) AS u",
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(scope=st.sets(st.integers(1, 12)), careless=st.sampled_from(CARELESS))
def test_row_level_security_holds_the_scope_where_the_sql_forgets_it(
    config: Config, filled: psycopg.Connection, scope: set[int], careless: str
) -> None:
    with filled.transaction():
        filled.execute(query("scope"), {"scope": Scope.of(*scope).text, "timeout_ms": "5000"})
        found = {tenant for (tenant,) in filled.execute(careless.encode()).fetchall()}
    assert found <= scope | {None}
    assert found or not scope & set(range(1, 10))


@pytest.fixture
def filled(config: Config, tables: Tables) -> Iterator[psycopg.Connection]:
    tables.store(*(Made(tenant, day, 0, 1) for tenant in range(1, 10) for day in DAYS))
    with postgres.connect(config, "test") as connection:
        yield connection


def test_the_scope_ends_with_the_transaction_and_without_one_nothing_is_seen(filled: psycopg.Connection) -> None:
    with filled.transaction():
        filled.execute(query("scope"), {"scope": "4", "timeout_ms": "5000"})
        filled.execute("SELECT tenant_id FROM events").fetchall()
    for unset in ("", "RESET weir.tenants", "SET weir.tenants = ''"):
        with filled.transaction():
            if unset:
                filled.execute(unset.encode())
            filled.execute("SET LOCAL ROLE weir_reader")
            assert filled.execute("SELECT tenant_id FROM events").fetchall() == []
    with filled.transaction():
        filled.execute("SET LOCAL ROLE weir_reader")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):  # it has no policy of its own, and no grant
            filled.execute("SELECT tenant_id FROM events_202601")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_question_gives_another_tenants_rows(
    config: Config, filled: psycopg.Connection, data: st.DataObject
) -> None:
    text = st.text(max_size=12) | st.sampled_from(["enterprise", "' OR true --", "'; RESET ROLE; --", "%(plan)s"])
    days = st.sampled_from(DAYS) | st.dates()
    moments = st.datetimes(timezones=st.just(dt.UTC))
    scope = data.draw(st.sets(st.integers(1, 12), max_size=4))
    tenant = data.draw(st.integers(1, 2**63 - 1) | st.integers(1, 12))
    wanted = DailyQuery(
        data.draw(st.none() | text), data.draw(days), data.draw(days), data.draw(st.integers(1, 50)),
        data.draw(st.none() | st.tuples(days, st.integers(1, 2**63 - 1))), data.draw(st.booleans()),
    )  # fmt: skip
    raw = EventQuery(
        data.draw(moments), data.draw(moments), wanted.limit, data.draw(st.none() | text),
        data.draw(st.none() | st.tuples(moments, st.integers(1, 2**63 - 1))),
    )  # fmt: skip

    async def questions(repository: AnalyticsRepository) -> set[int]:
        allowed, found = Scope.of(*scope), set()
        for asked in (
            repository.daily(allowed, wanted), repository.daily(allowed, EVERY),
            repository.tenant_daily(allowed, tenant, wanted), repository.tenant_daily(allowed, tenant, EVERY),
            repository.events(allowed, tenant, raw), repository.events(allowed, tenant, ALL_TIME),
        ):  # fmt: skip
            try:
                found |= {row.tenant_id for row in (await asked).rows}
            except WeirError:  # unknown, or a text that Postgres cannot have
                continue
        return found

    assert ask(config, questions) <= scope
