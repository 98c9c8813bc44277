"""The HTTP API in one service: links, tables, tenants' analytics, and whether it can answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import psycopg
from aiohttp import web
from psycopg_pool import AsyncConnectionPool

from weir.consumers.analytics.cache import DayCache, MemoryStore
from weir.consumers.analytics.repository import AnalyticsRepository
from weir.consumers.analytics.routes import AnalyticsApi
from weir.consumers.api.table_proxy import TableProxy
from weir.consumers.archive.reader import ArchiveReader
from weir.consumers.links.progress import link_progress
from weir.consumers.links.routes import LinksApi, postgres_away
from weir.infra import postgres
from weir.infra.config import Config
from weir.infra.errors import PostgresUnavailableError
from weir.infra.http import HttpLimits
from weir.infra.http.endpoint import HttpEndpoint
from weir.infra.http.responses import json_response
from weir.infra.kafka.table_info import TableInfo
from weir.infra.progress.chain import Chain
from weir.infra.redis import RedisStore
from weir.infra.runtime.lifecycle import BackgroundWork, Closing, ServiceLifecycle
from weir.infra.runtime.threads import in_daemon

#: Seconds that a request waits for a connection to Postgres.
_PATIENCE = 2.0
#: Seconds that running requests have to end when the server stops.
_SHUTDOWN = 2.0
#: Seconds that connections to Postgres have to end.
_CLOSES = 1.0


class Api:
    """Serves `GET /links`, `/tables`, `/analytics` and `/health` at the configured host and port.

    `tables` are those of the jobs that are known, `chain` says how calls come into the topics of links. Raises
    ConfigError for an address that is none.
    """

    def __init__(self, config: Config, tables: Sequence[TableInfo], chain: Chain) -> None:
        self._config = config
        self._tables = TableProxy(config, tables)
        self._progress = link_progress(config, self._connection, chain)
        self._archive = ArchiveReader(config)
        self._analytics = AnalyticsRepository(config, cache(config), self._archive)
        self._pool: AsyncConnectionPool[psycopg.AsyncConnection] = AsyncConnectionPool(
            postgres.conninfo(config, "weir-api", {"statement_timeout": "10s"}),
            kwargs={"autocommit": True},
            # None is kept ready, and a failed attempt ends with its request: the pool's own retries grow so rare that
            # a Postgres that is back would stay unused for minutes.
            min_size=0,
            max_size=8,
            reconnect_timeout=1.0,
            timeout=_PATIENCE,
            check=AsyncConnectionPool.check_connection,
            open=False,
        )

    async def run(self) -> None:
        """Serves until cancelled. Raises PortTakenError."""
        port, limits = self._config.api.port, HttpLimits.of(self._config.http)
        lifecycle = ServiceLifecycle(self._config, "api", address=f"http://{self._config.host}:{port}")
        routes = [
            *LinksApi(self._connection, lag=self._progress.lag).routes(),
            *AnalyticsApi(self._analytics, limits=limits).routes(),
            *self._tables.routes(),
            web.get("/health", self._health),
        ]
        endpoint = HttpEndpoint(self._config, port, "WEIR_API_PORT", routes, lifecycle, shutdown=_SHUTDOWN)
        await self._pool.open()
        await self._analytics.open()
        await lifecycle.run(
            endpoint,
            BackgroundWork(self._progress.work, self._tables.close),
            Closing(self._analytics.close),
            Closing(lambda: self._pool.close(timeout=_CLOSES)),
            Closing(lambda: in_daemon(self._archive.close)),
        )

    async def _health(self, _: web.Request) -> web.Response:
        try:
            async with self._connection() as connection:
                with postgres.translated():
                    await connection.execute("SELECT FROM closed_windows LIMIT 0")
        except PostgresUnavailableError as e:
            return postgres_away(e)
        return json_response(200, {"status": "ok"})

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[psycopg.AsyncConnection]:
        with postgres.translated():
            connection = await self._pool.getconn()
        try:
            yield connection
        finally:
            await self._pool.putconn(connection)


def cache(config: Config) -> DayCache | None:
    """Returns the cache of tenants' days, in Redis or in this process; None if the settings ask for neither."""
    if config.redis.url is not None:
        return DayCache(RedisStore(config.redis.url))
    return DayCache(MemoryStore(config.analytics.cache)) if config.analytics.cache else None
