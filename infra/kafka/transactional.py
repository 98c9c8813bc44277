"""A transactional producer (KIP-98), and what its errors mean for its owner.

librdkafka sorts its errors into three: retriable (call again), abortable (abort, and begin again), fatal (fenced by a
newer owner, or worse).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from weir.infra.config import Config
from weir.infra.errors import (
    FencedError,
    InDoubtError,
    RetryableError,
    StoppedError,
    TransactionAbortedError,
    WeirError,
)
from weir.infra.kafka.client import partition_for, producer, timestamp_for, translate

#: How long a call is repeated while the broker does not answer, in seconds.
PATIENCE_S = 15.0

_FENCED = {KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED}

#: Called with the error, or None where the record has arrived, and the record.
OnDelivery = Callable[[KafkaError | None, Message], None]


class TransactionalProducer:
    """Writes records in transactions, as the one owner of `transactional_id`. Topics go by their own names.

    Every method blocks. They raise FencedError where another owner has taken over, TransactionAbortedError where
    nothing of the transaction was written, InDoubtError where it is unknown whether, and WeirError for what does not
    get better.
    """

    def __init__(self, config: Config, transactional_id: str, **settings: Any) -> None:
        self._config = config
        self._producer = producer(config, **{"transactional.id": transactional_id}, **settings)

    def open(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """Fences every earlier owner of the id, and ends what it left open. Raises StoppedError as `stopped` says."""

        def fence() -> None:
            if stopped():
                raise StoppedError
            self._producer.init_transactions(2)

        self._retry(fence)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commits what the block writes, or nothing where it raises."""
        try:
            self._retry(self._producer.begin_transaction)
            yield
            self._retry(lambda: self._producer.commit_transaction(5))
        except (FencedError, InDoubtError):
            raise
        except BaseException:
            self._retry(lambda: self._producer.abort_transaction(5))
            raise

    def produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int = -1,
        headers: Any = None,
        timestamp: int | None = None,
        on_delivery: OnDelivery | None = None,
    ) -> None:
        """Writes one record; waits while the queue is full. `partition` -1: by key. `timestamp` in epoch milliseconds;
        None: now. `on_delivery` is called once the record has arrived or was given up.
        """
        name, at = self._config.topic(topic), timestamp_for(timestamp)
        if partition < 0:
            partition = partition_for(key)
        more: dict[str, Any] = {} if on_delivery is None else {"on_delivery": on_delivery}
        while True:
            try:
                self._producer.produce(name, value, key, partition, timestamp=at, headers=headers or [], **more)
                return
            except BufferError:
                self._producer.poll(0.05)  # the queue is full: wait until some of it is delivered
            except KafkaException as e:
                raise _meaning(e, f" {len(value or b'')} bytes for {topic}") from e

    def send_offsets(self, offsets: Sequence[TopicPartition], group: Any) -> None:
        """Commits these offsets of a group with the transaction. `group` is as its consumer gives it."""
        self._retry(lambda: self._producer.send_offsets_to_transaction(list(offsets), group, 5))

    def poll(self) -> None:
        """Calls `on_delivery` for the records that have arrived by now."""
        self._producer.poll(0)

    def flush(self) -> None:
        """Waits until all records have arrived or were given up."""
        self._producer.flush(PATIENCE_S)

    def _retry(self, call: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                call()
                return
            except KafkaException as e:
                error = e.args[0]
                passes = error.retriable() or isinstance(translate(e, self._config), RetryableError)
                if not passes or error.fatal() or error.txn_requires_abort():
                    raise _meaning(e) from e
                if time.monotonic() > deadline:
                    raise InDoubtError(
                        f"a call to Kafka has failed for {PATIENCE_S:.0f} s: {translate(e, self._config)}"
                    ) from e
                time.sleep(0.05)


def _meaning(error: KafkaException, what: str = "") -> WeirError:
    inner: KafkaError = error.args[0]
    if inner.code() in _FENCED:
        return FencedError(f"another process has taken over the transactional id: {inner.str()}")
    if inner.fatal():
        return WeirError(f"the transactional producer has failed for good: {inner.str()}")
    if inner.txn_requires_abort():
        return TransactionAbortedError(f"the transaction was aborted: {inner.str()}")
    return WeirError(f"Kafka refused{what}: {inner.str()}")
