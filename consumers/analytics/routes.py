"""The HTTP API of tenants' events: what they come to per day, over a range, and the events themselves."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import msgspec
from aiohttp import web

from weir.consumers.analytics.days import DailyQuery
from weir.consumers.analytics.downloads import written
from weir.consumers.analytics.repository import AnalyticsRepository, UnknownTenantError
from weir.consumers.analytics.requests import (
    Format,
    NotAcceptableError,
    day_cursor,
    event_cursor,
    moment_text,
    parse_daily,
    parse_events,
    parse_summary,
    parse_tenant_daily,
    tenant_of,
)
from weir.consumers.analytics.rows import Daily, DailyPage, Event, Page, Scope, Summary
from weir.infra import log
from weir.infra.connections.admission import ConnectionLimits
from weir.infra.errors import ArchiveUnavailableError, PostgresUnavailableError, RetryableError
from weir.infra.http import HttpLimits
from weir.infra.http.parameters import BadRequestError
from weir.infra.http.responses import bad_request, json_response, not_found, unavailable
from weir.infra.retry_after import RETRY_LATER
from weir.infra.runtime.clock import wall_clock

#: So many downloads at once: each holds a page of rows, and what the client has not taken yet.
MAX_DOWNLOADS = 4
#: A page of a download has payloads of so many bytes at most.
_DOWNLOAD_BYTES = 2 << 20

_said = log.Limited(log.get_logger(__name__))

R = TypeVar("R")
P = TypeVar("P")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class AnalyticsApi:
    """Routes of `GET /analytics`, to add to an application. `clock` gives epoch milliseconds.

    `limits` say which part of the downloads one address may have: half, or more where it may have more connections.

    Who asks for all tenants gets all of them; a path that names one is answered within the scope of that one.
    """

    def __init__(
        self,
        repository: AnalyticsRepository,
        clock: Callable[[], int] = wall_clock,
        limits: HttpLimits | None = None,
    ) -> None:
        limits = limits or HttpLimits()
        most = MAX_DOWNLOADS // 2  # of an address that may not have more of everything
        self._downloads = ConnectionLimits(
            MAX_DOWNLOADS, max(most, limits.of_address(MAX_DOWNLOADS)), max(most, limits.of_loopback(MAX_DOWNLOADS))
        )
        self._repository = repository
        self._clock = clock

    def routes(self) -> list[web.RouteDef]:
        """`GET /analytics/daily`, and of one tenant `daily`, `events` and `summary`."""
        return [
            web.get("/analytics/daily", _answering(self._daily), allow_head=False),
            web.get("/analytics/tenants/{tenant_id:[^/]+}/daily", _answering(self._tenant_daily), allow_head=False),
            web.get("/analytics/tenants/{tenant_id:[^/]+}/events", _answering(self._events), allow_head=False),
            web.get("/analytics/tenants/{tenant_id:[^/]+}/summary", _answering(self._summary), allow_head=False),
        ]

    async def _daily(self, request: web.Request) -> web.StreamResponse:
        wanted, form = parse_daily(request.query.items(), _accept(request), self._today())
        ask = self._repository.daily
        if form is Format.JSON:
            return _days(request, wanted, await ask(Scope.all(), wanted))
        pages = _all(lambda after: ask(Scope.all(), replace(wanted, after=after), keep=False))
        return await self._download(request, "daily", pages, Daily, form)

    async def _tenant_daily(self, request: web.Request) -> web.StreamResponse:
        tenant = tenant_of(request.match_info["tenant_id"])
        wanted, form = parse_tenant_daily(request.query.items(), _accept(request), self._today())
        ask = self._repository.tenant_daily
        if form is Format.JSON:
            return _days(request, wanted, await ask(Scope.of(tenant), tenant, wanted))
        pages = _all(lambda after: ask(Scope.of(tenant), tenant, replace(wanted, after=after)))
        return await self._download(request, f"daily-{tenant}", pages, Daily, form)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        tenant = tenant_of(request.match_info["tenant_id"])
        wanted, form = parse_events(request.query.items(), _accept(request), self._clock())
        ask = self._repository.events
        if form is Format.JSON:
            page = await ask(Scope.of(tenant), tenant, wanted)
            rest = None if page.next is None else event_cursor(page.next)
            times = {"from": moment_text(wanted.start), "to": moment_text(wanted.end)}
            return _linked(request, {"events": [_event(row) for row in page.rows]}, rest, times)
        part = replace(wanted, max_bytes=_DOWNLOAD_BYTES)
        pages = _all(lambda after: ask(Scope.of(tenant), tenant, replace(part, after=after)))
        return await self._download(request, f"events-{tenant}", pages, Event, form)

    async def _summary(self, request: web.Request) -> web.StreamResponse:
        tenant = tenant_of(request.match_info["tenant_id"])
        start, end, form = parse_summary(request.query.items(), _accept(request), self._today())
        found = await self._repository.summary(Scope.of(tenant), tenant, start, end)
        if form is Format.JSON:
            return json_response(200, found)
        return await self._download(request, f"summary-{tenant}", _one(found), Summary, form)

    async def _download(
        self, request: web.Request, name: str, pages: AsyncIterator[Sequence[msgspec.Struct]],
        kind: type[msgspec.Struct], form: Format,
    ) -> web.StreamResponse:  # fmt: skip
        """The pages as a file. What fails at the first piece has a status; later, the connection is cut."""
        remote = request.remote or ""
        if self._downloads.enter(remote):
            return unavailable("too many downloads are running, in all or from this address; retry later", RETRY_LATER)
        try:
            pieces = written(pages, kind, form)
            first = await anext(pieces)
            response = web.StreamResponse()
            response.content_type = form.value
            suffix = form.name.lower()
            response.headers["Content-Disposition"] = f'attachment; filename="weir-{name}.{suffix}"'
            try:
                await response.prepare(request)
                await response.write(first)
                async for piece in pieces:
                    await response.write(piece)
                await response.write_eof()
            except ConnectionError:
                _said.info("analytics.download_left")  # the client has had enough, or did not read and was cut
            except (RetryableError, UnknownTenantError) as e:
                _said.warning("analytics.download_cut", error=str(e))
                if request.transport is not None:
                    request.transport.abort()  # an end in order would pass for the end of the rows
            return response
        finally:
            self._downloads.leave(remote)

    def _today(self) -> dt.date:
        return dt.datetime.fromtimestamp(self._clock() / 1000, dt.UTC).date()


def _answering(handler: Handler) -> Handler:
    """The handler, its errors as answers. What exactly is wrong with a server is for the log: it may name hosts."""

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except BadRequestError as e:
            status = 406 if isinstance(e, NotAcceptableError) else 400
            return bad_request(e, status)
        except UnknownTenantError as e:
            return not_found(str(e))
        except PostgresUnavailableError as e:
            _said.warning("analytics.unavailable", error=str(e))
            return unavailable("Postgres cannot be asked right now", RETRY_LATER)
        except ArchiveUnavailableError as e:
            _said.warning("analytics.unavailable", error=str(e))
            return unavailable("the archive, where these events are, cannot be read right now", RETRY_LATER)

    return answer


async def _all(ask: Callable[[P | None], Awaitable[Page[R, P]]]) -> AsyncIterator[Sequence[R]]:
    """The rows of page after page; `ask` is given where the one before has ended, for the first None."""
    page = await ask(None)
    yield page.rows
    while page.next is not None:
        page = await ask(page.next)
        yield page.rows


async def _one(row: msgspec.Struct) -> AsyncIterator[Sequence[msgspec.Struct]]:
    yield [row]


def _days(request: web.Request, wanted: DailyQuery, page: DailyPage) -> web.Response:
    rest = None if page.next is None else day_cursor(page.next)
    times = {"from": wanted.start.isoformat(), "to": wanted.end.isoformat()}
    return _linked(request, {"days": page.rows}, rest, times)


def _event(row: Event) -> dict[str, object]:
    return {
        "tenant_id": row.tenant_id, "created_at": moment_text(row.created_at), "id": row.id,
        "processing_time": row.processing_time, "event_type": row.event_type, "payload": row.payload,
    }  # fmt: skip


def _linked(request: web.Request, body: dict[str, object], rest: str | None, times: dict[str, str]) -> web.Response:
    """The page with the address of the rest: that begins at the cursor, and ends where this would have.

    The defaults of the times are the clock's, which has gone on by then.
    """
    response = json_response(200, body if rest is None else body | {"next": rest})
    if rest is not None:
        address = request.rel_url.update_query(times | {"after": rest})
        response.headers["Link"] = f'<{address}>; rel="next"'
    return response


def _accept(request: web.Request) -> str:
    return ",".join(request.headers.getall("Accept", []))
