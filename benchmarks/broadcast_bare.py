"""A bare broadcast loop of one WebSocket library: what fan-out costs without Kafka. Run by benchmarks/broadcast.py.

    python -m benchmarks.broadcast_bare picows|aiohttp|weir --rate 10 --messages 200 --size 256

Prints its URL; a line on standard input starts the messages. Each message goes to every connection, its frame built
once where the library can. Prints the seconds of CPU that the messages took, and RSS with and without connections.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import picows
import psutil
from aiohttp import web

from benchmarks.broadcast_driver import stamp
from weir.infra.connections.open_files import available
from weir.infra.websocket import Connection, HandshakeRequest, Limits, Route, WebSocketServer, frames

Send = Callable[[bytes], Awaitable[None]]


async def weir() -> tuple[int, Send]:
    connections: dict[Connection, None] = {}

    class Subscriber:
        def opened(self, connection: Connection) -> None:
            connections[connection] = None
            self._connection = connection

        def message(self, data: bytes, binary: bool) -> None:
            pass

        def closed(self, code: int, reason: str) -> None:
            connections.pop(self._connection)

    async def send(message: bytes) -> None:
        frame = frames.text(message)
        for connection in list(connections):
            connection.send_frame(frame)

    def make(_: HandshakeRequest) -> Subscriber:
        return Subscriber()

    server = WebSocketServer([Route("/websocket", make)], Limits(idle=60))
    await server.start("127.0.0.1", 0)
    return server.port, send


async def with_picows() -> tuple[int, Send]:
    transports: dict[Any, None] = {}

    class Listener(picows.WSListener):  # type: ignore[misc]
        def on_ws_connected(self, transport: Any) -> None:
            transports[transport] = None

        def on_ws_disconnected(self, transport: Any) -> None:
            transports.pop(transport, None)

    async def send(message: bytes) -> None:
        for transport in list(transports):
            transport.send(picows.WSMsgType.TEXT, message)

    server = await picows.ws_create_server(
        lambda r: Listener(), "127.0.0.1", 0, read_buffer_init_size=1024, backlog=4096
    )
    return server.sockets[0].getsockname()[1], send


async def with_aiohttp() -> tuple[int, Send]:
    from aiohttp.http_websocket import WebSocketWriter

    sockets: dict[web.WebSocketResponse, WebSocketWriter] = {}

    async def handle(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        sockets[socket] = socket._writer  # type: ignore[assignment]
        try:
            async for _ in socket:
                pass
        finally:
            del sockets[socket]
        return socket

    async def send(message: bytes) -> None:
        for writer in list(sockets.values()):
            await writer.send_frame(message, aiohttp.WSMsgType.TEXT)

    app = web.Application()
    app.router.add_get("/websocket", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=4096)
    await site.start()
    return runner.addresses[0][1], send


LIBRARIES = {"weir": weir, "picows": with_picows, "aiohttp": with_aiohttp}


async def serve(library: str, rate: float, messages: int, size: int) -> None:
    available(1 << 20)  # as many as there may be
    process = psutil.Process()
    port, send = await LIBRARIES[library]()
    empty = process.memory_info().rss
    print(f"ws://127.0.0.1:{port}/websocket", flush=True)
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, sys.stdin.readline)
    full = process.memory_info().rss
    cpu, start, start_ns = time.process_time(), time.monotonic(), time.time_ns()
    for number in range(messages):
        due_ns = start_ns + int(number / rate * 1e9)
        await asyncio.sleep(max(0.0, (due_ns - time.time_ns()) / 1e9))
        await send(stamp(number, size, due_ns))
        await asyncio.sleep(0)
    seconds = time.monotonic() - start
    print(json.dumps({"cpu_s": round(time.process_time() - cpu, 2), "seconds": round(seconds, 2),
                      "rss_empty": empty, "rss_full": full}), flush=True)  # fmt: skip
    await loop.run_in_executor(None, sys.stdin.readline)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("library", choices=LIBRARIES)
    parser.add_argument("--rate", type=float, default=10.0)
    parser.add_argument("--messages", type=int, default=100)
    parser.add_argument("--size", type=int, default=256)
    a = parser.parse_args()
    asyncio.run(serve(a.library, a.rate, a.messages, a.size))


if __name__ == "__main__":
    main()
