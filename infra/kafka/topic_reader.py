"""A topic's committed records in the order of each partition, for the tools: no group, nothing committed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, cast

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, KafkaError, Message

from weir.infra.config import Config
from weir.infra.errors import KafkaUnavailableError, RetryableError
from weir.infra.kafka.errors import no_answer, translate
from weir.infra.kafka.partition_reader import STABLE_END, PartitionOffsets, PartitionReader, partitions_of
from weir.infra.kafka.record_view import RecordView
from weir.schemas.errors import WeirError
from weir.schemas.topic import PartitionId, Topic

#: How long an answer of the broker may take.
PATIENCE_S = 10.0
#: How long the broker may wait for records before it says that the end is reached.
_FETCH_WAIT_MS = 50
#: Records that are taken over at once at most.
_MOST = 1_000
_POLL_S = 0.25
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
        self._config, self._topic = config, topic.name
        offsets = PartitionOffsets(config, PATIENCE_S)
        partitions = self._chosen(partitions_of(offsets.all_topics([self._topic])), partition)
        if start == OFFSET_END:  # the last stable offset: nothing that is committed later is missed
            [positions] = offsets.ask({STABLE_END: partitions})
        else:
            positions = dict.fromkeys(partitions, start)
        settings: dict[str, Any] = {"auto.offset.reset": "earliest", "fetch.wait.max.ms": _FETCH_WAIT_MS}
        if away is not None:
            settings["error_cb"] = lambda error: _tell(error, config, away)
        self._reader = PartitionReader(config, None, settings, self._pass)
        self._reader.assign(positions)
        self._goes_on = False

    def __enter__(self) -> TopicReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leaves the broker."""
        self._reader.close()

    def to_the_end(self) -> Iterator[RecordView]:
        """Every record up to the end of each partition. Raises KafkaUnavailableError where Kafka goes meanwhile."""
        unfinished = set(self._reader.positions)
        heard = time.monotonic()
        while unfinished:
            records = self._read(_POLL_S)
            yield from records
            if records or unfinished & self._reader.ended.keys():
                heard = time.monotonic()
            elif time.monotonic() - heard > PATIENCE_S:
                raise KafkaUnavailableError(no_answer(self._config))
            unfinished -= self._reader.ended.keys()

    def for_ever(self) -> Iterator[RecordView | None]:
        """Every record as it comes, through any absence of Kafka; None after each quarter of a second without one."""
        self._goes_on = True
        while True:
            yield from self._read(_POLL_S) or (None,)

    def _read(self, timeout: float) -> list[RecordView]:
        found = self._reader.read(_MOST, timeout)
        return [_record(self._topic, record) for records in found.values() for record in records]

    def _pass(self, _: PartitionId, problem: RetryableError) -> None:
        if not self._goes_on:
            raise problem

    def _chosen(self, partitions: list[PartitionId], number: int | None) -> list[PartitionId]:
        if number is None:
            return partitions
        if (self._topic, number) not in partitions:
            raise WeirError(
                f"{self._config.topic(self._topic)} has no partition {number}; it has 0 to {len(partitions) - 1}"
            )
        return [(self._topic, number)]


def _tell(error: KafkaError, config: Config, away: Callable[[WeirError], None]) -> None:
    if error.code() == KafkaError._ALL_BROKERS_DOWN:
        away(translate(error, config))


def _record(topic: str, message: Message) -> RecordView:
    _, timestamp = message.timestamp()
    return RecordView(
        topic=topic,
        partition=message.partition() or 0,
        offset=message.offset() or 0,
        timestamp=None if timestamp == NO_TIMESTAMP else timestamp,
        key=message.key(),
        value=message.value(),
        headers=cast(list[tuple[str, bytes | None]], message.headers() or []),
    )
