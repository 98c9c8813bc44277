"""The registry of sinks, and of all that reads what jobs write; an app's sinks are added by `SINKS.register`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from weir.infra.config import Config
from weir.infra.registry import Registry
from weir.schemas.topic import Topic
from weir.schemas.topics import LINK_COUNTS, LINK_WINDOWS, METRIC_AGGREGATES, MONITORING_SERIES, MONITORING_TOTALS

if TYPE_CHECKING:
    from weir.consumers.sinks.table import Table

TablesFactory = Callable[[Config], "Sequence[Table]"]

#: The sinks that store topics as tables.
SINKS: Registry[TablesFactory] = Registry(
    "sink",
    {
        "link-store": ("weir.consumers.links.tables:link_store", "writes link counts to Postgres"),
        "metric-store": ("weir.consumers.metrics.tables:metric_store", "writes metric aggregates to Postgres"),
        "analytics-store": ("weir.consumers.analytics.tables:analytics_store", "writes tenants' events to Postgres"),
    },
)
#: What else reads what jobs write.
VIEWS: Mapping[str, Sequence[Topic]] = {
    "reporter": [LINK_COUNTS, LINK_WINDOWS],
    "monitoring": [MONITORING_TOTALS, MONITORING_SERIES],
    "metrics": [METRIC_AGGREGATES],
}


def tables(config: Config) -> dict[str, Sequence[Table]]:
    """Returns the tables of every sink."""
    return {name: SINKS.get(name)(config) for name in SINKS}


def readers() -> dict[str, Sequence[Topic]]:
    """Returns the topics that each sink and each view reads."""
    return {name: [table.topic for table in stored] for name, stored in tables(Config()).items()} | dict(VIEWS)


def readers_of(topic: Topic) -> list[str]:
    """Returns the names of the sinks and views that read a topic.

    >>> readers_of(LINK_COUNTS)
    ['link-store', 'reporter']
    """
    return [name for name, topics in readers().items() if any(topic.name == other.name for other in topics)]
