"""POST of events: what is refused by its headers, a body read within bounds, and the answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

from aiohttp import HttpVersion11, web

from weir.infra.config import Config
from weir.infra.errors import WeirError
from weir.infra.http import ANSWERS, COUNTED, HttpLimits, Shared, error_response
from weir.infra.http.responses import json_response
from weir.infra.retry_after import RETRY_SOON
from weir.producers.ingest.body import BodyError
from weir.producers.ingest.intake import Intake
from weir.producers.ingest.results import PIECE, IngestResponse
from weir.producers.ingest.writer import IngestWriter

#: How long a body may take to come, in seconds.
BODY_TIMEOUT = 30.0

_JSON, _LINES = "application/json", "application/x-ndjson"

#: Where there is no room for the verdicts.
UNTOLD = "too many answers wait to be read: what became of these events is not told"


class RequestRefusedError(WeirError):
    """A request is not taken. `status` is HTTP's."""

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status, self.headers = status, headers or {}


class HttpIngest:
    """The POST route of one intake. Requests are refused unless `is_open`."""

    def __init__(self, config: Config, intake: Intake, writer: IngestWriter) -> None:
        self._path, self._writer, self._most = intake.path, writer, config.ingest.max_body
        #: What has come of bodies that are not whole yet: whoever sends slowly keeps no room from other addresses.
        self._bodies = Shared(config.ingest.in_flight, HttpLimits.of(config.http))
        self._reading: set[asyncio.Timeout] = set()
        self.is_open = False

    def route(self) -> web.RouteDef:
        """The route; of other methods, too, so that the answer to them is of the same form."""
        return web.route("*", self._path, self._post, expect_handler=self._continue)

    def close(self) -> None:
        """Takes nothing more, and waits for no body."""
        self.is_open = False
        now = asyncio.get_running_loop().time()
        for patience in self._reading:
            if not patience.expired():
                patience.reschedule(now)

    async def _post(self, request: web.Request) -> web.StreamResponse:
        try:
            self._check(request)
            body = [await self._read(request)]
            taken = await self._writer.take(body.pop(), request.content_type == _LINES)
        except RequestRefusedError as e:
            return refusal(e)
        except BodyError as e:
            return refusal(_of_body(e))
        try:
            return await _said(request, await self._writer.answer(taken))
        finally:
            self._writer.let_go(taken)

    async def _continue(self, request: web.Request) -> web.Response | None:
        """A client that asks (Expect: 100-continue) is told before it sends the body."""
        try:
            self._check(request)
        except RequestRefusedError as e:
            return refusal(e)
        if request.version >= HttpVersion11 and request.headers["Expect"].lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        return None

    def _check(self, request: web.Request) -> None:
        """Raises RequestRefusedError for what the headers say."""
        if request.method != "POST":
            raise RequestRefusedError(405, f"method {request.method} is not allowed; allowed: POST", {"Allow": "POST"})
        if not self.is_open:
            raise RequestRefusedError(503, "the service is starting or stopping; retry later", RETRY_SOON)
        if request.content_type not in (_JSON, _LINES) or (request.charset or "utf-8").lower() != "utf-8":
            raise RequestRefusedError(415, f"the Content-Type must be {_JSON} or {_LINES}, in UTF-8",
                               {"Accept": f"{_JSON}, {_LINES}"})  # fmt: skip
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise RequestRefusedError(415, "the body must not be compressed", {"Accept-Encoding": "identity"})
        length = request.content_length or 0
        if length > self._most:
            raise self._too_long()
        self._room_for(request.remote or "", length, 0)

    async def _read(self, request: web.Request) -> bytes:
        """The body. Raises RequestRefusedError."""
        chunks: list[bytes] = []
        remote, size = request.remote or "", 0
        try:
            async with asyncio.timeout(BODY_TIMEOUT) as patience:
                self._reading.add(patience)
                async for chunk in request.content.iter_any():
                    chunks.append(chunk)
                    size += len(chunk)
                    self._writer.flight.hold(len(chunk))
                    self._bodies.hold_for(remote, len(chunk))
                    if size > self._most:
                        raise self._too_long()
                    self._room_for(remote, 0, size)
        except TimeoutError as e:
            if not self.is_open:
                raise RequestRefusedError(503, "the service is stopping; retry later", RETRY_SOON) from e
            raise RequestRefusedError(
                408, f"the request body was not complete within {BODY_TIMEOUT:g} s", {"Connection": "close"}
            ) from e
        except (web.RequestPayloadError, ConnectionError) as e:
            raise RequestRefusedError(400, "the request body is incomplete", {"Connection": "close"}) from e
        finally:
            self._reading.discard(patience)
            self._writer.flight.hold(-size)
            self._bodies.hold_for(remote, -size)
        return b"".join(chunks)

    def _room_for(self, remote: str, more: int, own: int) -> None:
        try:
            self._writer.check_room(more, own)
        except BodyError as e:
            raise _of_body(e) from None
        if not self._bodies.fits_for(remote, more, own):
            raise RequestRefusedError(
                429, "too many request bodies from this address are incomplete; retry later", RETRY_SOON
            )

    def _too_long(self) -> RequestRefusedError:
        return RequestRefusedError(413, f"the body has more than {self._most} bytes", {"Connection": "close"})


async def _said(request: web.Request, made: IngestResponse) -> web.StreamResponse:
    """Writes the answer, a long one in pieces: each is made when the client has taken those before it."""
    headers = RETRY_SOON if made.status == 503 else {}
    if len(made.findings) <= PIECE and made.size <= COUNTED:
        body = b"".join(made.pieces())
        return json_response(made.status, body, headers)
    answers, remote = request.app[ANSWERS], request.remote or ""
    cost = 2 * made.size // max(1, len(made.findings) // PIECE)  # a piece, and what of it the transport keeps
    if not await answers.room_for(remote, cost):
        return refusal(RequestRefusedError(503, UNTOLD, RETRY_SOON))
    response = web.StreamResponse(status=made.status, headers=headers)
    response.content_type = "application/json"
    # ConnectionError: the client has left; aiohttp notices as well.
    with answers.held_for(remote, cost), contextlib.suppress(ConnectionError):
        await response.prepare(request)
        for piece in made.pieces():
            await response.write(piece)
            await asyncio.sleep(0)
        await response.write_eof()
    return response


def _of_body(error: BodyError) -> RequestRefusedError:
    return RequestRefusedError(error.status, str(error), RETRY_SOON if error.status in (429, 503) else {})


def refusal(error: RequestRefusedError) -> web.Response:
    """The answer to a request that is not taken."""
    response = error_response(error.status, str(error), error.headers)
    if error.headers.get("Connection") == "close":
        response.force_close()
    return response
