"""Other engines on the links benchmark's topic: how each is run, what its figure leaves out, and what it counted.

A peer is a program that counts events per pair of source and destination in one window, and prints "… N events/s". The
folder that `benchmarks.links --peers` names holds one program per folder, `run` in it; each fetches its jars or
packages at its first run (Java 17 with Maven, or Python with pip, needed) into a folder of its own below `build/peers`.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
from confluent_kafka import OFFSET_BEGINNING, KafkaError, TopicPartition
from confluent_kafka.cimpl import NewTopic

from benchmarks import bench
from weir.infra.config import Config
from weir.infra.kafka.client import admin, consumer
from weir.streams.engine.core.records import Record

#: How long a peer may take, in seconds: its first run downloads.
PEER_S = 900
CACHE = Path("build/peers")
Pair = tuple[str, str]


class Row(msgspec.Struct):
    """A result of the peers that write JSON: a pair's count in a window, once, when the window has closed."""

    source: str
    destination: str
    n: int


@dataclass(frozen=True)
class Peer:
    """A program that counts: `command` with {bootstrap}, {topic} and {events} in it, its first word a path in `folder`.

    `leaves_out` says what its figure does not contain and weir's does. `results` is what stands in TOPIC-peer-out when
    the program ends: "all" (every pair's count as JSON), "some" (the counts of a commit before the end: the latest of a
    key counts), or "none".
    """

    command: str
    configuration: str = "as given"
    leaves_out: str = "unknown"
    results: str = "none"
    folder: Path | None = None


#: Pairs in the results of a peer that needs a later event to close its window.
_CLOSER = "closer"
#: The peers of `--peers`, by label. All have two threads, and exactly once where they write at all.
PEERS = {
    "clink": Peer(
        "pyclink/run {bootstrap} {topic} {events} 2 1000 exactly_once",
        "clink 0.12.2 (C++ in a Python process), parallelism 2, exactly once into Kafka, checkpoint 1 s",
        "writes a pair once, when its window closes, weir at every flush that changed its count; "
        "its events were copied beforehand, with their time in them",
        "all",
    ),
    "flink-sql": Peer(
        "flink-sql/run {bootstrap} {topic} {events} 2 1000 exactly-once",
        "Flink 2.3 SQL, parallelism 2, two-phase aggregation, exactly once into Kafka, checkpoint 1 s",
        "writes a pair once, when the bounded source has ended, weir at every flush that changed its count",
        "all",
    ),
    "ks-1000": Peer(
        "kafka-streams/run {bootstrap} {topic} {events} exactly_once_v2 2 memory 1000",
        "Kafka Streams 4.4, 2 threads, exactly_once_v2, state in memory, commit 1 s",
        "stops when the last event was aggregated: its last commit is not in it",
        "some",
    ),
    "ks-200": Peer(
        "kafka-streams/run {bootstrap} {topic} {events} exactly_once_v2 2 memory 200",
        "the same, commit 200 ms",
        "the same",
        "some",
    ),
    "flink": Peer(
        "flink/run {bootstrap} {topic} {events} 2 1000",
        "Flink 2.3 DataStream, parallelism 2, no local aggregation, checkpoint 1 s",
        "discards its results, and stops when the last event was aggregated: exactly once in its own state only",
        "none",
    ),
}


def run(config: Config, peer: Peer, events: int, expected: Mapping[Pair, int]) -> dict[str, float]:
    """Runs a peer over the topic; returns its printed figures and how many events its results hold. Deletes every topic
    that the peer makes.

    Raises SystemExit where the program fails, or a count is not what it has to be.
    """
    topic, client = config.topic("communications"), admin(config)
    out = f"{topic}-peer-out"
    before = set(client.list_topics(timeout=10).topics)
    for future in client.create_topics([NewTopic(out, config.kafka.partitions, config.kafka.replication)]).values():
        future.result()
    words = peer.command.format(bootstrap=config.kafka.bootstrap, topic=topic, events=events).split()
    environ = dict(os.environ)
    if peer.folder is not None:
        environ["PEERS_CACHE"] = str((CACHE / words[0].partition("/")[0]).absolute())
        words[0] = str(peer.folder / words[0])
    try:
        done = subprocess.run(words, env=environ, capture_output=True, text=True, timeout=PEER_S, check=False)
        said = re.findall(r"([0-9.]+) events/s", done.stdout)
        if done.returncode or not said:
            raise SystemExit(f"{' '.join(words)} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
        figures = {"events_per_s": float(said[-1])}
        if peer.results != "none":
            found = rows(config, out) if peer.results == "all" else latest(config, out)
            figures["in_results"] = check(found, expected, peer.results == "all", words[0])
        return figures
    finally:
        bench.delete_topics(config, lambda name: name not in before)


def check(found: Mapping[Pair, int], expected: Mapping[Pair, int], all_of_them: bool, whose: str) -> int:
    """How many events the results hold. Raises SystemExit where a pair's count is wrong; where not all is there yet, a
    count may only be too small.
    """
    wrong = [pair for pair, count in found.items() if count > expected.get(pair, 0)]
    if all_of_them:
        wrong = [pair for pair in {*found, *expected} if found.get(pair, 0) != expected.get(pair, 0)]
    if wrong:
        pair = wrong[0]
        raise SystemExit(
            f"{whose} counted {len(wrong)} pairs wrong: {pair} {found.get(pair, 0)}, and not {expected.get(pair, 0)}"
        )
    return sum(found.values())


def rows(config: Config, topic: str) -> Counter[Pair]:
    """The sum of all rows, by pair."""
    decode = msgspec.json.Decoder(Row).decode
    counts: Counter[Pair] = Counter()
    for record in committed(config, topic):
        row = decode(record.value() or b"")
        if row.source != _CLOSER:
            counts[row.source, row.destination] += row.n
    return counts


def latest(config: Config, topic: str) -> dict[Pair, int]:
    """The latest count of each key: `source|destination` as text, counts as Java Longs."""
    counts = {}
    for record in committed(config, topic):
        source, _, destination = (record.key() or b"").decode().partition("|")
        counts[source, destination] = int.from_bytes(record.value() or b"", signed=True)
    return counts


def committed(config: Config, topic: str) -> Iterable[Record]:
    """Yields every committed record of a topic, those of a partition in order. `topic` is the full name."""
    reader = consumer(config, None, **{"enable.partition.eof": True, "queued.min.messages": 50_000})
    partitions = admin(config).list_topics(topic, timeout=10).topics[topic].partitions
    reader.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in partitions])
    unread = len(partitions)
    try:
        while unread:
            for message in reader.consume(10_000, 1.0):
                error = message.error()
                if error is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:
                    unread -= 1
    finally:
        reader.close()
