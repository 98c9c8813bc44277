"""The metrics job's results as a table."""

from __future__ import annotations

from weir.consumers.links.tables import moment
from weir.consumers.sinks.table import Row, Table
from weir.infra.config import Config
from weir.schemas.metrics import MetricAggregate
from weir.schemas.topics import METRIC_AGGREGATES
from weir.schemas.windows import window_bounds


def _row(record: MetricAggregate, _: int) -> Row:
    start, end = window_bounds(record.window)
    return (
        moment(start), moment(end), record.event_type, record.count, record.sum, record.avg, record.min, record.max,
        *record.quantiles, record.users, record.final,
    )  # fmt: skip


METRIC_AGGREGATES_TABLE = Table(
    topic=METRIC_AGGREGATES,
    name="metric_aggregates",
    columns={
        "window_start": "timestamptz",
        "window_end": "timestamptz",
        "event_type": "text",
        "count": "int8",
        "sum": "float8",
        "avg": "float8",
        "min": "float8",
        "max": "float8",
        "p50": "float8",
        "p95": "float8",
        "p99": "float8",
        "users": "int8",
        "final": "bool",
    },
    key=("window_start", "event_type"),
    row=_row,
)

METRIC_TABLES = (METRIC_AGGREGATES_TABLE,)


def metric_store(config: Config) -> tuple[Table, ...]:
    """Writes metric aggregates to Postgres."""
    return METRIC_TABLES
