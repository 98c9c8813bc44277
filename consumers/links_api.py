"""The HTTP API: closed windows by time range, keys of a job's table, and whether it can be had."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
import psycopg
from aiohttp import web
from psycopg_pool import AsyncConnectionPool

from consumers.link_queries import closed_windows
from consumers.link_requests import BadRequestError, parse
from consumers.table_proxy import TableProxy
from infra import log, postgres
from infra.config import Config
from infra.errors import PortTakenError, PostgresUnavailableError
from infra.status import StatusFile
from schemas.times import to_rfc3339

#: Seconds after which a client that got 503 may well ask again.
_RETRY_AFTER = 5
#: Seconds that a request waits for a connection to Postgres.
_PATIENCE = 2.0
#: Seconds that running requests have to end when the server stops.
_SHUTDOWN = 2.0

_log = log.get(__name__)


class LinksApi:
    """Serves `GET /links`, `GET /tables/…` and `GET /health` at the configured host and port.

    `clock` gives epoch milliseconds.
    """

    def __init__(self, config: Config, clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self._config = config
        self._clock = clock
        self._tables = TableProxy(config)
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
        app.router.add_get("/links", self._links)
        app.router.add_get("/tables/{rest:.*}", self._tables.handle)
        app.router.add_get("/health", self._health)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN)
        host, port = self._config.host, self._config.api_port
        address = f"http://{host}:{port}"
        status = StatusFile(self._config, "api", address)
        await self._pool.open()
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
            await self._pool.close()
            status.remove()

    async def _links(self, request: web.Request) -> web.Response:
        try:
            times, limit = parse(request.query.items(), self._clock())
        except BadRequestError as e:
            return _json(400, {"error": {"field": e.field, "reason": e.reason}})
        try:
            async with self._connection() as connection:
                page = await closed_windows(connection, times.start, times.end, limit)
        except PostgresUnavailableError as e:
            return _unavailable(e)
        response = _json(200, page.windows)
        if page.next is not None:
            rest = request.rel_url.with_query(
                {"from": to_rfc3339(page.next), "to": to_rfc3339(times.end), "limit": limit}
            )
            response.headers["Link"] = f'<{rest}>; rel="next"'
        return response

    async def _health(self, _: web.Request) -> web.Response:
        try:
            async with self._connection() as connection:
                with postgres.translated():
                    await connection.execute("SELECT FROM closed_windows LIMIT 0")
        except PostgresUnavailableError as e:
            return _unavailable(e)
        return _json(200, {"status": "ok"})

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[psycopg.AsyncConnection]:
        with postgres.translated():
            connection = await self._pool.getconn()
        try:
            yield connection
        finally:
            await self._pool.putconn(connection)


def _json(status: int, body: object) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(body), content_type="application/json")


def _unavailable(error: PostgresUnavailableError) -> web.Response:
    """Asking again later may help. What exactly is wrong is for the log: it may name hosts and users."""
    _log.warning("api.unavailable", error=str(error))
    response = _json(503, {"status": "unavailable", "error": {"reason": "Postgres cannot be asked right now"}})
    response.headers["Retry-After"] = str(_RETRY_AFTER)
    return response
