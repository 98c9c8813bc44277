"""An HTTP server for an aiohttp application: accepts within limits, and ends connections whose time is over."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from aiohttp import web

from weir.infra import log, prometheus
from weir.infra.connections.acceptor import SOON, Acceptor
from weir.infra.connections.admission import ConnectionLimits
from weir.infra.connections.awaiting_request import AwaitingRequest
from weir.infra.errors import PortTakenError
from weir.infra.http.budget import ANSWERS, AnswerBudget
from weir.infra.http.connection import HttpConnection
from weir.infra.http.errors import raw_error
from weir.infra.http.limits import HttpLimits
from weir.infra.prometheus import Reading
from weir.infra.retry_after import RETRY_SOON

#: How often within the shortest deadline the server looks for connections whose time is over.
_LOOKS = 8
#: So many connections are ended before others get their turn.
_ENDS = 64
#: As much of a refused request is read as has come by then.
_READ = 64 << 10

_log = log.get_logger("http")


class HttpServer:
    """Serves `app` at one port. Of large answers that clients have not read yet it keeps `limits.answers` bytes at
    most; `app[ANSWERS]` counts them, also for handlers that write themselves.

    Where there are as many connections as there may be, those make way that wait for a request, the oldest of the
    address with the most first; where all are at work, a new one is answered with 503. `shutdown` is how many seconds
    `stop` takes at most: half of it for running requests to end, half for those that are cancelled then. No body is
    decompressed: a small one could become a large one.
    """

    def __init__(self, app: web.Application, limits: HttpLimits, *, shutdown: float = 1.0) -> None:
        self.limits = limits.fit()
        self.said = log.Limited(_log)
        self.answers = app[ANSWERS] = AnswerBudget(self.limits)
        #: How many requests were answered, by status.
        self.answered: Counter[int] = Counter()
        # aiohttp waits twice so long: for handlers, and for handlers that it has cancelled.
        self._runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=shutdown / 2)
        self._knobs: dict[str, Any] = {
            "access_log": None, "auto_decompress": False, "keepalive_timeout": self.limits.idle,
        }  # fmt: skip
        most = self.limits.connections
        self._counts = ConnectionLimits(most, self.limits.per_address, self.limits.from_loopback)
        self._waiting: AwaitingRequest[HttpConnection] = AwaitingRequest(most, most, self.limits.crowded)
        self._connections: set[HttpConnection] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._acceptor = Acceptor(self, self.said, "http.cannot_accept")
        self._manager: web.Server | None = None
        self._watch: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return self._counts.total

    @property
    def port(self) -> int:
        """The port that the server listens on; 0 before `start`."""
        return self._acceptor.port

    async def start(self, host: str, port: int, variable: str = "") -> None:
        """Listens; with port 0 on any that is free. Raises PortTakenError, which names the setting `variable`."""
        await self._set_up()
        try:
            await self._acceptor.start(host, port)
        except OSError as e:
            remedy = f"; set {variable} to a free port" if variable else ""
            raise PortTakenError(f"cannot listen at http://{host}:{port}: {e.strerror}{remedy}") from e

    async def start_on(self, bound: socket.socket) -> None:
        """Listens on a socket that is bound already, and closes it at the end."""
        await self._set_up()
        self._acceptor.start_on(bound)

    async def stop(self) -> None:
        """Accepts no more, lets running requests end, and closes all connections."""
        self._acceptor.stop()
        await asyncio.gather(*self._connecting)
        await self._runner.cleanup()
        if self._watch is not None:
            self._watch.cancel()

    async def _set_up(self) -> None:
        await self._runner.setup()
        self._manager = self._runner.server
        assert self._manager is not None
        self._manager.request_factory = partial(_begun, self._manager.request_factory)
        self._look()

    # Accepting.

    def room(self) -> float:
        """0 where one more may be accepted, if only to be refused; else in how many seconds."""
        if not self._counts.is_full or not len(self._waiting):
            return 0.0
        return self.make_room()

    def make_room(self) -> float:
        """Evicts connections that have waited for a request long enough; if there are none, returns the seconds until
        one may be evicted.
        """
        late, wait = self._waiting.evictable(self.now())
        made = [connection.evict() for connection in late[:_ENDS]]
        return 0.0 if any(made) else SOON if late else wait

    def accepted(self, connected: socket.socket, remote: str) -> None:
        """Serves it, or refuses it."""
        if self._counts.is_crowded(remote) and (oldest := self._waiting.oldest(remote)):
            oldest.evict()
        if forbidden := self._counts.enter(remote):
            self.said.warning("http.limit", remote=remote, reason=forbidden)
            _refuse(connected, forbidden)
            return
        connecting = asyncio.get_running_loop().create_task(self._connect(connected, remote))
        self._connecting.add(connecting)
        connecting.add_done_callback(self._connecting.discard)

    async def _connect(self, connected: socket.socket, remote: str) -> None:
        assert self._manager is not None
        make = partial(HttpConnection, self, self._manager, remote, **self._knobs)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(make, connected)
        except OSError:
            self._counts.leave(remote)
            connected.close()

    def metrics(self) -> list[Reading]:
        """Connections, requests by status, and answers that are not read yet."""
        return [
            Reading(prometheus.CONNECTIONS, len(self)),
            Reading(prometheus.UNREAD, self.answers.size),
            *(Reading(prometheus.REQUESTS, number, (str(status),)) for status, number in sorted(self.answered.items())),
        ]

    # What connections tell.

    def now(self) -> float:
        """Seconds of the event loop's clock."""
        return asyncio.get_running_loop().time()

    def waits(self, connection: HttpConnection) -> None:
        """Counts the connection among those that wait for a request."""
        self._connections.add(connection)
        self._waiting.enter(connection, connection.remote, self.now())

    def works(self, connection: HttpConnection) -> None:
        """A request of it is answered."""
        self._waiting.leave(connection)
        if self._counts.is_full:
            self._acceptor.resume()  # there may be none left to make way: then others are refused at once

    def ended(self, connection: HttpConnection) -> None:
        """Releases the place of a connection that has closed or is about to."""
        self._waiting.leave(connection)
        self._connections.discard(connection)
        self._counts.leave(connection.remote)
        if not self._counts.is_full:
            self._acceptor.resume()

    def _look(self) -> None:
        now, before = self.now(), self._counts.total
        for connection in list(self._connections):
            connection.look(now)
            if before - self._counts.total >= _ENDS:  # others get their turn before the rest
                self._watch = asyncio.get_running_loop().call_later(0, self._look)
                return
        shortest = min(self.limits.head, self.limits.idle, self.limits.write)
        self._watch = asyncio.get_running_loop().call_later(shortest / _LOOKS, self._look)


def _begun(
    make: Callable[..., web.BaseRequest], message: Any, payload: Any, protocol: Any, writer: Any, task: Any
) -> web.BaseRequest:
    """Makes a request of what was read, as aiohttp does, and tells its connection."""
    request = make(message, payload, protocol, writer, task)
    protocol.begins(request)
    return request


def _refuse(connected: socket.socket, reason: str) -> None:
    """Answers whatever is asked with 503, as far as that can be done at once."""
    with connected, contextlib.suppress(OSError):
        connected.send(raw_error(503, reason, RETRY_SOON))
        connected.shutdown(socket.SHUT_WR)
        connected.recv(_READ)  # what is left unread would end the connection before the answer is read
