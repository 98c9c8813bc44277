"""The metrics of weir's services: each declared here, once, with its meaning.

Services count in plain numbers, and a scrape reads them: nothing is paid while nobody asks. The text is Prometheus'
exposition format (https://prometheus.io/docs/instrumenting/exposition_formats/), with the names' endings as there:
`_total` for what only grows, `_seconds` and `_bytes` for units.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

#: The type of the body that `exposition` makes.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metric(NamedTuple):
    """A metric: `kind` is `counter`, `gauge` or `summary` (how many, and their sum)."""

    name: str
    kind: str
    meaning: str
    labels: tuple[str, ...] = ()


class Reading(NamedTuple):
    """A value of a metric, of the label values given. Of a summary, `value` is the sum and `number` of how many."""

    metric: Metric
    value: float
    labels: tuple[str, ...] = ()
    number: int = 0


#: Every metric, in the order of the reference.
METRICS: list[Metric] = []


def _declared(kind: str, name: str, meaning: str, *labels: str) -> Metric:
    METRICS.append(metric := Metric(name, kind, meaning, labels))
    return metric


INFO = _declared("gauge", "weir_service_info", "1; says which service and which version this is.", "service", "version")
READY = _declared("gauge", "weir_service_ready", "1 while the service is ready (`GET /readyz`), else 0.", "service")

RECORDS = _declared(
    "counter", "weir_worker_records_total", "Records that the worker has processed.", "job", "topic", "partition"
)
LEFT = _declared(
    "gauge", "weir_worker_lag_records",
    "Offsets between the last record that was processed and the end of the partition, as of the last fetch.",
    "job", "topic", "partition",
)  # fmt: skip
WATERMARK = _declared(
    "gauge", "weir_worker_watermark_lag_seconds",
    "How far the partition's watermark, its event time, is behind the clock.", "job", "topic", "partition",
)  # fmt: skip
CELLS = _declared(
    "gauge", "weir_worker_cells", "Cells of state that the worker holds: keys, of windows those of each window.",
    "job", "topic", "partition",
)  # fmt: skip
COMMIT = _declared(
    "summary", "weir_worker_commit_seconds", "Transactions that were committed, and the seconds that they took.",
    "job", "topic", "partition",
)  # fmt: skip
EVENTS = _declared(
    "counter", "weir_worker_events_total",
    "Events of the source since the job began, by fate: counted, late, or dead. As the ledger has them.",
    "job", "topic", "partition", "fate",
)  # fmt: skip
ABORTED = _declared(
    "counter", "weir_worker_aborted_transactions_total", "Transactions that were aborted and done again.", "job"
)
DROPPED = _declared(
    "counter", "weir_worker_dropped_keys_total", "Keys that were dropped for want of room since the job began.",
    "job", "topic", "partition",
)  # fmt: skip

STORED = _declared("counter", "weir_sink_records_total", "Records that the sink has stored.", "sink")
REFUSED = _declared(
    "counter", "weir_sink_refused_total", "Elements of records that the sink has sent to the dead letters.", "sink"
)
STORE = _declared(
    "summary", "weir_sink_store_seconds", "Batches that were stored, and the seconds that they took.", "sink"
)

VIEW_READ = _declared(
    "counter", "weir_view_records_total",
    "Records that a view in memory has read, by the first topic that it is made of.", "topic",
)  # fmt: skip
VIEW_LAG = _declared(
    "gauge", "weir_view_lag_records",
    "Events at the source of the view's topics that the view does not have yet; absent while unknown.", "topic",
)  # fmt: skip
VIEW_LAG_S = _declared(
    "gauge", "weir_view_lag_seconds", "How old the view's answers are at most; absent while unknown.", "topic"
)

INGESTED = _declared(
    "counter", "weir_ingest_events_total",
    "Events that came in over HTTP and WebSocket, by what became of them: accepted, duplicates, refused, unknown.",
    "intake", "outcome",
)  # fmt: skip
IN_FLIGHT = _declared("gauge", "weir_ingest_in_flight_bytes", "Bytes of events that wait for Kafka.", "intake")

TAKEN = _declared("counter", "weir_broadcast_messages_total", "Messages that Kafka has taken.")
TURNED_DOWN = _declared("counter", "weir_broadcast_refused_total", "Messages that were refused.")
UNACKNOWLEDGED = _declared("gauge", "weir_broadcast_unacknowledged", "Messages that wait for Kafka.")
SENDERS = _declared("gauge", "weir_broadcast_senders", "Connections that send.")
SUBSCRIBERS = _declared("gauge", "weir_broadcast_subscribers", "Connections that receive.")
HANDED_OUT = _declared(
    "counter", "weir_broadcast_handed_out_total", "Messages that were handed out, each counted once."
)

CONNECTIONS = _declared("gauge", "weir_http_connections", "Open HTTP connections.")
REQUESTS = _declared("counter", "weir_http_requests_total", "HTTP requests that were answered, by status.", "status")
UNREAD = _declared("gauge", "weir_http_unread_bytes", "Bytes of large answers that clients have not read yet.")
SOCKETS = _declared("gauge", "weir_websocket_connections", "Open WebSocket connections.")
EVICTED = _declared(
    "counter", "weir_websocket_evicted_total",
    "WebSocket connections that were cut: too_slow to read, silent, or flood of frames.", "reason",
)  # fmt: skip

FEED = _declared(
    "counter", "weir_feed_elements_total",
    "What came over the feed, by kind: messages, and of their elements communications, relations and refused.", "kind",
)  # fmt: skip


def counted(metric: Metric, figures: Mapping[str, float], names: Iterable[str], *labels: str) -> list[Reading]:
    """Readings of a metric whose last label is the figure's name."""
    return [Reading(metric, figures[name], (*labels, name)) for name in names]


def exposition(readings: Iterable[Reading]) -> bytes:
    """The readings, and what the process itself uses, as Prometheus reads them."""
    from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily
    from prometheus_client.registry import Collector

    kinds = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "summary": SummaryMetricFamily}
    families = {m: kinds[m.kind](m.name, m.meaning, labels=m.labels) for m in METRICS}
    used: dict[Metric, None] = {}
    for metric, value, labels, number in readings:
        used[metric] = None
        families[metric].add_metric(labels, *((number, value) if metric.kind == "summary" else (value,)))

    class Read(Collector):
        def collect(self) -> Iterable[object]:  # type: ignore[override]
            return [families[metric] for metric in used]

    registry = CollectorRegistry()
    registry.register(Read())
    ProcessCollector(registry=registry)
    return generate_latest(registry)
