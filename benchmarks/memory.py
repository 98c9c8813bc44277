"""The worker's memory over time at 100 000 events a second with a million live cells.

    python -m benchmarks.memory [--minutes 10] [--rate 100000] [--live 1000000] [--pairs N]

A cell is live from its window's first event until the retention has passed: with a window of a minute and a retention
of ten, those of the last eleven windows and the one that fills. So that memory can be flat from the start, the eleven
windows before are written first, each with `live` / 11 pairs of 1 000 parents, and counted; then the same pairs come
at the rate. `--pairs` says how many pairs each window has, whatever `live` says.

Figures: MB of resident memory at the start, the end and the highest, and the slope over the second half.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence

from benchmarks import bench, offer
from weir.infra.config import Config

#: Live windows besides the one that fills: the retention, and one more whose end it still covers.
WINDOWS = 11


def past(values: Sequence[bytes]) -> Iterator[tuple[int, bytes]]:
    """Every value once in each of the windows before this one."""
    start = int(time.time() * 1000) // bench.MINUTE * bench.MINUTE - WINDOWS * bench.MINUTE
    for window in range(start, start + WINDOWS * bench.MINUTE, bench.MINUTE):
        for n, value in enumerate(values):
            yield window + n * bench.MINUTE // len(values), value


def slope(samples: Sequence[tuple[float, float]]) -> float:
    """MB per minute by least squares; samples are (seconds, MB)."""
    mean_at = sum(at for at, _ in samples) / len(samples)
    mean = sum(mb for _, mb in samples) / len(samples)
    spread = sum((at - mean_at) ** 2 for at, _ in samples)
    return 60 * sum((at - mean_at) * (mb - mean) for at, mb in samples) / spread if spread else 0.0


def measure(config: Config, args: argparse.Namespace) -> dict[str, object]:
    children = bench.ids(1_000)
    pairs = bench.pairs_among(children, len(children) ** 2)[: args.pairs or args.live // WINDOWS]
    values = [bench.call(*pair) for pair in pairs]
    bench.relate(config, {child: child for child in children})
    written = bench.fill(config, past(values))
    asked = bench.merged(config)
    with bench.fleet(config) as fleet:
        bench.wait_merged(asked, written, fleet.check)
        schedule = offer.Schedule(args.rate, args.minutes * 60, time.time() + 2)
        process, said = offer.start(config, schedule, values)
        samples: list[tuple[float, float]] = []
        while not said.poll(2.0):
            fleet.check()
            if (at := time.time() - schedule.start) >= 0:
                samples.append((round(at, 1), round(fleet.rss_mb(), 1)))
        offered: offer.Offered = said.recv()
        process.join()
        at_end = time.time()
        bench.wait_merged(asked, written + schedule.total, fleet.check)
        behind = time.time() - at_end
    return {
        "minutes": args.minutes,
        "pairs_a_window": len(pairs),
        "live_cells": len(pairs) * WINDOWS,
        "events_per_s": round(offered.events_per_s),
        "behind_at_the_end_s": round(behind, 2),
        "rss_mb": {"start": samples[0][1], "end": samples[-1][1], "max": max(mb for _, mb in samples)},
        "slope_mb_a_minute": round(slope(samples[len(samples) // 2 :]), 2),
        "samples": samples[:: max(1, len(samples) // 60)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rate", type=int, default=100_000, help="events per second")
    parser.add_argument("--live", type=int, default=1_000_000, help="live cells over all windows")
    parser.add_argument("--pairs", type=int, help="pairs in each window; up to a million")
    args = parser.parse_args()
    with bench.kafka() as config:
        print(json.dumps(measure(config, args)))


if __name__ == "__main__":
    main()
