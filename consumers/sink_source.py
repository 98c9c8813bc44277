"""The Kafka half of a sink: reads partitions from given offsets, and says so where they are gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from itertools import accumulate
from typing import NoReturn, cast

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from consumers.batch import Place
from infra import kafka
from infra.config import Config
from infra.errors import OffsetLostError

#: How long a run of records is filled after its first, in seconds: a flush of the engine's comes as a burst.
_FILL = 0.02
#: How long Kafka has for an answer, in seconds.
_PATIENCE = 3.0


class Source:
    """Reads every partition of `topics`, which are names on the broker; committed transactions only.

    Every method blocks, and raises KafkaUnavailableError where Kafka does not answer.
    """

    def __init__(self, config: Config, group: str, topics: Sequence[str]) -> None:
        self._consumer = kafka.consumer(config, group)
        self._topics = topics
        self._held: list[Message] = []  # read, and not yet asked for

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def beginnings(self) -> dict[Place, int]:
        """The offset of the first record that each partition still has."""
        found = {}
        with kafka.translated():
            for topic in self._topics:
                for partition in self._consumer.list_topics(topic, timeout=_PATIENCE).topics[topic].partitions:
                    found[topic, partition] = self._first(topic, partition)
        return found

    def read_from(self, offsets: Mapping[Place, int]) -> None:
        """Reads these places, each from its offset."""
        with kafka.translated():
            self._consumer.assign([TopicPartition(*place, offset) for place, offset in offsets.items()])

    def records(self, most: int, size: int, timeout: float) -> list[Message]:
        """The next records: `most` of them, and `size` bytes of values, at most, but one if there is one.

        None where none came within `timeout` seconds. Raises OffsetLostError where the offset to go on from is not
        there any more.
        """
        if not self._held:
            with kafka.translated():
                first = self._consumer.poll(timeout)
                if first is None:
                    return []
                found = [first, *self._consumer.consume(most - 1, timeout=_FILL)]
                for message in found:
                    if (error := message.error()) is not None:
                        self._fail(message, error)
            self._held = found
        taken = within(self._held, most, size)
        records, self._held = self._held[:taken], self._held[taken:]
        return records

    def check(self) -> None:
        """Asks Kafka for a sign of life: a consumer whose broker is gone just hears nothing."""
        with kafka.translated():
            self._consumer.list_topics(self._topics[0], timeout=_PATIENCE)

    def _fail(self, message: Message, error: KafkaError) -> NoReturn:
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            # An error's message names its place as well.
            topic, partition = cast(Place, (message.topic(), message.partition()))
            raise OffsetLostError(
                f"{topic}/{partition}: what is to be read next is not there, the first offset is "
                f"{self._first(topic, partition)}: records were deleted before they were stored. "
                "To go on with what is there, delete this partition's row in sink_offsets"
            )
        raise KafkaException(error)

    def _first(self, topic: str, partition: int) -> int:
        first: int = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=_PATIENCE)[0]
        return first


def within(records: Sequence[Sized], most: int, size: int) -> int:
    """How many of these come first that are no more than `most`, and no longer than `size` together; one at least."""
    lengths = list(map(len, records[:most]))
    if sum(lengths) <= size:
        return len(lengths)
    return max(1, sum(total <= size for total in accumulate(lengths)))
