"""Queries of tenants' events: per day, over a range of days, and the events themselves.

Each question is one READ ONLY transaction as the role weir_reader, within a scope of tenants that row-level security
holds whatever the SQL says, and with a timeout of its own. Days come from tenant_daily, which the sink keeps in the
transaction that stores the events: today's are in it, and the answer is of one moment.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import psycopg
from psycopg_pool import AsyncConnectionPool

from weir.consumers.analytics.cache import DayCache
from weir.consumers.analytics.days import DailyQuery, asked, cached
from weir.consumers.analytics.events import Archive, EventQuery, Part, page, parts
from weir.consumers.analytics.rows import Daily, DailyPage, EventPage, Scope, Summary, days, pieces, summary
from weir.consumers.analytics.sql import query
from weir.infra import postgres
from weir.infra.config import Config
from weir.infra.errors import ArchiveUnavailableError, PostgresUnavailableError
from weir.infra.runtime.threads import in_daemon
from weir.schemas.errors import WeirError

#: How long Postgres may work on one question, in milliseconds, and how long a question waits for a connection, in s.
STATEMENT_TIMEOUT_MS = 10_000
_PATIENCE = 2.0
#: How long a question waits for the archive's files, in seconds, and how many at once may read them.
ARCHIVE_S, ARCHIVE_READS = 10.0, 3
_REPEATABLE = psycopg.IsolationLevel.REPEATABLE_READ
_COMMITTED = psycopg.IsolationLevel.READ_COMMITTED


class UnknownTenantError(WeirError):
    """Raised for a tenant that does not exist."""


class AnalyticsRepository:
    """Asks through a pool of connections, which is open between `open` and `close`. Of one event loop.

    `archive` has the months that are no longer in Postgres; `cache` keeps days of many tenants. Every question raises
    PostgresUnavailableError; those about one tenant raise UnknownTenantError where the scope has none of that number.
    """

    def __init__(
        self,
        config: Config,
        cache: DayCache | None = None,
        archive: Archive | None = None,
        timeout_ms: int = STATEMENT_TIMEOUT_MS,
        connections: int = 8,
        archive_s: float = ARCHIVE_S,
    ) -> None:
        self._cache = cache
        self._archive = archive
        self._timeout_ms = timeout_ms
        self._archive_s = archive_s
        self._reads = asyncio.Semaphore(ARCHIVE_READS)
        self._pool: AsyncConnectionPool[psycopg.AsyncConnection] = AsyncConnectionPool(
            # Plans are made anew for each question: which months and how many tenants it is about decides. Compiling
            # them takes longer than any of these runs.
            postgres.conninfo(config, "weir-analytics", {"jit": "off"}),
            kwargs={"autocommit": True, "prepare_threshold": None},
            min_size=0,
            max_size=connections,
            reconnect_timeout=1.0,
            timeout=_PATIENCE,
            configure=_configured,
            check=AsyncConnectionPool.check_connection,
            open=False,
        )

    async def open(self) -> None:
        """Makes the pool ready; connections are made when they are needed."""
        await self._pool.open()

    async def close(self) -> None:
        """Closes all connections, and the cache's."""
        await self._pool.close(timeout=1.0)
        if self._cache is not None:
            await self._cache.close()

    async def daily(self, scope: Scope, wanted: DailyQuery, keep: bool = True) -> DailyPage:
        """Returns the daily aggregates of each tenant on a plan, newest day first, then by tenant.

        Not `keep`: past the cache, which would have to make room for what nobody asks for again.
        """
        async with self._reading(scope) as connection:
            if self._cache is None or not keep:
                rows = await asked(connection, wanted)
            else:
                rows = await cached(connection, scope, wanted, self._cache)
        return _page(rows, wanted.limit)

    async def tenant_daily(self, scope: Scope, tenant_id: int, wanted: DailyQuery) -> DailyPage:
        """Returns the daily aggregates of one tenant, newest first; ignores `wanted.plan`."""
        end = wanted.end if wanted.after is None else min(wanted.end, wanted.after[0])
        async with self._of_tenant(scope, tenant_id) as connection:
            parameters = {
                "tenant_id": tenant_id, "start": wanted.start, "end": end, "percentiles": wanted.percentiles,
                "limit": wanted.limit + 1,
            }  # fmt: skip
            return _page(await days(connection, "tenant_daily", parameters), wanted.limit)

    async def summary(self, scope: Scope, tenant_id: int, start: dt.date, end: dt.date) -> Summary:
        """Returns the aggregate of one tenant's events of the days from `start` to before `end`."""
        async with self._of_tenant(scope, tenant_id) as connection:
            parameters = {"tenant_id": tenant_id, "start": start, "end": end, "percentiles": True, "limit": None}
            rows = [row async for piece in pieces(connection, "tenant_daily", parameters) for row in piece]
        return await in_daemon(lambda: summary(tenant_id, start, end, rows))

    async def events(self, scope: Scope, tenant_id: int, wanted: EventQuery) -> EventPage:
        """Returns one tenant's events in order of time. Raises ArchiveUnavailableError if archived events cannot be
        read.
        """
        async with self._of_tenant(scope, tenant_id, _COMMITTED) as connection:
            stored, rest = await parts(connection, tenant_id, wanted, self._archive)
        # Without the connection: a store that hangs keeps nobody from Postgres.
        return page([stored] if rest is None else [stored, await self._read(rest)], wanted.limit)

    async def _read(self, rest: Callable[[], Part]) -> Part:
        """Returns the result of `rest`. A read that hangs keeps its slot until it ends, even when no caller waits for
        it any more.
        """

        def ended(reading: asyncio.Task[Part]) -> None:
            self._reads.release()
            if not reading.cancelled():
                reading.exception()  # of one that nobody waits for, it is not a lost one

        try:
            async with asyncio.timeout(self._archive_s):
                await self._reads.acquire()
                reading = asyncio.create_task(in_daemon(rest))
                reading.add_done_callback(ended)
                return await asyncio.shield(reading)
        except TimeoutError as e:
            raise ArchiveUnavailableError(f"the archive did not answer within {self._archive_s:g} s") from e

    async def check(self) -> None:
        """Raises PostgresUnavailableError where nothing can be asked: its tables are missing, say."""
        async with self._reading(Scope.of()) as connection:
            await connection.execute(query("tenants_state"), {"plan": None, "bound": 1})

    @asynccontextmanager
    async def _of_tenant(
        self, scope: Scope, tenant_id: int, isolation: psycopg.IsolationLevel = _REPEATABLE
    ) -> AsyncIterator[psycopg.AsyncConnection]:
        async with self._reading(scope, isolation) as connection:
            cursor = await connection.execute(query("tenant"), {"tenant_id": tenant_id})
            if await cursor.fetchone() is None:
                raise UnknownTenantError(f"unknown tenant {tenant_id}")
            yield connection

    @asynccontextmanager
    async def _reading(
        self, scope: Scope, isolation: psycopg.IsolationLevel = _REPEATABLE
    ) -> AsyncIterator[psycopg.AsyncConnection]:
        """A connection in a transaction that reads within the scope."""
        with postgres.translated():
            async with self._pool.connection() as connection:
                await connection.set_isolation_level(isolation)
                async with connection.transaction():
                    parameters = {"scope": scope.text, "timeout_ms": str(self._timeout_ms)}
                    try:
                        await connection.execute(query("scope"), parameters)
                    except psycopg.errors.InvalidParameterValue as e:
                        raise PostgresUnavailableError(f"`weir migrate` has not run yet: {e}") from e
                    yield connection


async def _configured(connection: psycopg.AsyncConnection) -> None:
    await connection.set_read_only(True)


def _page(rows: list[Daily], limit: int) -> DailyPage:
    last = rows[limit - 1] if len(rows) > limit else None
    return DailyPage(rows[:limit], None if last is None else (last.day, last.tenant_id))
