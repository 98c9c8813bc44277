"""One WebSocket connection: reads, messages, a bounded queue of what is to be sent, and the closing handshake.

It works on the socket itself, not on an asyncio transport: a frame that is sent to thousands is then one `send` each
in the common case, and where a peer is slow the queue holds references to the one frame and no copies.
"""

from __future__ import annotations

import asyncio
import enum
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Protocol

from weir.infra import log
from weir.infra.websocket import frames
from weir.infra.websocket.handshake import HandshakeRequest
from weir.infra.websocket.limits import Limits, TokenBucket
from weir.infra.websocket.messages import NO_CODE, Assembler, MessageEvent
from weir.infra.websocket.send_queue import SendQueue

_log = log.get_logger("websocket")

#: Closing with data unsent must not leave the kernel trying for minutes.
_RESET = struct.pack("ii", 1, 0)
#: Seconds that a peer has to read why it is cut off, where it is one that does harm.
_LAST_WORD = 0.5
GONE = 1006
_POLICY = 1008
_INTERNAL = 1011


class _State(enum.Enum):
    OPEN = 1
    #: Our close frame is written or queued; what the peer sends is only looked at for its own.
    CLOSING = 2
    #: Both are done: all that is left is the end of the TCP connection.
    ENDING = 3
    CLOSED = 4


class Handler(Protocol):
    """Deals with one connection of a route. All calls come from the event loop, never within one another."""

    def opened(self, connection: Connection) -> None:
        """The connection is open."""

    def message(self, data: bytes, binary: bool) -> None:
        """A whole message; a text is valid UTF-8."""

    def closed(self, code: int, reason: str) -> None:
        """The connection is over; called once. 1006: without a closing handshake."""


class Owner(Protocol):
    """The server that a connection belongs to."""

    def ended(self, connection: Connection) -> None:
        """Notes that the connection is over."""

    def warn(self, event: str, **facts: object) -> None:
        """Logs what strangers can cause, at a limited rate."""


