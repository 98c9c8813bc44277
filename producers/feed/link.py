"""One WebSocket connection to a feed, from its opening to its end."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Awaitable, Callable
from typing import Literal

from aiohttp import ClientError, ClientWebSocketResponse, WSCloseCode, WSMsgType

from weir.infra.errors import FeedBrokenError

#: How long a graceful close waits for the feed's answer, in seconds.
CLOSE_TIMEOUT = 1.0
#: What aiohttp raises where a connection cannot be written to any more.
_LOST = (ClientError, ConnectionError, TimeoutError)


class FeedLink:
    """One connection: one reader, any number of senders.

    aiohttp's own heartbeat is not used: it takes a connection for dead whose answers it does not see, and while the
    reader holds back (Kafka is away) nothing is seen. Here a peer has to answer only while the reader waits for it.
    `settle` is awaited before a ping of the feed's is answered.
    """

    def __init__(
        self, socket: ClientWebSocketResponse[Literal[False]], number: int, settle: Callable[[], Awaitable[None]]
    ) -> None:
        self._socket = socket
        self._settle = settle
        self.number = number
        self.messages = 0
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.writable = True
        self.last_message = self.opened = time.monotonic()
        self._waiting_since: float | None = None
        self._pongs: dict[bytes, asyncio.Future[None]] = {}
        self._pings = 0

    async def receive(self) -> bytes | None:
        """The next message, text or binary, as its bytes (not necessarily UTF-8); None once the connection ended."""
        while not self.ended.done():
            self._waiting_since = time.monotonic()
            try:
                message = await self._socket.receive()
            finally:
                self._waiting_since = None
            kind = message.type
            if kind is WSMsgType.TEXT or kind is WSMsgType.BINARY:
                self.messages += 1
                self.last_message = time.monotonic()
                return message.data  # type: ignore[no-any-return]
            if kind is WSMsgType.PING:
                await self._answer(message.data)
            elif kind is WSMsgType.PONG:
                self._confirm(message.data)
            elif kind is WSMsgType.CLOSE:
                self.end(f"the feed closed the connection (code {message.data}{': ' * bool(message.extra)}"
                         f"{message.extra or ''})")  # fmt: skip
            elif kind is WSMsgType.ERROR:
                self.end(f"malformed: {message.data}")
            else:
                self.end(f"the connection was lost{_because(self._socket.exception())}")
        return None

    async def send(self, payload: bytes, patience: float) -> None:
        """Sends one text message and a ping, and waits until the feed has answered that, hence has read the message.

        A feed that leaves pings unanswered for `patience` seconds, though the connection holds, is taken at its word.
        Raises FeedBrokenError where the connection ends before the answer: the message may or may not have arrived.
        """
        self._pings += 1
        name = b"%d" % self._pings
        answered = self._pongs[name] = asyncio.get_running_loop().create_future()
        try:
            await self._socket.send_frame(payload, WSMsgType.TEXT)
            await self._socket.ping(name)
            await asyncio.wait([answered, self.ended], timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        except _LOST as e:
            self.writable = False
            raise FeedBrokenError(f"the feed's connection broke while sending{_because(e)}") from e
        finally:
            del self._pongs[name]
        if not answered.done() and self.ended.done():
            raise FeedBrokenError(f"the feed's connection broke while sending: {self.ended.result()}")

    async def watch(self, heartbeat: float) -> str:
        """Waits for the end of the connection and returns the reason.

        A feed from which nothing came for `heartbeat` seconds is pinged; where nothing comes for as long again, the
        connection is ended. One that is merely silent answers, and stays.
        """
        asked = False
        while not self.ended.done():
            await asyncio.wait([self.ended], timeout=heartbeat / 2)
            silent = time.monotonic() - self._waiting_since if self._waiting_since is not None else 0.0
            if silent < heartbeat:
                asked = False
            elif silent >= 2 * heartbeat:
                self.end(f"no answer to a ping, nothing heard for {silent:.1f} s")
            elif not asked:
                asked = True
                await self._ping(heartbeat)
        return self.ended.result()

    async def goodbye(self) -> None:
        """Tells the feed that this is the end; what it sent before it read this is still received."""
        self.writable = False
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._socket.send_frame(struct.pack("!H", WSCloseCode.OK), WSMsgType.CLOSE)
        except _LOST as e:
            self.end(f"the connection was lost{_because(e)}")

    async def close(self) -> None:
        """Lets go of the socket; takes `CLOSE_TIMEOUT` seconds at most."""
        self.end("closed")
        await self._socket.close()

    def end(self, reason: str) -> None:
        """Marks the connection as ended; the first reason stays."""
        self.writable = False
        if not self.ended.done():
            self.ended.set_result(reason)

    async def _answer(self, ping: bytes) -> None:
        await self._settle()
        try:
            await self._socket.pong(ping)
        except _LOST:
            self.writable = False  # what has come in already is still read; the end shows by itself

    async def _ping(self, timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout):
                await self._socket.ping()
        except _LOST as e:
            self.end(f"the connection was lost{_because(e)}")

    def _confirm(self, pong: bytes | bytearray) -> None:
        answered = self._pongs.get(bytes(pong))
        if answered and not answered.done():
            answered.set_result(None)


def _because(error: BaseException | None) -> str:
    return f": {error}" if error and str(error) else ""
