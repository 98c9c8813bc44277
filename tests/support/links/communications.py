"""Random communications over a few windows, on a real Kafka, and the counts that they must give."""

from __future__ import annotations

import random
import time
from collections import Counter

from support.workers import Cell
from weir.infra.config import Config
from weir.infra.kafka.client import producer
from weir.schemas.times import to_rfc3339

MINUTE = 60_000
CHILDREN = 50
PARENTS = 7


class Source:
    """Relations and random communications over a few windows, and the counts that they must give."""

    def __init__(self, config: Config, seed: int) -> None:
        self._config, self._rng = config, random.Random(seed)
        self._producer = producer(config)
        self._start = int(time.time() * 1000) // MINUTE * MINUTE - 5 * MINUTE
        self.expected: Counter[Cell] = Counter()
        self.sent = 0
        for child in range(CHILDREN):
            value = f'{{"parent": "p{child % PARENTS}", "child": "c{child}"}}'
            self._producer.produce(config.topic("relations"), value, key=f"c{child}", timestamp=self._start)
        self._producer.flush()

    def send(self, events: int) -> None:
        for _ in range(events):
            source, destination = self._rng.randrange(CHILDREN), self._rng.randrange(CHILDREN)
            at = self._start + self._rng.randrange(3 * MINUTE)
            value = f'{{"source": "c{source}", "destination": "c{destination}"}}'
            self._producer.produce(self._config.topic("communications"), value, timestamp=at)
            window = to_rfc3339(at // MINUTE * MINUTE)
            self.expected[window, f"p{source % PARENTS}", f"p{destination % PARENTS}"] += 1
            self.sent += 1
            self._producer.poll(0)
        self._producer.flush()
