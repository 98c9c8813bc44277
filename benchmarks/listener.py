"""Messages/s through the listener into Kafka, acknowledged, beside a bare echo on the same WebSocket server.

    python -m benchmarks.listener [--size 256] [--connections 20] [--window 200] [--seconds 5] [--rounds 3]

Writes to a topic of its own on `WEIR_KAFKA`, or on an embedded Kafka that it starts. Each connection keeps `window`
messages unanswered. An echo answers each message with itself; the listener acknowledges all up to one (acks=all,
idempotent). An echo on picows is measured as well, to show what the server costs. The driver, the server and Kafka
share the machine's cores. One line of JSON at the end; the median round counts.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import os
import selectors
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import picows

from benchmarks import bench
from weir.infra.config import Config, load
from weir.infra.websocket import Connection, Limits, Route, WebSocketServer
from weir.infra.websocket.frames import BINARY
from weir.producers.broadcast.server import Listener

SERVERS = ("echo", "listener", "picows")


class Echo:
    def opened(self, connection: Connection) -> None:
        self._connection = connection

    def message(self, data: bytes, binary: bool) -> None:
        self._connection.send(data, binary)

    def closed(self, code: int, reason: str) -> None:
        pass


class PicowsEcho(picows.WSListener):  # type: ignore[misc]
    def on_ws_frame(self, transport: Any, frame: Any) -> None:
        transport.send(frame.msg_type, frame.get_payload_as_bytes())


async def serve(name: str, config: Config) -> None:
    """Serves until killed; prints its port."""
    if name == "picows":
        made = await picows.ws_create_server(lambda r: PicowsEcho(), "127.0.0.1", 0)
        print(made.sockets[0].getsockname()[1], flush=True)
        await asyncio.Event().wait()
    routes = [Route("/", lambda r: Echo())]
    work: Callable[[], Awaitable[object]] = asyncio.Event().wait
    if name == "listener":
        listener = Listener(config)
        await listener.open()
        routes, work = listener.routes("/"), listener.work
    server = WebSocketServer(routes, Limits(queue=1 << 26))
    await server.start("127.0.0.1", 0)
    print(server.port, flush=True)
    await work()


class Client:
    """One connection that keeps `window` messages unanswered."""

    def __init__(self, port: int, size: int, window: int, acks: bool) -> None:
        # The mask is zero: the payload is on the wire as it is, and the server unmasks it all the same.
        length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
        self._frame = bytes([0x80 | BINARY]) + length + bytes(4) + os.urandom(size)
        self._answer = size + (2 if size < 126 else 4)
        self._acks, self._window = acks, window
        self.answered = self._sent = self._bytes = 0
        self._rest = self._unsent = b""
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        credentials = base64.b64encode(b"user:pwd").decode()
        self.socket.sendall(
            f"GET /{'?ack=1' if acks else ''} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}\r\n"
            f"Authorization: Basic {credentials}\r\n\r\n".encode()
        )
        answer = self.socket.recv(4096)
        assert answer.startswith(b"HTTP/1.1 101 "), answer
        self.socket.setblocking(False)

    def write(self) -> None:
        """Sends what the window allows."""
        if more := self._window - (self._sent - self.answered):
            self._unsent += self._frame * more
            self._sent += more
        if self._unsent:
            with contextlib.suppress(BlockingIOError):
                self._unsent = self._unsent[self.socket.send(self._unsent) :]

    def read(self) -> None:
        data = self.socket.recv(1 << 18)
        assert data, "the server closed the connection"
        if not self._acks:
            self._bytes += len(data)
            self.answered = self._bytes // self._answer
            return
        self._rest += data
        end = self._rest.rfind(b"}") + 1
        if at := self._rest.rfind(b'{"ack":', 0, end) + 1:
            self.answered = int(self._rest[at + 6 : end - 1])
            self._rest = self._rest[end:]


def drive(port: int, a: argparse.Namespace, acks: bool) -> float:
    """Messages/s that were answered, without the first second."""
    clients = [Client(port, a.size, a.window, acks) for _ in range(a.connections)]
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client.socket, selectors.EVENT_READ, client)
            client.write()
        begin = time.monotonic() + 1.0
        before: int | None = None
        while (now := time.monotonic()) < begin + a.seconds:
            if before is None and now >= begin:
                before, started = sum(c.answered for c in clients), now
            for key, _ in selector.select(0.1):
                key.data.read()
                key.data.write()
            for client in clients:
                if client._unsent:
                    client.write()
        rate = (sum(c.answered for c in clients) - (before or 0)) / (now - started)
    for client in clients:
        client.socket.close()
    return rate


@contextlib.contextmanager
def server(name: str, environ: dict[str, str]) -> Iterator[int]:
    command = [sys.executable, "-m", "benchmarks.listener", "--serve", name]
    process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--connections", type=int, default=20)
    parser.add_argument("--window", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", choices=SERVERS, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.serve:
        asyncio.run(serve(a.serve, load(os.environ)))
        return
    rates: dict[str, list[float]] = {name: [] for name in SERVERS}
    with bench.kafka() as config:
        environ = os.environ | {
            "WEIR_HOME": str(config.home), "WEIR_KAFKA": config.kafka.bootstrap,
            "WEIR_TOPIC_PREFIX": config.kafka.topic_prefix,
        }  # fmt: skip
        for _ in range(a.rounds):
            for name in SERVERS:
                with server(name, environ) as port:
                    rates[name].append(drive(port, a, acks=name == "listener"))
                print(f"{name:9} {rates[name][-1]:10,.0f} messages/s", flush=True)
    medians = {name: round(statistics.median(values)) for name, values in rates.items()}
    share = round(medians["listener"] / medians["echo"], 2)
    print(json.dumps({"messages_per_s": medians, "listener_of_echo": share, "size": a.size,
                      "connections": a.connections, "window": a.window, "rounds": a.rounds}))  # fmt: skip


if __name__ == "__main__":
    main()
