"""Events per second of `MetricsProcessor` and how long a call takes, for threads that share one core.

    python -m benchmarks.metrics_processor [--events N] [--threads 4] [--types N] [--users N] [--repeat N] [--ways]

The threads share the core that the process is bound to. Each has events of its own, made before; all begin together.
Throughput is measured to the moment when an answer has all events, so all aggregation is in it. Latency is measured in
a pass of its own: each thread reads the clock before and after every call of `process_event` and keeps all differences;
what a thread waits for others while its call is under way counts. In the same run the same is done with a bare loop
that appends the events to a deque: what threads, loop and clock cost by themselves. `read`: the same with a thread
besides that asks for an answer over 60 minutes ten times a second.

`--ways` compares other ways to bring events from many threads to the same aggregation (benchmarks/metrics_ways.py).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import threading
import time
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, Protocol

from benchmarks import bench
from benchmarks.metrics_ways import WAYS
from weir.schemas.metrics import MetricEvent
from weir.streams.jobs.metrics_processor import MetricsProcessor

Put = Callable[[MetricEvent], object]


class Way(Protocol):
    """Takes events from any thread; `counted` says how many are aggregated, once all are."""

    def put(self, event: MetricEvent) -> object: ...
    def counted(self) -> int: ...
    def read(self) -> None: ...


class Processor:
    """The metrics processor, which is measured."""

    def __init__(self) -> None:
        self._own = MetricsProcessor()
        self.put: Put = self._own.process_event

    def counted(self) -> int:
        return int(sum(value for name, value in self._own.get_aggregates(60).items() if name.endswith(".count")))

    def read(self) -> None:
        self._own.get_aggregates(60)


class Bare:
    """A deque, and nothing that happens with what is in it."""

    def __init__(self) -> None:
        self._all: deque[MetricEvent] = deque()
        self.put: Put = self._all.append

    def counted(self) -> int:
        return len(self._all)

    def read(self) -> None:
        """There is nothing to ask for."""


def throughput(way: Way, shares: Sequence[Sequence[MetricEvent]], reads: bool) -> float:
    """Events per second."""

    def work(share: Sequence[MetricEvent]) -> None:
        put = way.put
        for event in share:
            put(event)

    begun = run(way, [lambda share=share: work(share) for share in shares], reads)  # type: ignore[misc]
    events = sum(map(len, shares))
    if way.counted() != events:
        raise SystemExit(f"{way.counted()} of {events} events were counted")
    return events / (time.perf_counter() - begun)


def latency(way: Way, shares: Sequence[Sequence[MetricEvent]], reads: bool) -> dict[str, float]:
    """Microseconds of a call, over all calls of all threads."""
    taken = [array("q", bytes(8 * len(share))) for share in shares]

    def work(share: Sequence[MetricEvent], own: array[int]) -> None:
        put, clock = way.put, time.perf_counter_ns
        for at, event in enumerate(share):
            begun = clock()
            put(event)
            own[at] = clock() - begun

    pairs = zip(shares, taken, strict=True)
    run(way, [lambda share=share, own=own: work(share, own) for share, own in pairs], reads)  # type: ignore[misc]
    way.counted()
    ordered = sorted(ns for own in taken for ns in own)
    shown = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
    return {name: ordered[min(len(ordered) - 1, int(part * len(ordered)))] / 1000 for name, part in shown.items()}


def run(way: Way, works: Sequence[Callable[[], None]], reads: bool) -> float:
    """Runs each in a thread of its own; when they began (perf_counter)."""
    begin, done = threading.Event(), threading.Event()

    def wait_and(work: Callable[[], None]) -> None:
        begin.wait()
        work()

    def read() -> None:
        while not done.wait(0.1):
            way.read()

    threads = [threading.Thread(target=wait_and, args=(work,)) for work in works]
    reader = threading.Thread(target=read)
    for thread in [*threads, *([reader] if reads else [])]:
        thread.start()
    begun = time.perf_counter()
    begin.set()
    for thread in threads:
        thread.join()
    done.set()
    if reads:
        reader.join()
    return begun


def events(count: int, types: int, users: int) -> list[MetricEvent]:
    """Events of the last minute."""
    rng, names, now = random.Random(8), bench.ids(users), time.time_ns() // 1_000_000
    return [
        MetricEvent(
            now - 60_000 + n * 60_000 // count,
            rng.choice(names),
            f"type-{rng.randrange(types):04}",
            rng.lognormvariate(3, 1),
        )
        for n in range(count)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--types", type=int, default=10)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--ways", action="store_true")
    args = parser.parse_args()
    os.sched_setaffinity(0, {args.core})
    made = events(args.events, args.types, args.users)
    shares = [made[n :: args.threads] for n in range(args.threads)]
    ways: dict[str, tuple[Callable[[], Way], bool]]
    ways = {"bare": (Bare, False), "processor": (Processor, False), "processor, read": (Processor, True)}
    if args.ways:
        ways = {"bare": (Bare, False)} | {name: (way, False) for name, way in WAYS.items()}
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
    for _ in range(args.repeat):
        for name, (make, reads) in ways.items():
            rate = throughput(make(), shares, reads)
            rounds[name].append({"events_per_s": rate, **latency(make(), shares, reads)})
    figures = {
        name: {key: round(median(one[key] for one in each), 0 if key == "events_per_s" else 2) for key in each[0]}
        for name, each in rounds.items()
    }
    settings = {name: getattr(args, name) for name in ("events", "threads", "types", "users", "repeat")}
    print(json.dumps(settings | {"cores": len(os.sched_getaffinity(0)), "ways": figures}))


if __name__ == "__main__":
    main()
