"""Events per second of the links job, beside a bare consume-decode-count loop and other engines, on one topic.

    python -m benchmarks.links [--events N] [--level pair parent] [--linger 200ms 1s] [--workers 1 2] [--repeat N]
        [--peers FOLDER] [--peer LABEL=COMMAND ...]

The work: N JSON records of about 150 bytes, one event each, over 4 partitions, in one window of a minute; 50 000 draws
of a pair among 1 000 children, which is about 48 770 distinct pairs. Counted per pair of children (`pair`: each
child its own parent), which is what the others count as well; and rolled up to 100 parents (`parent`), which stands
beside the bare loop alone. Uses the Kafka that `WEIR_KAFKA` names, else one of its own.

In every round the bare loop (one thread: librdkafka consume, msgspec decode, dict count), each peer, and weir in each
variant take turns; the figures are medians over the rounds. weir is measured from the moment when its workers have
their partitions to the commit of the last result: both stages, transactions, every changed cell written.

Whatever leaves results in Kafka has them read back, pair by pair: a wrong count ends the benchmark. What a figure
leaves out stands beside it in the table that is printed; the last line is the same as JSON.

`--peers FOLDER` runs the programs that `benchmarks/peers.py` lists. `--peer` names another: COMMAND has {bootstrap},
{topic} and {events} in it and prints "… N events/s". Where its results go to a topic, that is TOPIC-peer-out, which is
made for it; they are not checked.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from statistics import median

import msgspec
from confluent_kafka import OFFSET_BEGINNING, TopicPartition

from benchmarks import bench
from benchmarks.peers import PEERS, Pair, Peer, check, committed
from benchmarks.peers import run as run_peer
from weir.infra.config import Config
from weir.infra.kafka.client import consumer
from weir.schemas.links import Communication, LinkCount

Figures = dict[str, float]


def bare(config: Config, events: int) -> Figures:
    """Consuming, decoding and counting alone, in this process."""
    reader = consumer(config, None, **{"queued.min.messages": 50_000})
    name = config.topic("communications")
    reader.assign([TopicPartition(name, p, OFFSET_BEGINNING) for p in range(config.kafka.partitions)])
    decode = msgspec.json.Decoder(Communication).decode
    counts: dict[tuple[int, str, str], int] = {}
    seen, begun = 0, 0.0
    while seen < events:
        messages = reader.consume(10_000, 0.05)
        if messages and not begun:
            begun = time.perf_counter()
        for message in messages:
            call = decode(message.value())
            key = message.timestamp()[1] // bench.MINUTE, call.source, call.destination
            counts[key] = counts.get(key, 0) + 1
        seen += len(messages)
    reader.close()
    return {"events_per_s": seen / (time.perf_counter() - begun), "cells": len(counts)}


def weir(config: Config, events: int, workers: int = 1, linger: str = "200ms") -> Figures:
    """The links job over both stages. Events that were counted before every worker had its partitions do not count."""
    asked, server = bench.merged(config), bench.broker(config)
    peak = 0.0
    with bench.fleet(config, workers, WEIR_LINKS_LINGER=linger) as fleet:
        begun, before = time.perf_counter(), asked()
        cpu, of_broker = fleet.cpu_s(), bench.cpu_s(server) if server else 0.0

        def look() -> None:
            nonlocal peak
            fleet.check()
            peak = max(peak, fleet.rss_mb())

        bench.wait_merged(asked, events, look)
        seconds = time.perf_counter() - begun
        cpu, of_broker = fleet.cpu_s() - cpu, (bench.cpu_s(server) if server else 0.0) - of_broker
    counted = events - before
    return {
        "events_per_s": counted / seconds,
        "events_per_cpu_s": counted / cpu,
        "worker_cpus": cpu / seconds,
        "broker_cpus": of_broker / seconds,
        "max_rss_mb": peak,
    }


def counted(config: Config) -> Counter[Pair]:
    """The latest count of every cell that the job has committed, by pair of parents."""
    decode = msgspec.json.Decoder(LinkCount).decode
    cells: dict[tuple[str, str, str], int] = {}
    for record in committed(config, config.topic("link-counts")):
        cell = decode(record.value() or b"")
        cells[cell.window.start, cell.source, cell.destination] = cell.count
    found: Counter[Pair] = Counter()
    for (_, source, destination), count in cells.items():
        found[source, destination] += count
    return found


def parents(children: list[str], level: str, groups: int) -> dict[str, str]:
    """Child to parent: itself, or one of so many."""
    names = children if level == "pair" else bench.ids(groups, seed=11)
    return {child: names[n % len(names)] for n, child in enumerate(children)}


def run(config: Config, args: argparse.Namespace, peers: dict[str, Peer]) -> dict[str, list[Figures]]:
    """Contender to its figures in each round."""
    children = bench.ids(args.children)
    pairs = {bench.call(*pair): pair for pair in bench.pairs_among(children, args.pairs)}
    expected: Counter[Pair] = Counter()

    def seen(at: int, value: bytes) -> tuple[int, bytes]:
        expected[pairs[value]] += 1
        return at, value

    bench.fill(config, (seen(*event) for event in bench.spread([*pairs], args.events, args.windows)))
    found: dict[str, list[Figures]] = defaultdict(list)

    def add(label: str, figures: Figures) -> None:
        found[label].append(figures)
        print(f"{label}: {figures['events_per_s']:,.0f} events/s", file=sys.stderr, flush=True)

    for _ in range(args.repeat):
        add("bare", bare(config, args.events))
        for label, one in peers.items():
            add(label, run_peer(config, one, args.events, expected))
        for level in args.level:
            parent = parents(children, level, args.parents)
            for linger in args.linger:
                for workers in args.workers:
                    bench.forget(config)
                    bench.relate(config, parent)
                    label = f"weir {level} {linger} {workers}"
                    figures = weir(config, args.events, workers, linger)
                    figures["in_results"] = check(counted(config), rolled_up(expected, parent), True, label)
                    add(label, figures)
    return found


def rolled_up(expected: Mapping[Pair, int], parent: Mapping[str, str]) -> Counter[Pair]:
    """Counts per pair of children as counts per pair of their parents."""
    found: Counter[Pair] = Counter()
    for (source, destination), count in expected.items():
        found[parent[source], parent[destination]] += count
    return found


def medians(rounds: list[Figures]) -> Figures:
    """The median of every figure over the rounds; of what is a count per second, whole numbers."""
    figures = {name: median(one[name] for one in rounds) for name in rounds[0]}
    return {name: round(value) if value > 100 else round(value, 2) for name, value in figures.items()}


def compared(figures: dict[str, Figures], peers: Mapping[str, Peer]) -> None:
    """Adds how many times the bare loop, and each peer, weir is; a peer counts pairs, and stands beside pairs alone."""
    for label, own in figures.items():
        if label.startswith("weir"):
            for other in ("bare", *(peers if label.startswith("weir pair") else ())):
                own[f"times_{other}"] = round(own["events_per_s"] / figures[other]["events_per_s"], 2)


def table(figures: Mapping[str, Figures], peers: Mapping[str, Peer], events: int) -> list[str]:
    """The figures as lines of a Markdown table, each with what it leaves out."""
    lines = [
        "| | events/s | of the bare loop | its results | what the figure leaves out |",
        "| --- | --- | --- | --- | --- |",
    ]
    bare = figures["bare"]["events_per_s"]
    for label, own in figures.items():
        if label == "bare":
            told, out = "bare consume-decode-count loop, one thread", "keys by partition, state, results, transactions"
        elif label in peers:
            told, out = f"{label}: {peers[label].configuration}", peers[label].leaves_out
        else:
            told, out = described(label), "the start of the workers"
        there = own.get("in_results")
        results = "none to check" if there is None else "right"
        if there is not None and there < events:
            results += f", {grouped(there)} events in them"
        share = "1" if label == "bare" else f"{own['events_per_s'] / bare:.2f}"
        lines.append(f"| {told} | {grouped(own['events_per_s'])} | {share} | {results} | {out} |")
    return lines


def grouped(figure: float) -> str:
    """A whole number, its digits in groups of three."""
    return f"{figure:,.0f}".replace(",", " ")


def described(label: str) -> str:
    """A variant of weir in words."""
    _, level, linger, workers = label.split()
    return (
        f"weir, per {level}, linger {linger}, {workers} worker{'' if workers == '1' else 's'}, exactly once into Kafka"
    )


def ratios(figures: Mapping[str, Figures], peers: Mapping[str, Peer]) -> list[str]:
    """How many times each peer weir is, at the level of pairs, as lines of a Markdown table."""
    lines = ["| | " + " | ".join(f"× {label}" for label in peers) + " |", "| --- |" + " --- |" * len(peers)]
    for label, own in figures.items():
        if label.startswith("weir pair"):
            lines.append(f"| {label} | " + " | ".join(f"{own[f'times_{other}']:.2f}" for other in peers) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--children", type=int, default=1_000)
    parser.add_argument("--pairs", type=int, default=50_000, help="draws of a pair of children")
    parser.add_argument("--parents", type=int, default=100)
    parser.add_argument("--windows", type=int, default=1, help="how many minutes the events are spread over")
    parser.add_argument("--level", nargs="+", choices=("pair", "parent"), default=["pair", "parent"])
    parser.add_argument("--linger", nargs="+", default=["200ms"])
    parser.add_argument("--workers", nargs="+", type=int, default=[1])
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--peer", action="append", default=[], metavar="LABEL=COMMAND")
    parser.add_argument(
        "--peers", metavar="FOLDER", help="the folder that holds the programs of benchmarks/peers.py", type=Path
    )
    args = parser.parse_args()
    if args.peers and args.windows != 1:
        parser.error("the peers count one window: --peers goes with --windows 1")
    folder = args.peers.absolute() if args.peers else None
    peers = {label: dataclasses.replace(one, folder=folder) for label, one in PEERS.items()} if folder else {}
    peers |= {label: Peer(command) for label, command in (text.split("=", 1) for text in args.peer)}
    with bench.kafka() as config:
        rounds = run(config, args, peers)
    figures = {label: medians(each) for label, each in rounds.items()}
    compared(figures, peers)
    print("\n".join([*table(figures, peers, args.events), "", *(ratios(figures, peers) if peers else [])]))
    settings = {name: getattr(args, name) for name in ("events", "children", "parents", "windows", "repeat")}
    print(json.dumps(settings | {"figures": figures}))


if __name__ == "__main__":
    main()
