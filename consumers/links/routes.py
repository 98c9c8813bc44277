"""The HTTP API of links: closed windows by time range."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import psycopg
from aiohttp import web

from weir.consumers.links.queries import closed_windows
from weir.consumers.links.requests import parse
from weir.infra import log
from weir.infra.errors import PostgresUnavailableError
from weir.infra.http.parameters import BadRequestError
from weir.infra.http.responses import bad_request, json_response, unavailable
from weir.infra.progress.progress import Lag
from weir.infra.retry_after import RETRY_LATER
from weir.infra.runtime.clock import wall_clock
from weir.schemas.times import to_rfc3339

_said = log.Limited(log.get_logger(__name__))

#: A connection to Postgres for as long as the block runs. Raises PostgresUnavailableError.
Connect = Callable[[], AbstractAsyncContextManager[psycopg.AsyncConnection]]


class LinksApi:
    """Routes of `GET /links`, to add to an application. `clock` gives epoch milliseconds, `lag` the header `Weir-Lag`,
    which is left out without it.
    """

    def __init__(
        self,
        connect: Connect,
        clock: Callable[[], int] = wall_clock,
        lag: Callable[[], Lag] | None = None,
    ) -> None:
        self._connection, self._clock, self._lag = connect, clock, lag

    def routes(self) -> list[web.RouteDef]:
        """`GET /links`."""
        return [web.get("/links", self._links)]

    async def _links(self, request: web.Request) -> web.Response:
        try:
            times, limit = parse(request.query.items(), self._clock())
        except BadRequestError as e:
            return bad_request(e)
        lag = None if self._lag is None else self._lag()  # before the question: what comes meanwhile is not in it
        try:
            async with self._connection() as connection:
                page = await closed_windows(connection, times.start, times.end, limit)
        except PostgresUnavailableError as e:
            return postgres_away(e)
        response = json_response(200, page.windows)
        if lag is not None:
            response.headers["Weir-Lag"] = lag_header(lag)
        if page.next is not None:
            rest = request.rel_url.with_query(
                {"from": to_rfc3339(page.next), "to": to_rfc3339(times.end), "limit": limit}
            )
            response.headers["Link"] = f'<{rest}>; rel="next"'
        return response


def lag_header(lag: Lag) -> str:
    """A lag as the value of a header: a dictionary of structured fields (RFC 9651), without what is not known.

    >>> lag_header(Lag(3, 1200)), lag_header(Lag(None, 800)), lag_header(Lag(None, None))
    ('records=3, ms=1200', 'ms=800', 'unknown')
    """
    known = [f"{name}={value}" for name, value in (("records", lag.records), ("ms", lag.ms)) if value is not None]
    return ", ".join(known) or "unknown"


def postgres_away(error: PostgresUnavailableError) -> web.Response:
    """Asking again later may help. What exactly is wrong is for the log: it may name hosts and users."""
    _said.warning("api.unavailable", error=str(error))
    return unavailable("Postgres cannot be asked right now", RETRY_LATER)
