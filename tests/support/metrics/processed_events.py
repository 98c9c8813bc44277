"""Events for the metrics processor, and one whose clock stands still."""

from __future__ import annotations

from typing import Any

from weir.schemas.metrics import MetricEvent
from weir.streams.jobs.metrics_processor import MetricsProcessor

MINUTE = 60_000
HOUR = 60 * MINUTE
BASE = 1_750_000_020_000  # the start of a minute
NOW = BASE + 59_999


def event(value: float = 1.5, kind: str = "login", user: str = "ann", at: Any = BASE) -> MetricEvent:
    return MetricEvent(at, user, kind, value)


def processor(**settings: Any) -> MetricsProcessor:
    return MetricsProcessor(**{"now_ms": lambda: NOW, **settings})
