"""Settings of the metrics job, and of its endpoint."""

from __future__ import annotations

from dataclasses import dataclass

from weir.infra.config.settings import Section, duration, duration_ms, port
from weir.infra.errors import ConfigError


@dataclass(frozen=True)
class MetricsConfig(Section):
    """The metrics job's windows and transactions."""

    port: int = port(
        "WEIR_METRICS_PORT", 9, 8091, "where `weir run metrics` serves POST /metric-events and GET /aggregates"
    )
    grace: int = duration(
        "WEIR_METRICS_GRACE", "5s", "how long after its end a minute of metrics waits for late events"
    )
    retention: int = duration(
        "WEIR_METRICS_RETENTION", "2h", "how far behind the latest a metric event may be and still count"
    )
    max_skew: int = duration("WEIR_METRICS_MAX_SKEW", "1h", "how far ahead of the clock a metric event may be")
    linger: int = duration("WEIR_METRICS_LINGER", "1s", "pace of the metrics job's transactions under load")

    def check(self) -> None:
        """Raises ConfigError if open minutes would be forgotten, or too many are kept."""
        if self.retention < duration_ms("1m") + self.grace:
            raise ConfigError(
                "WEIR_METRICS_RETENTION must not be shorter than a minute and WEIR_METRICS_GRACE together"
            )
        if self.retention > duration_ms("1d"):
            raise ConfigError("WEIR_METRICS_RETENTION must not exceed 1d: every minute of it is kept")
        if self.max_skew > self.retention:
            raise ConfigError(
                "WEIR_METRICS_MAX_SKEW must not exceed WEIR_METRICS_RETENTION: one clock ahead would make others late"
            )
