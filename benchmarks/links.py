"""Events per second of the links job, beside a bare consume-decode-count loop and peers, on one topic in one run.

    python -m benchmarks.links [--events N] [--level pair parent] [--linger 200ms 1s] [--workers 1 2] [--repeat N]
        [--peer LABEL=COMMAND ...]

The work: N JSON records of about 150 bytes, one event each, over 4 partitions, in one window of a minute; 50 000 draws
of a pair among 1 000 children, which is about 48 770 distinct pairs. Counted per pair of children (`pair`: each
child its own parent), and rolled up to 100 parents (`parent`). Uses the Kafka that `WEIR_KAFKA` names, else one of
its own.

In every round the bare loop (one thread: librdkafka consume, msgspec decode, dict count), each peer, and weir in each
variant take turns; the figures are medians over the rounds. weir is measured from the moment when its workers have
their partitions to the commit of the last result: both stages, transactions, every changed cell written.

A peer counts the same topic and prints "… N events/s"; COMMAND has {bootstrap}, {topic} and {events} in it. Where its
results go to a topic, that is TOPIC-peer-out, which is made for it. For Kafka Streams and Flink (Java 17 and Maven
needed; the jars are fetched at the first run; where PEERS_CACHE is set, it must be another folder for each peer):

    --peer "ks-200=PEERS/kafka-streams/run {bootstrap} {topic} {events} exactly_once_v2 2 memory 200"
    --peer "flink=PEERS/flink/run {bootstrap} {topic} {events} 2 1000"

`--peers PEERS` is short for ks-200, ks-1000 (commit interval 1 s) and flink (parallelism 2, checkpoint 1 s).
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import time
from collections import defaultdict
from statistics import median

import msgspec
from confluent_kafka import OFFSET_BEGINNING, TopicPartition
from confluent_kafka.cimpl import NewTopic

from benchmarks import bench
from infra.config import Config
from infra.kafka import admin, consumer
from schemas.links import Communication

#: How long a peer may take.
PEER_S = 240
#: The peers that `--peers` names, in the folder that it gives.
PEERS = {
    "ks-200": "kafka-streams/run {bootstrap} {topic} {events} exactly_once_v2 2 memory 200",
    "ks-1000": "kafka-streams/run {bootstrap} {topic} {events} exactly_once_v2 2 memory 1000",
    "flink": "flink/run {bootstrap} {topic} {events} 2 1000",
}
Figures = dict[str, float]


def bare(config: Config, events: int) -> Figures:
    """Consuming, decoding and counting alone, in this process."""
    reader = consumer(config, None, **{"queued.min.messages": 50_000})
    name = config.topic("communications")
    reader.assign([TopicPartition(name, p, OFFSET_BEGINNING) for p in range(config.partitions)])
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


def peer(config: Config, command: str, events: int) -> Figures:
    """What a peer prints for the same topic. Every topic that it makes is deleted."""
    topic, client = config.topic("communications"), admin(config)
    before = set(client.list_topics(timeout=10).topics)
    for future in client.create_topics([NewTopic(f"{topic}-peer-out", config.partitions, config.replication)]).values():
        future.result()
    words = command.format(bootstrap=config.bootstrap, topic=topic, events=events).split()
    try:
        said = subprocess.run(words, capture_output=True, text=True, timeout=PEER_S, check=True).stdout
    finally:
        bench.delete_topics(config, lambda name: name not in before)
    return {"events_per_s": float(re.findall(r"([0-9.]+) events/s", said)[-1])}


def parents(children: list[str], level: str, groups: int) -> dict[str, str]:
    """Child to parent: itself, or one of so many."""
    names = children if level == "pair" else bench.ids(groups, seed=11)
    return {child: names[n % len(names)] for n, child in enumerate(children)}


def run(config: Config, args: argparse.Namespace, peers: dict[str, str]) -> dict[str, list[Figures]]:
    """Contender to its figures in each round."""
    children = bench.ids(args.children)
    values = [bench.call(*pair) for pair in bench.pairs_among(children, args.pairs)]
    bench.fill(config, bench.spread(values, args.events, args.windows))
    found: dict[str, list[Figures]] = defaultdict(list)
    for _ in range(args.repeat):
        found["bare"].append(bare(config, args.events))
        for label, command in peers.items():
            found[label].append(peer(config, command, args.events))
        for level in args.level:
            for linger in args.linger:
                for workers in args.workers:
                    bench.forget(config)
                    bench.relate(config, parents(children, level, args.parents))
                    label = f"weir {level} {linger} {workers}"
                    found[label].append(weir(config, args.events, workers, linger))
    return found


def medians(rounds: list[Figures]) -> Figures:
    """The median of every figure over the rounds; of what is a count per second, whole numbers."""
    figures = {name: median(one[name] for one in rounds) for name in rounds[0]}
    return {name: round(value) if value > 100 else round(value, 2) for name, value in figures.items()}


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
    parser.add_argument("--peers", metavar="FOLDER", help="the folder that holds kafka-streams and flink")
    args = parser.parse_args()
    peers = {label: f"{args.peers}/{command}" for label, command in PEERS.items()} if args.peers else {}
    peers |= dict(text.split("=", 1) for text in args.peer)
    with bench.kafka() as config:
        rounds = run(config, args, peers)
    figures = {label: medians(each) for label, each in rounds.items()}
    for label, own in figures.items():
        if label.startswith("weir"):
            for other in ("bare", *peers):
                own[f"times_{other}"] = round(own["events_per_s"] / figures[other]["events_per_s"], 2)
    settings = {name: getattr(args, name) for name in ("events", "children", "parents", "windows", "repeat")}
    print(json.dumps(settings | {"figures": figures}))


if __name__ == "__main__":
    main()
