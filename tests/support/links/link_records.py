"""Records of link-counts and link-windows as the links job writes them: in Kafka transactions."""

from __future__ import annotations

import uuid

import msgspec

from weir.infra.config import Config
from weir.infra.kafka import client as kafka
from weir.schemas.links import LinkCount, link_count_key
from weir.schemas.times import to_rfc3339
from weir.schemas.topics import LINK_COUNTS, LINK_WINDOWS
from weir.schemas.windows import Window, WindowClosed

MINUTE = 60_000
#: 2026-01-31T12:00:00Z, the start of window 0.
NOON = 1_769_860_800_000


def window(number: int) -> Window:
    """The minute `number` after noon."""
    return Window(to_rfc3339(NOON + number * MINUTE), to_rfc3339(NOON + (number + 1) * MINUTE))


def cell(number: int, source: str, destination: str, count: int, final: bool = False) -> LinkCount:
    return LinkCount(window(number), source, destination, count, final)


def closed(number: int, partition: int, cells: int, partitions: int) -> WindowClosed:
    return WindowClosed(window(number), partition, partitions, cells)


class Job:
    """Writes to the result topics in one transaction per call, as a merging task of the links job does."""

    def __init__(self, config: Config) -> None:
        kafka.ensure_topics(config)
        self._config = config
        self._producer = kafka.producer(config, **{"transactional.id": f"{config.kafka.topic_prefix}{uuid.uuid4()}"})
        self._producer.init_transactions(30)

    def write(self, *records: tuple[int, LinkCount | WindowClosed | bytes]) -> None:
        """Commits these records, each with its partition; bytes go to link-counts as they are."""
        self._begin(*records)
        self._producer.commit_transaction(30)

    def abort(self, *records: tuple[int, LinkCount | WindowClosed | bytes]) -> None:
        """Writes these records and takes them back."""
        self._begin(*records)
        self._producer.flush(30)
        self._producer.abort_transaction(30)

    def _begin(self, *records: tuple[int, LinkCount | WindowClosed | bytes]) -> None:
        self._producer.begin_transaction()
        for partition, record in records:
            topic = LINK_WINDOWS if isinstance(record, WindowClosed) else LINK_COUNTS
            key, value = b"key", record  # a compacted topic takes no record without one
            if isinstance(record, LinkCount):
                key = link_count_key(record.window.start, record.source, record.destination)
            if not isinstance(value, bytes):
                value = msgspec.json.encode(value)
            self._producer.produce(self._config.topic(topic.name), value, key, partition)
            self._producer.poll(0)
