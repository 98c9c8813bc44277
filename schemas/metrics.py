"""Metrics: events with a value, and what they come to per type and minute."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import msgspec

from weir.schemas.codec import BAD_INPUT, poison
from weir.schemas.dead_letters import Reason
from weir.schemas.errors import PoisonError
from weir.schemas.fields import LIMIT, check_id
from weir.schemas.times import timestamp_ms
from weir.schemas.windows import MAX_COUNT, Window, window_bounds

#: What a minute says of the values' distribution, in this order.
RANKS = (0.5, 0.95, 0.99)
#: The header of a `metric-aggregates` record that carries its cell's state, for whoever merges minutes: MessagePack
#: arrays, as the engine writes the state of any windowed job. The sketches are Apache DataSketches' own bytes.
STATE_HEADER = "weir-state"


class MetricEvent(msgspec.Struct, frozen=True, gc=False):
    """One event. Topic `metric-events`, key free. Unknown fields are ignored.

    `timestamp` is RFC 3339, or an epoch in seconds or milliseconds (`weir.schemas.times.timestamp_ms`): the event's
    time, whatever the record's.
    """

    timestamp: str | int | float
    user_id: str
    event_type: str
    value: float


class MetricAggregate(msgspec.Struct, frozen=True):
    """Aggregate of the events of one type in one minute. Topic `metric-aggregates`; the latest record per key replaces
    earlier ones, and carries its cell's state (`MetricState`) in the header `weir-state`.

    `quantiles` are those of `RANKS`; `users` is an estimate. `final` says that the window is closed; a late event
    within the retention revises it.
    """

    window: Window
    event_type: str
    count: int
    sum: float
    avg: float
    min: float
    max: float
    quantiles: list[float]
    users: int
    final: bool


class MetricCell(msgspec.Struct, array_like=True, frozen=True):
    """Mergeable state of the events of one type in one minute.

    `sum` is (None, its parts, None), and `avg` (count, None, the same parts, None): floats whose real sum is the exact
    sum, largest first, none for 0. `quantiles` is a `kll_doubles_sketch`, `users` an `hll_sketch`.
    """

    events: int
    count: int
    sum: tuple[None, tuple[float, ...], None]
    avg: tuple[int, None, tuple[float, ...], None]
    min: float
    max: float
    quantiles: bytes
    users: bytes


class MetricState(msgspec.Struct, array_like=True, frozen=True):
    """A cell with its window, `start` to `end` in epoch milliseconds, and its key, the event type alone."""

    start: int
    end: int
    key: tuple[str]
    cell: MetricCell


def aggregate_key(window_start: str, event_type: str) -> bytes:
    """The key of a `metric-aggregates` record.

    >>> aggregate_key("2026-01-01T00:00:00Z", "login")
    b'["2026-01-01T00:00:00Z","login"]'
    """
    return msgspec.json.encode((window_start, event_type))


def check_metric(event: MetricEvent) -> None:
    """Raises ValueError, which names the field, for what the type allows and metrics do not."""
    check_id(event.user_id, "user_id")
    check_id(event.event_type, "event_type")
    if not -LIMIT < event.value < LIMIT:  # not a number is never within
        raise ValueError(f"`value` is {event.value}; allowed: between -1e100 and 1e100")
    try:
        time = timestamp_ms(event.timestamp)
    except ValueError as e:
        raise ValueError(f"`timestamp` {e}") from e
    if time < 0:
        raise ValueError("`timestamp` is before 1970")


def check_aggregate(aggregate: MetricAggregate) -> None:
    """Raises ValueError for what the type allows and metrics do not."""
    window_bounds(aggregate.window)
    check_id(aggregate.event_type, "event_type")
    numbers: tuple[Any, ...] = (aggregate.sum, aggregate.avg, aggregate.min, aggregate.max, *aggregate.quantiles)
    if not all(map(math.isfinite, numbers)):
        raise ValueError("`sum`, `avg`, `min`, `max` or one of `quantiles` is not finite")
    if not 1 <= aggregate.count <= MAX_COUNT or not 0 <= aggregate.users <= MAX_COUNT:
        raise ValueError("`count` or `users` is out of range")
    if len(aggregate.quantiles) != len(RANKS):
        raise ValueError(f"`quantiles` has {len(aggregate.quantiles)} numbers, {len(RANKS)} are needed")


_read = msgspec.msgpack.Decoder(MetricState).decode


def state_of(headers: Iterable[tuple[str, object]] | None) -> MetricState:
    """Returns the state in the headers of a `metric-aggregates` record. Raises PoisonError if the header is missing or
    wrong.
    """
    found = dict(headers or ()).get(STATE_HEADER)
    if not isinstance(found, bytes):
        raise PoisonError(Reason.INVALID, f"the record has no header {STATE_HEADER}")
    try:
        return _read(found)
    except BAD_INPUT as e:
        raise PoisonError(Reason.INVALID, f"the header {STATE_HEADER} cannot be read: {poison(e).detail}") from e
