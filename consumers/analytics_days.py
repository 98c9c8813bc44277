"""Days of many tenants, by way of the cache: what is not kept is fetched in the snapshot that the stamps are of."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

import psycopg

from consumers.analytics_cache import DayCache, Rows, entry_name
from consumers.analytics_rows import Daily, Scope, daily
from consumers.sql import query

#: Of a plan with more tenants no days are kept: an answer has a thousand rows, and would read an entry that is larger.
MAX_TENANTS = 5_000
#: How many days are looked at first, and at most, in one go; four times as many each time.
_FIRST_DAYS, _MOST_DAYS = 8, 512


@dataclass(frozen=True)
class DailyQuery:
    """Days from `start` to before `end` of the tenants on `plan` (None: any), `limit` rows at most, after `after`."""

    plan: str | None
    start: dt.date
    end: dt.date
    limit: int
    after: tuple[dt.date, int] | None = None
    percentiles: bool = True

    def before(self) -> dt.date:
        """The end of the days that are left to be answered for."""
        if self.after is None or self.after[0] >= self.end:
            return self.end
        return self.after[0] + dt.timedelta(days=1)

    def after_tenant(self) -> int | None:
        """Of the last of these days, only tenants after this one are left; None: all."""
        return self.after[1] if self.after is not None and self.after[0] < self.end else None


async def asked(connection: psycopg.AsyncConnection, wanted: DailyQuery) -> list[Daily]:
    """The rows, straight from Postgres; one more than `limit` where there are."""
    parameters = {
        "plan": wanted.plan, "start": wanted.start, "end": wanted.before(), "after_tenant": wanted.after_tenant(),
        "percentiles": wanted.percentiles, "limit": wanted.limit + 1,
    }  # fmt: skip
    cursor = await connection.cursor(binary=True).execute(query("daily"), parameters)
    return [daily(row) for row in await cursor.fetchall()]


async def cached(connection: psycopg.AsyncConnection, scope: Scope, wanted: DailyQuery, cache: DayCache) -> list[Daily]:
    """The same rows. `connection` is in a transaction of one snapshot, in which they are what is answered."""
    parameters = {"plan": wanted.plan, "bound": MAX_TENANTS + 1}
    cursor = await connection.execute(query("tenants_state"), parameters)
    state = await cursor.fetchone()
    if state is None or state[1] > MAX_TENANTS:
        return await asked(connection, wanted)

    async def fetch(days: list[dt.date]) -> Mapping[dt.date, Rows]:
        parameters = {"days": days, "plan": wanted.plan, "percentiles": wanted.percentiles}
        found: dict[dt.date, Rows] = {day: [] for day in days}
        for row in await (await connection.cursor(binary=True).execute(query("days"), parameters)).fetchall():
            found[row[1]].append(daily(row))
        return found

    rows: list[Daily] = []
    end, at_once = wanted.before(), _FIRST_DAYS
    while len(rows) <= wanted.limit:
        left = {"start": wanted.start, "end": end, "limit": at_once}
        stamps = await (await connection.execute(query("day_stamps"), left)).fetchall()
        names = {
            day: entry_name(day, stamp, state[0], wanted.plan, scope.text, wanted.percentiles) for day, stamp in stamps
        }
        days = await cache.days(names, fetch) if names else {}
        for day in names:
            rows += days[day] if rows or not _cut(wanted, day) else _after(days[day], wanted)
        if len(names) < at_once:
            break
        end, at_once = min(names), min(4 * at_once, _MOST_DAYS)
    return rows[: wanted.limit + 1]


def _cut(wanted: DailyQuery, day: dt.date) -> bool:
    return wanted.after is not None and wanted.after[0] == day


def _after(rows: Rows, wanted: DailyQuery) -> Rows:
    tenant = wanted.after_tenant() or 0
    return [row for row in rows if row.tenant_id > tenant]
