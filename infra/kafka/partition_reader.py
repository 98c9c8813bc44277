"""Partitions of topics: where each begins and ends, and their committed records in order.

There are two ends. The last stable offset (KIP-98) is the end of what can be read: no transaction is open before it.
The high watermark is the end of what was written. Between the last record and either there may be nothing but control
records and records of aborted transactions, which a reader is never given; Kafka tells it only that the end is reached.

Topics go by their own names here, without `WEIR_TOPIC_PREFIX`; errors name them as the broker does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, Self

from confluent_kafka import (
    OFFSET_INVALID,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]

from weir.infra.config import Config
from weir.infra.errors import KafkaUnavailableError, OffsetLostError, RetryableError, TopicMissingError, WeirError
from weir.infra.kafka import client as kafka
from weir.infra.kafka.errors import missing
from weir.schemas.topic import PartitionId

#: Called with the partition and the error, where librdkafka goes on by itself.
Passing = Callable[[PartitionId, RetryableError], None]

#: How long Kafka has to say whether a topic is there, in seconds, where it did not say where its partitions end.
_ASK_AGAIN_S = 2.0
#: The admin client knows an older leader of the partition, as after a start of the broker, or fewer partitions.
_MOVED = {
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError._UNKNOWN_PARTITION,
}
_LOST = {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE}


class OffsetRange(NamedTuple):
    """A partition's first offset, and its end."""

    first: int
    end: int


@dataclass(frozen=True)
class Bound:
    """An offset of a partition that Kafka can be asked for."""

    spec: Any
    committed: bool = False


FIRST = Bound(OffsetSpec.earliest())  # type: ignore[no-untyped-call]
#: The high watermark.
END = Bound(OffsetSpec.latest())  # type: ignore[no-untyped-call]
#: The last stable offset.
STABLE_END = Bound(OffsetSpec.latest(), committed=True)  # type: ignore[no-untyped-call]


def since(epoch_ms: int) -> Bound:
    """Makes the bound of the first record of that time or later; its offset is -1 where there is none."""
    return Bound(OffsetSpec.for_timestamp(epoch_ms), committed=True)


class PartitionOffsets:
    """Asks for offsets of many partitions in one request. For one thread at a time.

    Every method blocks, for `timeout` seconds a request at most, and raises KafkaUnavailableError where Kafka does not
    answer, TopicMissingError where it does not have a topic or a partition.
    """

    def __init__(self, config: Config, timeout: float = 5.0) -> None:
        self._config, self._timeout = config, timeout
        self._admin = kafka.admin(config)

    def topics(self, names: Iterable[str]) -> dict[str, kafka.Described]:
        """Describes those of these topics that exist."""
        own = {self._config.topic(name): name for name in names}
        with kafka.translated(self._config):
            found = kafka.describe(self._admin, own, self._timeout)
        return {own[name]: described for name, described in found.items()}

    def all_topics(self, names: Iterable[str]) -> dict[str, kafka.Described]:
        """Describes these topics. Raises TopicMissingError unless all of them exist."""
        wanted = list(names)
        found = self.topics(wanted)
        for name in wanted:
            if name not in found:
                raise missing(self._config, self._config.topic(name))
        return found

    def ask(self, wanted: Mapping[Bound, Iterable[PartitionId]]) -> list[dict[PartitionId, int]]:
        """Returns the offset of each bound in its partitions, in the order of `wanted`; asks for all at once."""
        asked = [self._ask(bound, partitions) for bound, partitions in wanted.items()]
        found: list[dict[PartitionId, int]] = []
        for answers in asked:
            offsets = {}
            for place, answer in answers.items():
                try:
                    offsets[_own(self._config, place.topic), place.partition] = answer.result().offset
                except KafkaException as e:
                    # An admin client keeps the epochs and numbers of partitions that it has learnt, for ever.
                    if e.args[0].code() in _MOVED:
                        self._admin = kafka.admin(self._config)
                    raise kafka.translate(e, self._config, f"{place.topic}[{place.partition}]") from e
            found.append(offsets)
        return found

    def edges(self, topics: Iterable[str]) -> dict[PartitionId, OffsetRange]:
        """Returns the first offset and the last stable offset of every partition of these topics."""
        partitions = partitions_of(self.all_topics(topics))
        first, end = self.ask({FIRST: partitions, STABLE_END: partitions})
        return {partition: OffsetRange(first[partition], end[partition]) for partition in partitions}

    def _ask(self, bound: Bound, partitions: Iterable[PartitionId]) -> dict[TopicPartition, Any]:
        places = dict.fromkeys((_on_broker(self._config, partition) for partition in partitions), bound.spec)
        if not places:
            return {}
        level = IsolationLevel.READ_COMMITTED if bound.committed else IsolationLevel.READ_UNCOMMITTED
        with kafka.translated(self._config):
            return self._admin.list_offsets(places, isolation_level=level, request_timeout=self._timeout)


def partitions_of(topics: Mapping[str, kafka.Described]) -> list[PartitionId]:
    """Lists the partitions of these topics."""
    return [(name, partition) for name, topic in topics.items() for partition in range(topic.partitions)]


