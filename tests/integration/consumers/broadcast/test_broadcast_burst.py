"""Thousands that connect to a broadcaster at once: those that there is room for are served, the others are answered."""

from __future__ import annotations

import resource
import select
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from support.broadcast.broadcast_subscribers import Sender
from support.command import Running, started
from support.wait import PATIENCE_S
from support.websocket.websocket_frames import unframed
from weir.infra.config import Config
from weir.infra.kafka import client as clients
from weir.infra.runtime.status import read_all
from weir.infra.websocket import Limits
from weir.infra.websocket.descriptors import fitting
from weir.schemas.topics import BROADCAST

#: What the test process needs besides its connections.
REST = 1_000
HEAD = (
    b"GET /websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest.fixture(autouse=True)
def open_files() -> Iterator[int]:
    """As many as this process may have."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield before[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextmanager
def broadcaster(environ: dict[str, str], config: Config, open_files: int | None = None) -> Iterator[Running]:
    clients.ensure_topics(config, (BROADCAST,))
    # Nobody here answers a ping.
    with started(environ | {"WEIR_BROADCAST_IDLE": "120s"}, "run", "broadcaster") as process:
        if open_files is not None:
            resource.prlimit(process.process.pid, resource.RLIMIT_NOFILE, (open_files, open_files))
        process.wait_for(lambda: any(s.state == "running" for s in read_all(config)))
        yield process


class Burst:
    """So many connections that are made at once. Each asks for its WebSocket at once, or where the kernel's backlog has
    no room for it, as soon as it is connected: a client that waits with its request may have to make way."""

    def __init__(self, port: int, count: int) -> None:
        self._address = ("127.0.0.1", port)
        self._count = count
        self._epoll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._heard: dict[int, bytes] = {}
        self.statuses: Counter[int] = Counter()
        self.refusals: set[bytes] = set()

    def shake_hands(self) -> None:
        """Returns once each has an answer; keeps those that are connected."""
        for _ in range(self._count):
            connecting = socket.socket()
            connecting.setblocking(False)
            connecting.connect_ex(self._address)
            self._sockets[connecting.fileno()] = connecting
            try:
                connecting.send(HEAD)
                self._epoll.register(connecting, select.EPOLLIN)
            except BlockingIOError:
                self._epoll.register(connecting, select.EPOLLOUT)
            self._go_on(0)  # who is slow to send what was promised may have to make way
        deadline = time.monotonic() + PATIENCE_S
        while self.statuses.total() < self._count:
            assert time.monotonic() < deadline, f"not all {self._count} are answered: {self.statuses}"
            self._go_on(1)

    def _go_on(self, timeout: float) -> set[int]:
        """Takes in what has come; those that it came for."""
        events = self._epoll.poll(timeout)
        for fd, event in events:
            if event & select.EPOLLOUT:
                assert self._sockets[fd].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
                self._sockets[fd].send(HEAD)
                self._epoll.modify(fd, select.EPOLLIN)
                continue
            data = self._sockets[fd].recv(4096)
            assert data, f"a connection was closed: {self.statuses}"
            if fd in self._heard:
                self._heard[fd] += data
                continue
            head, end, self._heard[fd] = data.partition(b"\r\n\r\n")
            assert end, "an answer came in pieces"
            status = int(head.split()[1])
            self.statuses[status] += 1
            if status != 101:
                self.refusals.add(head)
                self._epoll.unregister(fd)
                del self._heard[fd]
                self._sockets.pop(fd).close()
        return {fd for fd, _ in events}

    def hear(self, messages: list[bytes]) -> None:
        """Returns once each has these messages, and nothing else."""
        waiting, deadline = self._deaf(set(self._sockets), messages), time.monotonic() + PATIENCE_S
        while waiting:
            assert time.monotonic() < deadline, f"{len(waiting)} have not heard"
            changed = self._go_on(1)
            waiting -= changed - self._deaf(changed, messages)

    def _deaf(self, those: set[int], messages: list[bytes]) -> set[int]:
        return {fd for fd in those if list(unframed(self._heard[fd])) != messages}

    def close(self) -> None:
        self._epoll.close()
        for connected in self._sockets.values():
            connected.close()


@contextmanager
def burst(port: int, count: int) -> Iterator[Burst]:
    made = Burst(port, count)
    try:
        made.shake_hands()
        yield made
    finally:
        made.close()


def test_ten_thousand_at_once_are_all_served(environ: dict[str, str], config: Config, open_files: int) -> None:
    count = min(10_000, open_files - REST)
    with broadcaster(environ, config), burst(config.broadcast.broadcaster_port, count) as made:
        assert made.statuses == {101: count}
        Sender(config).send("one", "two")
        made.hear([b"one", b"two"])


def test_those_beyond_the_limit_are_told_and_those_within_are_served(environ: dict[str, str], config: Config) -> None:
    with (
        broadcaster(environ | {"WEIR_BROADCAST_CONNECTIONS": "2000"}, config),
        burst(config.broadcast.broadcaster_port, 4_000) as made,
    ):
        assert made.statuses == {101: 2_000, 503: 2_000}
        assert all(b"\r\nRetry-After: " in head for head in made.refusals)
        Sender(config).send("one")
        made.hear([b"one"])


def test_open_files_are_a_limit_as_well(environ: dict[str, str], config: Config) -> None:
    room = fitting(Limits.of(config.broadcast), 1_200, 1).connections
    assert 500 < room < 1_000
    with broadcaster(environ, config, open_files=1_200), burst(config.broadcast.broadcaster_port, 2_000) as made:
        assert made.statuses == {101: room, 503: 2_000 - room}
        Sender(config).send("one")
        made.hear([b"one"])
