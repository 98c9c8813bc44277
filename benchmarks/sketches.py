"""The metrics' sketches against exact figures: rank error of quantiles, error of distinct counts.

    python -m benchmarks.sketches [--values 10000000] [--minutes 60]

The values are folded as the metrics job does it: cut into minutes, each minute in slices of various lengths whose
states are merged, the minutes merged into one. Three kinds of values (log-normal, uniform, 1 000 different integers)
for the quantiles of `weir.schemas.metrics.RANKS`; half and a twentieth of so many different users, each coming twice. A
rank's error is how far it lies from the ranks that the quantile has among all values, sorted.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy

from weir.schemas.metrics import RANKS
from weir.streams.engine.aggregates.aggregates import Aggregate
from weir.streams.jobs.metrics import AGGREGATES

#: How many values a slice has, in turn.
SLICES = (10_000, 1_000, 37, 4_000, 250)


def folded(aggregate: Aggregate, values: Sequence[Any], minutes: int) -> Any:
    """The state of the values, by slices and minutes."""
    whole = None
    for minute in range(minutes):
        share = values[minute * len(values) // minutes : (minute + 1) * len(values) // minutes]
        state = None
        for piece in cut(share):
            plain = aggregate.dump(aggregate.fold(None, piece))
            state = aggregate.load(plain) if state is None else aggregate.merge(state, aggregate.load(plain))
        whole = state if whole is None else aggregate.merge(whole, state)
    return whole


def cut(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    at = turn = 0
    while at < len(values):
        yield values[at : at + SLICES[turn % len(SLICES)]]
        at += SLICES[turn % len(SLICES)]
        turn += 1


def rank_errors(values: Any, minutes: int) -> list[float]:
    """For each of `RANKS`."""
    quantiles = AGGREGATES["quantiles"]
    found = quantiles.result(folded(quantiles, values.tolist(), minutes))
    ordered = numpy.sort(values)
    errors = []
    for rank, quantile in zip(RANKS, found, strict=True):
        low = numpy.searchsorted(ordered, quantile, "left") / len(ordered)
        high = numpy.searchsorted(ordered, quantile, "right") / len(ordered)
        errors.append(float(max(low - rank, rank - high, 0.0)))
    return errors


def distinct_error(count: int, minutes: int) -> float:
    users = AGGREGATES["users"]
    texts = [f"user-{number}" for number in range(count)]
    return abs(users.result(folded(users, texts + texts, minutes)) - count) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--values", type=int, default=10_000_000)
    parser.add_argument("--minutes", type=int, default=60)
    args = parser.parse_args()
    rng = numpy.random.default_rng(1)
    kinds = {
        "log-normal": rng.lognormal(3, 1, args.values),
        "uniform": rng.random(args.values),
        "1 000 integers": rng.integers(0, 1000, args.values).astype(float),
    }
    ranks = {kind: rank_errors(values, args.minutes) for kind, values in kinds.items()}
    counts = {str(count): distinct_error(count, args.minutes) for count in (args.values // 20, args.values // 2)}
    figures = {
        "values": args.values,
        "ranks": RANKS,
        "rank_error": ranks | {"worst": max(max(errors) for errors in ranks.values())},
        "distinct_error": counts | {"worst": max(counts.values())},
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
