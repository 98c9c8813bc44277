"""Tenants' events as a table: every event a row, and what they come to per day beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from operator import itemgetter
from struct import Struct

import psycopg

from weir.consumers.analytics.day_rollups import TENANT_DAILY, TENANT_DAILY_VERSIONS
from weir.consumers.analytics.plain_rows import PlainEvents
from weir.consumers.sinks.partitions import coming, ensure_months, month_of
from weir.consumers.sinks.table import Conflict, Reference, Row, Table
from weir.infra.config import Config
from weir.infra.runtime.clock import wall_clock
from weir.schemas.dead_letters import Reason
from weir.schemas.errors import PoisonError
from weir.schemas.tenants import TenantEvent, processing_us
from weir.schemas.times import timestamp_ms, to_rfc3339
from weir.schemas.topics import TENANT_EVENTS

_DAY_MS = 86_400_000
#: Postgres counts from 2000-01-01: so many milliseconds after 1970.
_POSTGRES_EPOCH = 946_684_800_000
#: Events per transaction, about: each transaction reads and writes every tenant's row of the day.
_BATCH = 100_000

Clock = Callable[[], int]


def event_row(event: TenantEvent, _: int, limits: tuple[int, int], clock: Clock) -> Row:
    """An event as (tenant, epoch ms, microseconds of processing, type, payload as JSON or None).

    `limits`: milliseconds that it may be behind the clock, and ahead of it. Raises PoisonError beyond them.
    """
    created, now = timestamp_ms(event.created_at), clock()
    behind, ahead = limits
    if created > now + ahead:
        raise PoisonError(
            Reason.TIMESTAMP, f"`created_at` is {to_rfc3339(created)}, ahead of the clock by more than {ahead} ms"
        )
    if created < now - behind:
        raise PoisonError(
            Reason.TIMESTAMP, f"`created_at` is {to_rfc3339(created)}, behind the clock by more than {behind} ms"
        )
    payload = bytes(event.payload)
    return event.tenant_id, created, processing_us(event), event.event_type, None if payload[:1] == b"n" else payload


def encoded(rows: Iterable[Row]) -> Sequence[bytes]:
    """Encodes each row for binary COPY: the number of columns, then each value after its length in bytes (-1: null).

    A time is in microseconds since 2000, a jsonb a 1 and its text.
    """
    return [
        _FIXED(5, 8, tenant, 8, (created - _POSTGRES_EPOCH) * 1000, 8, us / 1000, len(name := event_type.encode()))
        + name
        + (_NULL if payload is None else _JSONB(len(payload) + 1, 1) + payload)
        for tenant, created, us, event_type, payload in rows
    ]


_FIXED = Struct(">hiqiqidi").pack
_JSONB = Struct(">iB").pack
_NULL = b"\xff\xff\xff\xff"


def prepare_months(connection: psycopg.Connection, rows: Sequence[Row], clock: Clock) -> None:
    """Sees to it that each row has a partition to go to, and that the coming months have theirs."""
    days = {row[1] // _DAY_MS for row in rows}
    ensure_months(connection, {month_of(day * _DAY_MS) for day in days} | {*coming(month_of(clock()))})


def tenant_tables(behind: int, ahead: int, clock: Clock = wall_clock) -> tuple[Table, ...]:
    """The declaration, with how many milliseconds an event may be behind the clock and ahead of it."""
    row = partial(event_row, limits=(behind, ahead), clock=clock)
    return (
        Table(
            topic=TENANT_EVENTS,
            name="events",
            columns={
                "tenant_id": "int8",
                "created_at": "timestamptz",
                "processing_time": "float8",
                "event_type": "text",
                "payload": "jsonb",
            },
            key=(),
            row=row,
            conflict=Conflict.APPEND,
            rollups=(TENANT_DAILY, TENANT_DAILY_VERSIONS),
            references=(
                Reference(
                    "tenant_id", "tenants", "id", Reason.UNKNOWN_TENANT, lambda tenant: f"unknown tenant {tenant}"
                ),
            ),
            prepare=partial(prepare_months, clock=clock),
            plain=PlainEvents((behind, ahead), clock).rows,
            encode=encoded,
            order=itemgetter(0),
            batch=_BATCH,
        ),
    )


def analytics_store(config: Config) -> tuple[Table, ...]:
    """Writes tenants' events to Postgres."""
    return tenant_tables(config.analytics.max_age, config.analytics.max_skew)


TENANT_TABLES = analytics_store(Config())
