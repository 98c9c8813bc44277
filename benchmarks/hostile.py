"""Clients that do not read their answers, or do not finish their requests, against `weir run metrics`.

    python -m benchmarks.hostile [--seconds 20] [--only ws_one ws_four http half files]

Uses the Kafka of `WEIR_KAFKA`, or starts an embedded one; each case has a service of its own on a home of its own, with
the default settings, on loopback. `ws_one`, `ws_four`: so many WebSockets send up to 64 messages of 100 000 empty
events each, and never read. `http`: 60 POSTs of the same, never read. `half`: 3 000 requests whose head does not end,
while GET /health is asked every 20 ms. `files`: 1 100 connections that send half a head, against a process that may
have 1 024 open files. Prints a table of figures with their bars, and one line of JSON; the exit code is 1 where a bar
is missed.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import resource
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks import bench
from weir.infra.config import Config
from weir.infra.connections.open_files import available
from weir.infra.ports import free_ports

EVENTS, MESSAGES, POSTS, HALVES, SOCKETS, FILES = 100_000, 64, 60, 3_000, 1_100, 1_024
RSS_MB, GONE_S, HEALTH_MS, LOG_BYTES = 300, 10, 100, 100_000
ASKED_EVERY_S = 0.02
#: How long a client tries to send what the server does not read, in seconds.
SEND_S = 3.0

BODY = b"[" + b",".join([b"{}"] * (EVENTS - 1)) + b"]"
POST = b"POST /metric-events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
HALF = b"GET /health HTTP/1.1\r\nHost: x\r\nX-a: "
UPGRADE = (
    b"GET /ws/metric-events HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


@dataclass(frozen=True)
class Figure:
    """A measured figure, and the largest value that passes."""

    case: str
    name: str
    value: float
    bar: float


class Service:
    """`weir run metrics`, as a process."""

    def __init__(self, port: int, process: psutil.Popen, log: Path) -> None:
        self.port, self.process, self._log = port, process, log
        self.rss_mb = 0.0

    def health_ms(self) -> float:
        """How long one GET /health takes, its connection included."""
        begin = time.monotonic()
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        client.request("GET", "/health")
        status = client.getresponse().status
        client.close()
        if status != 200:
            raise SystemExit(f"GET /health answered {status}")
        return (time.monotonic() - begin) * 1000

    def is_there(self) -> bool:
        """Whether it answers."""
        if self.process.poll() is not None:
            raise SystemExit(f"the service ended:\n{self._log.read_text()[-2000:]}")
        with suppress(OSError, http.client.HTTPException):
            client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            client.request("GET", "/health")
            return client.getresponse().status == 200
        return False

    def look(self) -> None:
        """Keeps the largest resident memory that was seen."""
        self.rss_mb = max(self.rss_mb, self.process.memory_info().rss / 2**20)

    def log_bytes(self) -> int:
        """How much it has logged."""
        return self._log.stat().st_size


@contextmanager
def service(config: Config) -> Iterator[Service]:
    """One that answers."""
    [port] = free_ports(1)
    home = config.home / f"metrics-{port}"
    home.mkdir(parents=True)
    environ = os.environ | {
        "WEIR_KAFKA": config.kafka.bootstrap,
        "WEIR_HOME": str(home),
        "WEIR_TOPIC_PREFIX": config.kafka.topic_prefix,
        "WEIR_METRICS_PORT": str(port),
    }
    with (home / "log").open("wb") as log:
        command = [sys.executable, "-m", "weir", "run", "metrics"]
        process = psutil.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=log)
    try:
        found = Service(port, process, home / "log")
        bench.wait_until(found.is_there, "the service answers", 0.1)
        yield found
    finally:
        process.terminate()
        try:
            process.wait(10)
        except psutil.TimeoutExpired:
            process.kill()


def connected(port: int) -> socket.socket:
    """A client that hardly has room for an answer."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.settimeout(SEND_S)
    made.connect(("127.0.0.1", port))
    return made


