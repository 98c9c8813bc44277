"""Metric events per second through Kafka to aggregates, and what a worker does at a rate that lasts.

    python -m benchmarks.metrics [--events N] [--types N] [--users N] [--workers 1] [--repeat N] [--stamps ms|text]
    python -m benchmarks.metrics --sustain 600 [--rate 100000] [--types N] [--past N]

The work: N JSON records of about 105 bytes, one event each, over 4 partitions, in one minute; 50 000 draws of a type, a
user and a value. In every round the bare loop (one thread: librdkafka consume, msgspec decode, a count per type and
minute) and weir take turns; figures are medians. weir is measured from the moment when its workers have their
partitions to the commit of the last aggregate: both stages, transactions, every changed cell with its sketches.

`--sustain`: an open-loop generator (benchmarks/offer.py) offers events at the rate. So that memory can be flat from
the start, every minute of the retention is filled before, with `--past` events of each type: enough for sketches as
large as they become. Figures: the worker's resident memory, and per event:

- `process_us`: what a slice took in stage one (`Combine.process`), divided by its events;
- `polled_to_done_ms`: from when its slice was polled to when stage one was done with all of the slice.

Both as the value that so many of the events do not exceed; a slice's figure counts once for each of its events.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import random
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
from confluent_kafka import OFFSET_BEGINNING, TopicPartition

from benchmarks import bench, offer
from benchmarks.links import Figures, medians
from benchmarks.memory import slope
from weir.infra.config import Config
from weir.infra.kafka.client import consumer
from weir.schemas.metrics import MetricEvent

TOPIC = "metric-events"
DRAWS = 50_000
#: How long before the load: the worker writes what came of the minutes before.
PAUSE_S = 10.0


def templates(types: int, users: int, stamp: bytes = b"%d") -> list[bytes]:
    """Events without their time."""
    rng, names = random.Random(8), bench.ids(users)
    return [
        b'{"timestamp":%b,"user_id":"%b","event_type":"type-%04d","value":%.3f}'
        % (stamp, rng.choice(names).encode(), rng.randrange(types), rng.lognormvariate(3, 1))
        for _ in range(DRAWS)
    ]


def timed(events: Iterable[tuple[int, bytes]], text: bool) -> Iterator[tuple[int, bytes]]:
    """Events with their time in them."""
    for at, template in events:
        stamp = dt.datetime.fromtimestamp(at / 1000, dt.UTC).isoformat(timespec="milliseconds") if text else at
        yield at, template % (stamp.encode() if isinstance(stamp, str) else stamp)


def bare(config: Config, events: int) -> Figures:
    """Consuming, decoding and counting alone, in this process."""
    reader = consumer(config, None, **{"queued.min.messages": 50_000})
    reader.assign([TopicPartition(config.topic(TOPIC), p, OFFSET_BEGINNING) for p in range(config.kafka.partitions)])
    decode = msgspec.json.Decoder(MetricEvent).decode
    counts: defaultdict[tuple[int, str], int] = defaultdict(int)
    seen, begun = 0, 0.0
    while seen < events:
        messages = reader.consume(10_000, 0.05)
        if messages and not begun:
            begun = time.perf_counter()
        for message in messages:
            event = decode(message.value())
            counts[message.timestamp()[1] // bench.MINUTE, event.event_type] += 1
        seen += len(messages)
    reader.close()
    return {"events_per_s": seen / (time.perf_counter() - begun), "cells": len(counts)}


def weir(config: Config, events: int, workers: int) -> Figures:
    """The metrics job over both stages. Events that were counted before every worker was ready do not count."""
    asked, server = bench.merged(config, "metrics"), bench.broker(config)
    peak = 0.0
    with bench.fleet(config, workers, "metrics") as fleet:
        begun, before = time.perf_counter(), asked()
        cpu, of_broker = fleet.cpu_s(), bench.cpu_s(server) if server else 0.0

        def look() -> None:
            nonlocal peak
            fleet.check()
            peak = max(peak, fleet.rss_mb())

        bench.wait_merged(asked, events, look)
        seconds = time.perf_counter() - begun
        cpu, of_broker = fleet.cpu_s() - cpu, (bench.cpu_s(server) if server else 0.0) - of_broker
    return {
        "events_per_s": (events - before) / seconds,
        "events_per_cpu_s": (events - before) / cpu,
        "worker_cpus": cpu / seconds,
        "broker_cpus": of_broker / seconds,
        "max_rss_mb": peak,
    }


def run(config: Config, args: argparse.Namespace) -> dict[str, object]:
    text = args.stamps == "text"
    values = templates(args.types, args.users, b'"%b"' if text else b"%d")
    bench.fill(config, timed(bench.spread(values, args.events), text), TOPIC)
    found: dict[str, list[Figures]] = defaultdict(list)
    for _ in range(args.repeat):
        found["bare"].append(bare(config, args.events))
        for workers in args.workers:
            bench.forget(config, "metrics")
            found[f"weir {workers}"].append(weir(config, args.events, workers))
    figures = {label: medians(each) for label, each in found.items()}
    for label, own in figures.items():
        if label != "bare":
            own["times_bare"] = round(own["events_per_s"] / figures["bare"]["events_per_s"], 2)
    settings = {name: getattr(args, name) for name in ("events", "types", "users", "stamps", "repeat")}
    return settings | {"figures": figures}


def past(values: Sequence[bytes], config: Config, events: int) -> Iterator[tuple[int, bytes]]:
    """So many events in each minute of the retention."""
    minutes = config.metrics.retention // bench.MINUTE + 1
    start = int(time.time() * 1000) // bench.MINUTE * bench.MINUTE - minutes * bench.MINUTE
    rng = random.Random(9)
    for minute in range(start, start + minutes * bench.MINUTE, bench.MINUTE):
        for n, value in enumerate(rng.choices(values, k=events)):
            yield minute + n * bench.MINUTE // events, value


def sustain(config: Config, args: argparse.Namespace) -> dict[str, object]:
    values = templates(args.types, args.users)
    written = bench.fill(config, timed(past(values, config, args.past * args.types), False), TOPIC)
    asked, server = bench.merged(config, "metrics"), bench.broker(config)
    slices = config.home / "slices"
    with bench.fleet(config, 1, "metrics", module="benchmarks.timed_worker", TIMED_SLICES=str(slices)) as fleet:
        bench.wait_merged(asked, written, fleet.check)
        filled = fleet.rss_mb()
        schedule = offer.Schedule(args.rate, args.sustain, time.time() + PAUSE_S)
        process, said = offer.start(config, schedule, values, topic=TOPIC)
        samples: list[tuple[float, float]] = []
        cpu, of_broker, begun = fleet.cpu_s(), bench.cpu_s(server) if server else 0.0, time.time()
        while not said.poll(1.0):
            fleet.check()
            if (at := time.time() - schedule.start) >= 0:
                samples.append((round(at, 1), round(fleet.rss_mb(), 1)))
        offered: offer.Offered = said.recv()
        process.join()
        at_end = time.time()
        cpu, of_broker = fleet.cpu_s() - cpu, (bench.cpu_s(server) if server else 0.0) - of_broker
        bench.wait_merged(asked, written + schedule.total, fleet.check)
        behind, rss = time.time() - at_end, fleet.rss_mb()
    seconds = at_end - begun
    return {
        **{name: getattr(args, name) for name in ("types", "users", "rate", "sustain")},
        "events_before": written,
        "events_per_s": round(offered.events_per_s),
        "generator_late_ms": round(offered.late_ms, 1),
        "behind_at_the_end_s": round(behind, 2),
        "cpus": {"worker": round(cpu / seconds, 2), "broker": round(of_broker / seconds, 2)},
        "per_event": per_event(slices, schedule.start),
        "rss_mb": {"filled": round(filled), "max": max(mb for _, mb in samples), "end": round(rss)},
        "slope_mb_a_minute": round(slope(samples[len(samples) // 2 :]), 2),
        "samples": samples[:: max(1, len(samples) // 30)],
    }


def per_event(slices: Path, since: float) -> dict[str, object]:
    """Returns figures per event of the slices processed since then (epoch seconds)."""
    lines = (line.split() for line in slices.read_text().splitlines(keepends=True) if line.endswith("\n"))
    rows = [(int(count), float(took), float(whole)) for at, count, took, whole in lines if float(at) >= since]
    counts = [count for count, _, _ in rows]
    return {
        "slices": len(rows),
        "events_a_slice": round(sum(counts) / len(counts)),
        "process_us": weighted([1e6 * took / count for count, took, _ in rows], counts),
        "polled_to_done_ms": weighted([1e3 * whole for _, _, whole in rows], counts),
    }


def weighted(values: Sequence[float], counts: Sequence[int]) -> dict[str, float]:
    """p50, p99, p99.9 and max, each value counted so many times."""
    ordered = sorted(zip(values, counts, strict=True))
    total, found, seen = sum(counts), {}, 0
    wanted = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)]
    for value, count in ordered:
        seen += count
        while wanted and seen >= wanted[0][1] * total:
            found[wanted.pop(0)[0]] = round(value, 2)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--types", type=int, default=100)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1])
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--stamps", choices=("ms", "text"), default="ms", help="how an event says its time")
    parser.add_argument("--sustain", type=float, metavar="SECONDS", help="at a rate, for so long")
    parser.add_argument("--rate", type=int, default=100_000, help="events per second")
    parser.add_argument("--past", type=int, default=2_000, help="events of each type in each minute before")
    args = parser.parse_args()
    with bench.kafka() as config:
        print(json.dumps(sustain(config, args) if args.sustain else run(config, args)))


if __name__ == "__main__":
    main()
