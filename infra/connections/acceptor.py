"""Listening sockets, and accepting from them: for a while not at all, where there is no room or no file to be had."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Protocol

from weir.infra.log import Limited

#: What the kernel keeps of connects that have not been accepted yet (cut to net.core.somaxconn).
BACKLOG = 4096
#: So many are accepted before others get their turn.
_ACCEPTS = 64
#: The kernel's share of what a slow peer may have waiting.
_SEND_BUFFER = 128 << 10
#: Seconds until accepting is tried again where it cannot be.
SOON = 0.05
#: What has become of a connection before it was accepted (accept(2)): the next one is another's.
_OF_PEERS = (
    errno.EPROTO, errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN,
    errno.EHOSTUNREACH, errno.ENONET, errno.ETIMEDOUT, errno.EPERM,
)  # fmt: skip
_USED_UP = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Host(Protocol):
    """Owner of the accepted connections."""

    def accepted(self, connected: socket.socket, remote: str) -> None:
        """Takes over a non-blocking socket."""

    def room(self) -> float:
        """0 where one more may be accepted now, else in how many seconds that is to be asked again."""

    def make_room(self) -> float:
        """Evicts connections that may be evicted; if none may, returns the seconds until one may."""

    def __len__(self) -> int:
        """How many connections there are, for the log."""


class Acceptor:
    """Accepts connections for `host` while it has room; the next wait in the kernel's backlog meanwhile.

    Where the process has no open file left, it asks `host` to make room, and pauses. The log says so as
    `event`, once a second at most.
    """

    def __init__(self, host: Host, said: Limited, event: str) -> None:
        self._host, self._said, self._event = host, said, event
        self._listening: list[socket.socket] = []
        self._again: asyncio.TimerHandle | None = None
        self._accepting = False
        self.port = 0

    async def start(self, host: str, port: int) -> None:
        """Listens at every address of `host`; with port 0 on any that is free, which is in `port` then.

        Raises OSError.
        """
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            for family, kind, protocol, _, address in dict.fromkeys(found):
                try:
                    listening = socket.socket(family, kind, protocol)
                except OSError as e:
                    if e.errno != errno.EAFNOSUPPORT or (not self._listening and address == found[-1][4]):
                        raise
                    continue  # a kernel without IPv6, and a name with addresses of both families
                self._listening.append(listening)
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listening.bind((address[0], self.port or port, *address[2:]))
                self._listen(listening)
        except OSError:
            self.stop()
            raise
        self.resume()

    def start_on(self, bound: socket.socket) -> None:
        """Listens on a socket that is bound already, and closes it at the end."""
        self._listening.append(bound)
        self._listen(bound)
        self.resume()

    def _listen(self, bound: socket.socket) -> None:
        bound.setblocking(False)
        bound.listen(BACKLOG)
        self.port = bound.getsockname()[1]

    def stop(self) -> None:
        """Closes the listening sockets."""
        self._pause()
        for listening in self._listening:
            listening.close()
        self._listening = []

    def resume(self) -> None:
        """Accepts connections again, since there may be room."""
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if self._listening and not self._accepting:
            self._accepting = True
            for listening in self._listening:
                asyncio.get_running_loop().add_reader(listening, self._accept, listening)

    def _pause(self, seconds: float | None = None) -> None:
        """For so many seconds, unless `resume` is called before."""
        if self._accepting:
            self._accepting = False
            for listening in self._listening:
                asyncio.get_running_loop().remove_reader(listening)
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if seconds is not None:
            self._again = asyncio.get_running_loop().call_later(seconds, self.resume)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_ACCEPTS):
            if wait := self._host.room():
                self._pause(wait)
                return
            try:
                connected, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as e:
                if e.errno in _OF_PEERS:
                    continue
                if e.errno not in _USED_UP:
                    raise
                self._said.warning(self._event, error=e.strerror, connections=len(self._host))
                self._pause(self._host.make_room() or SOON)
                return
            connected.setblocking(False)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
            self._host.accepted(connected, address[0])
