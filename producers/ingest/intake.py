"""Declarations of the ingest endpoints: `MONITORING` and `METRICS`."""

from __future__ import annotations

import enum
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from weir.infra.config import Config
from weir.schemas.metrics import MetricEvent
from weir.schemas.monitoring import MonitoringEvent
from weir.schemas.times import epoch_ms, timestamp_ms
from weir.schemas.topic import Topic
from weir.schemas.topics import METRIC_EVENTS, MONITORING_EVENTS


@dataclass(frozen=True)
class Intake:
    """One kind of event, and where it comes in.

    `path` takes POST, `websocket` (where there is one) WebSockets. `topic` has the type and the check of an event.
    `time` gives the event's time in epoch milliseconds, from the field `time_field`; one that is more than `max_skew`
    (milliseconds) ahead of the clock is refused. A record's timestamp is when it was taken in.

    `id_of` gives what an event is told apart by, its field `event_id`: what Kafka has is not written again. Where it is
    None events are told apart by their place in the request, and those of one request share records without a key.

    `kind_of` gives what an event belongs to and of which kind, its field `event_type`, that makes it: a request's later
    event that would make it another is refused.
    """

    name: str
    topic: Topic
    path: str
    websocket: str | None
    time: Callable[[Any], int]
    time_field: str
    max_skew: Callable[[Config], int]
    id_of: Callable[[Any], str] | None = None
    kind_of: Callable[[Any], tuple[Hashable, enum.Enum]] | None = None


def _monitoring_time(event: MonitoringEvent) -> int:
    return epoch_ms(event.event_timestamp)


def _metric_time(event: MetricEvent) -> int:
    return timestamp_ms(event.timestamp)


def _event_id(event: MonitoringEvent) -> str:
    return event.event_id


def _kind(event: MonitoringEvent) -> tuple[Hashable, enum.Enum]:
    return (event.client_id, event.event_key), event.event_type


MONITORING = Intake(
    "monitoring", MONITORING_EVENTS, "/events", None,
    _monitoring_time, "event_timestamp", lambda config: config.monitoring.max_skew, _event_id, _kind,
)  # fmt: skip
METRICS = Intake(
    "metrics", METRIC_EVENTS, "/metric-events", "/ws/metric-events",
    _metric_time, "timestamp", lambda config: config.metrics.max_skew,
)  # fmt: skip
