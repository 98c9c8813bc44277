"""Stage two with its table in memory and in RocksDB: cells merged per second, memory, disk, restart. No Kafka.

    python -m benchmarks.stores [--cells 1000000]

The links job's merging stage gets partial results of 2 000 cells, in eleven windows, and flushes after every ten of
them: first cells that are new, then as many again that it has, drawn at random. Then it is closed and made anew, and at
last all windows close at once. Each store has a process of its own. A flush counts until what it writes is made;
sending it is not part of this.

Figures: thousands of cells a second for new ones, known ones, and those of closing windows; MB of resident memory over
what the process had before, after the known ones, and when it was highest until then; MB on disk; seconds until what
was committed is there again without its changelog.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import structlog

from weir.infra.config import Config
from weir.infra.runtime.interpreter import for_many_records
from weir.streams.engine.aggregates.partials import ROOM, Partial, encode
from weir.streams.engine.core.records import Stage
from weir.streams.jobs import links
from weir.streams.testing import FakeRecord

WINDOWS, MINUTE, PARENTS, FLUSH = 11, 60_000, 3_000, 10
STORES = ("memory", "rocksdb")
TOPIC = "links-partials"


def partial(window: int, pairs: Sequence[int]) -> bytes:
    """One event for each of these pairs in a window."""
    keys = [(f"parent-{n // PARENTS}", f"parent-{n % PARENTS}") for n in pairs]
    start = window * MINUTE
    return encode(Partial(0, 1, 0, 0, [start], [(start, keys, [1] * len(keys))], len(keys), 0))


def new(cells: int) -> Iterator[bytes]:
    for first in range(0, cells // WINDOWS, ROOM):
        for window in range(WINDOWS):
            yield partial(window, range(first, min(first + ROOM, cells // WINDOWS)))


def known(cells: int) -> Iterator[bytes]:
    rng = random.Random(1)
    for _ in range(cells // ROOM):
        yield partial(rng.randrange(WINDOWS), rng.sample(range(cells // WINDOWS), ROOM))


def merged(stage: Stage, values: Iterator[bytes]) -> tuple[float, str]:
    """Thousands of cells merged per second, and what was committed last."""
    seconds, cells, metadata, done = 0.0, 0, "", False
    while not done:
        records = [FakeRecord(TOPIC, 0, 0, None, value, 0) for _, value in zip(range(FLUSH), values, strict=False)]
        done = len(records) < FLUSH
        begun = time.perf_counter()
        stage.process(records)
        batch = stage.take(0)
        if batch is not None:
            stage.committed()
            metadata, cells = batch.metadata, cells + len(batch.bulks[0].records)
        seconds += time.perf_counter() - begun
    return cells / seconds / 1000, metadata


def memory_mb(name: str) -> float:
    """VmRSS or VmHWM of this process."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024


def measure(store: str, cells: int) -> None:
    """Prints a line for one store."""
    for_many_records()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    job = dataclasses.replace(links.job(Config().replace(WEIR_LINKS_RETENTION=20 * MINUTE)), store=store)
    counts = {job.source.name: 1, TOPIC: 1}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "state"
        stage = job.open(TOPIC, 0, counts, lambda: 0, folder)
        stage.restore(None)
        list(new(10 * ROOM * WINDOWS))  # what making the partials takes is there before
        before = memory_mb("VmRSS")
        fresh, _ = merged(stage, new(cells))
        again, metadata = merged(stage, known(cells))
        after, highest = memory_mb("VmRSS") - before, memory_mb("VmHWM") - before
        disk = sum(path.stat().st_size for path in folder.glob("*")) / 1e6 if folder.exists() else 0
        restart = "-"
        if store != "memory":
            stage.close()
            begun = time.perf_counter()
            stage = job.open(TOPIC, 0, counts, lambda: 0, folder)
            stage.restore(metadata)
            assert stage.restore_from is None, "the state is there again"
            restart = f"{time.perf_counter() - begun:.3f}"
        end = encode(Partial(0, 1, 100 * MINUTE, 0, [], [], 0, 0))
        closing, _ = merged(stage, iter([end]))
        figures = f"{fresh:7.0f} {again:7.0f} {closing:9.0f} {after:8.0f} {highest:8.0f} {disk:8.0f} {restart:>8}"
        print(f"{store:10} {figures}", flush=True)
        stage.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--store", choices=STORES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.store:
        measure(args.store, args.cells)
        return
    print(f"{args.cells} cells\n{'':10}     new   known   closing   MB now  highest  MB disk  restart")
    for store in STORES:
        command = [sys.executable, "-m", "benchmarks.stores", "--cells", str(args.cells), "--store", store]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
