"""A handshake under way: reads the request, answers it, or gives up."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from typing import Protocol

from weir.infra import log
from weir.infra.retry_after import RETRY_SOON
from weir.infra.websocket import handshake
from weir.infra.websocket.connection import Handler
from weir.infra.websocket.handshake import HandshakeRefusedError, HandshakeRequest, Refusal

_log = log.get_logger("websocket")


class HeldError(Exception):
    """The request is answered later, with what `answer` gives or raises then."""

    def __init__(self, delay: float, answer: Answer) -> None:
        super().__init__(delay)
        self.delay = delay
        self.answer = answer


#: The accept key, the request and its handler; or HandshakeRefusedError or HeldError is raised.
Answer = Callable[[], tuple[str, HandshakeRequest, Handler]]


class HandshakeOwner(Protocol):
    """The server that a handshake belongs to."""

    def answer(self, head: bytes, remote: str) -> tuple[str, HandshakeRequest, Handler]:
        """Returns the accept key, the request and its handler. Raises HandshakeRefusedError or HeldError."""

    def opened(self, connected: socket.socket, request: HandshakeRequest, handler: Handler, early: bytes) -> None:
        """Takes over the socket once its handshake is done; `early` are bytes that came behind the request."""

    def complete(self, pending: PendingHandshake) -> None:
        """Notes that the request has come, though its answer may be held back."""

    def finished(self, pending: PendingHandshake) -> None:
        """Notes that the handshake is over, whatever came of it."""

    def left(self, remote: str) -> None:
        """Notes that a counted connection is over."""

    def warn(self, event: str, **facts: object) -> None:
        """Logs what strangers can cause, at a limited rate."""


class PendingHandshake:
    """A connection whose handshake is not done. The request has so many `seconds` to be complete."""

    __slots__ = ("_head", "_incomplete", "_loop", "_remote", "_server", "_socket", "_timer")

    def __init__(self, connected: socket.socket, remote: str, server: HandshakeOwner, seconds: float) -> None:
        self._socket = connected
        self._remote = remote
        self._server = server
        self._head = bytearray()
        self._incomplete = True
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(seconds, self._too_late)
        self._loop.add_reader(connected, self._readable)

    def end(self) -> None:
        """Closes it."""
        self._leave()
        self._socket.close()

    def evict(self) -> None:
        """Frees the place for a waiting connection: answers a request that has arrived by now, else refuses with 408.

        A server that was slow has not read yet what its peers sent in time. Closing a socket with unread data resets
        the connection, so that the peer would not even see the refusal.
        """
        if self._incomplete:
            self._readable()
        if self._incomplete:
            self._server.warn("websocket.crowded", remote=self._remote, received=len(self._head))
            self._refuse(Refusal(408, "the request did not come in time, and others waited", RETRY_SOON))

    def _too_late(self) -> None:
        self._server.warn("websocket.handshake_timeout", remote=self._remote, received=len(self._head))
        self._refuse(Refusal(408, "the request did not come in time"))

    def _leave(self) -> None:
        self._incomplete = False
        self._timer.cancel()
        self._loop.remove_reader(self._socket)
        self._server.finished(self)

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

    def _answer(self, answer: Answer, early: bytes) -> None:
        try:
            key, request, handler = answer()
        except HandshakeRefusedError as e:
            self._refuse(e.refusal)
        except HeldError as e:
            self._incomplete = False
            self._timer.cancel()
            self._loop.remove_reader(self._socket)
            self._server.complete(self)
            self._timer = self._loop.call_later(e.delay, self._answer, e.answer, early)
        except Exception as e:  # noqa: BLE001 - one request's trouble is not the server's
            _log.error("websocket.request_failed", remote=self._remote, exc_info=e)
            self._refuse(Refusal(500, "internal error; the service's log describes it"))
        else:
            self._open(key, request, handler, early)

    def _open(self, key: str, request: HandshakeRequest, handler: Handler, early: bytes) -> None:
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
