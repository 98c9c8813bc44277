"""One message to thousands: latency, what is lost, the highest rate, memory, and what breaks do, on one broadcaster.

    python -m benchmarks.broadcast [--subscribers 5000] [--rate 10] [--seconds 20] [--never-read 1] [--kill]
    python -m benchmarks.broadcast --sustain [--limit-ms 250] [--seconds 10] [--attempts 2]
    python -m benchmarks.broadcast --bare weir picows aiohttp [--rate 10]

Messages of 256 bytes are written to Kafka at their times, acknowledged by all; `weir run broadcaster` hands them out,
and one process (benchmarks/broadcast_driver.py) is all subscribers, on the same cores. A latency is from when a
message is due to when the subscriber has read it.

`--never-read 1`: so many per cent more subscribers that read nothing. `--kill`: the broadcaster is killed half way and
started again; the subscribers resume. `--sustain`: the rate is raised until p99 is over the limit or something is
missing, so many times in a row; in the same run for bare loops, which hand out without Kafka: one on the broadcaster's
own WebSocket library and one on picows. What it prints last has its share of each. `--bare`: the bare loops alone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import psutil
from confluent_kafka import Producer

from benchmarks import bench
from benchmarks.broadcast_driver import stamp
from weir.infra.config import Config
from weir.infra.kafka.client import producer
from weir.infra.ports import free_ports
from weir.infra.runtime.status import read_all

SIZE = 256
#: What no channel has; the default channel is in this partition.
PARTITION = 0
#: How far `--sustain` raises the rate at each step, and how near it then comes to the highest.
STEP, FINE = 1.4, 1.1
BARE = ("weir", "picows")


class Process:
    """A process that says things on standard output and is told things on standard input."""

    def __init__(self, *command: str, environ: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", *command], env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().decode().strip()
        if not line:
            raise SystemExit(f"{self.process.args} ended without a word")
        return line

    def tell(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"go\n")
        self.process.stdin.flush()

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(30)


@contextmanager
def driver(url: str, subscribers: int, *more: str) -> Iterator[Process]:
    """Runs a process with all subscribers, and yields it once they are connected."""
    process = Process("benchmarks.broadcast_driver", "--url", url, "--subscribers", str(subscribers), *more)
    try:
        assert process.line() == "ready"
        yield process
    finally:
        process.end()


class Broadcaster:
    """`weir run broadcaster`, which can be killed and started again."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.url = f"ws://127.0.0.1:{config.broadcast.broadcaster_port}/websocket"
        self._environ = dict(os.environ) | {
            "WEIR_HOME": str(config.home),
            "WEIR_KAFKA": config.kafka.bootstrap,
            "WEIR_TOPIC_PREFIX": config.kafka.topic_prefix,
            "WEIR_BROADCASTER_PORT": str(config.broadcast.broadcaster_port),
            "WEIR_LOG_LEVEL": "warning",
        }
        self.start()

    def start(self) -> None:
        """Returns once it runs."""
        self._process = Process("weir.cli.main", "run", "broadcaster", environ=self._environ)
        pid = self._process.process.pid
        bench.wait_until(
            lambda: any(s.pid == pid and s.state == "running" for s in read_all(self._config)), "the broadcaster runs"
        )
        self.of = psutil.Process(pid)

    def kill(self) -> None:
        """kill -9."""
        self._process.end()

    def rss(self) -> int:
        return int(self.of.memory_info().rss)

    def cpu(self) -> float:
        times = self.of.cpu_times()
        return float(times.user + times.system)


def ready_producer(config: Config) -> Producer:
    """A producer that has written before, so that what it writes next does not wait for its first contact."""
    writer = producer(config, **{"linger.ms": 0})
    writer.produce(config.topic("broadcast"), b"", partition=PARTITION)
    writer.flush()
    return writer


