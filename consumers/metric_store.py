"""The metrics job's results in Postgres: the sink `metric-store`."""

from __future__ import annotations

from consumers.metric_tables import METRIC_TABLES
from consumers.sink import Sink
from infra.config import Config

NAME = "metric-store"


def metric_store(config: Config) -> Sink:
    """The sink of topic metric-aggregates."""
    return Sink(config, NAME, METRIC_TABLES)
