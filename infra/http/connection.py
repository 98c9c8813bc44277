"""One connection of an HTTP server: aiohttp's, with deadlines for both sides and errors in one form."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, Protocol

from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from weir.infra import log
from weir.infra.http import errors
from weir.infra.http.budget import COUNTED, AnswerBudget
from weir.infra.http.limits import HttpLimits
from weir.infra.retry_after import RETRY_SOON

#: How long after the client's end of sending the connection is still there for requests that came before it.
_SOON = 0.05


class ConnectionOwner(Protocol):
    """The server that a connection belongs to."""

    limits: HttpLimits
    answers: AnswerBudget
    answered: Counter[int]
    said: log.Limited

    def now(self) -> float:
        """Returns the event loop's time in seconds."""

    def waits(self, connection: HttpConnection) -> None:
        """Notes that the connection waits for a request."""

    def works(self, connection: HttpConnection) -> None:
        """Notes that the connection has a request to answer."""

    def ended(self, connection: HttpConnection) -> None:
        """Notes that the connection is over."""


class HttpConnection(web.RequestHandler):
    """Between two requests it waits, and may be evicted (`evict`); `look` is called every now and then.

    A client that stops sending behind a request (a half-closed connection) gets its answer.
    """

    __slots__ = (
        "_closing_since", "_has_ended", "_head_since", "_host", "_is_deaf", "_is_heard", "_is_late", "_is_waiting",
        "_own", "_request", "_stuck_since", "_unsent", "remote",
    )  # fmt: skip

    def __init__(self, host: ConnectionOwner, manager: web.Server, remote: str, **knobs: Any) -> None:
        super().__init__(manager, loop=asyncio.get_running_loop(), **knobs)
        self._host = host
        self.remote = remote
        #: aiohttp's own reference goes when it closes, which may be long before the last byte is written.
        self._own: asyncio.Transport | None = None
        #: The request that is answered, or was the last one.
        self._request: web.BaseRequest | None = None
        #: Since when the next request's head is awaited; None between requests, and while one is answered.
        self._head_since: float | None = None
        #: Whether its time for a head was over already when that was looked at before.
        self._is_late = False
        self._is_waiting = self._is_heard = self._is_deaf = self._has_ended = False
        #: Since when, and with how many bytes, the client takes nothing of what is to be written.
        self._stuck_since: float | None = None
        self._unsent = 0
        self._closing_since: float | None = None

    # What aiohttp and the event loop call.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accepts the connection, which has to send a request in time."""
        assert isinstance(transport, asyncio.Transport)
        self._own = transport
        super().connection_made(transport)
        self._wait()
        self._head_since = self._host.now()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Releases the connection's place once it has closed."""
        super().connection_lost(exc)
        self._end()

    def data_received(self, data: bytes) -> None:
        """Bytes of a head, a body, or of what was upgraded to."""
        begins = self._is_waiting and self._head_since is None and self._is_whole()
        self._is_heard = True
        if begins and data.lstrip(b"\r\n"):  # empty lines before a request are none (RFC 9112, 2.2)
            self._head_since = self._host.now()
        super().data_received(data)

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """The client sends nothing more; of HTTP it may still want its answers."""
        if not self._is_waiting and self._request is not None and hdrs.UPGRADE in self._request.headers:
            return None
        self._is_deaf = True
        asyncio.get_running_loop().call_later(_SOON, self._half_closed)
        return True

    def pause_writing(self) -> None:
        """The client takes less than is written."""
        super().pause_writing()
        self._stuck_since = self._host.now()
        self._unsent = self._pending()

    def resume_writing(self) -> None:
        """Ends the write timeout, since the client has read nearly all of the answer."""
        super().resume_writing()
        self._stuck_since = None

    def begins(self, request: web.BaseRequest) -> None:
        """A request's head is there."""
        self._request = request
        self._head_since = None
        self._is_waiting = False
        self._host.works(self)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Writes the answer; a large one is counted until it is written, or refused where too many are not read."""
        answer = errors.as_json(resp, request.method) if isinstance(resp, web.HTTPException) else resp
        size = 2 * _size(answer)  # its bytes, and what of them the transport keeps
        if size and not self._host.answers.fits_for(self.remote, size):
            self._host.said.warning("http.unread_answers", remote=self.remote, bytes=self._host.answers.size)
            answer, size = (
                errors.error_response(
                    503, "too many answers are waiting for clients to read them; retry later", RETRY_SOON
                ),
                0,
            )
        self._host.answered[answer.status] += 1
        try:
            with self._host.answers.held_for(self.remote, size):
                return await super().finish_response(request, answer, start_time)
        finally:
            self._wait()
            if self._is_deaf:
                asyncio.get_running_loop().call_later(_SOON, self._half_closed)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """The answer to a request that cannot be read, or that a handler failed at. The connection is closed."""
        if isinstance(exc, HttpProcessingError):
            reason = errors.malformed(message)
            self._host.said.warning("http.malformed", remote=self.remote, reason=reason)
        else:
            reason = errors.internal(status)
            self._host.said.error("http.failed", remote=self.remote, path=request.rel_url.raw_path[:100], exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("a part of another answer is sent already")
        response = errors.error_response(status, reason)
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Logs an error that aiohttp reports with a traceback."""
        self._host.said.error("http.failed", remote=self.remote, what=str(args[0]) if args else "", **kw)

    # What the server calls.

    def look(self, now: float) -> None:
        """Cuts it where its time is over."""
        limits = self._host.limits
        if self._own is None:
            return
        if self._own.is_closing():
            if self._closing_since is None:
                self._closing_since = now
            elif now - self._closing_since >= limits.write:
                self._cut()
        elif self._stuck_since is not None:
            pending = self._pending()
            if pending <= self._unsent - limits.slice:
                self._stuck_since, self._unsent = now, pending
            elif now - self._stuck_since >= limits.write:
                self._cut()
        elif self._head_since is not None and now - self._head_since >= limits.head and self._twice():
            self._host.said.warning("http.head_timeout", remote=self.remote)
            self._refuse("the request did not come in time")

    def evict(self) -> bool:
        """Frees the place for a waiting connection, and returns whether it did: a connection with half a request, or
        with an answer not yet read, is spared the first time.
        """
        if (self._head_since is not None or self._pending()) and not self._twice():
            return False
        self._host.said.warning("http.crowded", remote=self.remote)
        if self._head_since is None:
            self._leave()
        else:
            self._refuse("the request did not come in time, and others waited", RETRY_SOON)
        return True

    # Between requests, and endings.

    def _twice(self) -> bool:
        """Whether it is late for the second time: a server that was slow reads what has come in time in between."""
        was, self._is_late = self._is_late, True
        return was

    def _wait(self) -> None:
        if not self._has_ended:
            self._is_late = False
            self._is_waiting = True
            self._host.waits(self)

    def _is_whole(self) -> bool:
        """Whether all of the last request has come. If not, aiohttp reads the rest of it for 10 s at most."""
        return self._request is None or self._request.content.is_eof()

    def _pending(self) -> int:
        return 0 if self._own is None else self._own.get_write_buffer_size()

    def _refuse(self, reason: str, headers: dict[str, str] | None = None) -> None:
        if self._own is not None and self._is_heard and not self._own.is_closing():
            self._own.write(errors.raw_error(408, reason, headers))
        self._leave()

    def _leave(self) -> None:
        self.force_close()
        if self._own is not None and self._pending():
            self._own.abort()  # who does not read would keep it open
        self._end()

    def _cut(self) -> None:
        self._host.said.warning("http.unread", remote=self.remote, unsent_bytes=self._pending())
        assert self._own is not None
        self._own.abort()

    def _half_closed(self) -> None:
        """Closes it, unless a request that came whole is still to be answered: its answer is followed by this again."""
        if self._messages or not (self._is_waiting or not self._is_whole()):
            return
        if self._pending():
            self._host.works(self)  # nobody's way to make: what is written goes out first, until `look` cuts it
            self.force_close()
        else:
            self._leave()

    def _end(self) -> None:
        if not self._has_ended:
            self._has_ended = True
            self._is_waiting = False
            self._host.ended(self)


def _size(answer: web.StreamResponse) -> int:
    """The bytes of an answer's body, where it is one to be counted."""
    body = answer.body if isinstance(answer, web.Response) and not answer.prepared else None
    return len(body) if isinstance(body, bytes | bytearray) and len(body) > COUNTED else 0
