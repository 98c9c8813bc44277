"""Events/s through POST /events into Kafka, acknowledged, beside a bare aiohttp echo of the same bodies.

    python -m benchmarks.ingest [--events 100] [--connections 16] [--seconds 8] [--rounds 3] [--servers echo …]

Uses the Kafka of `WEIR_KAFKA`, or starts an embedded one; writes to topics of its own, which it deletes. Every request
is an array of `--events` events that were never sent before, and each connection sends the next one when the last is
answered. The echo reads a body and answers with it. `monitoring` and `metrics` answer 202 once Kafka has all (acks=all,
idempotent); of `metrics` the events of a request share records. The driver is a process of its own; it, the server and
Kafka share the machine's cores, so the server's CPU is given, too. One line of JSON at the end; the median round
counts.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import selectors
import socket
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psutil
from aiohttp import web

from benchmarks import bench
from weir.infra.config import Config, load
from weir.infra.http import HttpLimits, HttpServer
from weir.producers.ingest.server import METRICS, MONITORING, Ingest, Intake

SERVERS = ("echo", "monitoring", "metrics")
INTAKES = {"echo": MONITORING, "monitoring": MONITORING, "metrics": METRICS}
WARM_UP_S = 1.5


async def serve(name: str, config: Config) -> None:
    """Serves until killed; prints its port."""
    app = web.Application(client_max_size=config.ingest.max_body)
    work: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    if name == "echo":
        app.router.add_post(INTAKES[name].path, echo)
    else:
        ingest = Ingest(config, INTAKES[name])
        app.add_routes(ingest.routes())
        await ingest.open()
        work = asyncio.ensure_future(ingest.work())
    server = HttpServer(app, HttpLimits.of(config.http))
    await server.start("127.0.0.1", 0)
    print(server.port, flush=True)
    await work


async def echo(request: web.Request) -> web.Response:
    return web.Response(body=await request.read(), content_type="application/json")


def bodies(intake: Intake, events: int) -> Iterator[bytes]:
    """Requests with events that were never there before, of 50 clients or users."""
    run, now = uuid.uuid4().hex[:20], int(time.time() * 1000)
    for first in itertools.count(0, events):
        numbers = range(first, first + events)
        if intake is MONITORING:
            made = [
                b'{"client_id":"client-%d","event_id":"%b-%015d","event_timestamp":%d,"event_type":"CUMULATIVE",'
                b'"event_key":"requests-%d","event_value":%d.25}' % (n % 50, run.encode(), n, now, n % 5, n % 1000)
                for n in numbers
            ]
        else:
            made = [
                b'{"timestamp":%d,"user_id":"user-%d","event_type":"type-%d","value":%d.25}'
                % (now, n % 5000, n % 50, n % 1000)
                for n in numbers
            ]
        yield b"[" + b",".join(made) + b"]"


class Client:
    """One connection that posts, and posts again when it is answered."""

    def __init__(self, port: int, path: str, next_body: Callable[[], bytes]) -> None:
        self._path, self._next_body = path.encode(), next_body
        self._rest = self._unsent = b""
        self._at = 0.0
        self.took: list[tuple[float, float]] = []
        self.refused = 0
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)

    def post(self) -> None:
        body = self._next_body()
        head = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        self._unsent = head % (self._path, len(body)) + body
        self._at = time.monotonic()
        self.write()

    def write(self) -> None:
        with suppress(BlockingIOError):
            while self._unsent:
                self._unsent = self._unsent[self.socket.send(self._unsent) :]

    def read(self) -> None:
        data = self.socket.recv(1 << 18)
        assert data, "the server closed the connection"
        self._rest += data
        head = self._rest.find(b"\r\n\r\n")
        if head < 0:
            return
        at = self._rest.index(b"Content-Length: ") + 16
        length = int(self._rest[at : self._rest.index(b"\r", at)])
        if len(self._rest) < head + 4 + length:
            return
        now = time.monotonic()
        if self._rest[9:12] in (b"200", b"202"):
            self.took.append((now, now - self._at))
        else:
            self.refused += 1
        self._rest = b""
        self.post()


@dataclass
class Round:
    """The figures of one round. `cpu`: the server's share of one core."""

    events_per_s: float
    p50_ms: float
    p99_ms: float
    cpu: float


def drive(port: int, pid: int, intake: Intake, a: argparse.Namespace) -> Round:
    """Posts for `a.seconds`, after a while to warm up."""
    source = bodies(intake, a.events)
    clients = [Client(port, intake.path, source.__next__) for _ in range(a.connections)]
    server = psutil.Process(pid)
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client.socket, selectors.EVENT_READ, client)
            client.post()
        begin = time.monotonic() + WARM_UP_S
        used: float | None = None
        while (now := time.monotonic()) < begin + a.seconds:
            if used is None and now >= begin:
                begin, used = now, sum(server.cpu_times()[:2])
            for key, _ in selector.select(0.1):
                key.data.read()
            for client in clients:
                if client._unsent:
                    client.write()
        cpu = (sum(server.cpu_times()[:2]) - (used or 0.0)) / (now - begin)
    if refused := sum(client.refused for client in clients):
        raise SystemExit(f"{refused} requests were not taken")
    took = sorted(seconds for client in clients for at, seconds in client.took if at >= begin)
    for client in clients:
        client.socket.close()
    cut = statistics.quantiles(took, n=100)
    return Round(len(took) * a.events / (now - begin), cut[49] * 1000, cut[98] * 1000, cpu)


@contextmanager
def server(name: str, environ: dict[str, str]) -> Iterator[tuple[int, int]]:
    """Its port and its process id."""
    command = [sys.executable, "-m", "benchmarks.ingest", "--serve", name]
    process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline()), process.pid
    finally:
        process.kill()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=100, help="events per request")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--servers", nargs="+", choices=SERVERS, default=SERVERS)
    parser.add_argument("--serve", choices=SERVERS, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.serve:
        asyncio.run(serve(a.serve, load(os.environ)))
        return
    rounds: dict[str, list[Round]] = {name: [] for name in a.servers}
    with bench.kafka() as config:
        environ = dict(os.environ) | {
            "WEIR_KAFKA": config.kafka.bootstrap,
            "WEIR_TOPIC_PREFIX": config.kafka.topic_prefix,
        }
        with server("monitoring", environ) as (port, pid):  # a Kafka that was just started compiles itself for a while
            drive(port, pid, MONITORING, a)
        for _ in range(a.rounds):
            for name in a.servers:
                with server(name, environ) as (port, pid):
                    rounds[name].append(drive(port, pid, INTAKES[name], a))
                r = rounds[name][-1]
                print(f"{name:10} {r.events_per_s:10,.0f} events/s   p50 {r.p50_ms:6.1f} ms   p99 {r.p99_ms:6.1f} ms   "
                      f"{r.cpu:4.2f} cores, {r.events_per_s / r.cpu:9,.0f} events/CPU-s", flush=True)  # fmt: skip
    middle = {name: sorted(made, key=lambda r: r.events_per_s)[len(made) // 2] for name, made in rounds.items()}
    print(json.dumps({
        "events_per_s": {name: round(r.events_per_s) for name, r in middle.items()},
        "p50_ms": {name: round(r.p50_ms, 1) for name, r in middle.items()},
        "p99_ms": {name: round(r.p99_ms, 1) for name, r in middle.items()},
        "events_per_cpu_s": {name: round(r.events_per_s / r.cpu) for name, r in middle.items()},
        "events_per_request": a.events, "connections": a.connections, "rounds": a.rounds,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
