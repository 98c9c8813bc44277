"""The connection to a feed: one WebSocket, kept open for ever, shared by who reads and who answers.

`weir feed connect` gives one `FeedConnection` to the reader (`weir.producers.feed.client`) and to the reporter
(`weir.consumers.feed.reporter`), which must not know each other.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import aiohttp

from weir.infra import log
from weir.infra.errors import FeedBrokenError, FeedClosedError
from weir.infra.runtime.backoff import Backoff
from weir.infra.urls import websocket_url
from weir.producers.feed.link import CLOSE_TIMEOUT, FeedLink
from weir.producers.feed.status import FeedStatus

#: The largest message that is read, in bytes; a larger one ends the connection (close code 1009).
MAX_MESSAGE = 16 << 20
#: How long a feed may take to accept a connection, in seconds.
CONNECT_TIMEOUT = 10.0

_log = log.get_logger("feed")


class Incoming(NamedTuple):
    """One message: its bytes as they came, its number on its connection (from 0), the connection's number (from 1)."""

    data: bytes
    number: int
    connection: int


class FeedConnection:
    """A connection to the feed at `url` (ws:// or wss://), opened again whenever it ends, with backoff and jitter.

    Reading is pull: while nobody calls `receive`, no more than aiohttp's small buffer (128 KiB or one message) is
    read from the socket, so that TCP slows the feed down. The backoff starts anew only after a connection that
    lasted `healthy_after` seconds: a feed that accepts and closes at once is not asked ever faster.
    `heartbeat` is how many seconds of silence are too long before the feed is pinged. Raises ConfigError for a URL
    that names no feed.

    `settle`, which the reader may replace, is awaited before a ping of the feed's is answered: the answer then tells
    the feed not only that what it sent before was read, but that it is safe.
    """

    def __init__(
        self,
        url: str,
        status: FeedStatus,
        *,
        heartbeat: float = 15.0,
        healthy_after: float = 5.0,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._url = websocket_url(url, "feed address")
        self._status = status
        self._heartbeat = heartbeat
        self._healthy_after = healthy_after
        self._backoff = Backoff(first=0.5, cap=10.0, jitter=jitter)
        self._link: FeedLink | None = None
        self._connections = 0
        self._closing = False
        self._change = asyncio.Condition()
        self.settle: Callable[[], Awaitable[None]] = _at_once

    @property
    def name(self) -> str:
        """The feed's address without user, password and query: fit for logs and dead letters."""
        return str(self._url.with_user(None).with_query(None))

    @property
    def silent_for(self) -> float:
        """Returns the seconds since the last message, or since the connection opened; 0 without a connection."""
        link = self._link
        return 0.0 if link is None or link.ended.done() else time.monotonic() - link.last_message

    async def run(self) -> None:
        """Keeps the connection open until `close`. Never raises for what a feed does."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:
            error = None
            while not self._closing:
                state = "reconnecting" if error else "starting"
                self._status.connection(state, connection="connecting", url=self.name, **self._trouble(error))
                error = await self._connect_and_watch(session)
                if self._closing:
                    break
                delay = self._backoff.next()
                facts = self._trouble(error) | {"retry_in_s": round(delay, 1)}
                _log.warning("feed.reconnecting", url=self.name, **facts)
                self._status.connection("reconnecting", connection="reconnecting", url=self.name, **facts)
                await asyncio.sleep(delay)

    async def receive(self) -> Incoming:
        """The next message, however long that takes, across reconnections. For one caller at a time.

        Raises FeedClosedError once `close` was called and all that had been sent until then was received.
        """
        while True:
            link = self._link
            if link is not None:
                data = await link.receive()
                if data is not None:
                    return Incoming(data, link.messages - 1, link.number)
            async with self._change:
                await self._change.wait_for(lambda known=link: self._closing or self._link is not known)  # type: ignore[misc]
            if self._closing and self._link is link:
                raise FeedClosedError

    async def send(self, payload: bytes) -> None:
        """Waits for a connection, sends one text message, and returns once the feed has read it.

        That is known by its answer to a ping sent after it, which is seen only while someone calls `receive`; a
        feed that does not answer pings is taken at its word. Raises FeedBrokenError where the connection ends first:
        the message may or may not have arrived, and is to be sent again. Raises FeedClosedError after `close`.
        """
        async with self._change:
            await self._change.wait_for(lambda: self._closing or (self._link is not None and self._link.writable))
        if self._closing or self._link is None:
            raise FeedClosedError
        await self._link.send(payload, patience=self._heartbeat)

    async def close(self) -> None:
        """Ends the connection in order, within two seconds: `receive` still gives what the feed sent until then."""
        await self._announce(closing=True)
        if (link := self._link) is not None:
            if not link.ended.done():
                await link.goodbye()
                await asyncio.wait([link.ended], timeout=CLOSE_TIMEOUT)
            await link.close()

    async def _connect_and_watch(self, session: aiohttp.ClientSession) -> str:
        try:
            link = await self._connect(session)
        except FeedBrokenError as e:
            return str(e)
        if self._closing:
            await link.close()
            return "closed"
        _log.info("feed.connected", url=self.name, connection=link.number)
        self._status.connection("running", connection="connected", url=self.name, connections=link.number)
        await self._announce(link)
        try:
            error = await link.watch(self._heartbeat)
        finally:
            await link.close()
        if time.monotonic() - link.opened >= self._healthy_after:
            self._backoff.reset()
        return error

    async def _connect(self, session: aiohttp.ClientSession) -> FeedLink:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                socket = await session.ws_connect(
                    self._url,
                    max_msg_size=MAX_MESSAGE + 1,
                    decode_text=False,
                    autoping=False,
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_TIMEOUT),
                )
        except aiohttp.WSServerHandshakeError as e:
            raise FeedBrokenError(f"the feed refused the connection: HTTP {e.status}") from e
        except aiohttp.ClientConnectorError as e:
            raise FeedBrokenError(f"cannot connect: {e.os_error.strerror or e.os_error}") from e
        except TimeoutError as e:
            raise FeedBrokenError(f"the feed did not answer within {CONNECT_TIMEOUT:.0f} s") from e
        except (aiohttp.ClientError, OSError) as e:
            raise FeedBrokenError(f"cannot connect: {e}") from e
        self._connections += 1
        return FeedLink(socket, self._connections, lambda: self.settle())

    async def _announce(self, link: FeedLink | None = None, *, closing: bool = False) -> None:
        async with self._change:
            self._link = link or self._link
            self._closing = self._closing or closing
            self._change.notify_all()

    def _trouble(self, error: str | None) -> dict[str, str | int | float]:
        return {"attempt": self._backoff.attempt, "error": error} if error else {}


async def _at_once() -> None:
    """Nothing has to be settled."""
