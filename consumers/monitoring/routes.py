"""The HTTP API of monitored clients: their list, and each one's data, from memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import msgspec
from aiohttp import web

from weir.consumers.monitoring.clients import ClientPage
from weir.consumers.monitoring.requests import client_of, cursor_text, parse_dump, parse_list
from weir.consumers.monitoring.view import ClientView
from weir.infra.errors import OverloadError
from weir.infra.http.parameters import BadRequestError
from weir.infra.http.responses import bad_request, json_response, not_found, unavailable
from weir.infra.http.waiting import behind, parse_after, wait_for
from weir.infra.progress.progress import BehindError, Lag

UNKNOWN = (
    "no event of this client has been counted; one that was accepted a moment ago may still be on its way: "
    "`?after=now` waits for it"
)
#: How long an answer is written before others get their turn, in seconds.
_TURN = 0.002


class ClientsApi:
    """Routes of `GET /clients`, to add to an application.

    While the view is being rebuilt, what is there is answered, with how far behind it is; a client that is not there
    yet gets 503 then, not 404.
    """

    def __init__(self, view: ClientView) -> None:
        self._view = view

    def routes(self) -> list[web.RouteDef]:
        """`GET /clients` and `GET /clients/{client_id}`."""
        return [web.get("/clients", self._list), web.get("/clients/{client_id:.*}", self._dump)]

    async def _list(self, request: web.Request) -> web.Response:
        try:
            after, limit = parse_list(request.query.items())
            await wait_for(self._view.progress, parse_after(request.query.items()))
        except BadRequestError as e:
            return bad_request(e)
        except (BehindError, OverloadError) as e:
            return behind(e, self._view.lag())
        lag = self._view.lag()
        if not self._view.has_anything:
            return _starting(lag)
        found, more = self._view.store.clients(after, limit)
        body: dict[str, object] = {"lag": lag, "clients": [{"client_id": name, "keys": keys} for name, keys in found]}
        rest = cursor_text(found[-1][0]) if more else None
        return _linked(json_response(200, body if rest is None else body | {"next": rest}), request, rest)

    async def _dump(self, request: web.Request) -> web.Response:
        try:
            client_id = client_of(request.rel_url.raw_path)
            query = parse_dump(request.query.items())
            await wait_for(self._view.progress, parse_after(request.query.items()))
        except BadRequestError as e:
            return bad_request(e)
        except (BehindError, OverloadError) as e:
            return behind(e, self._view.lag())
        lag = self._view.lag()
        page = self._view.store.dump(client_id, query)
        if page is None:
            if not self._view.caught_up:
                return _starting(lag)
            return not_found(UNKNOWN, lag=lag)
        rest = None if page.next is None else cursor_text(page.next)
        body = await _in_turns(_written(client_id, lag, page, rest))
        return _linked(json_response(200, body), request, rest)


def _starting(lag: Lag) -> web.Response:
    """Asking again later helps: the view is being rebuilt."""
    return unavailable("what is known of clients is being read back from Kafka", status="starting", lag=lag)


def _written(client_id: str, lag: Lag, page: ClientPage, rest: str | None) -> Iterator[bytes]:
    yield b'{"client_id":%b,"lag":%b,"data":' % (msgspec.json.encode(client_id), msgspec.json.encode(lag))
    yield from page.pieces()
    yield b"}" if rest is None else b',"next":%b}' % msgspec.json.encode(rest)


async def _in_turns(pieces: Iterator[bytes]) -> bytes:
    body = []
    until = time.monotonic() + _TURN
    for piece in pieces:
        body.append(piece)
        if time.monotonic() > until:
            await asyncio.sleep(0)
            until = time.monotonic() + _TURN
    return b"".join(body)


def _linked(response: web.Response, request: web.Request, rest: str | None) -> web.Response:
    """The response with the address of the rest, which begins at that cursor."""
    if rest is not None:
        address = request.rel_url.update_query({"cursor": rest})
        response.headers["Link"] = f'<{address}>; rel="next"'
    return response
