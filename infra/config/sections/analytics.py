"""Settings of the tenants' analytics."""

from __future__ import annotations

from dataclasses import dataclass

from weir.infra.config.settings import Section, duration, whole


@dataclass(frozen=True)
class AnalyticsConfig(Section):
    """Which events of tenants are stored, and what of the answers is kept."""

    cache: int = whole(
        "WEIR_ANALYTICS_CACHE", 64 << 20, 0, 1 << 40,
        "bytes of answers that the HTTP API keeps in memory, where WEIR_REDIS is not set",
    )  # fmt: skip
    max_skew: int = duration("WEIR_ANALYTICS_MAX_SKEW", "1h", "how far ahead of the clock a tenant's event may be")
    max_age: int = duration("WEIR_ANALYTICS_MAX_AGE", "3650d", "how far behind the clock a tenant's event may be")
