"""Records to a topic, counted when Kafka has acknowledged them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from confluent_kafka import KafkaError, KafkaException, Message

from weir.infra.config import Config
from weir.infra.errors import KafkaUnavailableError
from weir.infra.kafka import client as kafka
from weir.infra.kafka.lines import Outgoing
from weir.schemas.errors import WeirError
from weir.schemas.topic import Topic

#: How long a record may wait for its acknowledgement before Kafka counts as away.
PATIENCE_MS = 30_000


class TopicWriter:
    """Sends groups of records (one line's) to one topic; a group is accepted once all of it is acknowledged.

    `refused(number, error)` is called for each group that Kafka did not take. A group that Kafka has not answered for
    `patience` milliseconds raises KafkaUnavailableError. Not thread-safe.
    """

    def __init__(
        self, config: Config, topic: Topic, refused: Callable[[int, WeirError], None], patience: int = PATIENCE_MS
    ) -> None:
        self._producer = kafka.producer(config, **{"message.timeout.ms": patience})
        self._config, self._topic = config, config.topic(topic.name)
        self._refused = refused
        self._unavailable: WeirError | None = None
        self._pending: dict[int, int] = {}
        self.accepted = 0

    def send(self, number: int, records: Sequence[Outgoing]) -> None:
        """Hands over the group of that number; waits only while too many are unacknowledged.

        Raises KafkaUnavailableError.
        """
        self._pending[number] = len(records)

        def delivered(error: KafkaError | None, message: Message) -> None:
            self._delivered(number, error)

        for record in records:
            while not self._handed_over(record, delivered):
                self._serve(0.1)
        self._serve(0)

    def _handed_over(self, record: Outgoing, delivered: Callable[[KafkaError | None, Message], None]) -> bool:
        try:
            self._producer.produce(
                self._topic, record.value, record.key, kafka.partition_for(record.key),
                on_delivery=delivered, timestamp=kafka.timestamp_for(record.timestamp),
            )  # fmt: skip
        except BufferError:
            return False
        except KafkaException as e:
            delivered(e.args[0], None)  # type: ignore[arg-type]
        return True

    def flush(self) -> None:
        """Waits until every record has its answer. Raises KafkaUnavailableError as `send` does."""
        while self._pending:
            self._serve(0.1)

    @property
    def unanswered(self) -> int:
        """How many groups have no answer yet: after an error they may be in Kafka, or not."""
        return len(self._pending)

    def _serve(self, timeout: float) -> None:
        self._producer.poll(timeout)
        if self._unavailable is not None:
            self._producer.purge()
            raise self._unavailable

    def _delivered(self, number: int, error: KafkaError | None) -> None:
        if number not in self._pending:
            return  # another record of the group was refused before
        if error is None:
            self._pending[number] -= 1
            if self._pending[number] == 0:
                del self._pending[number]
                self.accepted += 1
            return
        translated = kafka.translate(error, self._config, self._topic)
        if isinstance(translated, KafkaUnavailableError):
            self._unavailable = translated
            return
        del self._pending[number]
        self._refused(number, translated)
