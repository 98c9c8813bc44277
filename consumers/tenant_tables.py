"""Tenants' events as a table: every event a row, and what they come to per day beside it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from operator import itemgetter
from struct import Struct

import psycopg

from consumers.event_partitions import AHEAD, ensure_months, month_of
from consumers.tables import Conflict, Reference, Row, Table
from consumers.tenant_days import TENANT_DAILY, TENANT_DAILY_VERSIONS
from consumers.tenant_plain import PlainEvents
from infra.config import Config
from schemas.dead_letters import Reason
from schemas.errors import PoisonError
from schemas.tenants import TenantEvent, processing_us
from schemas.times import timestamp_ms, to_rfc3339
from schemas.topics import TENANT_EVENTS

_DAY_MS = 86_400_000
#: Postgres counts from 2000-01-01: so many milliseconds after 1970.
_POSTGRES_EPOCH = 946_684_800_000
#: Events per transaction, about: each transaction reads and writes every tenant's row of the day.
_BATCH = 100_000

Clock = Callable[[], int]


def _clock() -> int:
    """Epoch milliseconds."""
    return time.time_ns() // 1_000_000


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
    """Each row as binary COPY has it: the number of columns, then each value after its length in bytes (-1: null).

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
    now = month_of(clock())
    days = {row[1] // _DAY_MS for row in rows}
    ensure_months(connection, {month_of(day * _DAY_MS) for day in days} | set(range(now, now + AHEAD + 1)))


def tenant_tables(behind: int, ahead: int, clock: Clock = _clock) -> tuple[Table, ...]:
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
                    "tenant_id", "tenants", "id", Reason.UNKNOWN_TENANT, lambda tenant: f"there is no tenant {tenant}"
                ),
            ),
            prepare=partial(prepare_months, clock=clock),
            plain=PlainEvents((behind, ahead), clock).rows,
            encode=encoded,
            order=itemgetter(0),
            batch=_BATCH,
        ),
    )


def configured(config: Config) -> tuple[Table, ...]:
    """The declaration with the configured limits."""
    return tenant_tables(config.analytics_max_age, config.analytics_max_skew)


TENANT_TABLES = configured(Config())
