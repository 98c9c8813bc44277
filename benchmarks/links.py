"""Events per second of the links job, beside a bare loop that consumes, decodes and counts the same topic.

    python -m benchmarks.links [--events N] [--workers N] [--children N] [--parents N] [--peer COMMAND]

Uses the Kafka that `WEIR_KAFKA` names, else starts an embedded one of its own. Writes N events of about 150 bytes to a
topic of its own, then measures the bare loop (librdkafka consume, msgspec decode, dict count), then the workers
(both stages, transactions, every changed cell written to `link-counts`), from the first commit seen to the last. The
ratio is the figure; the absolute ones drift with the machine.

COMMAND is a peer that counts the same topic and prints "… N events/s", with its arguments as it wants them (such as
"run {bootstrap} {topic} {events} exactly_once_v2 2 memory 200").
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from confluent_kafka import OFFSET_BEGINNING, TopicPartition
from confluent_kafka.cimpl import NewTopic

from infra.config import Config, load
from infra.kafka import admin, consumer, ensure_topics, producer
from infra.ports import free_ports
from infra.servers.kafka import KafkaServer
from infra.servers.server import running
from schemas.links import Communication
from streams import links
from streams.engine.books import Books

MINUTE = 60_000


def fill(config: Config, events: int, children: int, parents: int) -> None:
    """Relations, then `events` communications in record-time order, one window's worth a minute."""
    rng = random.Random(7)
    out = producer(config, **{"linger.ms": 20, "batch.num.messages": 10_000, "queue.buffering.max.messages": 1_000_000})
    ids = [str(uuid.UUID(int=rng.getrandbits(128), version=4)) for _ in range(children)]
    groups = [str(uuid.UUID(int=rng.getrandbits(128), version=4)) for _ in range(parents)]
    start = int(time.time() * 1000) // MINUTE * MINUTE - 10 * MINUTE
    for i, child in enumerate(ids):
        value = msgspec.json.encode({"parent": groups[i % parents], "child": child})
        out.produce(config.topic("relations"), value, key=child, timestamp=start)
    out.flush()
    topic = config.topic("communications")
    for i in range(events):
        value = b'{"source":"%b","destination":"%b","method":"GET","path":"/list","httpStatus":200}' % (
            ids[rng.randrange(children)].encode(),
            ids[rng.randrange(children)].encode(),
        )
        while True:
            try:
                out.produce(topic, value, timestamp=start + i * MINUTE // events, partition=i % config.partitions)
                break
            except BufferError:
                out.poll(0.1)
    out.flush()


def bare(config: Config, events: int) -> float:
    """Events per second of consuming, decoding and counting alone, in this process."""
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
            key = message.timestamp()[1] // MINUTE, call.source, call.destination
            counts[key] = counts.get(key, 0) + 1
        seen += len(messages)
    reader.close()
    return seen / (time.perf_counter() - begun)


def job(config: Config, events: int, workers: int) -> dict[str, float]:
    """Events per second from the first committed event to the last, over both stages; CPU seconds of the workers."""
    own = {"WEIR_KAFKA": config.bootstrap, "WEIR_HOME": str(config.home), "WEIR_TOPIC_PREFIX": config.topic_prefix}
    environ = {**os.environ, **own}
    command = [sys.executable, "-m", "infra.cli.main", "worker", "links"]
    books = Books(config, links.job(config))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    running = [subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL) for _ in range(workers)]
    first, at_first, merged = 0.0, 0, 0
    try:
        while merged < events:
            time.sleep(0.02)
            merged = books.read().merged
            if merged and not first:
                first, at_first = time.perf_counter(), merged
            if any(process.poll() is not None for process in running):
                raise SystemExit("a worker ended before it was done")
        seconds = time.perf_counter() - first
    finally:
        for process in running:
            process.send_signal(signal.SIGTERM)
        for process in running:
            process.wait(20)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    return {"events_per_s": (events - at_first) / seconds, "cpu_s": cpu, "max_rss_mb": used.ru_maxrss / 1024}


def peer(config: Config, command: str, events: int) -> float:
    """Events per second that a peer prints for the same topic; its results go to TOPIC-peer-out."""
    topic = config.topic("communications")
    admin(config).create_topics([NewTopic(f"{topic}-peer-out", config.partitions, config.replication)])
    words = command.format(bootstrap=config.bootstrap, topic=topic, events=events).split()
    said = subprocess.run(words, capture_output=True, text=True, timeout=300, check=True).stdout
    return float(re.findall(r"([0-9.]+) events/s", said)[-1])


@contextmanager
def kafka() -> Iterator[Config]:
    """A configuration with a Kafka that answers, a home and a topic prefix of its own."""
    prefix = f"bench-{uuid.uuid4().hex[:8]}-"
    with TemporaryDirectory(prefix="weir-bench-") as home:
        config = dataclasses.replace(load(os.environ), home=Path(home), topic_prefix=prefix)
        if config.kafka:
            yield config
        else:
            port, controller = free_ports(2)
            config = dataclasses.replace(config, kafka_port=port, kafka_controller_port=controller)
            with running(KafkaServer(config)):
                yield config


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--children", type=int, default=1_000)
    parser.add_argument("--parents", type=int, default=100)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--peer", help="a peer's command, with {bootstrap}, {topic} and {events} in it")
    args = parser.parse_args()
    with kafka() as config:
        ensure_topics(config)
        fill(config, args.events, args.children, args.parents)
        loop = bare(config, args.events)
        other = peer(config, args.peer, args.events) if args.peer else None
        found = job(config, args.events, args.workers)
    figures = {
        "events": args.events,
        "children": args.children,
        "parents": args.parents,
        "workers": args.workers,
        "bare_loop_events_per_s": round(loop),
        **{name: round(value, 1) for name, value in found.items()},
        "of_bare_loop": round(found["events_per_s"] / loop, 2),
    }
    if other is not None:
        figures |= {"peer_events_per_s": round(other), "times_peer": round(found["events_per_s"] / other, 2)}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
