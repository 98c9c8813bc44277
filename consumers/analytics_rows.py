"""What the tenants' analytics answer with: rows, pages of them, and in whose name somebody asks."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Generic, TypeVar

import msgspec
import psycopg

from consumers.sql import query
from infra.threads import in_daemon
from schemas.metrics import RANKS
from schemas.tenants import MAX_TENANT

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
        """These tenants; of none, nothing. Raises ValueError for what is no tenant's number.

        >>> Scope.of(9, 7, 9)
        Scope(text='7,9')
        """
        for tenant in tenants:
            if isinstance(tenant, bool) or not isinstance(tenant, int) or not 1 <= tenant <= MAX_TENANT:
                raise ValueError(f"{tenant!r} is no tenant's number")
        return Scope(",".join(map(str, sorted(set(tenants)))))

    @staticmethod
    def all() -> Scope:
        """Every tenant."""
        return Scope("*")


class Daily(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What a tenant's events of one UTC day come to, in milliseconds; percentiles are estimates, or left out."""

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
    """What a tenant's events of the days from `start` to before `end` come to; of none there is only the count."""

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
    """Rows in their order; `next` is the place after which the rest begins, None where there is none."""

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
    """All of them, shown. Sketches are read in a thread: a thousand take longer than others can wait."""
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
    merged = _library().kll_floats_sketch(200)
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
    """In milliseconds. A sketch has its values in 32 bits: the ends are those that are known exactly."""
    return [min(max(value, least), most) / 1000 for value in sketch.get_quantiles(list(RANKS), True)]


def _read(sketch: bytes) -> Any:
    return _library().kll_floats_sketch.deserialize(sketch)


@cache
def _library() -> Any:
    import datasketches  # type: ignore[import-untyped]  # it imports numpy: 0.2 s

    return datasketches
