"""Milliseconds from an event's timestamp to its result, readable by a `read_committed` consumer, at a given rate.

    python -m benchmarks.latency [--rate 100 100000] [--seconds 60] [--level pair|parent] [--linger 200ms]

An open-loop generator (benchmarks/offer.py) offers the events of the links benchmark; every 10 ms one of them is a
probe, with a pair of its own in its window. Its latency is the time from when it was due to when the reader first has
the cell of its pair. Probes have pairs that one partition of `link-counts` owns, and the reader reads that one alone:
it takes little from the cores that it measures. `seconds` should be over 60, so that a window closes in them.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import islice, product

from confluent_kafka import OFFSET_BEGINNING, TopicPartition

from benchmarks import bench, offer
from benchmarks.links import parents
from weir.infra.config import Config
from weir.infra.kafka.client import consumer
from weir.schemas.links import link_count_key
from weir.schemas.times import to_rfc3339
from weir.streams.engine.aggregates.partials import owner

#: A probe is due so often.
PROBE_MS = 10
#: So many probes have a pair of their own: more than are due in one window.
PAIRS = 10_000
#: How long probes that were not seen are waited for.
LAST_S = 15.0
PARTITION = 0


def probe_pairs(partitions: int) -> list[tuple[str, str]]:
    """Pairs that partition `PARTITION` of `link-counts` owns, with every child in them named `probe-…`."""
    names = [f"probe-{n:03}" for n in range(1_000)]
    return list(islice((pair for pair in product(names, names) if owner(pair, partitions) == PARTITION), PAIRS))


def due_probes(schedule: offer.Schedule, pairs: list[tuple[str, str]]) -> dict[bytes, float]:
    """Key of the result to when its probe is due (epoch seconds)."""
    found = {}
    for n in range(0, schedule.total, schedule.every):
        at = schedule.due(n)
        window = int(at * 1000) // bench.MINUTE * bench.MINUTE
        source, destination = pairs[n // schedule.every % len(pairs)]
        found[link_count_key(to_rfc3339(window), source, destination)] = at
    return found


def read(config: Config, wanted: dict[bytes, float], until: float) -> tuple[dict[bytes, float], int]:
    """Key to the milliseconds from when its probe was due, of those seen by `until`; how many cells were read."""
    reader = consumer(config, None, **{"fetch.wait.max.ms": 500})
    reader.assign([TopicPartition(config.topic("link-counts"), PARTITION, OFFSET_BEGINNING)])
    seen: dict[bytes, float] = {}
    cells = 0
    while len(seen) < len(wanted) and time.time() < until:
        messages = reader.consume(1, 0.05)
        if messages:
            messages += reader.consume(9_999, 0)
        now = time.time()
        cells += len(messages)
        for message in messages:
            key = message.key()
            if key is not None and b'"probe-' in key and key not in seen:
                seen[key] = (now - wanted[key]) * 1000
    reader.close()
    return seen, cells


def measure(config: Config, rate: int, args: argparse.Namespace) -> dict[str, object]:
    children = bench.ids(1_000)
    values = [bench.call(*pair) for pair in bench.pairs_among(children, args.pairs)]
    pairs = probe_pairs(config.kafka.partitions)
    own = {name: name for pair in pairs for name in pair}
    bench.relate(config, parents(children, args.level, 100) | own)
    with bench.fleet(config, WEIR_LINKS_LINGER=args.linger) as fleet:
        every = max(1, rate * PROBE_MS // 1000)
        schedule = offer.Schedule(rate, args.warmup + args.seconds, time.time() + 2, every)
        process, said = offer.start(config, schedule, values, [bench.call(*pair) for pair in pairs])
        wanted = due_probes(schedule, pairs)
        server = bench.broker(config)
        used, of_broker, begun = fleet.cpu_s(), bench.cpu_s(server) if server else 0.0, time.time()
        reader = time.process_time()
        seen, cells = read(config, wanted, schedule.start + schedule.seconds + LAST_S)
        seconds = time.time() - begun
        cpus = {
            "worker": (fleet.cpu_s() - used) / seconds,
            "broker": ((bench.cpu_s(server) if server else 0.0) - of_broker) / seconds,
            "reader": (time.process_time() - reader) / seconds,
        }
        if not said.poll(bench.PATIENCE_S):
            raise SystemExit("the generator did not end")
        offered: offer.Offered = said.recv()
        process.join()
        fleet.check()
    after = schedule.start + args.warmup
    latencies = [took for key, took in seen.items() if wanted[key] >= after]
    return {
        "rate": rate,
        "level": args.level,
        "linger": args.linger,
        "events_per_s": round(offered.events_per_s),
        "generator_late_ms": round(offered.late_ms, 1),
        "probes": sum(due >= after for due in wanted.values()),
        "lost": len(wanted) - len(seen),
        "latency_ms": bench.quantiles(latencies) if latencies else None,
        "cells_per_s": round(cells * config.kafka.partitions / seconds),
        "cpus": {name: round(value, 2) for name, value in (cpus | {"generator": offered.cpus}).items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, nargs="+", default=[100, 100_000], help="events per second")
    parser.add_argument("--seconds", type=float, default=70)
    parser.add_argument("--warmup", type=float, default=10, help="seconds before them that do not count")
    parser.add_argument("--pairs", type=int, default=50_000, help="draws of a pair of 1 000 children")
    parser.add_argument("--level", choices=("pair", "parent"), default="pair")
    parser.add_argument("--linger", default="200ms")
    args = parser.parse_args()
    for rate in args.rate:
        with bench.kafka() as config:
            print(json.dumps(measure(config, rate, args)), flush=True)


if __name__ == "__main__":
    main()
