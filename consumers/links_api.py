"""The HTTP API of links: closed windows by time range."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import msgspec
import psycopg
from aiohttp import web

from consumers.link_queries import closed_windows
from consumers.link_requests import parse
from consumers.parameters import BadRequestError
from infra import log
from infra.errors import PostgresUnavailableError
from schemas.times import to_rfc3339

#: Seconds after which a client that got 503 may well ask again.
RETRY_AFTER = 5

_log = log.get(__name__)

#: A connection to Postgres for as long as the block runs. Raises PostgresUnavailableError.
Connect = Callable[[], AbstractAsyncContextManager[psycopg.AsyncConnection]]


class LinksApi:
    """The routes of `GET /links`, for an application of whoever composes it. `clock` gives epoch milliseconds."""

    def __init__(self, connect: Connect, clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self._connection = connect
        self._clock = clock

    def routes(self) -> list[web.RouteDef]:
        """`GET /links`."""
        return [web.get("/links", self._links)]

    async def _links(self, request: web.Request) -> web.Response:
        try:
            times, limit = parse(request.query.items(), self._clock())
        except BadRequestError as e:
            return json_response(400, {"error": {"field": e.field, "reason": e.reason}})
        try:
            async with self._connection() as connection:
                page = await closed_windows(connection, times.start, times.end, limit)
        except PostgresUnavailableError as e:
            return unavailable(e)
        response = json_response(200, page.windows)
        if page.next is not None:
            rest = request.rel_url.with_query(
                {"from": to_rfc3339(page.next), "to": to_rfc3339(times.end), "limit": limit}
            )
            response.headers["Link"] = f'<{rest}>; rel="next"'
        return response


def json_response(status: int, body: object) -> web.Response:
    """The body as JSON."""
    return web.Response(status=status, body=msgspec.json.encode(body), content_type="application/json")


def unavailable(error: PostgresUnavailableError) -> web.Response:
    """Asking again later may help. What exactly is wrong is for the log: it may name hosts and users."""
    _log.warning("api.unavailable", error=str(error))
    response = json_response(503, {"status": "unavailable", "error": {"reason": "Postgres cannot be asked right now"}})
    response.headers["Retry-After"] = str(RETRY_AFTER)
    return response
