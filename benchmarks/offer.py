"""An open-loop generator: a process that offers events at a rate, whatever becomes of them.

Event n is due at `start` + n / rate, and that is its timestamp. What is sent late because something was slow still has
the time at which it was due, so waiting counts (Tene: coordinated omission).
"""

from __future__ import annotations

import itertools
import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from benchmarks import bench
from weir.infra.config import Config

#: How often events that are due are sent: their batch goes to one partition, as a sticky partitioner does it.
TICK_S = 0.005


@dataclass(frozen=True)
class Schedule:
    """`rate` events per second for `seconds` from `start` (epoch seconds); every `every`-th is a probe."""

    rate: int
    seconds: float
    start: float
    every: int = 0

    @property
    def total(self) -> int:
        return int(self.rate * self.seconds)

    def due(self, n: int) -> float:
        """When event n is due, in epoch seconds."""
        return self.start + n / self.rate


@dataclass(frozen=True)
class Offered:
    """The load that was sent: events per second, the worst delay of an event, the generator's share of a CPU."""

    events: int
    events_per_s: float
    late_ms: float
    cpus: float


def start(
    config: Config,
    schedule: Schedule,
    values: Sequence[bytes],
    probes: Sequence[bytes] = (),
    topic: str = "communications",
) -> tuple[BaseProcess, Connection]:
    """Starts the process; its connection gives an `Offered` when everything is acknowledged.

    `values` are sent in turn, again and again; so are `probes`, at their places. Where they have `%d` in them, that
    becomes the event's time (epoch ms).
    """
    ours, theirs = multiprocessing.Pipe(duplex=False)
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_offer, args=(config, schedule, values, probes, topic, theirs), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def _offer(
    config: Config,
    schedule: Schedule,
    values: Sequence[bytes],
    probes: Sequence[bytes],
    name: str,
    said: Connection,
) -> None:
    out = bench.bulk_producer(config, **{"linger.ms": 1})
    topic, total, every = config.topic(name), schedule.total, schedule.every
    timed = b"%d" in values[0]
    common, marked = itertools.cycle(values), itertools.cycle(probes)
    sent, late, ticks = 0, 0.0, itertools.count()
    time.sleep(max(0.0, schedule.start - time.time()))
    used = time.process_time()
    while sent < total:
        now = time.time()
        due = min(total, int((now - schedule.start) * schedule.rate) + 1)
        late = max(late, now - schedule.due(sent))
        batch = [
            (int(schedule.due(n) * 1000), next(marked) if every and n % every == 0 else next(common))
            for n in range(sent, due)
        ]
        if timed:
            batch = [(at, value % at) for at, value in batch]
        bench.produce(out, topic, batch, next(ticks) % config.kafka.partitions)
        sent = due
        time.sleep(max(0.0, max(schedule.due(sent), now + TICK_S) - time.time()))
    if out.flush(bench.PATIENCE_S):
        raise SystemExit("not everything was acknowledged")
    seconds = time.time() - schedule.start
    said.send(Offered(total, total / seconds, late * 1000, (time.process_time() - used) / seconds))
