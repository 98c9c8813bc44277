"""Events over a WebSocket: each message is one event or an array, and is answered by one message, in order."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from urllib.parse import urlsplit

import msgspec
from aiohttp import WSCloseCode, WSMsgType, web

from weir.infra.config import Config
from weir.infra.connections.admission import ConnectionLimits
from weir.infra.http import ANSWERS, COUNTED, AnswerBudget, HttpLimits
from weir.infra.retry_after import RETRY_SOON
from weir.producers.ingest.body import BodyError
from weir.producers.ingest.request import IngestRequest
from weir.producers.ingest.routes import UNTOLD, RequestRefusedError, refusal
from weir.producers.ingest.writer import IngestWriter

#: The longest message, in bytes.
MAX_MESSAGE = 1 << 20
#: So many messages of one connection may wait for their answers; then it is read no further.
WINDOW = 64
#: As many bytes of verdicts of one connection may wait, beside one message's; then it is read no further.
WAITING = 1 << 20
#: The most connections.
MAX_SOCKETS = 1_000
#: A peer that is silent for so many seconds is pinged, and dropped after half as long again.
_SILENCE = 20.0
#: Seconds that a peer has for the closing handshake.
_GOODBYE = 1.0

#: What a message is: a request whose answer waits for Kafka, or its answer where no events could be told apart.
Taken = IngestRequest | bytes


class WebSocketIngest:
    """The WebSocket route of one intake. Connections are refused unless `is_open`."""

    def __init__(self, config: Config, path: str, writer: IngestWriter) -> None:
        self._path, self._writer = path, writer
        limits = HttpLimits.of(config.http)
        of_address, of_loopback = limits.of_address(MAX_SOCKETS), limits.of_loopback(MAX_SOCKETS)
        self._counts = ConnectionLimits(MAX_SOCKETS, of_address, of_loopback)
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
        remote = request.remote or ""
        try:
            self._check(request, socket)
            if forbidden := self._counts.enter(remote):
                raise RequestRefusedError(503, forbidden, RETRY_SOON)
        except RequestRefusedError as e:
            return refusal(e)
        try:
            await socket.prepare(request)
            conversation = asyncio.create_task(self._converse(socket, request.app[ANSWERS], remote))
            self._conversations.add(conversation)
            try:
                await conversation
            finally:
                self._conversations.discard(conversation)
        finally:
            self._counts.leave(remote)
        return socket

    def _check(self, request: web.Request, socket: web.WebSocketResponse) -> None:
        if not self.is_open:
            raise RequestRefusedError(503, "the service is starting or stopping; retry later", RETRY_SOON)
        if not socket.can_prepare(request):
            raise RequestRefusedError(
                426, "this path accepts only WebSocket connections", {"Upgrade": "websocket", "Connection": "Upgrade"}
            )
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != request.host:  # any page could write through its visitors
            raise RequestRefusedError(403, f"pages of origin {origin[:100]} are not allowed to write")

    async def _converse(self, socket: web.WebSocketResponse, budget: AnswerBudget, remote: str) -> None:
        answers = _Answers(self._writer, socket, budget, remote)
        reading = asyncio.create_task(self._read(socket, answers))
        answering = asyncio.create_task(answers.send())
        self._readings.add(reading)
        try:
            await asyncio.wait([reading])
            if not reading.cancelled():
                reading.result()
            answers.end()
            await answering
            await socket.close(code=WSCloseCode.GOING_AWAY, message=b"this service stops")
        finally:
            self._readings.discard(reading)
            reading.cancel()
            answering.cancel()
            await asyncio.gather(reading, answering, return_exceptions=True)
            await answers.let_go()

    async def _read(self, socket: web.WebSocketResponse, answers: _Answers) -> None:
        async for message in socket:
            if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                await answers.room()
                # A task of its own: whoever stops the reading does not stop what was read.
                taking = answers.put(message.data)
                # It is judged and written before the next one is looked at: a short one is in its first turn.
                await asyncio.sleep(0)
                if not taking.done():
                    await asyncio.wait([taking])


class _Answers:
    """Queue of the answers of one connection, in order. An answer is encoded when its turn comes; `budget` counts the
    large answers of all connections until they are written.
    """

    def __init__(self, writer: IngestWriter, socket: web.WebSocketResponse, budget: AnswerBudget, remote: str) -> None:
        self._writer, self._socket, self._budget, self._remote = writer, socket, budget, remote
        self._waiting: deque[asyncio.Task[Taken] | None] = deque()
        self._news, self._less = asyncio.Event(), asyncio.Event()
        self._size = 0

    def put(self, body: bytes) -> asyncio.Task[Taken]:
        """A message to be taken, and then to be answered."""
        taking = asyncio.create_task(self._take(body))
        self._waiting.append(taking)
        self._news.set()
        return taking

    def end(self) -> None:
        """Marks the end of the messages."""
        self._waiting.append(None)
        self._news.set()

    async def room(self) -> None:
        """Returns when one more message may wait for its answer."""
        while len(self._waiting) >= WINDOW or self._size > WAITING:
            self._less.clear()
            await self._less.wait()

    async def send(self) -> None:
        """Sends the answers in order, up to the None."""
        while True:
            while not self._waiting:
                self._news.clear()
                await self._news.wait()
            if (taking := self._waiting[0]) is None:
                return
            taken = await taking
            await self._say(taken)
            self._waiting.popleft()
            self._size -= _held(taken)
            if isinstance(taken, IngestRequest):
                self._writer.let_go(taken)
            self._less.set()

    async def _take(self, body: bytes) -> Taken:
        taken: Taken
        try:
            taken = await self._writer.take(body, lines=False, patient=True)
        except BodyError as e:
            taken = _error(e.status, str(e))
        self._size += _held(taken)
        return taken

    async def _say(self, taken: Taken) -> None:
        size = 0
        if isinstance(taken, IngestRequest):
            made = await self._writer.answer(taken)
            size = 2 * made.size  # the bytes, and what of them the transport keeps
            if size <= COUNTED or await self._budget.room_for(self._remote, size):
                text = b"".join(made.pieces(b'"status":%d,' % made.status))
            else:
                size, text = 0, _error(503, UNTOLD)
        else:
            text = taken
        with self._budget.held_for(self._remote, size), contextlib.suppress(ConnectionError):
            await self._socket.send_frame(text, WSMsgType.TEXT)  # whoever left will not be told

    async def let_go(self) -> None:
        """Drops the answers that were not sent."""
        left = [taking for taking in self._waiting if taking is not None]
        self._waiting.clear()
        for taking in left:
            taking.cancel()
        for taken in await asyncio.gather(*left, return_exceptions=True):
            if isinstance(taken, IngestRequest):
                self._writer.let_go(taken)


def _error(status: int, reason: str) -> bytes:
    return msgspec.json.encode({"status": status, "error": {"reason": reason}})


def _held(taken: Taken) -> int:
    """The bytes that wait with it."""
    return taken.verdicts_size if isinstance(taken, IngestRequest) else len(taken)
