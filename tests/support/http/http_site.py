"""A site of a test's own behind an HTTP server with limits, and clients that send what they are told to."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from structlog.testing import capture_logs

from weir.infra.http import HttpLimits, HttpServer

LONG = 3_600.0
#: Nothing ends by itself.
PATIENT = HttpLimits(head=LONG, idle=LONG, write=LONG, crowded=LONG)
LARGE = 8 << 20


def limits(**some: Any) -> HttpLimits:
    return HttpLimits(**({"head": LONG, "idle": LONG, "write": LONG, "crowded": LONG} | some))


class Site:
    """`/` answers at once, `/large` with much, `/echo` when the body is there, `/hold` when it is let go."""

    def __init__(self, some: HttpLimits) -> None:
        app = web.Application()
        app.router.add_get("/", self._hello)
        app.router.add_get("/large", self._large)
        app.router.add_get("/tail", self._tail)
        app.router.add_get("/hold", self._hold)
        app.router.add_get("/fails", self._fail)
        app.router.add_post("/echo", self._echo)
        self.server = HttpServer(app, some)
        self.go = asyncio.Event()
        self.held = self.tail = 0
        self.unsent: Callable[[], int] = lambda: 0
        self.clients: list[Client] = []

    async def _hello(self, _: web.Request) -> web.Response:
        return web.Response(text="hello")

    async def _large(self, _: web.Request) -> web.Response:
        return web.Response(body=bytes(LARGE))

    async def _tail(self, request: web.Request) -> web.StreamResponse:
        """An answer that ends while the last bytes wait in the server: more than the kernel takes, yet no backlog."""
        answer = web.StreamResponse()
        await answer.prepare(request)
        transport = request.transport
        assert transport is not None
        self.unsent = transport.get_write_buffer_size
        while not self.unsent():
            await answer.write(bytes(1 << 14))
            self.tail += 1 << 14
        return answer

    async def _echo(self, request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    async def _hold(self, _: web.Request) -> web.Response:
        self.held += 1
        await self.go.wait()
        self.held -= 1
        return web.Response(text="let go")

    async def _fail(self, _: web.Request) -> web.Response:
        raise KeyError("a fault of the handler's")


@asynccontextmanager
async def serving(some: HttpLimits) -> AsyncIterator[Site]:
    site = Site(some)
    await site.server.start("127.0.0.1", 0)
    try:
        yield site
    finally:
        site.go.set()
        for client in site.clients:
            client.writer.transport.abort()
        await site.server.stop()


class Client:
    """Sends what it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, site: Site, data: bytes = b"", of: str = "127.0.0.1", read: int | None = None) -> Client:
        made = socket.socket()
        if read is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, read)
        made.setblocking(False)
        made.bind((of, 0))
        await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", site.server.port))
        client = cls(*await asyncio.open_connection(sock=made, limit=1024))
        client.writer.write(data)
        site.clients.append(client)
        return client

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in head[1:] if line)
        return int(head[0].split()[1]), headers, await self.reader.readexactly(int(headers["Content-Length"]))

    async def refused(self) -> tuple[int, dict[str, str], str]:
        """The status, the headers and the reason of an error that ends the connection."""
        status, headers, body = await self.answer()
        assert await self.reader.read() == b""
        assert headers["Content-Type"].startswith("application/json")
        return status, headers, json.loads(body)["error"]["reason"]


def get(path: str = "/", more: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n{more}\r\n".encode()


def play(main: Coroutine[Any, Any, None]) -> list[Any]:
    """Runs it; gives what was logged."""
    with capture_logs() as lines:
        asyncio.run(asyncio.wait_for(main, 60))
    return lines
