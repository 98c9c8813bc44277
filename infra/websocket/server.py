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
from infra.websocket.handler import Handler
from infra.websocket.handshake import Refusal, RefusedError, Request
from infra.websocket.limits import ConnectionCounts, Limits

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
    """`made` is what the request is answered with, `delay` seconds from now. Until then it is one of the handshakes
    under way, of which there may be `Limits.handshakes`."""

    delay: float
    made: Handler | Refusal


class _HeldError(Exception):
    """The request is answered later, with what `answer` gives or raises then."""

    def __init__(self, delay: float, answer: _Answer) -> None:
        super().__init__(delay)
        self.delay = delay
        self.answer = answer


#: The accept key, the request and its handler; or RefusedError or _HeldError is raised.
_Answer = Callable[[], tuple[str, Request, Handler]]


class WebSocketServer:
    """Serves `routes` on any number of addresses; several servers in one process count their own connections, or
    share `counts`."""

    def __init__(self, routes: Iterable[Route], limits: Limits, counts: ConnectionCounts | None = None) -> None:
        self._routes = {route.path: route for route in routes}
        self._limits = limits
        self._counts = counts or ConnectionCounts(limits)
        self._listening: list[socket.socket] = []
        self._shaking: dict[_Shaking, None] = {}
        self._connections: dict[Connection, None] = {}
        self._buffer = memoryview(bytearray(_READ))
        self._quiet_buffer = self._buffer[:_QUIET_READ]
        self._watch: asyncio.TimerHandle | None = None
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

    # Accepting. While as many handshakes as allowed are under way, the next wait in the kernel's backlog.

    def _accept_more(self) -> None:
        if not self._accepting:
            self._accepting = True
            for listening in self._listening:
                asyncio.get_running_loop().add_reader(listening, self._accept, listening)

    def _accept_no_more(self) -> None:
        if self._accepting:
            self._accepting = False
            for listening in self._listening:
                asyncio.get_running_loop().remove_reader(listening)

    def _stop_listening(self) -> None:
        self._accept_no_more()
        for listening in self._listening:
            listening.close()
        self._listening = []

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_ACCEPTS):
            if len(self._shaking) >= self._limits.handshakes:
                self._accept_no_more()
                return
            try:
                connected, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as e:
                if e.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    raise
                _log.error("websocket.cannot_accept", error=e.strerror, connections=len(self))
                self._accept_no_more()
                asyncio.get_running_loop().call_later(1.0, self._accept_again)
                return
            connected.setblocking(False)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
            self._shaking[_Shaking(connected, address[0], self)] = None

    def _accept_again(self) -> None:
        if self._listening:
            self._accept_more()

    # What a handshake comes to.

    def answer(self, head: bytes, remote: str) -> tuple[str, Request, Handler]:
        """The accept key, the request and its handler. Raises RefusedError, or _HeldError."""
        request = handshake.parse(head, remote)
        route = self._routes.get(request.path)
        if route is None:
            raise RefusedError(Refusal(404, f"there is nothing here; there is {', '.join(sorted(self._routes))}"))
        key = handshake.check_upgrade(request)
        handshake.check_origin(request, self._limits.origins)
        made = route.make(request)
        if isinstance(made, Held):
            raise _HeldError(made.delay, partial(self._admit, key, request, made.made))
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

    def shaken(self, shaking: _Shaking) -> None:
        """A handshake is over, whatever came of it."""
        self._shaking.pop(shaking, None)
        if self._listening and not self._accepting and len(self._shaking) < self._limits.handshakes:
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


class _Shaking:
    """A connection whose handshake is not done."""

    __slots__ = ("_head", "_loop", "_remote", "_server", "_socket", "_timer")

    def __init__(self, connected: socket.socket, remote: str, server: WebSocketServer) -> None:
        self._socket = connected
        self._remote = remote
        self._server = server
        self._head = bytearray()
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(server._limits.handshake, self._too_late)
        self._loop.add_reader(connected, self._readable)

    def end(self) -> None:
        """Closes it."""
        self._leave()
        self._socket.close()

    def _too_late(self) -> None:
        self._server.warn("websocket.handshake_timeout", remote=self._remote, received=len(self._head))
        self._refuse(Refusal(408, "the request did not come in time"))

    def _leave(self) -> None:
        self._timer.cancel()
        self._loop.remove_reader(self._socket)
        self._server.shaken(self)

    def _readable(self) -> None:
        try:
            data = self._socket.recv(handshake.MAX_HEAD)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self.end()
            return
        self._head += data
        end = self._head.find(b"\r\n\r\n")
        if end < 0 and len(self._head) < handshake.MAX_HEAD:
            return
        if end < 0 or end > handshake.MAX_HEAD:
            self._refuse(Refusal(431, "the request's head is too long"))
            return
        head, early = bytes(self._head[:end]), bytes(self._head[end + 4 :])
        self._answer(partial(self._server.answer, head, self._remote), early)

    def _answer(self, answer: _Answer, early: bytes) -> None:
        try:
            key, request, handler = answer()
        except RefusedError as e:
            self._refuse(e.refusal)
        except _HeldError as e:
            self._timer.cancel()
            self._loop.remove_reader(self._socket)
            self._timer = self._loop.call_later(e.delay, self._answer, e.answer, early)
        except Exception as e:  # noqa: BLE001 - one request's trouble is not the server's
            _log.error("websocket.request_failed", remote=self._remote, exc_info=e)
            self._refuse(Refusal(500, "something went wrong here"))
        else:
            self._open(key, request, handler, early)

    def _open(self, key: str, request: Request, handler: Handler, early: bytes) -> None:
        answer = handshake.accepted(key)
        try:
            if self._socket.send(answer) < len(answer):
                raise ConnectionError("a fresh connection takes not even an answer")
        except OSError:
            self.end()
            self._server.left(self._remote)
            return
        self._leave()
        self._server.opened(self._socket, request, handler, early)

    def _refuse(self, refusal: Refusal) -> None:
        _log.debug("websocket.refused", remote=self._remote, status=refusal.status, reason=refusal.reason)
        self._leave()
        try:
            self._socket.send(handshake.refused(refusal))
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            _log.debug("websocket.gone", remote=self._remote)
        self._socket.close()
