"""The HTTP API in one service: links, tables, tenants' analytics, and whether it can answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from aiohttp import web
from psycopg_pool import AsyncConnectionPool

from consumers.analytics_cache import DayCache, MemoryStore
from consumers.analytics_repository import AnalyticsRepository
from consumers.analytics_routes import AnalyticsApi
from consumers.archive_reader import ArchiveReader
from consumers.links_api import LinksApi, json_response, unavailable
from consumers.table_proxy import TableProxy
from infra import log, postgres
from infra.config import Config
from infra.errors import PortTakenError, PostgresUnavailableError
from infra.redis import RedisStore
from infra.status import StatusFile

#: Seconds that a request waits for a connection to Postgres.
_PATIENCE = 2.0
#: Seconds that running requests have to end when the server stops.
_SHUTDOWN = 2.0

_log = log.get(__name__)


class Api:
    """Serves `GET /links`, `/tables`, `/analytics` and `/health` at the configured host and port.

    Raises ConfigError for an address that is none.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._tables = TableProxy(config)
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
        app = web.Application()
        app.router.add_routes(LinksApi(self._connection).routes())
        app.router.add_routes(AnalyticsApi(self._analytics).routes())
        app.router.add_get("/tables/{rest:.*}", self._tables.handle)
        app.router.add_get("/health", self._health)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN)
        host, port = self._config.host, self._config.api_port
        address = f"http://{host}:{port}"
        status = StatusFile(self._config, "api", address)
        await self._pool.open()
        await self._analytics.open()
        try:
            await runner.setup()
            try:
                await web.TCPSite(runner, host, port).start()
            except OSError as e:
                raise PortTakenError(f"{address} cannot be had (WEIR_API_PORT): {e.strerror}") from e
            status.set("running")
            _log.info("api.running", address=address)
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()
            await self._tables.close()
            await self._analytics.close()
            await self._pool.close()
            self._archive.close()
            status.remove()

    async def _health(self, _: web.Request) -> web.Response:
        try:
            async with self._connection() as connection:
                with postgres.translated():
                    await connection.execute("SELECT FROM closed_windows LIMIT 0")
        except PostgresUnavailableError as e:
            return unavailable(e)
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
    """What keeps days of many tenants: Redis, or this process; None where neither is wanted."""
    if config.redis is not None:
        return DayCache(RedisStore(config.redis))
    return DayCache(MemoryStore(config.analytics_cache)) if config.analytics_cache else None
