"""Seconds until a worker counts again that has a million cells to restore.

    python -m benchmarks.restart [--cells 1000000]

A worker counts that many pairs in one window and is killed (SIGKILL); more events are written; a new worker starts.
The clock starts when the group's coordinator says that the new worker has its partitions, which it does once the
session of the killed one has run out, and stops when the first of the new events is committed in the results.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

from confluent_kafka import ConsumerGroupState

from benchmarks import bench
from weir.infra.config import Config
from weir.infra.kafka.client import admin

#: Events that are written after the kill.
MORE = 10_000


def members(config: Config) -> Callable[[], set[str]]:
    """Asks for the members of the job's group that have partitions; none while it rebalances."""
    client, group = admin(config), config.topic("links")

    def ask() -> set[str]:
        found = client.describe_consumer_groups([group])[group].result()
        if found.state != ConsumerGroupState.STABLE:
            return set()
        return {m.member_id for m in found.members if m.assignment and m.assignment.topic_partitions}

    return ask


def measure(config: Config, cells: int) -> dict[str, object]:
    children = bench.ids(1_000)
    values = [bench.call(*pair) for pair in bench.pairs_among(children, len(children) ** 2)[:cells]]
    bench.relate(config, {child: child for child in children})
    now = int(time.time() * 1000)
    bench.fill(config, ((now + n * 1000 // cells, value) for n, value in enumerate(values)))
    asked, owners = bench.merged(config), members(config)
    with bench.fleet(config) as fleet:
        bench.wait_merged(asked, cells, fleet.check)
        before = owners()
        fleet.processes[0].kill()
        fleet.processes.pop().wait()
        killed = time.monotonic()
        bench.fill(config, ((now + 1000, value) for value in values[:MORE]))
        fleet.start()
        bench.wait_until(lambda: bool(owners() - before) and not owners() & before, "the new worker has partitions")
        assigned = time.monotonic()
        bench.wait_until(lambda: asked() > cells, "the new worker counts")
        counting = time.monotonic()
        restored = fleet.said("task.restored")
        bench.wait_merged(asked, cells + MORE)
    return {
        "cells": sum(line["cells"] for line in restored),
        "assigned_after_kill_s": round(assigned - killed, 2),
        "restore_s": max(line["seconds"] for line in restored),
        "assigned_to_first_commit_s": round(counting - assigned, 2),
        "kill_to_first_commit_s": round(counting - killed, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=1_000_000, help="up to a million")
    args = parser.parse_args()
    with bench.kafka() as config:
        print(json.dumps(measure(config, args.cells)))


if __name__ == "__main__":
    main()
