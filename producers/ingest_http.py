"""POST of events: what is refused by its headers, a body read within bounds, and the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec
from aiohttp import HttpVersion11, web

from infra.config import Config
from infra.errors import WeirError
from producers.ingest_body import BodyError
from producers.ingest_intake import Intake
from producers.ingest_writer import IngestWriter

#: How long a body may take to come, in seconds.
BODY_TIMEOUT = 30.0

_JSON, _LINES = "application/json", "application/x-ndjson"
#: For those who may well try again: in so many seconds.
AGAIN = {"Retry-After": "1"}


class RefusedError(WeirError):
    """A request is not taken. `status` is HTTP's."""

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status, self.headers = status, headers or {}


class HttpIngest:
    """The POST route of one intake. Requests are refused unless `is_open`."""

    def __init__(self, config: Config, intake: Intake, writer: IngestWriter) -> None:
        self._path, self._writer, self._most = intake.path, writer, config.ingest_max_body
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

    async def _post(self, request: web.Request) -> web.Response:
        try:
            self._check(request)
            body = [await self._read(request)]
            made = await self._writer.take(body.pop(), request.content_type == _LINES)
        except RefusedError as e:
            return refusal(e)
        except BodyError as e:
            return refusal(RefusedError(e.status, str(e), AGAIN if e.status == 503 else {}))
        return _json(made.status, made, AGAIN if made.status == 503 else {})

    async def _continue(self, request: web.Request) -> web.Response | None:
        """A client that asks (Expect: 100-continue) is told before it sends the body."""
        try:
            self._check(request)
        except RefusedError as e:
            return refusal(e)
        if request.version >= HttpVersion11 and request.headers["Expect"].lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        return None

    def _check(self, request: web.Request) -> None:
        """Raises RefusedError for what the headers say."""
        if request.method != "POST":
            raise RefusedError(405, f"{request.method} is not possible here, only POST", {"Allow": "POST"})
        if not self.is_open:
            raise RefusedError(503, "this service starts or stops", AGAIN)
        if request.content_type not in (_JSON, _LINES) or (request.charset or "utf-8").lower() != "utf-8":
            raise RefusedError(415, f"the Content-Type must be {_JSON} or {_LINES}, in UTF-8",
                               {"Accept": f"{_JSON}, {_LINES}"})  # fmt: skip
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise RefusedError(415, "the body must not be compressed", {"Accept-Encoding": "identity"})
        length = request.content_length or 0
        if length > self._most:
            raise self._too_long()
        self._room_for(length, 0)

    async def _read(self, request: web.Request) -> bytes:
        """The body. Raises RefusedError."""
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(BODY_TIMEOUT) as patience:
                self._reading.add(patience)
                async for chunk in request.content.iter_any():
                    chunks.append(chunk)
                    size += len(chunk)
                    self._writer.flight.hold(len(chunk))
                    if size > self._most:
                        raise self._too_long()
                    self._room_for(0, size)
        except TimeoutError as e:
            if not self.is_open:
                raise RefusedError(503, "this service stops", AGAIN) from e
            raise RefusedError(408, f"the body did not come within {BODY_TIMEOUT:g} s", {"Connection": "close"}) from e
        except (web.RequestPayloadError, ConnectionError) as e:
            raise RefusedError(400, "the body did not come whole", {"Connection": "close"}) from e
        finally:
            self._reading.discard(patience)
            self._writer.flight.hold(-size)
        return b"".join(chunks)

    def _room_for(self, more: int, own: int) -> None:
        if self._writer.flight.fits(more, own):
            return
        if self._writer.flight.away:
            raise RefusedError(503, "Kafka does not answer", AGAIN)
        raise RefusedError(429, "too much waits for Kafka already", AGAIN)

    def _too_long(self) -> RefusedError:
        return RefusedError(413, f"the body has more than {self._most} bytes", {"Connection": "close"})


def _json(status: int, body: object, headers: Mapping[str, str]) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(body), headers=headers, content_type="application/json")


def refusal(error: RefusedError) -> web.Response:
    """The answer to a request that is not taken."""
    response = _json(error.status, {"error": {"reason": str(error)}}, error.headers)
    if error.headers.get("Connection") == "close":
        response.force_close()
    return response
