"""The producer of one task: a batch and the source offset that it was made up to are one transaction (KIP-98)."""

from __future__ import annotations

from typing import Any

from confluent_kafka import KafkaException, Message, TopicPartition

from weir.infra.config import Config
from weir.infra.kafka.transactional import TransactionalProducer
from weir.streams.engine.core.crash_points import reached
from weir.streams.engine.core.errors import EngineError
from weir.streams.engine.core.records import STATE, Bulk, FlushBatch

#: A crashed owner's open transaction blocks readers until the broker ends it: keep it short.
TRANSACTION_TIMEOUT_MS = 10_000
#: What a broker takes with an offset, by default (offset.metadata.max.bytes).
METADATA = 4096


def transactional_id(config: Config, job: str, topic: str, partition: int) -> str:
    """The id of the task that reads this partition: its group, topic and partition, apart by what no name may contain.

    >>> transactional_id(Config().replace(WEIR_TOPIC_PREFIX="x-"), "pages", "views-raw", 0)
    'x-pages/x-views-raw/0'
    """
    return f"{config.topic(job)}/{config.topic(topic)}/{partition}"


def former_id(config: Config, job: str, topic: str, partition: int) -> str:
    """The id that the same task had in versions of weir whose offsets have no envelope (`metadata`). Others could have
    the same: job `pages` on topic `views-raw`, job `pages-views` on topic `raw`.
    """
    return config.topic(f"{job}-{topic}-{partition}")


class TaskProducer(TransactionalProducer):
    """Writes one batch and one source offset per transaction. Every call blocks: all of it runs off the event loop."""

    def __init__(self, config: Config, transactional_id: str) -> None:
        #: The offset after the last record of each partition that a `Bulk` went to, by topic and partition.
        self.ends: dict[tuple[str, int], int] = {}
        super().__init__(
            config,
            transactional_id,
            **{
                "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
                "retry.backoff.ms": 2,  # a begin right after a commit is retried: 100 ms would show at p99
                "queue.buffering.max.messages": 1_000_000,
                "queue.buffering.max.kbytes": 262_144,
            },
        )

    def write(self, batch: FlushBatch, topic: str, partition: int, position: int, group: Any) -> None:
        """Writes the batch, and `position` as the group's offset of the source partition, or nothing.

        Raises as a transactional producer does, and EngineError for metadata that no broker takes.
        """
        if len(batch.metadata) > METADATA:
            raise EngineError(
                f"{topic}[{partition}]: the metadata of the commit has {len(batch.metadata)} bytes, more than the "
                f"{METADATA} that Kafka takes; use a source topic with fewer partitions"
            )
        source = TopicPartition(self._config.topic(topic), partition, position, batch.metadata)
        reached("before-begin", topic)
        with self.transaction():
            for record in batch.produce:
                self.produce(*record)
            for bulk in batch.bulks:
                self._produce_bulk(bulk)
            reached("after-produce", topic)
            self.send_offsets([source], group)
            reached("after-offsets", topic)
            reached("before-commit", topic, self._producer.flush)
        reached("after-commit", topic)

    def _produce_bulk(self, bulk: Bulk) -> None:
        """Writes records of a partition. The last one arrives last, so it alone says where they end."""
        if not bulk.records:
            return
        name, partition, before = self._config.topic(bulk.topic), bulk.partition, bulk.records[:-1]

        def arrived(error: Any, record: Message) -> None:
            offset = record.offset()
            if error is None and offset is not None:
                self.ends[bulk.topic, partition] = offset + 1

        key, value = bulk.records[-1]
        if bulk.states is not None:
            for (one, other), state in zip(before, bulk.states[:-1], strict=True):
                self.produce(bulk.topic, other, one, partition, [(STATE, state)])
            self.produce(bulk.topic, value, key, partition, [(STATE, bulk.states[-1])], on_delivery=arrived)
            return
        produce = self._producer.produce
        for one, other in before:
            try:
                produce(name, other, one, partition)
            except (BufferError, KafkaException):
                self.produce(bulk.topic, other, one, partition, None)
        self.produce(bulk.topic, value, key, partition, None, on_delivery=arrived)
