"""A feed to try weir with: plays messages over a WebSocket at their times, and checks what comes back.

The feed is one stream, whoever reads it: it starts with the first client, stands still while there is none, and
goes on with the next. A second client at the same time is refused (HTTP 409). What may have been lost with a broken
connection is not sent again, but for relations; see `weir.producers.simulators.feed.check`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import time
from collections.abc import Callable, Iterable

from aiohttp import WSMsgType, web

from weir.infra import log
from weir.infra.errors import PortTakenError
from weir.producers.simulators.feed.check import FeedCheck
from weir.producers.simulators.feed.recorded import Timed
from weir.schemas.errors import PoisonError

#: How often a client is asked how far it has read, in seconds.
PING_EVERY = 0.1
#: After so many messages sent without a pause, what comes back gets its turn.
_TURN = 64

_log = log.get_logger("feed-server")


class FeedServer:
    """Plays `messages` at `speed` times their pace, to one client at a time.

    `record`, where set, is called with each message once it was sent; `at` is the feed time of the latest, in
    seconds; `ended` says that it was the last.
    """

    def __init__(self, messages: Iterable[Timed], check: FeedCheck, speed: float = 1.0) -> None:
        self._messages = messages
        self._check = check
        self._speed = speed
        self._runner: web.AppRunner | None = None
        self._client: _FeedClient | None = None
        self._again: list[bytes] = []
        self._news = asyncio.Condition()
        self._started: float | None = None
        self.record: Callable[[Timed], object] | None = None
        self.at = 0.0
        self.ended = False

    @property
    def connected(self) -> bool:
        """Whether a client is there."""
        return self._client is not None

    async def start(self, host: str, port: int) -> str:
        """Listens; returns the feed's ws:// address. `port` 0 takes any. Raises PortTakenError."""
        app = web.Application()
        app.router.add_get("/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as e:
            await self._runner.cleanup()
            if e.errno == errno.EADDRINUSE:
                raise PortTakenError(f"port {port} (`weir feed serve`) is taken: choose another with --port") from e
            raise
        return f"ws://{host}:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Closes the client's connection and the port."""
        if self._client:
            await self._client.socket.close(message=b"the feed has ended")
        if self._runner:
            await self._runner.cleanup()

    async def play(self) -> None:
        """Sends every message at its time; returns after the last. Waits for a client where there is none.

        May be cancelled: the check knows what was sent by then.
        """
        for number, timed in enumerate(self._messages, 1):
            await self._wait_until(timed.at)
            await self._send(timed.message)
            if self.record:
                self.record(timed)
            self.at = timed.at
            if number % _TURN == 0:
                await asyncio.sleep(0)
        self.ended = True

    async def all_came_back(self, timeout: float) -> bool:
        """Waits until all that was sent has come back: whether it did, within `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout), self._news:
                await self._news.wait_for(lambda: self._check.compare().equal)
        except TimeoutError:
            return False
        return True

    async def _wait_until(self, at: float) -> None:
        if self._started is None:
            await self._client_there()
            self._started = time.monotonic()
        delay = self._started + at / self._speed - time.monotonic()
        if delay > 0:
            await asyncio.sleep(delay)

    async def _send(self, message: bytes) -> None:
        """Sends the message, after those that are to be sent again."""
        while True:
            client = await self._client_there()
            due = self._again.pop(0) if self._again else message
            client.written = self._check.sent(due)
            # Nothing came between seeing the client there and this write: where it fails, the message is in doubt.
            with contextlib.suppress(ConnectionError):
                await client.socket.send_frame(due, WSMsgType.TEXT)
            if due is message:
                return

    async def _client_there(self) -> _FeedClient:
        """The client, once there is one; feed time stands still until then."""
        if (client := self._client) is None or not client.is_open():
            since = time.monotonic()
            async with self._news:
                await self._news.wait_for(lambda: self._client is not None and self._client.is_open())
            assert self._client is not None
            client = self._client
            if self._started is not None:
                self._started += time.monotonic() - since
        return client

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if self._client is not None:
            return web.Response(status=409, text="this feed plays to one client at a time, and one is there\n")
        socket = web.WebSocketResponse(autoping=False, max_msg_size=0, timeout=1.0)
        self._client = client = _FeedClient(socket, request)
        try:
            await socket.prepare(request)
            _log.info("feed.client", address=request.remote)
            await self._talk(client)
            _log.info("feed.client_gone", address=request.remote)
        finally:
            self._client = None
            self._again = self._check.broken() + self._again
        return socket

    async def _talk(self, client: _FeedClient) -> None:
        pinging = asyncio.create_task(client.ping_for_ever())
        try:
            await self._tell_news()
            await self._read(client.socket)
        finally:
            pinging.cancel()

    async def _read(self, socket: web.WebSocketResponse) -> None:
        async for message in socket:
            if message.type is WSMsgType.PONG:
                with contextlib.suppress(ValueError):  # a client may send pongs of its own
                    self._check.confirmed(int(message.data))
            elif message.type is WSMsgType.PING:
                with contextlib.suppress(ConnectionError):
                    await socket.pong(message.data)
            elif message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                self._summary(message.data)
                await self._tell_news()

    def _summary(self, payload: str | bytes) -> None:
        try:
            summary = self._check.came_back(payload)
        except PoisonError as e:
            _log.warning("feed.no_summary", error=str(e))
        else:
            _log.debug("feed.summary", window=summary.window.start, links=len(summary.links))

    async def _tell_news(self) -> None:
        async with self._news:
            self._news.notify_all()


class _FeedClient:
    """The client that is there: what was written to it, and how far it is known to have read."""

    def __init__(self, socket: web.WebSocketResponse, request: web.Request) -> None:
        self.socket = socket
        self._request = request
        self.written = 0
        self._asked = 0

    def is_open(self) -> bool:
        """Whether what is written now is sent."""
        transport = self._request.transport
        return self.socket.prepared and not self.socket.closed and transport is not None and not transport.is_closing()

    async def ping_for_ever(self) -> None:
        """Asks how far the client has read whenever something was written since: a ping holds the message's number."""
        while True:
            await asyncio.sleep(PING_EVERY)
            if self.written > self._asked:
                self._asked = self.written
                with contextlib.suppress(ConnectionError):
                    await self.socket.ping(b"%d" % self._asked)
