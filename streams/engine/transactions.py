"""One transactional producer (KIP-98), and what its errors mean for the task that owns it.

librdkafka sorts its errors into three: retriable (call again), abortable (abort, and the task starts again from its
last commit), fatal (fenced by a newer owner, or worse). Every call blocks, so all of this runs off the event loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from infra.config import Config
from infra.kafka import producer, translate
from streams.engine.crash_points import reached
from streams.engine.errors import EngineError, FencedError, InDoubtError, StoppedError, TransactionAbortedError
from streams.engine.records import STATE, Batch, Bulk

#: A crashed owner's open transaction blocks readers until the broker ends it: keep it short.
TRANSACTION_TIMEOUT_MS = 10_000
#: What a broker takes with an offset, by default (offset.metadata.max.bytes).
METADATA = 4096
#: How long a call is repeated while the broker does not answer. By then it has ended the transaction by itself.
PATIENCE_S = 15.0

_FENCED = {KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED}


class TransactionalProducer:
    """Writes one batch and one source offset per transaction, as `transactional_id`."""

    def __init__(self, config: Config, transactional_id: str) -> None:
        self._config = config
        self._producer = producer(
            config,
            **{
                "transactional.id": config.topic(transactional_id),
                "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
                "retry.backoff.ms": 2,  # a begin right after a commit is retried: 100 ms would show at p99
                "queue.buffering.max.messages": 1_000_000,
                "queue.buffering.max.kbytes": 262_144,
            },
        )

    def open(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """Fences every earlier owner of the id, and ends what it left open. Raises StoppedError as `stopped` says."""

        def fence() -> None:
            if stopped():
                raise StoppedError
            self._producer.init_transactions(2)

        self._retry(fence)

    def commit(self, batch: Batch, topic: str, partition: int, position: int, group: Any) -> None:
        """Writes the batch, and `position` as the group's offset of the source partition, or nothing.

        Raises TransactionAbortedError where nothing was written, InDoubtError where it is unknown whether, FencedError
        where another owner has taken over, and EngineError for what does not get better.
        """
        if len(batch.metadata) > METADATA:
            raise EngineError(
                f"{len(batch.metadata)} bytes of metadata for {topic}[{partition}], Kafka takes {METADATA}"
            )
        source = TopicPartition(self._config.topic(topic), partition, position, batch.metadata)
        try:
            reached("before-begin", topic)
            self._retry(self._producer.begin_transaction)
            for record in batch.produce:
                self._produce(*record)
            for bulk in batch.bulks:
                self._produce_bulk(bulk)
            reached("after-produce", topic)
            self._retry(lambda: self._producer.send_offsets_to_transaction([source], group, 5))
            reached("after-offsets", topic)
            reached("before-commit", topic, self._producer.flush)
            self._retry(lambda: self._producer.commit_transaction(5))
            reached("after-commit", topic)
        except InDoubtError:
            raise
        except TransactionAbortedError:
            self._retry(lambda: self._producer.abort_transaction(5))
            raise

    def _produce(
        self, topic: str, value: bytes | None, key: bytes | None, partition: int, headers: Any, timestamp: int = 0
    ) -> None:
        name = self._config.topic(topic)
        while True:
            try:
                self._producer.produce(name, value, key, partition, timestamp=timestamp, headers=headers or [])
                return
            except BufferError:
                self._producer.poll(0.05)  # the queue is full: wait until some of it is delivered
            except KafkaException as e:
                raise _meaning(e, f" {len(value or b'')} bytes for {topic}") from e

    def _produce_bulk(self, bulk: Bulk) -> None:
        name, partition = self._config.topic(bulk.topic), bulk.partition
        if bulk.states is not None:
            for (key, value), state in zip(bulk.records, bulk.states, strict=True):
                self._produce(bulk.topic, value, key, partition, [(STATE, state)])
            return
        produce = self._producer.produce
        for key, value in bulk.records:
            try:
                produce(name, value, key, partition)
            except (BufferError, KafkaException):
                self._produce(bulk.topic, value, key, partition, None)

    def _retry(self, call: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                call()
                return
            except KafkaException as e:
                error = e.args[0]
                if not error.retriable() or error.fatal() or error.txn_requires_abort():
                    raise _meaning(e) from e
                if time.monotonic() > deadline:
                    raise InDoubtError(f"no answer from Kafka for {PATIENCE_S:.0f} s: {translate(e)}") from e
                time.sleep(0.05)


def _meaning(error: KafkaException, what: str = "") -> EngineError:
    inner: KafkaError = error.args[0]
    if inner.code() in _FENCED:
        return FencedError(f"another process has taken over this partition: {inner.str()}")
    if inner.fatal():
        return EngineError(f"the producer cannot go on: {inner.str()}")
    if inner.txn_requires_abort():
        return TransactionAbortedError(f"the transaction was aborted: {inner.str()}")
    return EngineError(f"Kafka refused{what}: {inner.str()}")
