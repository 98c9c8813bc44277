"""Where a group's tasks are: committed offsets with their metadata, ends of topics, and the changelog read back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Any, TypeVar

from confluent_kafka import OFFSET_INVALID, Consumer, KafkaException, TopicPartition

from weir.infra.config import Config
from weir.infra.errors import KafkaUnavailableError, RetryableError, StoppedError
from weir.infra.kafka.client import Described, admin, committed, consumer, translate
from weir.infra.kafka.partition_reader import OffsetRange, PartitionOffsets, PartitionReader, edges
from weir.infra.kafka.topic_settings import settings
from weir.streams.engine.core.offset_metadata import Committed, read_committed
from weir.streams.engine.core.records import Record
from weir.streams.engine.progress.waits import Blocked, Waits

T = TypeVar("T")

#: How long an answer is waited for.
TIMEOUT_S = 15.0
#: The same of an offset that a transaction may still be committing.
SETTLE_S = 5.0
#: How long the next record is waited for, where no open transaction keeps it back.
PATIENCE_S = 30.0


class Group:
    """The job's consumer group, asked without being a member: Faust's consumer is the member."""

    def __init__(self, config: Config, job: str) -> None:
        self._config, self._job = config, job
        self._consumer: Consumer = consumer(config, job, **{"isolation.level": "read_uncommitted"})
        self._admin = admin(config)
        self._offsets = PartitionOffsets(config, TIMEOUT_S)

    def metadata(self) -> Any:
        """Returns the argument of `send_offsets_to_transaction`, without a generation: the transactional id fences."""
        return self._consumer.consumer_group_metadata()

    def committed(self, topic: str, partitions: int) -> dict[int, Committed]:
        """Partition to committed offset with what was committed with it, of those that have one."""
        requested = [TopicPartition(self._config.topic(topic), p) for p in range(partitions)]
        found = answer(self._config, lambda: committed(self._consumer, requested, TIMEOUT_S))
        return {
            tp.partition: read_committed(tp.offset, tp.metadata or "") for tp in found if tp.offset != OFFSET_INVALID
        }

    def settled(self, topic: str, partition: int) -> Committed | None:
        """Returns the committed offset of one partition once no transaction that commits to it is open (KIP-447:
        require_stable).

        `committed` may answer what was before a transaction whose markers are still being written, as brokers up to
        Kafka 3 do for a moment. It asks for all partitions, of which one is in a transaction nearly always.

        Raises KafkaUnavailableError where such a transaction stays open: Kafka ends it after its timeout.
        """
        requested = [TopicPartition(self._config.topic(topic), partition)]
        try:
            [found] = answer(self._config, lambda: committed(self._stable, requested, SETTLE_S))
        except RetryableError as e:
            self.committed(topic, 1)  # raises where it is not for an open transaction that there is no answer
            raise KafkaUnavailableError(
                f"an offset of {topic}[{partition}] for group {self._config.topic(self._job)} cannot be read: a "
                f"transaction that commits one is still open, and belongs to no worker of this version; Kafka ends it "
                f"after its transaction.timeout.ms"
            ) from e
        return None if found.offset == OFFSET_INVALID else read_committed(found.offset, found.metadata or "")

    @cached_property
    def _stable(self) -> Consumer:
        return consumer(self._config, self._job)

    def ends(self, topic: str, partition: int, timeout: float = TIMEOUT_S) -> OffsetRange:
        """The first offset that is still there, and the high watermark (not the last stable offset).

        Raises KafkaUnavailableError where that is not answered within `timeout` seconds.
        """
        return answer(self._config, lambda: edges(self._consumer, self._config, topic, partition, timeout), timeout)

    def partitions(self, topic: str) -> int:
        """How many partitions the topic has. Raises TopicMissingError where there is no such topic now."""
        return answer(self._config, lambda: self._offsets.all_topics([topic]))[topic].partitions

    def describe(self, topics: Iterable[str]) -> dict[str, Described]:
        """The topic id and the number of partitions of each, now. A topic that is not there is left out."""
        names = list(topics)
        return answer(self._config, lambda: self._offsets.topics(names))

    def settings(self, topics: Iterable[str]) -> dict[str, dict[str, str]]:
        """The configuration that the broker has of each. Left out are those that this client may not see."""
        names = {self._config.topic(topic): topic for topic in topics}
        found = answer(self._config, lambda: settings(self._admin, names, TIMEOUT_S))
        return {names[name]: values for name, values in found.items()}


def answer(config: Config, ask: Callable[[], T], timeout: float = TIMEOUT_S) -> T:
    """Returns the broker's answer to `ask`, retrying while the coordinator is moving or loading. Raises WeirError."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            return ask()
        except (KafkaException, RetryableError) as e:
            error = translate(e, config) if isinstance(e, KafkaException) else e
            if not isinstance(error, RetryableError) or time.monotonic() > deadline:
                raise error from e
            time.sleep(0.1)


def read_to(
    config: Config,
    topic: str,
    partition: int,
    start: int,
    end: int,
    stopped: Callable[[], bool] = lambda: False,
    waits: Waits | None = None,
) -> Iterator[Record]:
    """The committed records of a partition from offset `start` up to `end`, in order.

    `end` is a high watermark; control records and aborted transactions below it are passed over. Where a transaction is
    open below it, whosever it is, waits until it has ended, and says so in `waits`: at the latest Kafka ends it, after
    the transaction.timeout.ms of its producer (15 minutes at most, where Kafka is set to nothing else).

    Raises StoppedError once `stopped` says so, WeirError where the partition cannot be read, and
    KafkaUnavailableError where nothing comes for `PATIENCE_S` seconds.
    """
    if start >= end:
        return
    eager = {"queued.min.messages": 100_000, "fetch.wait.max.ms": 20}
    blocked, place = Blocked(waits if waits is not None else Waits()), (topic, partition)
    deadline = time.monotonic() + PATIENCE_S
    with PartitionReader(config, None, eager, lambda *_: None) as reader:
        try:
            reader.assign({place: start})
            while reader.positions[place] < end:
                records: list[Any] = reader.read(10_000, 0.02).get(place, [])
                if stopped():
                    raise StoppedError
                for record in records:
                    if record.offset() >= end:
                        break
                    yield record
                if (readable := reader.ended.get(place)) is not None:
                    blocked.at(topic, partition, readable)
                if records or readable is not None:
                    deadline = time.monotonic() + PATIENCE_S
                elif time.monotonic() > deadline:
                    raise KafkaUnavailableError(
                        f"Kafka at {config.kafka.bootstrap} has sent no record of {topic}[{partition}] from offset "
                        f"{start} on for {PATIENCE_S:.0f} s"
                    )
        finally:
            blocked.forget()
