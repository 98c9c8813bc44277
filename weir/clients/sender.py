"""Messages to a listener, one after the other over one WebSocket, and how many of them Kafka has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable

import msgspec
from aiohttp import BasicAuth, ClientSession, ClientWebSocketResponse, WSMsgType
from yarl import URL

from weir.clients.connection import ConnectionLostError, connect, ended
from weir.schemas.broadcast import Refused
from weir.schemas.errors import WeirError

_TEXT_OR_BINARY = (WSMsgType.TEXT, WSMsgType.BINARY)


class _Answer(msgspec.Struct):
    """Any of what a listener says; only an acknowledgement and a refusal (which has both) mean something here."""

    ack: int | None = None
    error: str | None = None
    message: int | None = None


_decode = msgspec.json.Decoder(_Answer).decode


class Acknowledgements:
    """Acknowledgements and refusals that a listener has sent for messages 1, 2, 3, … of one connection.

    An acknowledgement is for all up to its number that were not refused.

    >>> answers = Acknowledgements()
    >>> answers.refused(2); answers.acknowledged(3); answers.refused(4)
    >>> answers.through, answers.count
    (4, 2)
    """

    def __init__(self) -> None:
        self.through = 0  # everything up to this message has its answer
        self.count = 0  # so many of those Kafka has
        self._refused: set[int] = set()

    def acknowledged(self, number: int) -> None:
        """Records that Kafka has all messages up to `number`."""
        while self.through < number:
            self._step()
        self._pass_refused()

    def refused(self, number: int) -> None:
        """The listener did not take message `number`."""
        if number > self.through:
            self._refused.add(number)
            self._pass_refused()

    def _pass_refused(self) -> None:
        while self.through + 1 in self._refused:
            self._step()

    def _step(self) -> None:
        self.through += 1
        if self.through in self._refused:
            self._refused.discard(self.through)
        else:
            self.count += 1


class Sender:
    """Sends to the listener at `url`; with `acks`, ends only once every message has its answer.

    `refused` is called with each refusal. `sent` is how many messages were written, `answers` what became of them, and
    `finished` whether that was all.
    """

    def __init__(
        self, url: URL, channel: str | None, auth: BasicAuth | None, acks: bool, refused: Callable[[Refused], None]
    ) -> None:
        self._url, self._auth, self._acks, self._tell = url, auth, acks, refused
        self._query = ({"channel": channel} if channel is not None else {}) | ({"ack": "1"} if acks else {})
        self._answered = asyncio.Event()
        self._closing = self.finished = False
        self.sent, self.answers = 0, Acknowledgements()

    async def run(self, messages: AsyncIterable[bytes]) -> None:
        """Sends all of them. What is no UTF-8 goes as a binary message.

        Raises ConnectionLostError where the connection ends first: what had no answer by then may have arrived, or not.
        """
        async with ClientSession() as session, await connect(session, self._url, self._query, self._auth) as socket:
            listening = asyncio.create_task(self._listen(socket))
            sending = asyncio.create_task(self._send(socket, messages))
            try:
                await asyncio.wait([listening, sending], return_when=asyncio.FIRST_COMPLETED)
                if listening.done():
                    listening.result()
                sending.result()
                self._closing = True
                await socket.close()  # what the listener reads before the close it has taken
                if socket.close_code != 1000:
                    raise ConnectionLostError(ended(socket, None))
                self.finished = True
            finally:
                for task in (listening, sending):
                    task.cancel()
                await asyncio.gather(listening, sending, return_exceptions=True)

    async def _send(self, socket: ClientWebSocketResponse, messages: AsyncIterable[bytes]) -> None:
        async for message in messages:
            kind = WSMsgType.TEXT if _is_text(message) else WSMsgType.BINARY
            try:
                await socket.send_frame(message, kind)
            except OSError:  # whoever listens says why
                await asyncio.Event().wait()
            self.sent += 1
        while self._acks and self.answers.through < self.sent:
            self._answered.clear()
            await self._answered.wait()

    async def _listen(self, socket: ClientWebSocketResponse) -> None:
        """Takes answers until this side closes. Raises ConnectionLostError at any other end."""
        while True:
            incoming = await socket.receive()
            if incoming.type in _TEXT_OR_BINARY:
                self._take(incoming.data.encode() if isinstance(incoming.data, str) else incoming.data)
            elif self._closing:
                return
            else:
                raise ConnectionLostError(ended(socket, incoming.extra))

    def _take(self, text: bytes) -> None:
        try:
            answer = _decode(text)
        except msgspec.MsgspecError as e:
            raise WeirError(f"the server is not a weir listener: it sent {text[:80]!r}") from e
        if answer.ack is not None:
            self.answers.acknowledged(min(answer.ack, self.sent))
        elif answer.error is not None and answer.message is not None:
            self.answers.refused(answer.message)
            self._tell(Refused(answer.error, answer.message))
        self._answered.set()


def _is_text(message: bytes) -> bool:
    try:
        message.decode()
    except UnicodeDecodeError:
        return False
    return True
