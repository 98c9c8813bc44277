"""Which consumers read which topics of the jobs, and where they store them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from consumers import analytics_store, link_store, metric_store
from consumers.link_tables import LINK_TABLES
from consumers.metric_tables import METRIC_TABLES
from consumers.tables import Table
from consumers.tenant_tables import TENANT_TABLES
from schemas.topic import Topic
from schemas.topics import LINK_COUNTS, LINK_WINDOWS, METRIC_AGGREGATES, MONITORING_SERIES, MONITORING_TOTALS

#: The sinks that store topics as tables, by their names.
STORES: Mapping[str, Sequence[Table]] = {
    link_store.NAME: LINK_TABLES,
    metric_store.NAME: METRIC_TABLES,
    analytics_store.NAME: TENANT_TABLES,
}
#: All that read what jobs write.
READERS: Mapping[str, Sequence[Topic]] = {
    **{name: [table.topic for table in tables] for name, tables in STORES.items()},
    "reporter": [LINK_COUNTS, LINK_WINDOWS],
    "monitoring": [MONITORING_TOTALS, MONITORING_SERIES],
    "metrics": [METRIC_AGGREGATES],
}


def readers_of(topic: Topic) -> list[str]:
    """The consumers that read a topic.

    >>> readers_of(LINK_COUNTS)
    ['link-store', 'reporter']
    """
    return [name for name, topics in READERS.items() if any(topic.name == other.name for other in topics)]
