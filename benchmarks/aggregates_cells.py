"""Writes the metrics job's records under load: minutes of many types with full sketches. Used by aggregates_api.py.

    python -m benchmarks.aggregates_cells --kafka HOST:PORT --prefix PREFIX --types 1000 --fill 60
    python -m benchmarks.aggregates_cells --kafka HOST:PORT --prefix PREFIX --types 1000 --pace 1000 --seconds 60

`--fill`: that many minutes of all types, once. `--pace`: cells of the current minute are revised, so many a second, in
four transactions; and when a minute is over, those of the last one once more, final. Prints how many it has written.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import time
import uuid
from collections.abc import Iterable

import datasketches
import msgspec
from confluent_kafka import Producer

from weir.infra.config import Config, load
from weir.infra.kafka.client import producer
from weir.schemas.metrics import RANKS, STATE_HEADER, MetricAggregate, MetricCell, MetricState, aggregate_key
from weir.schemas.times import to_rfc3339
from weir.schemas.topics import METRIC_AGGREGATES
from weir.schemas.windows import Window

MINUTE = 60_000
#: Different contents of cells; the events of each, as 100 000 a second give a thousand types.
POOL, EVENTS, USERS = 50, 6_000, 100_000
#: Transactions a second.
COMMITS = 4


def name(number: int) -> str:
    return f"type-{number:04d}"


def contents(rng: random.Random) -> tuple[MetricCell, list[float], int]:
    """A cell that is full, and its quantiles and users as the job says them."""
    values = [rng.lognormvariate(0, 1) for _ in range(EVENTS)]
    quantiles, users = datasketches.kll_doubles_sketch(280), datasketches.hll_sketch(14, datasketches.HLL_4)
    for value in values:
        quantiles.update(value)
        users.update(f"u{rng.randrange(USERS)}")
    total = math.fsum(values)
    parts = (total, math.fsum([*values, -total]))
    cell = MetricCell(
        EVENTS, EVENTS, (None, parts, None), (EVENTS, None, parts, None), min(values), max(values),
        quantiles.serialize(), users.serialize_compact(),
    )  # fmt: skip
    return cell, quantiles.get_quantiles(RANKS, inclusive=True), round(users.get_estimate())


class Cells:
    """Writes cells in transactions."""

    def __init__(self, config: Config) -> None:
        rng = random.Random(5)
        self._pool = [contents(rng) for _ in range(POOL)]
        self._topic, self._partitions = config.topic(METRIC_AGGREGATES.name), config.kafka.partitions
        self._producer: Producer = producer(
            config, **{"transactional.id": f"{config.kafka.topic_prefix}{uuid.uuid4()}", "linger.ms": 20}
        )
        self._producer.init_transactions(30)
        self.written = 0

    def write(self, minute: int, numbers: Iterable[int], final: bool) -> None:
        """Commits a cell of a minute for each of these types."""
        start, end = minute * MINUTE, (minute + 1) * MINUTE
        window = Window(to_rfc3339(start), to_rfc3339(end))
        self._producer.begin_transaction()
        for number in numbers:
            cell, quantiles, users = self._pool[(self.written + number) % POOL]
            event_type, total = name(number), cell.sum[1][0]
            value = MetricAggregate(
                window, event_type, EVENTS, total, total / EVENTS, cell.min, cell.max, quantiles, users, final
            )
            state = msgspec.msgpack.encode(MetricState(start, end, (event_type,), cell))
            while True:
                try:
                    self._producer.produce(
                        self._topic, msgspec.json.encode(value), aggregate_key(window.start, event_type),
                        number % self._partitions, headers=[(STATE_HEADER, state)],
                    )  # fmt: skip
                    break
                except BufferError:
                    self._producer.poll(0.1)
            self.written += 1
            self._producer.poll(0)
        self._producer.commit_transaction(60)


def fill(cells: Cells, types: int, minutes: int) -> None:
    now = time.time_ns() // 1_000_000 // MINUTE
    for minute in range(now - minutes + 1, now + 1):
        cells.write(minute, range(types), final=minute < now)


def revise(cells: Cells, types: int, pace: float, seconds: float) -> None:
    """The types by turns."""
    begun, at, last = time.time(), 0, int(time.time() * 1000) // MINUTE
    portion = max(1, round(pace / COMMITS))
    for number in range(int(seconds * COMMITS)):
        if (wait := begun + number / COMMITS - time.time()) > 0:
            time.sleep(wait)
        minute = int(time.time() * 1000) // MINUTE
        if minute != last:
            cells.write(last, range(types), final=True)
            last = minute
        cells.write(minute, [(at + n) % types for n in range(portion)], final=False)
        at += portion


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--types", type=int, default=1000)
    parser.add_argument("--fill", type=int, default=0)
    parser.add_argument("--pace", type=float, default=0.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    a = parser.parse_args()
    cells = Cells(load(os.environ).replace(WEIR_KAFKA=a.kafka, WEIR_TOPIC_PREFIX=a.prefix))
    fill(cells, a.types, a.fill)
    if a.pace:
        revise(cells, a.types, a.pace, a.seconds)
    print(cells.written, flush=True)


if __name__ == "__main__":
    main()
