"""Settings of monitoring: its jobs, its endpoint, and the view of its clients."""

from __future__ import annotations

from dataclasses import dataclass

from weir.infra.config.settings import Section, duration, port, whole


@dataclass(frozen=True)
class MonitoringConfig(Section):
    """Deduplication of events, and what of them is kept in memory."""

    port: int = port(
        "WEIR_MONITORING_PORT", 8, 8090, "where `weir run monitoring` serves POST /events and GET /clients"
    )
    dedup_retention: int = duration(
        "WEIR_MONITORING_DEDUP_RETENTION", "24h", "how long an event_id is remembered", "1ms"
    )
    dedup_capacity: int = whole(
        "WEIR_MONITORING_DEDUP_CAPACITY", 1_000_000, 1, 1 << 36,
        "the most event_ids remembered; beyond it the oldest are forgotten, and that is told",
    )  # fmt: skip
    max_skew: int = duration("WEIR_MONITORING_MAX_SKEW", "1h", "how far ahead of the clock an event_timestamp may be")
    series_memory: int = whole(
        "WEIR_MONITORING_SERIES_MEMORY", 256 << 20, 1024, 1 << 40,
        "bytes of memory for TIME-SERIES events and their keys' names; beyond it the oldest go",
    )  # fmt: skip
