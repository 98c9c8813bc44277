"""Feeds for the tests: real WebSocket servers that do as a test tells them, and waiting with a deadline."""

from __future__ import annotations

import asyncio
import contextlib
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from hashlib import sha1
from typing import Any

from aiohttp import WSMsgType, web

from weir.infra.config import Config
from weir.infra.errors import FeedClosedError
from weir.infra.runtime.status import ServiceStatus, StatusFile, read_all
from weir.producers.feed.connection import FeedConnection
from weir.producers.feed.status import FeedStatus

Script = Callable[[web.WebSocketResponse, int], Awaitable[None]]


class ScriptedFeed:
    """Runs `script(socket, n)` for the n-th connection (from 0), then reads until the client is gone."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._runner: web.AppRunner | None = None
        self.port = 0
        self.connections = 0
        self.received: list[str] = []

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/feed"

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/feed", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner:
            await self._runner.cleanup()
            self._runner = None

    async def _serve(self, request: web.Request) -> web.WebSocketResponse:
        number, self.connections = self.connections, self.connections + 1
        socket = web.WebSocketResponse(max_msg_size=0)
        await socket.prepare(request)
        reading = asyncio.create_task(self._read(socket))
        with contextlib.suppress(ConnectionError):
            await self._script(socket, number)
        await reading
        return socket

    async def _read(self, socket: web.WebSocketResponse) -> None:
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                self.received.append(message.data)


@contextlib.asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[ScriptedFeed]:
    """A feed that runs while the block does."""
    feed = ScriptedFeed(script)
    await feed.start()
    try:
        yield feed
    finally:
        await feed.stop()


async def say_nothing(socket: web.WebSocketResponse, number: int) -> None:
    """The script of a silent feed."""


@contextlib.asynccontextmanager
async def connected(config: Config, url: str, **settings: Any) -> AsyncIterator[FeedConnection]:
    """A connection that is kept open while the block runs."""
    connection = FeedConnection(url, feed_status(config), **settings)
    keeping = asyncio.create_task(connection.run())
    try:
        yield connection
    finally:
        closing = asyncio.create_task(connection.close())
        await asyncio.sleep(0)  # a reader that the test has cancelled leaves first
        await count_to_the_end(connection)
        await closing
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping


async def count_to_the_end(connection: FeedConnection) -> int:
    """Reads until the connection has been closed; how many messages that were."""
    received = 0
    with contextlib.suppress(FeedClosedError):
        while await connection.receive():
            received += 1
    return received


@contextlib.asynccontextmanager
async def raw_server(
    handler: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """A TCP server that may misbehave; gives its ws:// address, and closes every connection in the end."""
    writers: list[asyncio.StreamWriter] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await handler(reader, writer)

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def accept_and_go_deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Opens a WebSocket, and reads and writes no more."""
    request = await reader.readuntil(b"\r\n\r\n")
    headers = dict(line.split(b": ", 1) for line in request.split(b"\r\n")[1:-2])
    digest = sha1(headers[b"Sec-WebSocket-Key"] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + b64encode(digest) + b"\r\n\r\n"
    )
    await writer.drain()


def feed_status(config: Config) -> FeedStatus:
    """A status that is written to the feed's file at every change."""
    file = StatusFile(config, "feed")
    return FeedStatus(lambda state, facts: file.set(state, **facts))


def status(config: Config) -> ServiceStatus:
    """Returns the last status that the feed's service wrote."""
    [found] = [service for service in read_all(config) if service.name == "feed"] or [
        ServiceStatus("feed", "unheard", 0, 0)
    ]
    return found