class Connection:
    """One connection, for the thread of its event loop. `quiet`: the peer has little to say, and it is held to little.
    Reads take as much as `buffer`, which all connections may share.
    """

    __slots__ = (
        "_assembler",
        "_buffer",
        "_code",
        "_drained",
        "_handler",
        "_limits",
        "_loop",
        "_owner",
        "_pace",
        "_paused",
        "_queue",
        "_reason",
        "_request",
        "_socket",
        "_state",
        "_timer",
        "heard",
        "silent",
    )

    def __init__(
        self,
        connected: socket.socket,
        request: HandshakeRequest,
        handler: Handler,
        limits: Limits,
        buffer: memoryview,
        owner: Owner,
        quiet: bool = False,
    ) -> None:
        self._socket = connected
        self._request = request
        self._handler = handler
        self._limits = limits
        self._buffer = buffer
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._assembler = Assembler(limits.quiet_message if quiet else limits.message)
        self._pace = TokenBucket(limits.quiet_rate, limits.quiet_burst) if quiet else None
        self._state = _State.OPEN
        self._queue: SendQueue | None = None  # none where the kernel has taken everything
        self._drained: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._paused = False
        self._code, self._reason = GONE, ""
        #: Whether the peer gave a sign of life since the server last looked, and for how many looks it gave none.
        self.heard = False
        self.silent = 0

    @property
    def remote(self) -> str:
        """The peer's address."""
        return self._request.remote

    @property
    def path(self) -> str:
        """The path that was asked for."""
        return self._request.path

    @property
    def query(self) -> Mapping[str, str]:
        """The query's fields."""
        return self._request.query

    @property
    def headers(self) -> Mapping[str, str]:
        """The request's headers, names in lower case."""
        return self._request.headers

    @property
    def waiting(self) -> int:
        """How many bytes the kernel has not taken yet."""
        return 0 if self._queue is None else self._queue.size

    @property
    def is_open(self) -> bool:
        """Whether what is sent now is sent."""
        return self._state is _State.OPEN

    @property
    def is_paused(self) -> bool:
        """Whether nothing is read from the peer right now, so that its silence means nothing."""
        return self._paused

    def start(self, early: bytes) -> None:
        """Called once by the server. `early` is what came right behind the handshake."""
        self._loop.add_reader(self._socket, self._readable)
        self._safely(self._handler.opened, self)
        if early:
            self._received(early)

    def send(self, data: bytes, binary: bool = False) -> bool:
        """Sends one message. False: the connection is closed, or is closed now because too much waits."""
        return self.send_frame(frames.binary(data) if binary else frames.text(data))

    def send_frame(self, frame: bytes) -> bool:
        """Sends whole frames (`weir.infra.websocket.frames`): the same bytes may go to many. Returns as `send` does."""
        if self._state is not _State.OPEN:
            return False
        if self._queue is not None and self._queue.size + len(frame) > self._limits.queue:
            self._too_slow()
            return False
        self._write(frame)
        return self._state is _State.OPEN

    def when_drained(self, callback: Callable[[], None]) -> None:
        """Calls back once as soon as nothing waits. Not called where the connection ends before."""
        if self._queue is None:
            self._loop.call_soon(callback)
        else:
            self._drained = callback

    def close(self, code: int, reason: str) -> None:
        """Starts the closing handshake behind all that waits. Does nothing where it has been started."""
        if self._state is _State.OPEN:
            self._start_close(code, reason, self._limits.closing)

    def pause(self) -> None:
        """Stops reading from the peer. What was read already still comes: less than the size of one read."""
        if self._state is _State.OPEN and not self._paused:
            self._paused = True
            self._loop.remove_reader(self._socket)

    def resume(self) -> None:
        """Goes on reading."""
        if self._paused and self._state is not _State.CLOSED:
            self._paused = False
            self.heard = True
            self._loop.add_reader(self._socket, self._readable)

    def ping(self) -> None:
        """Asks for a sign of life."""
        if self._state is _State.OPEN:
            self._write(_PING)

    def drop(self, reason: str) -> None:
        """Ends a connection whose peer is silent: tries to say so, and does not wait long."""
        if self._state is _State.OPEN:
            self._drop_queue()
            self._start_close(_POLICY, reason, min(_LAST_WORD, self._limits.closing))

    def abort(self) -> None:
        """Ends it now."""
        if self._state is not _State.CLOSED:
            self._end()

    # Reading.

    def _readable(self) -> None:
        try:
            size = self._socket.recv_into(self._buffer)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            size = 0
        if not size:
            self._end()
            return
        self.heard = True
        if self._state is not _State.ENDING:
            self._received(bytes(self._buffer[:size]))

    def _received(self, data: bytes) -> None:
        events = self._assembler.feed(data)
        if self._pace is not None and not self._is_within(self._pace, len(events)):
            self._flooded()
            return
        pongs = bytearray()
        for event in events:
            if event.kind == frames.PING:
                pongs += frames.frame(frames.PONG, event.data)
                continue
            if pongs:
                self._answer(pongs)
                pongs = bytearray()
            if event.kind <= frames.BINARY:
                if self._state is not _State.OPEN:
                    continue
                try:
                    self._handler.message(event.data, event.kind == frames.BINARY)
                except Exception as e:  # noqa: BLE001 - one connection's trouble is not the server's
                    self._failed(e)
            elif event.kind == frames.CLOSE:
                self._closed_by_peer(event)
                return
        if pongs:
            self._answer(pongs)
        if (error := self._assembler.error) is not None and self._state in (_State.OPEN, _State.CLOSING):
            self._break_off(error.code, error.reason)

    def _is_within(self, pace: TokenBucket, events: int) -> bool:
        """Whether what was read last is within the pace: by frames, and a read without a whole one counts as one."""
        said = max(1, events + self._assembler.fragments)
        self._assembler.fragments = 0
        return pace.take(said, self._loop.time())

    def _flooded(self) -> None:
        """Closes a connection that sends too many frames, and reads on for a moment, so that it gets the reason."""
        self._owner.warn("websocket.flood", remote=self.remote, path=self.path)
        if self._state is _State.OPEN:
            self._drop_queue()
            self._timer = self._loop.call_later(min(_LAST_WORD, self._limits.closing), self.abort)
        self._break_off(_POLICY, f"too many frames: at most {self._limits.quiet_rate:g} a second are allowed")

    def _break_off(self, code: int, reason: str) -> None:
        """Closes because of what the peer has sent; what it sends now does not count."""
        if self._state is _State.OPEN:
            self._code, self._reason = code, reason
            self._write(frames.close(code, reason))
        self._finish()

    def _answer(self, pongs: bytearray) -> None:
        """Pings that come together are answered with one write: a flood of them is not to cost one each."""
        if self._state is not _State.OPEN:
            return
        if self._queue is not None and self.waiting > self._limits.queue:
            self._too_slow()
        else:
            self._write(bytes(pongs))

    def _closed_by_peer(self, event: MessageEvent) -> None:
        if self._state is _State.OPEN:
            self._code, self._reason = event.code, event.data.decode()
            self._write(frames.close(None if event.code == NO_CODE else event.code))
        self._finish()

    # Writing.

    def _write(self, frame: bytes) -> None:
        if self._queue is not None:
            self._queue.put(frame)
            return
        try:
            sent = self._socket.send(frame)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self._loop.call_soon(self.abort)
            self._state = _State.ENDING
            return
        if sent < len(frame):
            self._queue = SendQueue()
            self._queue.put(memoryview(frame)[sent:])
            self._loop.add_writer(self._socket, self._writable)

    def _writable(self) -> None:
        if (queue := self._queue) is None:
            return
        try:
            sent = self._socket.sendmsg(queue.head())
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._end()
            return
        self.heard = True  # it reads, if slowly
        queue.sent(sent)
        if queue.size:
            return
        self._queue = None
        self._loop.remove_writer(self._socket)
        if self._state is _State.ENDING:
            self._shut_down()
        elif self._drained is not None:
            callback, self._drained = self._drained, None
            callback()

    def _drop_queue(self) -> None:
        if self._queue is not None:
            self._queue.drop()

    # Ending.

    def _too_slow(self) -> None:
        reason = f"too slow: {self.waiting} bytes waiting"
        self._owner.warn("websocket.too_slow", remote=self.remote, path=self.path, waiting=self.waiting)
        self._drop_queue()
        self._start_close(_POLICY, reason, self._limits.closing)

    def _failed(self, error: Exception) -> None:
        _log.error("websocket.handler_failed", remote=self.remote, path=self.path, exc_info=error)
        self.close(_INTERNAL, "something went wrong here")

    def _safely(self, call: Callable[..., None], *arguments: object) -> None:
        try:
            call(*arguments)
        except Exception as e:  # noqa: BLE001 - one connection's trouble is not the server's
            self._failed(e)

    def _start_close(self, code: int, reason: str, patience: float) -> None:
        self._code, self._reason = code, reason
        self._state = _State.CLOSING
        if self._paused:
            self.resume()  # the peer's close frame has to be read
        self._write(frames.close(code, reason))
        if self._state is _State.CLOSING:
            self._timer = self._loop.call_later(patience, self.abort)

    def _finish(self) -> None:
        """Nothing more is sent: waits until what is queued is written, then for the peer to end the TCP connection."""
        self._state = _State.ENDING
        self.resume()  # to see that end
        if self._timer is None:
            self._timer = self._loop.call_later(self._limits.closing, self.abort)
        if self._queue is None:
            self._shut_down()

    def _shut_down(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self._loop.call_soon(self.abort)

    def _end(self) -> None:
        self._state = _State.CLOSED
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._socket)
        if self._queue is not None:
            self._loop.remove_writer(self._socket)
            self._queue = None
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._socket.close()
        self._drained = None
        self._owner.ended(self)
        self._loop.call_soon(self._safely, self._handler.closed, self._code, self._reason)


_PING = frames.frame(frames.PING, b"")
