"""Events per second of the links job, beside a bare loop that consumes, decodes and counts the same topic.

    python -m benchmarks.links [--events N] [--workers N] [--children N] [--parents N]

Needs a running Kafka (`WEIR_KAFKA`, or the embedded one of `weir up --only kafka`). Writes N events of about 150 bytes
to a topic of its own, then measures the bare loop (librdkafka consume, msgspec decode, dict count), then the workers
(both stages, transactions, every changed cell written to `link-counts`), from the first commit seen to the last. The
ratio is the figure; the absolute ones drift with the machine.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
import uuid

import msgspec
from confluent_kafka import OFFSET_BEGINNING, TopicPartition

from infra.config import Config, load
from infra.kafka import consumer, ensure_topics, producer
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
    environ = {**os.environ, "WEIR_TOPIC_PREFIX": config.topic_prefix, "WEIR_LINKS_LINGER": f"{config.links_linger}ms"}
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--children", type=int, default=1_000)
    parser.add_argument("--parents", type=int, default=100)
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    config = dataclasses.replace(load(os.environ), topic_prefix=f"bench-{uuid.uuid4().hex[:8]}-")
    ensure_topics(config)
    fill(config, args.events, args.children, args.parents)
    loop = bare(config, args.events)
    found = job(config, args.events, args.workers)
    print(
        json.dumps(
            {
                "events": args.events,
                "children": args.children,
                "parents": args.parents,
                "workers": args.workers,
                "bare_loop_events_per_s": round(loop),
            }
            | {k: round(v, 1) for k, v in found.items()}
            | {"ratio": round(found["events_per_s"] / loop, 3)}
        )
    )


if __name__ == "__main__":
    main()
