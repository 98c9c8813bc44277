"""A tenant's events by time: from Postgres, and from the archive those of months that are there no longer."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
import psycopg

from weir.consumers.analytics.rows import Event, EventPage
from weir.consumers.analytics.sql import query

#: The payloads that one source gives for a page come to so many bytes, and one more batch: each may have 256 KB.
MAX_PAGE_BYTES = 16 << 20
#: Rows that are fetched at a time.
_FEW, _MANY = 20, 1_000

#: tenant_id, created_at, id, processing_time, event_type, payload as text.
EventRow = Sequence[Any]


@dataclass(frozen=True)
class EventQuery:
    """Events from `start` to before `end`, of one type (None: of any), `limit` at most, after `after` (time, id)."""

    start: dt.datetime
    end: dt.datetime
    limit: int
    event_type: str | None = None
    after: tuple[dt.datetime, int] | None = None
    max_bytes: int = MAX_PAGE_BYTES


@dataclass
class Part:
    """Rows of one source, in order; `cut`: it may have more behind the last of them."""

    rows: Sequence[EventRow]
    cut: bool


class Archive(Protocol):
    """Where events are whose months Postgres has no longer."""

    async def part(
        self, connection: psycopg.AsyncConnection, tenant_id: int, wanted: EventQuery
    ) -> Callable[[], Part] | None:
        """Returns a function that reads a tenant's archived events, as `connection`'s transaction sees them; None if
        there are none.

        What is given blocks, and needs no connection. Its rows are in order of (created_at, id), in the columns of
        table events.
        """
        ...


async def parts(
    connection: psycopg.AsyncConnection, tenant_id: int, wanted: EventQuery, archive: Archive | None
) -> tuple[Part, Callable[[], Part] | None]:
    """Returns the events in Postgres, and a function that reads the rest. `connection` is in a READ COMMITTED
    transaction.

    Postgres is asked first, and holds on to its months until the transaction ends: one that it has no longer is in the
    archive by the time that this is asked. What both have counts once.
    """
    stored = await _stored(connection, tenant_id, wanted)
    return stored, None if archive is None else await archive.part(connection, tenant_id, wanted)


def page(parts: Sequence[Part], limit: int) -> EventPage:
    """The first rows of all sources together, as far as they are known: up to where the first one is cut."""
    known = min((_place(part.rows[-1]) for part in parts if part.cut), default=None)
    merged = {_place(row): row for part in parts for row in part.rows}
    places = sorted(place for place in merged if known is None or place <= known)
    chosen = places[:limit]
    more = known is not None or len(places) > limit
    return EventPage([_event(merged[place]) for place in chosen], chosen[-1] if more else None)


async def _stored(connection: psycopg.AsyncConnection, tenant_id: int, wanted: EventQuery) -> Part:
    after = wanted.after if wanted.after is not None and wanted.after[0] >= wanted.start else None
    parameters = {
        "tenant_id": tenant_id, "start": wanted.start if after is None else after[0], "end": wanted.end,
        "after_id": None if after is None else after[1], "event_type": wanted.event_type, "limit": wanted.limit + 1,
    }  # fmt: skip
    rows: list[EventRow] = []
    size, at_once = 0, _FEW
    async with connection.cursor("events", binary=True) as cursor:
        await cursor.execute(query("events"), parameters)
        while batch := await cursor.fetchmany(at_once):
            rows += batch
            size += sum(len(row[5]) for row in batch if row[5] is not None)
            if size > wanted.max_bytes:
                return Part(rows, True)
            at_once = _MANY if size * _MANY < len(rows) << 20 else _FEW  # of a megabyte at most
    return Part(rows, len(rows) > wanted.limit)


def _place(row: EventRow) -> tuple[dt.datetime, int]:
    return row[1], row[2]


def _event(row: EventRow) -> Event:
    tenant_id, created_at, number, processing_time, event_type, payload = row
    raw = None if payload is None else msgspec.Raw(payload.encode())
    return Event(tenant_id, created_at, number, processing_time, event_type, raw)
