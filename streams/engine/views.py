"""A view's topic: read whole by every worker (Kafka Streams: global table), and caught up before each slice."""

from __future__ import annotations

from typing import Any

from confluent_kafka import OFFSET_BEGINNING, KafkaError, TopicPartition

from infra.config import Config
from infra.errors import RetryableError
from infra.kafka import consumer, translate
from streams.engine.errors import EngineError
from streams.engine.job import View
from streams.engine.offsets import Group
from streams.engine.records import Record


class ViewReader:
    """Keeps a `View` up to date. Used by one thread alone."""

    def __init__(self, config: Config, group: Group, view: View) -> None:
        self._group, self._view = group, view
        self._ends = dict.fromkeys(range(group.partitions(view.topic.name)), 0)
        self._reader = consumer(config, None, **{"enable.partition.eof": True, "fetch.wait.max.ms": 50})
        name = config.topic(view.topic.name)
        self._reader.assign([TopicPartition(name, p, OFFSET_BEGINNING) for p in self._ends])

    def catch_up(self) -> None:
        """Reads to where the topic's high watermark is now: what was acknowledged before this call is in the view."""
        for partition in list(self._ends):
            wanted = self._group.ends(self._view.topic.name, partition)[1]
            while self._ends[partition] < wanted:
                self._read()

    def _read(self) -> None:
        records: list[Record] = []
        messages: list[Any] = self._reader.consume(10_000, 0.01)
        for message in messages:
            error = message.error()
            if error is None:
                records.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                self._ends[message.partition()] = message.offset()
            elif not isinstance(translate(error), RetryableError):
                raise EngineError(f"topic {self._view.topic.name} cannot be read: {error.str()}")
        if records:
            self._view.apply(records)