def web_socket(port: int) -> socket.socket:
    """A WebSocket that has sent as much as is taken of it; its mask is zeros, which changes nothing."""
    made = connected(port)
    made.sendall(UPGRADE)
    if b" 101 " not in made.recv(4096):
        raise SystemExit("no WebSocket")
    frame = b"\x82\xff" + struct.pack("!Q", len(BODY)) + bytes(4) + BODY
    with suppress(OSError):
        for _ in range(MESSAGES):
            made.sendall(frame)
    return made


def post(port: int) -> socket.socket:
    """A POST that is not read."""
    made = connected(port)
    with suppress(OSError):
        made.sendall(POST % len(BODY) + BODY)
    return made


def half(port: int) -> socket.socket:
    """A request whose head does not end."""
    made = connected(port)
    made.sendall(HALF)
    return made


def never_read(case: str, make: Callable[[int], socket.socket], count: int) -> Callable[[Config, float], list[Figure]]:
    """The case of so many clients that never read."""

    def played(config: Config, seconds: float) -> list[Figure]:
        with service(config) as under, ExitStack() as clients:
            for _ in range(count):
                clients.enter_context(make(under.port))
                under.look()
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                under.look()
                time.sleep(0.05)
            return [
                Figure(case, "rss_mb", under.rss_mb, RSS_MB),
                Figure(case, "log_bytes", under.log_bytes(), LOG_BYTES),
            ]

    return played


def is_gone(client: socket.socket) -> bool:
    """Whether the server has closed it."""
    client.setblocking(False)
    try:
        while client.recv(4096):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def unfinished(case: str, count: int, files: int | None = None) -> Callable[[Config, float], list[Figure]]:
    """The case of so many half requests, against a process that may have so many open files."""

    def played(config: Config, seconds: float) -> list[Figure]:
        available(count + 200)
        with service(config) as under, ExitStack() as clients:
            if files is not None:
                resource.prlimit(under.process.pid, resource.RLIMIT_NOFILE, (files, files))
            waits: list[float] = []
            over = threading.Event()

            def ask() -> None:
                while not over.is_set():
                    try:
                        waits.append(under.health_ms())
                    except (OSError, http.client.HTTPException):
                        waits.append(float("inf"))
                    time.sleep(ASKED_EVERY_S)

            asking = threading.Thread(target=ask)
            asking.start()
            begin = time.monotonic()
            left = [clients.enter_context(half(under.port)) for _ in range(count)]
            made = time.monotonic()
            while left and time.monotonic() < made + seconds:
                under.look()
                left = [client for client in left if not is_gone(client)]
                time.sleep(0.1)
            gone = time.monotonic() - made if not left else float("inf")
            over.set()
            asking.join()
            print(f"{case}: made in {made - begin:.1f} s; /health ms {bench.quantiles(waits)}", flush=True)
            figures = [Figure(case, "gone_s", gone, GONE_S), Figure(case, "rss_mb", under.rss_mb, RSS_MB)]
            if files is None:
                figures.append(Figure(case, "health_p99_ms", bench.quantiles(waits)["p99"], HEALTH_MS))
            return [*figures, Figure(case, "log_bytes", under.log_bytes(), LOG_BYTES)]

    return played


CASES: Mapping[str, Callable[[Config, float], list[Figure]]] = {
    "ws_one": never_read("ws_one", web_socket, 1),
    "ws_four": never_read("ws_four", web_socket, 4),
    "http": never_read("http", post, POSTS),
    "half": unfinished("half", HALVES),
    "files": unfinished("files", SOCKETS, FILES),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each case is looked at")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    a = parser.parse_args()
    figures: list[Figure] = []
    with bench.kafka() as config:
        for case in a.only:
            figures += CASES[case](config, a.seconds)
            print(f"{case} done", flush=True)
    print(f"{'case':10} {'figure':16} {'measured':>12} {'at most':>10}")
    for f in figures:
        print(f"{f.case:10} {f.name:16} {f.value:12,.1f} {f.bar:10,.0f}{'' if f.value <= f.bar else '   MISSED'}")
    print(json.dumps({f"{f.case}.{f.name}": round(f.value, 1) for f in figures}))
    sys.exit(any(f.value > f.bar for f in figures))


if __name__ == "__main__":
    main()
