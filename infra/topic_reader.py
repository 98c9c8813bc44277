"""A topic's committed records in the order of each partition, for the tools: no group, nothing committed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, KafkaError, KafkaException, Message, TopicPartition

from infra import kafka
from infra.config import Config
from infra.errors import KafkaUnavailableError
from infra.record_view import Record
from schemas.errors import WeirError
from schemas.topic import Topic

#: How long an answer of the broker may take.
PATIENCE_S = 10.0
#: How long the broker may wait for records before it says that the end is reached.
_FETCH_WAIT_MS = 50
#: What Kafka's protocol says for a record without a time.
NO_TIMESTAMP = -1


class TopicReader:
    """Reads one topic: all its partitions, or one. A context manager; not thread-safe.

    `start` is an offset, OFFSET_BEGINNING, or OFFSET_END: the end as it is now. `away` is called with the error when
    Kafka is gone; reading resumes by itself when it is back. Raises KafkaUnavailableError where Kafka does not
    answer, and WeirError where there is no such topic or partition.
    """

    def __init__(
        self,
        config: Config,
        topic: Topic,
        *,
        start: int = OFFSET_BEGINNING,
        partition: int | None = None,
        away: Callable[[WeirError], None] | None = None,
    ) -> None:
        settings: dict[str, Any] = {
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": _FETCH_WAIT_MS,
        }
        if away is not None:
            settings["error_cb"] = lambda error: _tell(error, away)
        self._name = topic.name
        self._topic = config.topic(topic.name)
        self._consumer = kafka.consumer(config, **settings)
        try:
            self._partitions = [TopicPartition(self._topic, number) for number in self._chosen(partition)]
            for place in self._partitions:
                place.offset = self._end(place) if start == OFFSET_END else start
            self._consumer.assign(self._partitions)
        except (KafkaException, WeirError) as e:
            self.close()
            raise (e if isinstance(e, WeirError) else kafka.translate(e)) from e

    def __enter__(self) -> TopicReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leaves the broker."""
        self._consumer.close()

    def to_the_end(self) -> Iterator[Record]:
        """Every record up to the end of each partition. Raises KafkaUnavailableError where Kafka goes meanwhile."""
        unfinished = {place.partition for place in self._partitions}
        while unfinished:
            message = self._consumer.poll(PATIENCE_S)
            if message is None:
                raise KafkaUnavailableError
            error = message.error()
            if error is None:
                yield _record(self._name, message)
            elif error.code() == KafkaError._PARTITION_EOF:
                unfinished.discard(message.partition() or 0)
            else:
                raise kafka.translate(error)

    def for_ever(self) -> Iterator[Record | None]:
        """Every record as it comes, through any absence of Kafka; None after each quarter of a second without one."""
        while True:
            message = self._consumer.poll(0.25)
            if message is None:
                yield None
                continue
            error = message.error()
            if error is None:
                yield _record(self._name, message)
            elif error.code() != KafkaError._PARTITION_EOF:
                translated = kafka.translate(error)
                if not isinstance(translated, KafkaUnavailableError):
                    raise translated

    def _chosen(self, partition: int | None) -> list[int]:
        found = self._consumer.list_topics(self._topic, timeout=PATIENCE_S).topics[self._topic]
        if found.error is not None:
            raise WeirError(f"Kafka has no topic {self._topic} yet")
        numbers = sorted(found.partitions)
        if partition is None:
            return numbers
        if partition not in numbers:
            raise WeirError(f"{self._topic} has no partition {partition}; it has 0 to {numbers[-1]}")
        return [partition]

    def _end(self, place: TopicPartition) -> int:
        """The last stable offset, which a read_committed consumer is told: nothing committed later is missed."""
        return self._consumer.get_watermark_offsets(place, timeout=PATIENCE_S)[1]


def _tell(error: KafkaError, away: Callable[[WeirError], None]) -> None:
    if error.code() == KafkaError._ALL_BROKERS_DOWN:
        away(kafka.translate(error))


def _record(topic: str, message: Message) -> Record:
    _, timestamp = message.timestamp()
    return Record(
        topic=topic,
        partition=message.partition() or 0,
        offset=message.offset() or 0,
        timestamp=None if timestamp == NO_TIMESTAMP else timestamp,
        key=message.key(),
        value=message.value(),
        headers=cast(list[tuple[str, bytes | None]], message.headers() or []),
    )
