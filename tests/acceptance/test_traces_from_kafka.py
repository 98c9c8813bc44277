"""The recorded feed, written to Kafka with explicit timestamps, gives the truth minute by minute."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from support.links.traces import messages, truth
from support.wait import until
from support.workers import Results, workers
from weir.infra.config import Config
from weir.infra.kafka.client import ensure_topics, producer
from weir.schemas.times import from_rfc3339

MINUTE = 60_000


@pytest.mark.long
def test_the_recorded_feed_with_its_own_timestamps_gives_the_truth_minute_by_minute(
    config: Config, environ: dict[str, str], tmp_path: Path
) -> None:
    ensure_topics(config)
    base = int(time.time() * 1000) // MINUTE * MINUTE - 60 * MINUTE
    out = producer(config)
    expected = truth()
    with workers(environ, tmp_path) as fleet:
        fleet.start()
        for number, (at, message) in enumerate(messages()):
            timestamp = base + round(at * 1000)
            if isinstance(message, list):
                for relation in message:
                    value = msgspec.json.encode(relation)
                    out.produce(config.topic("relations"), value, key=relation["child"], timestamp=timestamp)
                out.flush()  # acknowledged before what comes after it
            else:
                # In turn, so that no partition has been silent for long when the feed ends.
                partition = number % config.kafka.partitions
                value = msgspec.json.encode(message)
                out.produce(config.topic("communications"), value, timestamp=timestamp, partition=partition)
        out.flush()
        results = Results(config)
        until(lambda: results.merged >= expected.total())
        last = base + 3 * MINUTE
        until(lambda: sum(from_rfc3339(c.window.start) == last for c in results.closed()) == config.kafka.partitions)
    found = Counter(
        {((from_rfc3339(start) - base) // MINUTE, s, d): c.count for (start, s, d), c in results.latest().items()}
    )
    assert found == expected
    assert all(count.final for count in results.latest().values())
    assert results.records("dead-letters") == []
