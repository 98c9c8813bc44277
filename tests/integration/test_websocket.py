"""The WebSocket server on real sockets, with a client of another make (aiohttp) and with one that behaves badly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager

import aiohttp
import pytest

from infra.websocket import Handler, Limits, Refusal, Request, Route, WebSocketServer
from websocket_echo import Echo

Make = Callable[[Request], Handler | Refusal]


@asynccontextmanager
async def serving(limits: Limits | None = None, make: Make = lambda r: Echo()) -> AsyncIterator[WebSocketServer]:
    server = WebSocketServer([Route("/websocket", make)], limits or Limits())
    await server.start("127.0.0.1", 0)
    try:
        yield server
    finally:
        await server.stop()


def run(main: Coroutine[object, object, None]) -> None:
    asyncio.run(asyncio.wait_for(main, 60))


def url(server: WebSocketServer, rest: str = "/websocket") -> str:
    return f"http://127.0.0.1:{server.port}{rest}"


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 200_000])
def test_what_is_sent_comes_back(size: int) -> None:
    async def main() -> None:
        async with (
            serving() as server,
            aiohttp.ClientSession() as session,
            session.ws_connect(url(server), max_msg_size=0) as socket,
        ):
            await socket.send_bytes(b"b" * size)
            assert await socket.receive_bytes() == b"b" * size
            await socket.send_str("é" * (size // 2))
            assert await socket.receive_str() == "é" * (size // 2)

    run(main())
