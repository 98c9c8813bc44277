"""Days of many tenants, by way of the cache: what is not kept is fetched in the snapshot that the stamps are of."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, replace

import psycopg

from weir.consumers.analytics.cache import DayCache, Rows, entry_name
from weir.consumers.analytics.rows import Daily, Scope, days
from weir.consumers.analytics.sql import query

#: Of a plan with more tenants no days are kept: an answer has a thousand rows, and would read an entry that is larger.
MAX_TENANTS = 5_000
#: Rows that are read in one go, for each one that is answered with, at most.
_ROWS_EACH = 4
#: Days of which entries are read in one go, at most.
_MOST_DAYS = 512
#: How often days are looked at, four times as many each time, before the rest is asked for past the cache.
_STEPS = 5


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
        """Returns the tenant after which the newest day continues; None: all its tenants are read."""
        return self.after[1] if self.after is not None and self.after[0] < self.end else None


async def asked(connection: psycopg.AsyncConnection, wanted: DailyQuery) -> list[Daily]:
    """The rows, straight from Postgres; one more than `limit` where there are."""
    parameters = {
        "plan": wanted.plan, "start": wanted.start, "end": wanted.before(), "after_tenant": wanted.after_tenant(),
        "percentiles": wanted.percentiles, "limit": wanted.limit + 1,
    }  # fmt: skip
    return await days(connection, "daily", parameters)


async def cached(connection: psycopg.AsyncConnection, scope: Scope, wanted: DailyQuery, cache: DayCache) -> list[Daily]:
    """Returns the rows of a query from the cache, and fetches missing ones. `connection` is in a transaction of one
    snapshot.

    Days are kept whole. So that a short page of a large plan does not read them all, no step has more days than can
    have `_ROWS_EACH` times the page's rows; where one day alone may have more, the cache is left out.
    """
    parameters = {"plan": wanted.plan, "bound": MAX_TENANTS + 1}
    cursor = await connection.execute(query("tenants_state"), parameters)
    state = await cursor.fetchone()
    tenants = state[1] if state is not None else 0
    if not tenants:
        return []
    most = min(_ROWS_EACH * (wanted.limit + 1) // tenants, _MOST_DAYS)
    if state is None or tenants > MAX_TENANTS or most == 0:
        return await asked(connection, wanted)

    async def fetch(missing: list[dt.date]) -> Mapping[dt.date, Rows]:
        parameters = {"days": missing, "plan": wanted.plan, "percentiles": wanted.percentiles}
        found: dict[dt.date, Rows] = {day: [] for day in missing}
        for row in await days(connection, "days", parameters):
            found[row.day].append(row)
        return found

    rows: list[Daily] = []
    end, at_once = wanted.before(), min(wanted.limit // tenants + 2, most)
    for _ in range(_STEPS):
        left = {"start": wanted.start, "end": end, "limit": at_once, "plan": wanted.plan}
        stamps = await (await connection.execute(query("day_stamps"), left)).fetchall()
        names = {
            day: entry_name(day, stamp, state[0], wanted.plan, scope.text, wanted.percentiles) for day, stamp in stamps
        }
        kept = await cache.days(names, fetch) if names else {}
        for day in names:
            rows += _after(kept[day], wanted) if _cut(wanted, day) else kept[day]
        if len(names) < at_once or len(rows) > wanted.limit:
            return rows[: wanted.limit + 1]
        end, at_once = min(names), min(4 * at_once, most)
    rest = replace(wanted, end=end, limit=wanted.limit - len(rows), after=None)  # days with few of the plan's tenants
    return rows + await asked(connection, rest)


def _cut(wanted: DailyQuery, day: dt.date) -> bool:
    return wanted.after is not None and wanted.after[0] == day


def _after(rows: Rows, wanted: DailyQuery) -> Rows:
    tenant = wanted.after_tenant() or 0
    return [row for row in rows if row.tenant_id > tenant]
