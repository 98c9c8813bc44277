"""Days folded from batches: whatever way the rows are cut into batches, a recount gives the same."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict

import datasketches
from hypothesis import given
from hypothesis import strategies as st

from weir.consumers.analytics.day_rollups import TENANT_DAILY, TENANT_DAILY_VERSIONS
from weir.consumers.sinks.table import Key, Rollup, Row

NOON = 1_769_860_800_000
DAY = 86_400_000

rows = st.tuples(
    st.integers(1, 3), st.integers(NOON - 3 * DAY, NOON + DAY), st.integers(0, 10**15 - 1), st.just("x"), st.none()
)


def rolled_up(rollup: Rollup, batches: list[list[Row]]) -> dict[Key, Row]:
    """Returns the rows of a table after these batches."""
    stored: dict[Key, Row] = {}
    for batch in batches:
        stored |= {key: rollup.merged(key, cell, stored.get(key)) for key, cell in rollup.fold(batch).items()}
    return stored


def recount(found: list[Row]) -> dict[Key, tuple[int, int, int, int]]:
    times = defaultdict(list)
    for tenant, created, us, *_ in found:
        times[tenant, dt.datetime.fromtimestamp(created // 1000, dt.UTC).date()].append(us)
    return {key: (len(some), sum(some), min(some), max(some)) for key, some in times.items()}


@given(st.lists(st.lists(rows, max_size=30), max_size=6), st.randoms())
def test_days_are_what_a_recount_gives_in_whatever_order_and_batches_the_rows_come(
    batches: list[list[Row]], chance: object
) -> None:
    every = [row for batch in batches for row in batch]
    days = rolled_up(TENANT_DAILY, batches)
    assert {key: row[2:6] for key, row in days.items()} == recount(every)
    for (tenant, day), row in days.items():
        assert row[:2] == (tenant, day)
        sketch = datasketches.kll_floats_sketch.deserialize(row[6])
        assert sketch.n == row[2]
    chance.shuffle(every)  # type: ignore[attr-defined]
    assert {key: row[2:6] for key, row in rolled_up(TENANT_DAILY, [every]).items()} == recount(every)


@given(st.lists(st.lists(rows, max_size=5), max_size=6))
def test_a_day_grows_by_one_with_each_batch_that_touches_it(batches: list[list[Row]]) -> None:
    touched: defaultdict[dt.date, int] = defaultdict(int)
    for batch in batches:
        for day in {dt.datetime.fromtimestamp(row[1] // 1000, dt.UTC).date() for row in batch}:
            touched[day] += 1
    assert rolled_up(TENANT_DAILY_VERSIONS, batches) == {(day,): (day, count) for day, count in touched.items()}


def test_a_sketch_says_where_values_are() -> None:
    batches = [[(1, NOON, us, "x", None) for us in range(start, 10_000, 10)] for start in range(10)]
    [row] = rolled_up(TENANT_DAILY, batches).values()
    sketch = datasketches.kll_floats_sketch.deserialize(row[6])
    assert abs(sketch.get_quantile(0.5) - 5000) < 300
    assert abs(sketch.get_quantile(0.99) - 9900) < 300