def send(config: Config, writer: Producer, rate: float, messages: int) -> threading.Thread:
    """Writes so many messages at their times, in a thread."""
    topic = config.topic("broadcast")

    def work() -> None:
        start_ns = time.time_ns()
        for number in range(messages):
            due_ns = start_ns + int(number / rate * 1e9)
            if (wait := due_ns - time.time_ns()) > 0:
                time.sleep(wait / 1e9)
            writer.produce(topic, stamp(number, SIZE, due_ns), partition=PARTITION)
            writer.poll(0)
        if left := writer.flush(30):
            raise SystemExit(f"{left} messages were not acknowledged")

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def run(config: Config, a: argparse.Namespace) -> dict[str, Any]:
    """One run at one rate."""
    writer = ready_producer(config)
    broadcaster = Broadcaster(config)
    try:
        empty = broadcaster.rss()
        total = int(a.rate * a.seconds)
        more = ["--until", str(total), "--patience", "30"]
        if a.never_read:
            more += ["--never-read", str(int(a.subscribers * a.never_read / 100))]
        url = broadcaster.url
        if a.kill:
            url += "?envelope=1"
            more.append("--resume")
        with driver(url, a.subscribers, *more) as subscribers:
            rss = broadcaster.rss()
            cpu, start = broadcaster.cpu(), time.monotonic()
            sending = send(config, writer, a.rate, total)
            if a.kill:
                time.sleep(a.seconds / 2)
                broadcaster.kill()
                broadcaster.start()
            result: dict[str, Any] = json.loads(subscribers.line())
            seconds = time.monotonic() - start
            sending.join()
            if not a.kill:
                result["cpu"] = round((broadcaster.cpu() - cpu) / seconds, 2)
        connections = a.subscribers * (1 + a.never_read / 100)
        return {"rate": a.rate, **result, "rss_kb_per_connection": round((rss - empty) / connections / 1024, 1)}
    finally:
        broadcaster.kill()


def run_bare(library: str, subscribers: int, rate: float, messages: int) -> dict[str, Any]:
    """The same without Kafka: a loop of one library that sends at that rate."""
    command = ["--rate", str(rate), "--messages", str(messages), "--size", str(SIZE)]
    server = Process("benchmarks.broadcast_bare", library, *command)
    try:
        url = server.line()
        with driver(url, subscribers, "--until", str(messages)) as clients:
            server.tell()
            result: dict[str, Any] = json.loads(clients.line())
            told = json.loads(server.line())
        memory = (told["rss_full"] - told["rss_empty"]) / subscribers / 1024
        cpu = round(told["cpu_s"] / told["seconds"], 2)
        return {"library": library, "rate": rate, **result, "cpu": cpu, "rss_kb_per_connection": round(memory, 1)}
    finally:
        server.end()


def highest(holds: Callable[[float], bool], rate: float, steps: int) -> float:
    """The highest rate that holds, from `rate` on by `STEP`, `steps` times at most, then by halves down to `FINE`; 0
    where the first does not.

    >>> round(highest(lambda rate: rate <= 100, 10, 99)), highest(lambda rate: False, 10, 99)
    (97, 0.0)
    >>> highest(lambda rate: True, 10, 1)
    14.0
    """
    low, high = 0.0, rate
    while steps >= 0 and holds(high):
        low, high, steps = high, high * STEP, steps - 1
    while low and steps >= 0 and high / low > FINE:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def sustain(a: argparse.Namespace, config: Config) -> dict[str, Any]:
    """The highest deliveries per second of each, and the broadcaster's as a share of the bare loops'."""

    def holds(name: str, rate: float) -> bool:
        for _ in range(a.attempts):
            if name == "broadcaster":
                result = run(config, argparse.Namespace(**vars(a) | {"rate": rate, "never_read": 0.0, "kill": False}))
            else:
                result = run_bare(name, a.subscribers, rate, int(rate * a.seconds))
            print(json.dumps({"of": name, **result}), flush=True)
            if not (result["lost"] or result["cut_off"]) and result["p99"] <= a.limit_ms:
                return True
        return False

    best = {
        name: round(highest(partial(holds, name), a.rate, a.steps) * a.subscribers) for name in ("broadcaster", *BARE)
    }
    shares = {name: round(best["broadcaster"] / best[name], 2) if best[name] else None for name in BARE}
    return {"deliveries_per_s": best, "broadcaster_of_bare": shares, "limit_ms": a.limit_ms}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subscribers", type=int, default=5000)
    parser.add_argument("--rate", type=float, default=10.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--never-read", type=float, default=0.0)
    parser.add_argument("--kill", action="store_true")
    parser.add_argument("--sustain", action="store_true")
    parser.add_argument("--limit-ms", type=float, default=250.0)
    parser.add_argument("--attempts", type=int, default=2)
    parser.add_argument("--steps", type=int, default=99)
    parser.add_argument("--bare", nargs="+", choices=("weir", "picows", "aiohttp"))
    a = parser.parse_args()
    if a.bare:
        for library in a.bare:
            print(json.dumps(run_bare(library, a.subscribers, a.rate, int(a.rate * a.seconds))), flush=True)
        return
    (port,) = free_ports(1)
    with bench.kafka(WEIR_BROADCASTER_PORT=port) as config:
        # A Kafka of our own is told where it is by its address.
        config = config.replace(WEIR_KAFKA=config.kafka.bootstrap)
        result = sustain(a, config) if a.sustain else run(config, a)
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