def edges(consumer: Consumer, config: Config, topic: str, partition: int, timeout: float) -> OffsetRange:
    """Returns the first offset of a partition, and its end: the last stable offset, or the high watermark where the
    consumer reads uncommitted records. The quickest way to ask for one partition. Blocks.

    Raises KafkaUnavailableError, and TopicMissingError where Kafka says that there is no such partition. The driver
    says so as well where nobody answers, so the topic is asked for once more then.
    """
    name = config.topic(topic)
    try:
        return OffsetRange(*consumer.get_watermark_offsets(TopicPartition(name, partition), timeout))
    except KafkaException as e:
        error = kafka.translate(e, config, name)
        if isinstance(error, TopicMissingError):
            error = _what_is_missing(consumer, config, name, partition)
        raise error from e


def _what_is_missing(consumer: Consumer, config: Config, topic: str, partition: int) -> WeirError:
    try:
        there = consumer.list_topics(topic, _ASK_AGAIN_S).topics[topic]
    except KafkaException as e:
        return kafka.translate(e, config, topic)
    if there.error is not None:
        return kafka.translate(there.error, config, topic)
    if partition not in there.partitions:
        return missing(config, f"{topic}[{partition}]")
    return KafkaUnavailableError(
        f"Kafka at {config.kafka.bootstrap} cannot do it now: {topic}[{partition}] has no leader"
    )


class PartitionReader:
    """Reads the committed records of assigned partitions, each in order. A context manager, for one thread at a time.

    `positions` has the offset up to which each partition is read. At an end that is the end, behind the control
    records and aborted transactions before it. `ended` has of the partitions that are read to their end where that is:
    the last stable offset. `consumer` is the driver's, which knows the group's offsets.

    Where librdkafka goes on by itself, because Kafka or a topic is away, `passing` is told; None: it is raised, and
    what was read with it is dropped. The same holds of OffsetLostError, which is raised where the offset to go on from
    is not there any more, and of WeirError, for what does not get better: `positions` are not moved then.
    """

    def __init__(
        self,
        config: Config,
        group: str | None = None,
        settings: Mapping[str, Any] = MappingProxyType({}),
        passing: Passing | None = None,
    ) -> None:
        self._config, self._passing = config, passing
        self.consumer: Any = kafka.consumer(config, group, **{"enable.partition.eof": True, **settings})
        self.positions: dict[PartitionId, int] = {}
        self.ended: dict[PartitionId, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leaves the broker."""
        self.consumer.close()

    def assign(self, offsets: Mapping[PartitionId, int]) -> None:
        """Reads these partitions, and no others, from these offsets on (or from OFFSET_BEGINNING)."""
        self.positions = {partition: max(0, offset) for partition, offset in offsets.items()}
        self.ended = {}
        with kafka.translated(self._config):
            self.consumer.assign([_on_broker(self._config, *found) for found in offsets.items()])

    def read(self, most: int, timeout: float) -> dict[PartitionId, list[Message]]:
        """Returns the records that are there, `most` at most, by partition; waits `timeout` seconds for one."""
        found: dict[PartitionId, list[Message]] = defaultdict(list)
        records: Any = self.records(most, timeout)
        places: Any = zip(map(Message.topic, records), map(Message.partition, records), records, strict=True)
        for topic, partition, record in places:
            found[topic, partition].append(record)
        read = {(_own(self._config, topic), p): own for (topic, p), own in found.items()}
        for place, own in read.items():
            last: Any = own[-1].offset()
            self.positions[place] = max(last + 1, self.positions.get(place, 0))
            if self.ended.get(place, last + 1) <= last:
                del self.ended[place]
        return read

    def records(self, most: int, timeout: float, fill: float = 0.0) -> list[Message]:
        """Returns the records in one list; waits another `fill` seconds for more. Does not move `positions`."""
        with kafka.translated(self._config):
            # consume() waits until it has as many as asked for: one first, then what is there.
            messages: list[Message] = self.consumer.consume(1, timeout)
            if messages and most > 1:
                messages += self.consumer.consume(most - 1, fill)
        records = [message for message in messages if message.error() is None]
        if len(records) < len(messages):
            self._take_events(messages)
        return records

    def known_end(self, partition: PartitionId) -> int | None:
        """Returns the high watermark as of the last fetch from the partition, without asking Kafka."""
        found = self.consumer.get_watermark_offsets(_on_broker(self._config, partition), cached=True)
        return None if found is None else found[1]

    def _take_events(self, messages: Iterable[Any]) -> None:
        """Handles the ends of partitions, and errors."""
        ended: dict[PartitionId, int] = {}
        for message in messages:
            if (error := message.error()) is None:
                continue
            place = _own(self._config, message.topic() or ""), message.partition()
            if error.code() == KafkaError._PARTITION_EOF:
                ended[place] = message.offset()
                continue
            name = f"{message.topic()}[{place[1]}]"
            if error.code() in _LOST:
                lost = f"{name}: records from offset {self.positions.get(place)} on were deleted before they were read"
                raise OffsetLostError(lost, place)
            problem = kafka.translate(error, self._config, name if message.topic() else None)
            if not isinstance(problem, RetryableError):
                raise WeirError(f"{name} cannot be read: {error.str()}")
            if self._passing is None:
                raise problem
            self._passing(place, problem)
        self.ended |= ended
        for place, offset in ended.items():
            self.positions[place] = max(offset, self.positions.get(place, 0))


def _own(config: Config, name: str) -> str:
    return name.removeprefix(config.kafka.topic_prefix)


def _on_broker(config: Config, partition: PartitionId, offset: int = OFFSET_INVALID) -> TopicPartition:
    return TopicPartition(config.topic(partition[0]), partition[1], offset)
