"""Daily aggregates of tenants' events: exact sums, and a sketch for percentiles. Pure, no I/O.

Rows are those of `weir.consumers.analytics.tables`: tenant, epoch milliseconds, microseconds of processing, and so on.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from decimal import Decimal
from functools import lru_cache

from weir.consumers.sinks.table import Key, Rollup, Row
from weir.schemas.aggregates import library

_DAY_MS = 86_400_000
_EPOCH = dt.date(1970, 1, 1)
#: Of the sketch: its rank error is 1.3 % (99 % of the time) at 2.5 KB.
SKETCH_K = 200


@lru_cache(maxsize=8192)
def day_of(epoch_day: int) -> dt.date:
    """A day by its number since 1970-01-01."""
    return _EPOCH + dt.timedelta(days=epoch_day)


def fold_days(rows: Iterable[Row]) -> dict[Key, list[int]]:
    """The processing times in microseconds per (tenant, day)."""
    found: dict[tuple[int, int], list[int]] = {}
    for row in rows:
        place = (row[0], row[1] // _DAY_MS)
        times = found.get(place)
        if times is None:
            found[place] = [row[2]]
        else:
            times.append(row[2])
    return {(tenant, day_of(day)): times for (tenant, day), times in found.items()}


def merged_day(key: Key, times: list[int], stored: Row | None) -> Row:
    """The row of tenant_daily after these events, from what it was before."""
    count, total, least, most, sketch = len(times), sum(times), min(times), max(times), None
    if stored is not None:
        _, _, events, sum_us, min_us, max_us, sketch = stored
        count, total, least, most = count + events, total + int(sum_us), min(least, min_us), max(most, max_us)
    return *key, count, Decimal(total), least, most, _sketched(times, sketch)


def _sketched(times: list[int], stored: bytes | None) -> bytes:
    import numpy

    kind = library().kll_floats_sketch
    sketch = kind(SKETCH_K) if stored is None else kind.deserialize(stored)
    sketch.update(numpy.array(times, dtype=numpy.float32))
    serialized: bytes = sketch.serialize()
    return serialized


def fold_versions(rows: Iterable[Row]) -> Mapping[Key, int]:
    """Returns each day that the rows touch."""
    return {(day_of(day),): 1 for day in {row[1] // _DAY_MS for row in rows}}


def merged_version(key: Key, grown: int, stored: Row | None) -> Row:
    """The row of tenant_daily_versions after one more transaction."""
    return *key, grown + (0 if stored is None else stored[1])


TENANT_DAILY = Rollup(
    name="tenant_daily",
    columns={
        "tenant_id": "int8",
        "day": "date",
        "events": "int8",
        "sum_us": "numeric",
        "min_us": "int8",
        "max_us": "int8",
        "sketch": "bytea",
    },
    key=("tenant_id", "day"),
    fold=fold_days,
    merged=merged_day,
)

TENANT_DAILY_VERSIONS = Rollup(
    name="tenant_daily_versions",
    columns={"day": "date", "version": "int8"},
    key=("day",),
    fold=fold_versions,
    merged=merged_version,
)
