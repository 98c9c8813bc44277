"""An echo server on weir's own WebSocket code, for Autobahn's test suite and for tests.

`python tests/support/websocket/websocket_echo.py [PORT]` serves until it is interrupted.
"""

from __future__ import annotations

import asyncio
import sys

from weir.infra.websocket import Connection, HandshakeRequest, Limits, Route, WebSocketServer

#: Autobahn sends messages of up to 16 MiB.
AUTOBAHN = Limits(message=32 << 20, queue=64 << 20, idle=60)


class Echo:
    """Sends back what comes. `log`, where given, hears of everything."""

    def __init__(self, log: list[tuple[object, ...]] | None = None) -> None:
        self._log = log
        self.connection: Connection | None = None

    def opened(self, connection: Connection) -> None:
        self.connection = connection
        self._note("opened")

    def message(self, data: bytes, binary: bool) -> None:
        assert self.connection is not None
        self._note("message", data, binary)
        self.connection.send(data, binary)

    def closed(self, code: int, reason: str) -> None:
        self._note("closed", code, reason)

    def _note(self, *event: object) -> None:
        if self._log is not None:
            self._log.append(event)


def echo(_: HandshakeRequest) -> Echo:
    return Echo()


async def _serve(port: int) -> None:
    server = WebSocketServer([Route("/", echo)], AUTOBAHN)
    await server.start("127.0.0.1", port)
    print(f"ws://127.0.0.1:{server.port}/", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]) if len(sys.argv) > 1 else 9001))
