"""The Kafka half of a sink: reads partitions from given offsets, and says so where they are gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from itertools import accumulate

from confluent_kafka import Message

from weir.consumers.sinks.batch import Place
from weir.infra.config import Config
from weir.infra.errors import OffsetLostError
from weir.infra.kafka.partition_reader import FIRST, PartitionOffsets, PartitionReader, partitions_of

#: How long a run of records is filled after its first, in seconds: a flush of the engine's comes as a burst.
_FILL = 0.02
#: How long Kafka has for an answer, in seconds.
_PATIENCE = 3.0


class Source:
    """Reads every partition of `topics`, committed transactions only. Places have the topics' names on the broker.

    Every method blocks, and raises KafkaUnavailableError where Kafka does not answer.
    """

    def __init__(self, config: Config, group: str, topics: Sequence[str]) -> None:
        self._config, self._topics = config, topics
        self._offsets = PartitionOffsets(config, _PATIENCE)
        self._reader = PartitionReader(config, group, {"enable.partition.eof": False})
        self._held: list[Message] = []  # read, and not yet asked for

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    def beginnings(self) -> dict[Place, int]:
        """The offset of the first record that each partition still has."""
        [first] = self._offsets.ask({FIRST: partitions_of(self._offsets.all_topics(self._topics))})
        return {(self._config.topic(topic), p): offset for (topic, p), offset in first.items()}

    def read_from(self, offsets: Mapping[Place, int]) -> None:
        """Reads these places, each from its offset."""
        prefix = self._config.kafka.topic_prefix
        self._reader.assign({(topic.removeprefix(prefix), p): offset for (topic, p), offset in offsets.items()})

    def records(self, most: int, size: int, timeout: float) -> list[Message]:
        """The next records: `most` of them, and `size` bytes of values, at most, but one if there is one.

        None where none came within `timeout` seconds. Raises OffsetLostError where the offset to go on from is not
        there any more.
        """
        if not self._held:
            try:
                self._held = self._reader.records(most, timeout, _FILL)
            except OffsetLostError as e:
                raise self._lost(e) from e
        if not self._held:
            return []
        taken = within(self._held, most, size)
        records, self._held = self._held[:taken], self._held[taken:]
        return records

    def check(self) -> None:
        """Asks Kafka for a sign of life: a consumer whose broker is gone just hears nothing."""
        self._offsets.topics(self._topics[:1])

    def _lost(self, error: OffsetLostError) -> OffsetLostError:
        assert error.partition is not None
        topic, partition = error.partition
        [first] = self._offsets.ask({FIRST: [error.partition]})
        return OffsetLostError(
            f"{self._config.topic(topic)}/{partition}: the next offset to read no longer exists, and the first offset "
            f"is {first[error.partition]}: records were deleted before they were stored. "
            "To continue with the remaining records, delete this partition's row in sink_offsets",
            error.partition,
        )


def within(records: Sequence[Sized], most: int, size: int) -> int:
    """How many of these come first that are no more than `most`, and no longer than `size` together; one at least."""
    lengths = list(map(len, records[:most]))
    if sum(lengths) <= size:
        return len(lengths)
    return max(1, sum(total <= size for total in accumulate(lengths)))
