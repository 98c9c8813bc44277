"""Where a group's tasks are: committed offsets with their metadata, ends of topics, and the changelog read back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException, TopicPartition

from infra.config import Config
from infra.errors import RetryableError
from infra.kafka import consumer, translate
from streams.engine.errors import EngineError, StoppedError
from streams.engine.records import Record

T = TypeVar("T")

#: The metadata of every offset of a group that is being reset.
RESETTING = "weir reset"
#: How long an answer is waited for.
TIMEOUT_S = 15.0
#: How long the next record is waited for. A producer that died may have left a transaction open: nothing beyond it is
#: readable until the broker has ended it, after the transaction's timeout (10 s) and until it looks (every 10 s).
PATIENCE_S = 30.0


class Group:
    """The job's consumer group, asked without being a member: Faust's consumer is the member."""

    def __init__(self, config: Config, job: str) -> None:
        self._config = config
        self._consumer: Consumer = consumer(config, job, **{"isolation.level": "read_uncommitted"})

    def metadata(self) -> Any:
        """What `send_offsets_to_transaction` wants. It carries no generation: fencing rests on the transactional id."""
        return self._consumer.consumer_group_metadata()

    def committed(self, topic: str, partitions: int) -> dict[int, tuple[int, str]]:
        """Partition to committed offset and its metadata, of those that have one."""
        wanted = [TopicPartition(self._config.topic(topic), p) for p in range(partitions)]
        found = answer(lambda: self._consumer.committed(wanted, TIMEOUT_S))
        return {tp.partition: (tp.offset, tp.metadata or "") for tp in found if tp.offset != OFFSET_INVALID}

    def ends(self, topic: str, partition: int) -> tuple[int, int]:
        """The first offset that is still there, and the high watermark (not the last stable offset)."""
        wanted = TopicPartition(self._config.topic(topic), partition)
        return answer(lambda: self._consumer.get_watermark_offsets(wanted, TIMEOUT_S))

    def partitions(self, topic: str) -> int:
        """How many partitions the topic has. Raises EngineError where there is no such topic."""
        name = self._config.topic(topic)
        found = answer(lambda: self._consumer.list_topics(name, TIMEOUT_S).topics[name])
        if found.error is not None:
            raise EngineError(f"topic {name}: {found.error.str()}; `weir topics --create` makes weir's topics")
        return len(found.partitions)


def answer(ask: Callable[[], T]) -> T:
    """What the broker answers; a coordinator that is just moving or loading is asked again. Raises WeirError."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            return ask()
        except KafkaException as e:
            error = translate(e)
            if not isinstance(error, RetryableError) or time.monotonic() > deadline:
                raise error from e
            time.sleep(0.1)


def read_to(
    config: Config, topic: str, partition: int, start: int, end: int, stopped: Callable[[], bool] = lambda: False
) -> Iterator[Record]:
    """The committed records of a partition from offset `start` up to `end`, in order.

    `end` is a high watermark; control records and aborted transactions below it are passed over. Raises StoppedError
    once `stopped` says so, EngineError where the partition cannot be read or nothing comes for `PATIENCE_S` seconds.
    """
    if start >= end:
        return
    eager = {"enable.partition.eof": True, "queued.min.messages": 100_000, "fetch.wait.max.ms": 20}
    reader = consumer(config, None, **eager)
    deadline = time.monotonic() + PATIENCE_S
    try:
        reader.assign([TopicPartition(config.topic(topic), partition, start)])
        while True:
            messages: list[Any] = reader.consume(10_000, 0.02)
            if stopped():
                raise StoppedError
            for message in messages:
                error = message.error()
                if error is None:
                    deadline = time.monotonic() + PATIENCE_S
                    if message.offset() < end:
                        yield message
                elif error.code() == KafkaError._PARTITION_EOF:
                    if message.offset() >= end:
                        return
                elif not isinstance(translate(error), RetryableError):
                    raise EngineError(f"{topic}[{partition}] cannot be read from offset {start}: {error.str()}")
            if time.monotonic() > deadline:
                raise EngineError(f"{topic}[{partition}] cannot be read from offset {start}: nothing comes")
    finally:
        reader.close()
