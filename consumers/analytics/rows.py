"""Rows and pages of tenants' analytics, and the scope of tenants that a caller may see."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import msgspec
import psycopg

from weir.consumers.analytics.sql import query
from weir.infra.runtime.threads import in_daemon
from weir.schemas.aggregates import library
from weir.schemas.metrics import RANKS
from weir.schemas.tenants import MAX_TENANT

#: A row of tenant_daily as it is asked for: tenant_id, day, events, sum_us, min_us, max_us, sketch or None.
DayRow = Sequence[Any]
#: Rows that are fetched, and whose sketches are read, at a time.
_PIECE = 1_000

R = TypeVar("R")
P = TypeVar("P")


@dataclass(frozen=True)
class Scope:
    """Whose rows may be seen; Postgres itself holds it. `text` is what the setting `weir.tenants` says."""

    text: str

    @staticmethod
    def of(*tenants: int) -> Scope:
        """These tenants; of none, nothing. Raises ValueError for what is not a tenant's number.

        >>> Scope.of(9, 7, 9)
        Scope(text='7,9')
        """
        for tenant in tenants:
            if isinstance(tenant, bool) or not isinstance(tenant, int) or not 1 <= tenant <= MAX_TENANT:
                raise ValueError(f"{tenant!r} is not a tenant's number")
        return Scope(",".join(map(str, sorted(set(tenants)))))

    @staticmethod
    def all() -> Scope:
        """Every tenant."""
        return Scope("*")


class Daily(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Aggregate of a tenant's events of one UTC day, in milliseconds; percentiles are estimates, or left out."""

    tenant_id: int
    day: dt.date
    events: int
    sum: float
    avg: float
    min: float
    max: float
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


class Summary(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, rename={"start": "from", "end": "to"}):
    """Aggregate of a tenant's events of the days from `start` to before `end`; without events it has only the count."""

    tenant_id: int
    start: dt.date
    end: dt.date
    events: int
    sum: float | None = None
    avg: float | None = None
    min: float | None = None
    max: float | None = None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event as it was taken in: `processing_time` in milliseconds, `payload` JSON or None."""

    tenant_id: int
    created_at: dt.datetime
    id: int
    processing_time: float
    event_type: str
    payload: msgspec.Raw | None


@dataclass(frozen=True)
class Page(Generic[R, P]):
    """Page of rows in order; `next` is the place after which the next page begins, None for the last page."""

    rows: list[R]
    next: P | None


#: Days, newest first: the place is a day and tenant.
DailyPage = Page[Daily, tuple[dt.date, int]]
#: Events in order of time: the place is a time and id.
EventPage = Page[Event, tuple[dt.datetime, int]]


async def pieces(
    connection: psycopg.AsyncConnection, name: str, parameters: Mapping[str, object]
) -> AsyncGenerator[list[DayRow], None]:
    """The rows of a query of days as they come, so that there are few sketches at a time. In a transaction."""
    async with connection.cursor("days", binary=True) as cursor:
        await cursor.execute(query(name), parameters)
        while rows := await cursor.fetchmany(_PIECE):
            yield list(rows)


async def days(connection: psycopg.AsyncConnection, name: str, parameters: Mapping[str, object]) -> list[Daily]:
    """Returns all days of a query. Reads sketches in a thread, since a thousand of them would block the event loop."""
    shown: list[Daily] = []
    async with aclosing(pieces(connection, name, parameters)) as found:
        async for rows in found:
            shown += await in_daemon(partial(_shown, rows))
    return shown


def _shown(rows: Iterable[DayRow]) -> list[Daily]:
    return [daily(row) for row in rows]


def daily(row: DayRow) -> Daily:
    """A row of tenant_daily, shown. The average is the exact one, rounded once."""
    tenant_id, day, events, sum_us, min_us, max_us, sketch = row
    total = int(sum_us)
    shown = (tenant_id, day, events, total / 1000, total / (1000 * events), min_us / 1000, max_us / 1000)
    return Daily(*shown) if sketch is None else Daily(*shown, *_percentiles(_read(sketch), min_us, max_us))


def summary(tenant_id: int, start: dt.date, end: dt.date, rows: Iterable[DayRow]) -> Summary:
    """The rows of one tenant's days, added up; their sketches merged."""
    merged = library().kll_floats_sketch(200)
    events, total, least, most = 0, 0, None, None
    for _, _, count, sum_us, min_us, max_us, sketch in rows:
        events += count
        total += int(sum_us)
        least = min_us if least is None else min(least, min_us)
        most = max_us if most is None else max(most, max_us)
        merged.merge(_read(sketch))
    if least is None or most is None:
        return Summary(tenant_id, start, end, 0)
    percentiles = _percentiles(merged, least, most)
    shown = (total / 1000, total / (1000 * events), least / 1000, most / 1000)
    return Summary(tenant_id, start, end, events, *shown, *percentiles)


def _percentiles(sketch: Any, least: int, most: int) -> Iterable[float]:
    """Returns the percentiles in milliseconds. A sketch holds 32-bit values, so the extremes come from the exact
    figures.
    """
    return [min(max(value, least), most) / 1000 for value in sketch.get_quantiles(list(RANKS), True)]


def _read(sketch: bytes) -> Any:
    return library().kll_floats_sketch.deserialize(sketch)
