"""Events over a WebSocket: each message is one event or an array, and is answered by one message, in order."""

from __future__ import annotations

import asyncio
import contextlib
from urllib.parse import urlsplit

import msgspec
from aiohttp import WSCloseCode, WSMsgType, web

from producers.ingest_body import BodyError
from producers.ingest_http import AGAIN, RefusedError, refusal
from producers.ingest_writer import IngestWriter

#: The longest message, in bytes.
MAX_MESSAGE = 1 << 20
#: So many messages of one connection may wait for their answers; then it is read no further.
WINDOW = 64
#: The most connections.
MAX_SOCKETS = 1_000
#: A peer that is silent for so many seconds is pinged, and dropped after half as long again.
_SILENCE = 20.0
#: Seconds that a peer has for the closing handshake.
_GOODBYE = 1.0


class WebSocketIngest:
    """The WebSocket route of one intake. Connections are refused unless `is_open`."""

    def __init__(self, path: str, writer: IngestWriter) -> None:
        self._path, self._writer = path, writer
        self._readings: set[asyncio.Task[None]] = set()
        self._conversations: set[asyncio.Task[None]] = set()
        self.is_open = False

    @property
    def count(self) -> int:
        """How many connections are open."""
        return len(self._conversations)

    def route(self) -> web.RouteDef:
        """The route."""
        return web.get(self._path, self._serve, allow_head=False)

    def close(self) -> None:
        """Reads no more; each connection is closed with 1001 behind its last answer."""
        self.is_open = False
        for reading in self._readings:
            reading.cancel()

    async def closed(self, timeout: float) -> None:
        """Returns when the connections are, and ends them after `timeout` seconds."""
        if self._conversations:
            _, left = await asyncio.wait(self._conversations, timeout=timeout)
            for conversation in left:
                conversation.cancel()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        # No frame is inflated: a small one could become a large one.
        socket = web.WebSocketResponse(
            heartbeat=_SILENCE, timeout=_GOODBYE, max_msg_size=MAX_MESSAGE, compress=False, decode_text=False
        )
        try:
            self._check(request, socket)
        except RefusedError as e:
            return refusal(e)
        await socket.prepare(request)
        conversation = asyncio.create_task(self._converse(socket))
        self._conversations.add(conversation)
        try:
            await conversation
        finally:
            self._conversations.discard(conversation)
        return socket

    def _check(self, request: web.Request, socket: web.WebSocketResponse) -> None:
        if not self.is_open:
            raise RefusedError(503, "this service starts or stops", AGAIN)
        if not socket.can_prepare(request):
            raise RefusedError(426, "a WebSocket is wanted here", {"Upgrade": "websocket", "Connection": "Upgrade"})
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != request.host:  # any page could write through its visitors
            raise RefusedError(403, f"pages of {origin[:100]} may not write here")
        if self.count >= MAX_SOCKETS:
            raise RefusedError(503, f"there are {MAX_SOCKETS} connections already", AGAIN)

    async def _converse(self, socket: web.WebSocketResponse) -> None:
        answers: asyncio.Queue[asyncio.Task[bytes] | None] = asyncio.Queue()
        slots = asyncio.Semaphore(WINDOW)
        reading = asyncio.create_task(self._read(socket, answers, slots))
        answering = asyncio.create_task(_answer(socket, answers, slots))
        self._readings.add(reading)
        try:
            await asyncio.wait([reading])
            if not reading.cancelled():
                reading.result()
            answers.put_nowait(None)
            await answering
            await socket.close(code=WSCloseCode.GOING_AWAY, message=b"this service stops")
        finally:
            self._readings.discard(reading)
            reading.cancel()
            answering.cancel()

    async def _read(
        self,
        socket: web.WebSocketResponse,
        answers: asyncio.Queue[asyncio.Task[bytes] | None],
        slots: asyncio.Semaphore,
    ) -> None:
        async for message in socket:
            if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                await slots.acquire()
                await self._writer.flight.room(len(message.data))
                answers.put_nowait(asyncio.create_task(self._take(message.data)))
                await asyncio.sleep(0)  # it is judged and written before the next one is looked at

    async def _take(self, body: bytes) -> bytes:
        try:
            made = await self._writer.take(body, lines=False)
        except BodyError as e:
            return msgspec.json.encode({"status": e.status, "error": {"reason": str(e)}})
        return b'{"status":%d,' % made.status + msgspec.json.encode(made)[1:]


async def _answer(
    socket: web.WebSocketResponse, answers: asyncio.Queue[asyncio.Task[bytes] | None], slots: asyncio.Semaphore
) -> None:
    """Sends the answers in order, up to the None."""
    while (taking := await answers.get()) is not None:
        text = await taking
        slots.release()
        with contextlib.suppress(ConnectionError):  # whoever left will not be told
            await socket.send_frame(text, WSMsgType.TEXT)
