"""Tenants' events in Postgres: the sink `analytics-store`."""

from __future__ import annotations

from consumers.sink import Sink
from consumers.tenant_tables import configured
from infra.config import Config

NAME = "analytics-store"


def analytics_store(config: Config) -> Sink:
    """The sink of topic tenant-events."""
    return Sink(config, NAME, configured(config))
