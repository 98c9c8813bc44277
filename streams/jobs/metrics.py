"""The metrics job: what the events of each type come to, per minute of their own time.

`metric-events` have a value, a user and a time; `metric-aggregates` say of each minute and type how many there were,
what their values come to, and how many users they are of. `streams/jobs/metrics_processor.py` keeps the same in a
process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from weir.infra.config import Config
from weir.schemas.dead_letters import Reason
from weir.schemas.errors import PoisonError
from weir.schemas.fields import check_id
from weir.schemas.metrics import RANKS, MetricAggregate, MetricEvent, aggregate_key
from weir.schemas.times import to_rfc3339
from weir.schemas.topics import METRIC_AGGREGATES, METRIC_EVENTS, METRIC_PARTIALS
from weir.schemas.windows import Window
from weir.streams.api import Aggregate, Avg, Count, Distinct, Key, Max, Min, Quantiles, Sum, TumblingWindows, Windowed
from weir.streams.jobs.metric_times import timestamps_ms

MINUTE = 60_000

#: What is said of a minute, as `MetricAggregate` has it. A value's magnitude is below `weir.schemas.fields.LIMIT`:
#: that is the aggregates' own, so they refuse what `check_metric` does.
AGGREGATES: Mapping[str, Aggregate] = {
    "count": Count(),
    "sum": Sum("value"),
    "avg": Avg("value"),
    "min": Min("value"),
    "max": Max("value"),
    "quantiles": Quantiles("value", RANKS),
    "users": Distinct("user_id"),
}

_encode = msgspec.json.Encoder().encode


class _Keys(dict[str, Key]):
    """Event types to keys. Each is checked once; raises ValueError for what is no id."""

    def __missing__(self, event_type: str) -> Key:
        check_id(event_type, "event_type")
        if len(self) >= 1 << 16:
            self.clear()
        found = self[event_type] = (event_type,)
        return found


_keys = _Keys()


def keys(events: Sequence[MetricEvent], times: Sequence[int]) -> list[Key]:
    """The events' keys. Raises PoisonError for a type or a user that is no id."""
    users = [event.user_id for event in events]
    try:
        lengths = set(map(len, users))
        if min(lengths) < 1 or max(lengths) > 128 or not "".join(users).isprintable():
            for user in users:
                check_id(user, "user_id")
        return list(map(_keys.__getitem__, [event.event_type for event in events]))
    except ValueError as e:
        raise PoisonError(Reason.INVALID, str(e)) from e


def times(events: Sequence[MetricEvent], timestamps: Sequence[int]) -> Sequence[int]:
    """The events' own times, in epoch ms. Raises PoisonError for one that has none."""
    try:
        return timestamps_ms([event.timestamp for event in events])
    except ValueError as e:
        raise PoisonError(Reason.TIMESTAMP, f"`timestamp` {e}") from e


def write(
    start: int, end: int, cells: Sequence[tuple[Key, Mapping[str, Any]]], final: bool
) -> list[tuple[bytes, bytes]]:
    """`metric-aggregates` records of a minute."""
    window = Window(to_rfc3339(start), to_rfc3339(end))
    return [
        (
            aggregate_key(window.start, event_type),
            _encode(MetricAggregate(window=window, event_type=event_type, final=final, **result)),
        )
        for (event_type,), result in cells
    ]


def job(config: Config) -> Windowed:
    """Aggregates metric events per type and minute."""
    return Windowed(
        name="metrics",
        source=METRIC_EVENTS,
        keys=keys,
        times=times,
        windows=TumblingWindows(MINUTE, config.metrics.grace, config.metrics.retention),
        aggregates=AGGREGATES,
        partials=METRIC_PARTIALS,
        output=METRIC_AGGREGATES,
        write=write,
        max_skew=config.metrics.max_skew,
        linger=config.metrics.linger,
    )
