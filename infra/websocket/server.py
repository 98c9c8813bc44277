"""The server: accepts, shakes hands, looks for silent peers, and stops in order."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from infra import log
from infra.errors import PortTakenError
from infra.websocket import handshake
from infra.websocket.connection import Connection
from infra.websocket.half_open import HalfOpen
from infra.websocket.handler import Handler
from infra.websocket.handshake import Refusal, RefusedError, Request
from infra.websocket.limits import ConnectionCounts, Limits
from infra.websocket.shaking import HeldError, Shaking

#: What the kernel keeps of connects that have not been accepted yet (cut to net.core.somaxconn).
_BACKLOG = 4096
#: So many are accepted before others get their turn.
_ACCEPTS = 64
#: The kernel's share of what a slow peer may have waiting, and what one read takes at most.
_SEND_BUFFER = 128 << 10
_READ = 64 << 10
#: As much of a quiet peer: what it sends in a flood must not keep the others waiting.
_QUIET_READ = 4 << 10
#: How often within the idle time the server looks for silent peers.
_LOOKS = 8
#: Seconds until accepting is tried again where it cannot be.
_SOON = 0.05
_RETRY_AFTER = "5"

_log = log.get("websocket")


@dataclass(frozen=True)
class Route:
    """`make` gets the request for this path, and gives what handles the connection or a refusal, or either of them
    to be held back for a while. `quiet`: who connects has little to say, and `Limits.quiet_…` bound it."""

    path: str
    make: Callable[[Request], Handler | Refusal | Held]
    quiet: bool = False


@dataclass(frozen=True)
class Held:
    """`made` is what the request is answered with, `delay` seconds from now. Whoever says so bounds how many are held
    back at the same time."""

    delay: float
    made: Handler | Refusal


class WebSocketServer:
    """Serves `routes` on any number of addresses; several servers in one process count their own connections, or
    share `counts`."""

    def __init__(self, routes: Iterable[Route], limits: Limits, counts: ConnectionCounts | None = None) -> None:
        self._routes = {route.path: route for route in routes}
        self._limits = limits
        self._counts = counts or ConnectionCounts(limits)
        self._listening: list[socket.socket] = []
        self._half_open: HalfOpen[Shaking] = HalfOpen(limits.handshakes, limits.per_address, limits.crowded)
        #: All whose handshake is not done: those that are half open, and those that are held back.
        self._shaking: dict[Shaking, None] = {}
        self._connections: dict[Connection, None] = {}
        self._buffer = memoryview(bytearray(_READ))
        self._quiet_buffer = self._buffer[:_QUIET_READ]
        self._watch: asyncio.TimerHandle | None = None
        self._again: asyncio.TimerHandle | None = None
        self._accepting = False
        self._opened = 0
        self._warned: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}
        self._empty = asyncio.Event()
        self.port = 0

    def __len__(self) -> int:
        return len(self._connections)

    async def start(self, host: str, port: int) -> None:
        """Listens; with port 0 on any that is free, which is in `port` then. Raises PortTakenError."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            for family, kind, protocol, _, address in dict.fromkeys(found):
                listening = socket.socket(family, kind, protocol)
                self._listening.append(listening)
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listening.setblocking(False)
                listening.bind((address[0], self.port or port, *address[2:]))
                listening.listen(_BACKLOG)
                self.port = listening.getsockname()[1]
        except OSError as e:
            self._stop_listening()
            raise PortTakenError(f"ws://{host}:{port} cannot be had: {e.strerror}") from e
        self._accept_more()
        self._look()

    async def stop(
        self, code: int = 1001, reason: str | Callable[[Connection], str] = "", timeout: float = 3.0
    ) -> None:
        """Takes no more connections, closes those that there are, and ends what is left after `timeout` seconds."""
        self._stop_listening()
        for shaking in list(self._shaking):
            shaking.end()
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

    def _accept_more(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if self._listening and not self._accepting:
            self._accepting = True
            for listening in self._listening:
                asyncio.get_running_loop().add_reader(listening, self._accept, listening)

    def _accept_no_more(self, seconds: float | None = None) -> None:
        """For so many seconds, unless `_accept_more` is called before."""
        if self._accepting:
            self._accepting = False
            for listening in self._listening:
                asyncio.get_running_loop().remove_reader(listening)
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if seconds is not None:
            self._again = asyncio.get_running_loop().call_later(seconds, self._accept_more)

    def _stop_listening(self) -> None:
        self._accept_no_more()
        for listening in self._listening:
            listening.close()
        self._listening = []

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_ACCEPTS):
            if self._half_open.is_full and (wait := self._make_room()):
                self._accept_no_more(wait)
                return
            try:
                connected, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as e:
                if e.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    raise
                self.warn("websocket.cannot_accept", error=e.strerror, connections=len(self))
                self._accept_no_more(self._make_room() or _SOON)
                return
            connected.setblocking(False)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
            shaking = Shaking(connected, address[0], self, self._limits.handshake)
            self._shaking[shaking] = None
            if oldest := self._half_open.enter(shaking, address[0], asyncio.get_running_loop().time()):
                oldest.make_way()

    def _make_room(self) -> float:
        """Ends handshakes that hold a place for too long while others wait; where there is none, how long until there
        is, in seconds."""
        late, wait = self._half_open.to_make_way(asyncio.get_running_loop().time())
        for shaking in late:
            shaking.make_way()
        return 0.0 if late else max(wait, _SOON)

    # What a handshake comes to.

    def answer(self, head: bytes, remote: str) -> tuple[str, Request, Handler]:
        """The accept key, the request and its handler. Raises RefusedError, or HeldError."""
        request = handshake.parse(head, remote)
        route = self._routes.get(request.path)
        if route is None:
            raise RefusedError(Refusal(404, f"there is nothing here; there is {', '.join(sorted(self._routes))}"))
        key = handshake.check_upgrade(request)
        handshake.check_origin(request, self._limits.origins)
        made = route.make(request)
        if isinstance(made, Held):
            raise HeldError(made.delay, partial(self._admit, key, request, made.made))
        return self._admit(key, request, made)

    def _admit(self, key: str, request: Request, made: Handler | Refusal) -> tuple[str, Request, Handler]:
        if isinstance(made, Refusal):
            raise RefusedError(made)
        if forbidden := self._counts.enter(request.remote):
            self.warn("websocket.limit", remote=request.remote, reason=forbidden)
            raise RefusedError(Refusal(503, forbidden, {"Retry-After": _RETRY_AFTER}))
        return key, request, made

    def opened(self, connected: socket.socket, request: Request, handler: Handler, early: bytes) -> None:
        """Takes over a socket whose handshake is done."""
        quiet = self._routes[request.path].quiet
        buffer = self._quiet_buffer if quiet else self._buffer
        connection = Connection(connected, request, handler, self._limits, buffer, self, quiet)
        # Thousands that come at once must not be pinged at once for ever after.
        self._opened += 1
        connection.silent = self._opened % _LOOKS
        self._connections[connection] = None
        connection.start(early)

    def shaken(self, shaking: Shaking) -> None:
        """A handshake is over, whatever came of it."""
        self._shaking.pop(shaking, None)
        self.complete(shaking)

    def complete(self, shaking: Shaking) -> None:
        """A request has come, and may be held back: it is half open no more."""
        self._half_open.leave(shaking)
        if not self._accepting and not self._half_open.is_full:
            self._accept_more()

    def warn(self, event: str, **facts: object) -> None:
        """What strangers can cause is said once a second at most, with how often it has happened since."""
        now, count = asyncio.get_running_loop().time(), self._unsaid.get(event, 0) + 1
        if now - self._warned.get(event, -1.0) < 1.0:
            self._unsaid[event] = count
            return
        self._warned[event], self._unsaid[event] = now, 0
        _log.warning(event, times=count, **facts)

    def left(self, remote: str) -> None:
        """A connection that was counted is over."""
        self._counts.leave(remote)

    def ended(self, connection: Connection) -> None:
        """One that was opened is over."""
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
