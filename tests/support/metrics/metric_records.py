"""Records of metric-aggregates as the metrics job writes them: with their states, in Kafka transactions."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence

from weir.infra.config import Config
from weir.infra.kafka import client as kafka
from weir.schemas.metrics import STATE_HEADER, MetricEvent
from weir.schemas.topics import METRIC_AGGREGATES, METRIC_EVENTS
from weir.streams.jobs import metrics
from weir.streams.testing import Harness

MINUTE = 60_000
#: Key, value and the header's state.
Written = tuple[bytes, bytes | None, bytes | None]


def this_minute() -> int:
    """The clock's, as a number since 1970."""
    return time.time_ns() // 1_000_000 // MINUTE


def cell(minute: int, event_type: str, events: Sequence[tuple[float, str]], final: bool = False) -> Written:
    """Returns the record that the metrics job writes for these events (value, user) of a minute (since 1970)."""
    harness = Harness(metrics.job(Config()))
    sent = [MetricEvent(minute * MINUTE, user, event_type, value) for value, user in events]
    harness.send(METRIC_EVENTS.name, sent, timestamp=0)
    while harness.step():
        pass
    (record,) = harness.records(METRIC_AGGREGATES.name)
    value = record.value() or b""
    assert value.endswith(b'"final":false}')
    state = dict(record.headers() or ())[STATE_HEADER]
    return record.key() or b"", value.replace(b'"final":false', b'"final":true') if final else value, state


class Job:
    """Writes to metric-aggregates in one transaction per call, as a merging task of the metrics job does."""

    def __init__(self, config: Config) -> None:
        kafka.ensure_topics(config, [METRIC_AGGREGATES])
        self._topic = config.topic(METRIC_AGGREGATES.name)
        self._producer = kafka.producer(config, **{"transactional.id": f"{config.kafka.topic_prefix}{uuid.uuid4()}"})
        self._producer.init_transactions(30)

    def write(self, *records: Written, partition: int = 0, timestamp: int = 0) -> None:
        """Commits these records; `timestamp` (epoch ms) 0: now."""
        self._begin(records, partition, timestamp)
        self._producer.commit_transaction(30)

    def abort(self, *records: Written) -> None:
        """Writes these records and takes them back."""
        self._begin(records, 0, 0)
        self._producer.flush(30)
        self._producer.abort_transaction(30)

    def _begin(self, records: Sequence[Written], partition: int, timestamp: int) -> None:
        self._producer.begin_transaction()
        for key, value, state in records:
            headers = [] if state is None else [(STATE_HEADER, state)]
            self._producer.produce(
                self._topic, value, key, partition, timestamp=timestamp or time.time_ns() // 1_000_000, headers=headers
            )
            self._producer.poll(0)
