"""The metrics' estimates beside exact figures: within the bounds that benchmarks/sketches.py finds for ten million."""

from __future__ import annotations

import bisect
import random
from collections.abc import Callable

import pytest

from weir.schemas.metrics import MetricEvent
from weir.streams.jobs.metrics_processor import MetricsProcessor

BASE = 1_750_000_020_000  # the start of a minute
MINUTE = 60_000
EVENTS = 100_000


@pytest.mark.parametrize(
    "draw",
    [lambda rng: rng.lognormvariate(3, 1), lambda rng: rng.random(), lambda rng: float(rng.randrange(50))],
    ids=["log-normal", "uniform", "few"],
)
def test_ranks_are_off_by_less_than_one_in_a_hundred_and_users_by_less_than_two(
    draw: Callable[[random.Random], float],
) -> None:
    """Over an hour of minutes, of which the sketches are merged. Users come again in other minutes."""
    rng = random.Random(5)
    values = [draw(rng) for _ in range(EVENTS)]
    users = [f"user-{rng.randrange(EVENTS // 3)}" for _ in range(EVENTS)]
    p = MetricsProcessor(now_ms=lambda: BASE + 60 * MINUTE - 1)
    for n, (value, user) in enumerate(zip(values, users, strict=True)):
        p.process_event(MetricEvent(BASE + n % 60 * MINUTE, user, "login", value))
    found = p.get_aggregates(60)
    ordered = sorted(values)
    for name, rank in (("p50", 0.50), ("p95", 0.95), ("p99", 0.99)):
        quantile = found[f"login.{name}"]
        low, high = bisect.bisect_left(ordered, quantile) / EVENTS, bisect.bisect_right(ordered, quantile) / EVENTS
        assert low - 0.01 < rank < high + 0.01
    different = len(set(users))
    assert abs(found["login.users"] - different) < 0.02 * different
    assert (found["login.count"], found["login.min"], found["login.max"]) == (EVENTS, ordered[0], ordered[-1])
