"""`weir run monitoring` out of its memory: how fast that is rebuilt, what dumps take, and whom either keeps waiting.

    python -m benchmarks.clients_api [--events 1000000] [--keys 1000] [--seconds 5]

Writes so many events to monitoring-series (UUIDs, four digits, so many keys of 100 clients, in order of time) and
starts the service. One who asks for a small client, a request every 10 ms, measures how long he waits: while the memory
is rebuilt, while others take dumps of 10 000 events one after the other, and while nobody else does. Figures: events
per second, and per CPU second, of the rebuild, milliseconds of the waits and of the dumps, MB of resident memory. One
line of JSON per phase.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
import psutil

from benchmarks import bench
from weir.infra.config import Config
from weir.infra.ports import free_ports
from weir.schemas.monitoring import EventType, UniqueEvent
from weir.schemas.topics import MONITORING_SERIES

CLIENTS = 100
SMALL = "/clients/small"
ASKED_EVERY_S = 0.01


def fill(config: Config, events: int, keys: int) -> None:
    """Writes monitoring-series, a small client's event first; all of a key are in one partition, as the job has it."""
    now = int(time.time() * 1000)
    topic, out = config.topic(MONITORING_SERIES.name), bench.bulk_producer(config)
    small = UniqueEvent("small", "e", now, EventType.TIME_SERIES, "k", msgspec.Raw(b"1"))
    bench.produce(out, topic, [(now, msgspec.json.encode(small))], 0)
    for n, event_id in enumerate(bench.ids(events)):
        key = n % keys
        value = msgspec.Raw(b"%d" % (1000 + n % 9000))
        event = UniqueEvent(f"c{key % CLIENTS}", event_id, now - events + n, EventType.TIME_SERIES, f"k{key}", value)
        bench.produce(out, topic, [(now, msgspec.json.encode(event))], key % config.kafka.partitions)
    if out.flush(bench.PATIENCE_S):
        raise SystemExit("not everything was acknowledged")


@contextmanager
def service(config: Config) -> Iterator[psutil.Popen]:
    environ = os.environ | {
        "WEIR_KAFKA": config.kafka.bootstrap,
        "WEIR_HOME": str(config.home),
        "WEIR_TOPIC_PREFIX": config.kafka.topic_prefix,
        "WEIR_MONITORING_PORT": str(config.monitoring.port),
    }
    command = [sys.executable, "-m", "weir", "run", "monitoring"]
    process = psutil.Popen(command, env=environ | {"WEIR_LOG_LEVEL": "error"})
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


class Asker:
    """One connection to the service."""

    def __init__(self, config: Config) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", config.monitoring.port, timeout=60)

    def get(self, path: str) -> tuple[float, int, bytes]:
        """Milliseconds, status and body; 0 is the status where nobody listens yet."""
        begun = time.perf_counter()
        try:
            self._connection.request("GET", path)
            response = self._connection.getresponse()
            body = response.read()
        except ConnectionRefusedError:
            self._connection.close()
            return 0.0, 0, b""
        return (time.perf_counter() - begun) * 1000, response.status, body


def waits(config: Config, done: Callable[[], bool]) -> list[float]:
    """How long one waits who asks for a small client, until `done`."""
    asker, found = Asker(config), []
    while not done():
        took, status, _ = asker.get(SMALL)
        if status:
            found.append(took)
        time.sleep(ASKED_EVERY_S)
    return found


def rebuild(config: Config, process: psutil.Popen, events: int) -> dict[str, object]:
    """While the memory is rebuilt. The seconds count from the first answer on: nobody answers before."""
    watcher = Asker(config)
    begun: list[float] = []

    def done() -> bool:
        if process.poll() is not None:
            raise SystemExit(f"the service ended with code {process.returncode}")
        _, status, body = watcher.get("/health")
        if not begun and status:
            begun.append(time.perf_counter())
        return status == 200 and json.loads(body)["clients"]["read"] > events

    found = waits(config, done)
    seconds, cpu_s = time.perf_counter() - begun[0], bench.cpu_s(process)
    return {
        "phase": "rebuild",
        "events_per_s": round(events / seconds),
        "events_per_cpu_s": round(events / cpu_s),
        "wait_ms": bench.quantiles(found),
        "rss_mb": round(process.memory_info().rss / 2**20),
    }


def dumping(config: Config, seconds: float) -> dict[str, object]:
    """While others take dumps."""
    ended = threading.Event()
    took: list[float] = []

    def dump() -> None:
        asker, at = Asker(config), 0
        while not ended.is_set():
            took.append(asker.get(f"/clients/c{at % CLIENTS}?limit=10000")[0])
            at += 1

    others = threading.Thread(target=dump)
    others.start()
    found = waits_for(config, seconds)
    ended.set()
    others.join()
    return {"phase": "dumps", "wait_ms": bench.quantiles(found), "dump_ms": bench.quantiles(took), "dumps": len(took)}


def waits_for(config: Config, seconds: float) -> list[float]:
    until = time.perf_counter() + seconds
    return waits(config, lambda: time.perf_counter() > until)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--keys", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=5)
    chosen = parser.parse_args()
    with bench.kafka(WEIR_MONITORING_PORT=free_ports(1)[0]) as config:
        fill(config, chosen.events, chosen.keys)
        with service(config) as process:
            print(json.dumps(rebuild(config, process, chosen.events)), flush=True)
            print(json.dumps(dumping(config, chosen.seconds)), flush=True)
            print(json.dumps({"phase": "alone", "wait_ms": bench.quantiles(waits_for(config, chosen.seconds))}))


if __name__ == "__main__":
    main()
