"""The registry of topics: name, who writes it, what is in it, how long it is kept.

Every topic of weir's own is here; an app's are added by `register`. `weir topics` prints this list, and
`weir.infra.kafka.client.ensure_topics` makes what is missing.
"""

from __future__ import annotations

from collections.abc import Iterable

from weir.schemas.dead_letters import Replay
from weir.schemas.errors import DuplicateTopicError, UnknownTopicError
from weir.schemas.links import (
    Communication,
    LinkCount,
    Relation,
    check_communication,
    check_link_count,
    check_relation,
    link_count_key,
)
from weir.schemas.metrics import MetricAggregate, MetricEvent, aggregate_key, check_aggregate, check_metric
from weir.schemas.monitoring import (
    ClientTotal,
    MonitoringEvent,
    UniqueEvent,
    check_event,
    check_total,
    check_unique,
    client_key,
)
from weir.schemas.tenants import TenantEvent, check_tenant_event, tenant_key
from weir.schemas.topic import (
    A_WEEK,
    ANY_TIMESTAMP,
    EVENTS,
    FOR_EVER,
    KEPT_BY_SIZE,
    MAX_DEAD_LETTER,
    PARTIALS,
    RESULTS,
    STATE,
    Topic,
)
from weir.schemas.windows import WindowClosed, check_window_closed

#: Compacted by weir, not by Kafka, which would keep a child's last record by offset and lose its history by event time:
#: see `weir.streams.engine.dataplane.compaction`. So its policy is `delete`, without a limit, and must stay so.
RELATIONS = Topic(
    "relations", "producers", "Which child belongs to which parent, from the record's timestamp on, with its history",
    "the child", Relation, partitions=1, config=FOR_EVER | ANY_TIMESTAMP,
    key_of=lambda r: r.child.encode(), check=check_relation,
)  # fmt: skip
COMMUNICATIONS = Topic(
    "communications", "producers", "Calls between children; the record's timestamp is the event's time",
    "free", Communication, config=EVENTS, check=check_communication,
)  # fmt: skip
LINKS_PARTIALS = Topic(
    "links-partials", "streams/links", "Partial counts and watermarks, from the combining stage to the merging one",
    "none", None, config=PARTIALS, internal=True,
)  # fmt: skip
LINK_COUNTS = Topic(
    "link-counts", "streams/links", "Calls per window and pair of parents; the latest per key is the truth",
    '["window start","source","destination"]', LinkCount,
    config=RESULTS,
    key_of=lambda c: link_count_key(c.window.start, c.source, c.destination), check=check_link_count,
)  # fmt: skip
LINK_WINDOWS = Topic(
    "link-windows", "streams/links", "One record per window and partition of link-counts when that partition closes it",
    '["window start",partition]', WindowClosed, config=A_WEEK, check=check_window_closed,
)  # fmt: skip
DEAD_LETTERS = Topic(
    "dead-letters", "everyone", "Refused messages: the bytes as they came, why and from where in the headers",
    "the refused message's", None, partitions=1, config=FOR_EVER | {"max.message.bytes": str(MAX_DEAD_LETTER)},
)  # fmt: skip
DEAD_LETTER_REPLAYS = Topic(
    "dead-letter-replays", "weir dead-letters", "Which dead letters were replayed: written with the replayed record",
    "the dead letter's partition/offset", Replay, partitions=1, config={"cleanup.policy": "compact"}, internal=True,
    key_of=lambda r: r.position.encode(),
)  # fmt: skip
LATE_EVENTS = Topic(
    "late-events", "streams", "Events older than their partition's watermark minus the retention, as they came",
    "the event's", None, partitions=1, config=A_WEEK | {"max.message.bytes": str(MAX_DEAD_LETTER)},
)  # fmt: skip
BROADCAST = Topic(
    "broadcast", "producers", "Messages from anyone to every subscriber, byte for byte; a channel is one partition",
    "the channel", None, config=KEPT_BY_SIZE,
)  # fmt: skip
MONITORING_EVENTS = Topic(
    "monitoring-events", "producers", "Events of monitored clients, as they came; one may come several times",
    "the event's id", MonitoringEvent, config=EVENTS, key_of=lambda e: e.event_id.encode(), check=check_event,
)  # fmt: skip
MONITORING_BY_ID = Topic(
    "monitoring-by-id", "streams/monitoring-ids", "Events on the way to the partition that knows their ids",
    "none", None, config=PARTIALS, internal=True,
)  # fmt: skip
MONITORING_IDS = Topic(
    "monitoring-ids", "streams/monitoring-ids", "The ids of events that were there", "the event's id", None,
    config=STATE, internal=True,
)  # fmt: skip
MONITORING_UNIQUE = Topic(
    "monitoring-unique", "streams/monitoring-ids", "Events of monitored clients, each once",
    '["client","key"]', UniqueEvent, config=EVENTS,
    key_of=lambda e: client_key(e.client_id, e.event_key), check=check_unique,
)  # fmt: skip
MONITORING_STATE = Topic(
    "monitoring-state", "streams/monitoring", "What is known of each client's keys", '["client","key"]', None,
    config=STATE, internal=True,
)  # fmt: skip
MONITORING_TOTALS = Topic(
    "monitoring-totals", "streams/monitoring", "Sums of CUMULATIVE events per client and key; the latest is the truth",
    '["client","key"]', ClientTotal, config={"cleanup.policy": "compact"} | ANY_TIMESTAMP,
    key_of=lambda t: client_key(t.client_id, t.event_key), check=check_total,
)  # fmt: skip
MONITORING_SERIES = Topic(
    "monitoring-series", "streams/monitoring", "TIME-SERIES events, each once", '["client","key"]', UniqueEvent,
    config=EVENTS, key_of=lambda e: client_key(e.client_id, e.event_key), check=check_unique,
)  # fmt: skip
METRIC_EVENTS = Topic(
    "metric-events", "producers", "Events with a value, a type and a user; the time is the event's own",
    "free", MetricEvent, config=EVENTS, check=check_metric,
)  # fmt: skip
METRIC_PARTIALS = Topic(
    "metric-partials", "streams/metrics", "Partial aggregates and watermarks, from the combining stage to the merging",
    "none", None, config=PARTIALS, internal=True,
)  # fmt: skip
METRIC_AGGREGATES = Topic(
    "metric-aggregates", "streams/metrics", "What events come to per type and minute; the latest per key is the truth",
    '["window start","event type"]', MetricAggregate, config=RESULTS,
    key_of=lambda a: aggregate_key(a.window.start, a.event_type), check=check_aggregate,
)  # fmt: skip
TENANT_EVENTS = Topic(
    "tenant-events", "producers", "Events of tenants, with how long each took to process", "the tenant's number",
    TenantEvent, config=EVENTS, key_of=tenant_key, check=check_tenant_event,
)  # fmt: skip

