"""Tenants and their events in Postgres, with what they come to per day, written as the sink does."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import psycopg
from datasketches import kll_floats_sketch
from psycopg import sql

from weir.consumers.analytics.events import EventQuery
from weir.consumers.analytics.repository import AnalyticsRepository
from weir.consumers.analytics.rows import Daily, Event, Scope
from weir.infra import postgres
from weir.infra.config import Config

#: The days that tests write to: around the end of a month.
DAYS = [dt.date(2026, 1, 29) + dt.timedelta(days=n) for n in range(6)]
FIRST, LAST = DAYS[0], DAYS[-1] + dt.timedelta(days=1)


@dataclass(frozen=True)
class Made:
    """An event: at so many milliseconds after the day has begun, processed in so many microseconds."""

    tenant: int
    day: dt.date
    at_ms: int
    us: int
    event_type: str = "login"
    payload: str | None = None

    @property
    def moment(self) -> dt.datetime:
        return dt.datetime.combine(self.day, dt.time(), dt.UTC) + dt.timedelta(milliseconds=self.at_ms)


class Tables:
    """Writes to the tables of one test; knows what it has written."""

    def __init__(self, config: Config) -> None:
        postgres.migrate(config)
        self._connection = postgres.connect(config, "test")
        self.events: list[Made] = []
        self.plans: dict[int, str] = {}

    def close(self) -> None:
        self._connection.close()

    def tenant(self, number: int, plan: str = "enterprise") -> None:
        """A tenant, or another plan of one."""
        self._connection.execute(
            "INSERT INTO tenants (id, plan) VALUES (%s, %s) ON CONFLICT (id) DO UPDATE SET plan = excluded.plan",
            [number, plan],
        )
        self.plans[number] = plan

    def month(self, first: dt.date) -> None:
        """The month's partition of events."""
        last = (first.replace(day=1) + dt.timedelta(days=32)).replace(day=1)
        made = sql.SQL("CREATE TABLE IF NOT EXISTS {} PARTITION OF events FOR VALUES FROM ({}) TO ({})")
        name = sql.Identifier(f"events_{first:%Y%m}")
        self._connection.execute(made.format(name, str(first.replace(day=1)), str(last)))

    def store(self, *events: Made) -> None:
        """Stores events, and brings the days up to date."""
        for month in {event.day.replace(day=1) for event in events}:
            self.month(month)
        groups: dict[tuple[dt.date, int], list[int]] = defaultdict(list)
        for event in [*self.events, *events]:
            groups[event.day, event.tenant].append(event.us)
        touched = {(event.day, event.tenant) for event in events}
        with self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO events (tenant_id, created_at, processing_time, event_type, payload)"
                " VALUES (%s, %s, %s, %s, %s::jsonb)",
                [(e.tenant, e.moment, e.us / 1000, e.event_type, e.payload) for e in events],
            )
            cursor.executemany(
                "INSERT INTO tenant_daily VALUES (%s, %s, %s, %s, %s, %s, %s)"
                " ON CONFLICT (day, tenant_id) DO UPDATE SET events = excluded.events,"
                " sum_us = excluded.sum_us, min_us = excluded.min_us, max_us = excluded.max_us,"
                " sketch = excluded.sketch",
                [_row(tenant, day, groups[day, tenant]) for day, tenant in touched],
            )
            cursor.executemany(
                "INSERT INTO tenant_daily_versions (day, version) VALUES (%s, 1)"
                " ON CONFLICT (day) DO UPDATE SET version = tenant_daily_versions.version + 1",
                [(day,) for day in {day for day, _ in touched}],
            )
        self.events += events

    def expected(self, plan: str | None, start: dt.date = FIRST, end: dt.date = LAST) -> list[tuple[int, dt.date, int]]:
        """(tenant, day, events) as they are to be answered, in order."""
        counts: dict[tuple[int, dt.date], int] = defaultdict(int)
        for event in self.events:
            if start <= event.day < end and plan in (None, self.plans[event.tenant]):
                counts[event.tenant, event.day] += 1
        ordered = sorted(counts, key=lambda place: (-place[1].toordinal(), place[0]))
        return [(tenant, day, counts[tenant, day]) for tenant, day in ordered]

    def execute(self, query: str) -> list[psycopg.rows.TupleRow]:
        """Rows of any query, as the owner of the tables."""
        return self._connection.execute(query.encode()).fetchall()


def shown(rows: Sequence[Daily]) -> list[tuple[int, dt.date, int]]:
    """Returns the rows in the form of `Tables.expected`."""
    return [(row.tenant_id, row.day, row.events) for row in rows]


async def every_event(repository: AnalyticsRepository, tenant: int, wanted: EventQuery) -> list[Event]:
    """A tenant's events, page after page."""
    page = await repository.events(Scope.of(tenant), tenant, wanted)
    found = list(page.rows)
    while page.next is not None:
        page = await repository.events(Scope.of(tenant), tenant, replace(wanted, after=page.next))
        found += page.rows
    return found


def _row(tenant: int, day: dt.date, times: list[int]) -> tuple[object, ...]:
    sketch = kll_floats_sketch(200)
    for time in times:
        sketch.update(float(time))
    return tenant, day, len(times), sum(times), min(times), max(times), sketch.serialize()
