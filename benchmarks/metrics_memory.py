"""Lists the allocations in a metrics worker's memory at its peak, by place, as measured by memray.

    python -m benchmarks.metrics_memory [--types N] [--users N] [--past N] [--top N]

Every minute of the retention is filled with `--past` events of each type. A place is the function of weir's that the
allocation came of; what has none is librdkafka's own threads, or Python's start.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

import memray

from benchmarks import bench
from benchmarks.metrics import TOPIC, past, templates, timed

PACKAGES = ("schemas", "producers", "streams", "consumers", "infra")


def place(stack: list[tuple[str, str, int]]) -> str:
    """The innermost of weir's own functions, and the outermost where it is an import that took the memory."""
    for function, file, _ in stack:
        if function == "<module>" or "importlib" in file:
            return "imports"
        path = Path(file)
        if (package := next((p for p in path.parts if p in PACKAGES), None)) and "site-packages" not in file:
            return f"{'/'.join(path.parts[path.parts.index(package) :])} {function}"
    return "no function of weir's"


def held(recorded: Path) -> tuple[Counter[str], int]:
    """Bytes by place at the high-water mark, and the largest resident memory seen."""
    found: Counter[str] = Counter()
    with memray.FileReader(recorded) as reader:
        for record in reader.get_high_watermark_allocation_records(merge_threads=True):
            found[place(record.stack_trace())] += record.size
        resident = max(snapshot.rss for snapshot in reader.get_memory_snapshots())
    return found, resident


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--types", type=int, default=100)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--past", type=int, default=2_000, help="events of each type in each minute before")
    parser.add_argument("--top", type=int, default=12)
    args = parser.parse_args()
    with bench.kafka() as config:
        values = templates(args.types, args.users)
        written = bench.fill(config, timed(past(values, config, args.past * args.types), False), TOPIC)
        recorded = config.home / "memory.bin"
        traced = {"module": "benchmarks.traced_worker", "TRACED_TO": str(recorded)}
        with bench.fleet(config, 1, "metrics", **traced) as fleet:
            bench.wait_merged(bench.merged(config, "metrics"), written, fleet.check)
        found, resident = held(recorded)
    total = sum(found.values())
    places = {name: round(size / 2**20, 1) for name, size in found.most_common(args.top)}
    settings = {name: getattr(args, name) for name in ("types", "users", "past")}
    figures = {"events": written, "resident_mb": round(resident / 2**20), "allocated_mb": round(total / 2**20)}
    print(json.dumps(settings | figures | {"mb_by_place": places}))


if __name__ == "__main__":
    main()
