"""A WebSocket server of a test's own, and a client that sends what it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager

from support.websocket.websocket_echo import Echo
from weir.infra.websocket import Handler, HandshakeRequest, Limits, Refusal, Route, WebSocketServer

Make = Callable[[HandshakeRequest], Handler | Refusal]


@asynccontextmanager
async def serving(
    limits: Limits | None = None, make: Make = lambda r: Echo(), quiet: bool = False
) -> AsyncIterator[WebSocketServer]:
    server = WebSocketServer([Route("/websocket", make, quiet)], limits or Limits())
    await server.start("127.0.0.1", 0)
    try:
        yield server
    finally:
        await server.stop()


def run(main: Coroutine[object, object, None]) -> None:
    asyncio.run(asyncio.wait_for(main, 60))


def url(server: WebSocketServer, rest: str = "/websocket") -> str:
    return f"http://127.0.0.1:{server.port}{rest}"


HANDSHAKE = (
    b"GET /websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def masked(opcode: int, data: bytes = b"", final: bool = True) -> bytes:
    """A short frame as clients send it; a mask of zeros changes nothing."""
    return bytes(((0x80 if final else 0) | opcode, 0x80 | len(data), 0, 0, 0, 0)) + data


class Raw:
    """A client that sends what it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, server: WebSocketServer, data: bytes = HANDSHAKE, of: str = "127.0.0.1") -> Raw:
        raw = cls(*await asyncio.open_connection("127.0.0.1", server.port, local_addr=(of, 0)))
        raw.writer.write(data)
        if data == HANDSHAKE:
            assert (await raw.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        return raw

    async def frame(self) -> tuple[int, bytes]:
        first, size = await self.reader.readexactly(2)
        assert size < 126
        return first & 0x0F, await self.reader.readexactly(size)

    async def end(self) -> tuple[int, str]:
        """The close frame that comes, maybe behind pongs, and the end of the connection."""
        while (frame := await self.frame())[0] == 10:
            pass
        opcode, payload = frame
        assert opcode == 8
        self.writer.close()
        return int.from_bytes(payload[:2], "big"), payload[2:].decode()
