"""The server: accepts, shakes hands, looks for silent peers, and stops in order."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from weir.infra import log
from weir.infra.connections.acceptor import SOON, Acceptor
from weir.infra.connections.admission import ConnectionLimits
from weir.infra.connections.awaiting_request import AwaitingRequest
from weir.infra.errors import PortTakenError
from weir.infra.retry_after import RETRY_LATER
from weir.infra.websocket import handshake
from weir.infra.websocket.connection import Connection, Handler
from weir.infra.websocket.handshake import HandshakeRefusedError, HandshakeRequest, Refusal
from weir.infra.websocket.limits import Limits
from weir.infra.websocket.pending_handshake import HeldError, PendingHandshake

#: What one read takes at most.
_READ = 64 << 10
#: As much of a quiet peer: what it sends in a flood must not keep the others waiting.
_QUIET_READ = 4 << 10
#: How often within the idle time the server looks for silent peers.
_LOOKS = 8
#: The events by which connections are cut, and how the metric calls them.
_EVICTIONS = {"websocket.too_slow": "too_slow", "websocket.silent": "silent", "websocket.flood": "flood"}

_log = log.get_logger("websocket")


@dataclass(frozen=True)
class Route:
    """`make` gets the request for this path, and gives what handles the connection or a refusal, or either of them
    to be held back for a while. `quiet`: who connects has little to say, and `Limits.quiet_…` bound it."""

    path: str
    make: Callable[[HandshakeRequest], Handler | Refusal | Held]
    quiet: bool = False


@dataclass(frozen=True)
class Held:
    """`made` is what the request is answered with, `delay` seconds from now. Whoever says so bounds how many are held
    back at the same time."""

    delay: float
    made: Handler | Refusal


class WebSocketServer:
    """Serves `routes` on any number of addresses; several servers in one process count their own connections, or
    share `counts`. `pages` are paths that answer a GET without a WebSocket.
    """

    def __init__(
        self,
        routes: Iterable[Route],
        limits: Limits,
        counts: ConnectionLimits | None = None,
        pages: Mapping[str, Callable[[], Refusal]] | None = None,
    ) -> None:
        self._routes = {route.path: route for route in routes}
        self._pages = pages or {}
        self._limits = limits
        self._counts = counts or ConnectionLimits(limits.connections, limits.per_address)
        self._said = log.Limited(_log)
        self._acceptor = Acceptor(self, self._said, "websocket.cannot_accept")
        self._half_open: AwaitingRequest[PendingHandshake] = AwaitingRequest(
            limits.handshakes, limits.per_address, limits.crowded
        )
        #: All whose handshake is not done: those that are half open, and those that are held back.
        self._pending: dict[PendingHandshake, None] = {}
        self._connections: dict[Connection, None] = {}
        self._buffer = memoryview(bytearray(_READ))
        self._quiet_buffer = self._buffer[:_QUIET_READ]
        self._watch: asyncio.TimerHandle | None = None
        self._opened = 0
        #: How many connections were cut, by reason.
        self.evicted: Counter[str] = Counter()
        self._empty = asyncio.Event()

    def __len__(self) -> int:
        return len(self._connections)

    @property
    def port(self) -> int:
        """The port that the server listens on; 0 before `start`."""
        return self._acceptor.port

    async def start(self, host: str, port: int) -> None:
        """Listens; with port 0 on any that is free, which is in `port` then. Raises PortTakenError."""
        scheme = "ws" if self._routes else "http"
        try:
            await self._acceptor.start(host, port)
        except OSError as e:
            raise PortTakenError(f"cannot listen at {scheme}://{host}:{port}: {e.strerror}") from e
        self._look()

    async def stop(
        self, code: int = 1001, reason: str | Callable[[Connection], str] = "", timeout: float = 3.0
    ) -> None:
        """Takes no more connections, closes those that there are, and ends what is left after `timeout` seconds."""
        self._acceptor.stop()
        for pending in list(self._pending):
            pending.end()
        for at, connection in enumerate(list(self._connections)):
            connection.close(code, reason if isinstance(reason, str) else reason(connection))
            if at % 256 == 255:
                await asyncio.sleep(0)
        try:
            async with asyncio.timeout(timeout):
                while self._connections:
                    self._empty.clear()
                    await self._empty.wait()
        except TimeoutError:
            for connection in list(self._connections):
                connection.abort()
        await asyncio.sleep(0)  # the handlers hear of it
        if self._watch is not None:
            self._watch.cancel()

    # Accepting. While there are as many half-open ones as allowed, the next wait in the kernel's backlog.

    def room(self) -> float:
        """0 where one more may be accepted; else in how many seconds."""
        return self.make_room() if self._half_open.is_full else 0.0

    def accepted(self, connected: socket.socket, remote: str) -> None:
        """Waits for its request."""
        pending = PendingHandshake(connected, remote, self, self._limits.handshake)
        self._pending[pending] = None
        if oldest := self._half_open.enter(pending, remote, asyncio.get_running_loop().time()):
            oldest.evict()

    def make_room(self) -> float:
        """Evicts handshakes that have taken too long while others wait; if there are none, returns the seconds until
        one may be evicted.
        """
        late, wait = self._half_open.evictable(asyncio.get_running_loop().time())
        for pending in late:
            pending.evict()
        return 0.0 if late else max(wait, SOON)

    # What a handshake comes to.

    def answer(self, head: bytes, remote: str) -> tuple[str, HandshakeRequest, Handler]:
        """The accept key, the request and its handler. Raises HandshakeRefusedError, or HeldError."""
        request = handshake.parse(head, remote)
        if (page := self._pages.get(request.path)) is not None:
            raise HandshakeRefusedError(handshake.answered(request, page()))
        route = self._routes.get(request.path)
        if route is None:
            raise HandshakeRefusedError(
                Refusal(404, f"unknown path; paths: {', '.join(sorted(self._routes) + sorted(self._pages))}")
            )
        key = handshake.check_upgrade(request)
        handshake.check_origin(request, self._limits.origins)
        made = route.make(request)
        if isinstance(made, Held):
            raise HeldError(made.delay, partial(self._admit, key, request, made.made))
        return self._admit(key, request, made)

    def _admit(
        self, key: str, request: HandshakeRequest, made: Handler | Refusal
    ) -> tuple[str, HandshakeRequest, Handler]:
        if isinstance(made, Refusal):
            raise HandshakeRefusedError(made)
        if forbidden := self._counts.enter(request.remote):
            self.warn("websocket.limit", remote=request.remote, reason=forbidden)
            raise HandshakeRefusedError(Refusal(503, forbidden, RETRY_LATER))
        return key, request, made

    def opened(self, connected: socket.socket, request: HandshakeRequest, handler: Handler, early: bytes) -> None:
        """Takes over a socket whose handshake is done."""
        quiet = self._routes[request.path].quiet
        buffer = self._quiet_buffer if quiet else self._buffer
        connection = Connection(connected, request, handler, self._limits, buffer, self, quiet)
        # Thousands that come at once must not be pinged at once for ever after.
        self._opened += 1
        connection.silent = self._opened % _LOOKS
        self._connections[connection] = None
        connection.start(early)

    def finished(self, pending: PendingHandshake) -> None:
        """Removes a handshake that is over, whatever came of it."""
        self._pending.pop(pending, None)
        self.complete(pending)

    def complete(self, pending: PendingHandshake) -> None:
        """Stops counting a handshake as half-open once its request has come; its answer may still be held back."""
        self._half_open.leave(pending)
        if not self._half_open.is_full:
            self._acceptor.resume()

    def warn(self, event: str, **facts: object) -> None:
        """Logs an event that strangers can cause, at most once a second, with how often it has happened since."""
        if (reason := _EVICTIONS.get(event)) is not None:
            self.evicted[reason] += 1
        self._said.warning(event, **facts)

    def left(self, remote: str) -> None:
        """A connection that was counted is over."""
        self._counts.leave(remote)

    def ended(self, connection: Connection) -> None:
        """Removes a connection that has closed."""
        del self._connections[connection]
        self.left(connection.remote)
        if not self._connections:
            self._empty.set()

    # Silent peers: half-open connections, and subscribers that never read and so never answer a ping.

    def _look(self) -> None:
        for connection in list(self._connections):
            if connection.heard:
                connection.heard, connection.silent = False, 0
                continue
            connection.silent += 1
            if connection.is_paused:
                if connection.silent >= _LOOKS:  # no pong is read; but where nobody is there any more, the ping fails
                    connection.silent = 0
                    connection.ping()
            elif connection.silent == _LOOKS:
                connection.ping()
            elif connection.silent >= 2 * _LOOKS:
                self.warn("websocket.silent", remote=connection.remote, path=connection.path)
                connection.drop(f"nothing heard for {2 * self._limits.idle:.0f} s")
        self._watch = asyncio.get_running_loop().call_later(self._limits.idle / _LOOKS, self._look)