#: In the order in which they are shown.
TOPICS: list[Topic] = [
    RELATIONS, COMMUNICATIONS, LINKS_PARTIALS, LINK_COUNTS, LINK_WINDOWS, DEAD_LETTERS, DEAD_LETTER_REPLAYS,
    LATE_EVENTS, BROADCAST, MONITORING_EVENTS, MONITORING_BY_ID, MONITORING_IDS, MONITORING_UNIQUE, MONITORING_STATE,
    MONITORING_TOTALS, MONITORING_SERIES, METRIC_EVENTS, METRIC_PARTIALS, METRIC_AGGREGATES, TENANT_EVENTS,
]  # fmt: skip


def register(topics: Iterable[Topic]) -> None:
    """Adds topics that are not there yet. Raises DuplicateTopicError where another topic has such a name."""
    for topic in topics:
        known = next((other for other in TOPICS if other.name == topic.name), None)
        if known is None:
            TOPICS.append(topic)
        elif known is not topic:
            raise DuplicateTopicError(
                f"two topics have the name {topic.name!r}, one of {known.owner} and one of {topic.owner}: rename one"
            )


def by_name(name: str) -> Topic:
    """Returns the topic of that name. Raises UnknownTopicError, which lists the known names."""
    for topic in TOPICS:
        if topic.name == name:
            return topic
    raise UnknownTopicError(f"unknown topic {name!r}; known topics: {', '.join(t.name for t in TOPICS)}")
