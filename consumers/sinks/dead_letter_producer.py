"""Refused elements to the topic dead-letters, acknowledged before anybody goes on."""

from __future__ import annotations

from collections.abc import Sequence

from confluent_kafka import KafkaError, Message

from weir.consumers.sinks.batch import RefusedRow
from weir.infra.config import Config
from weir.infra.errors import KafkaUnavailableError
from weir.infra.kafka import client as kafka
from weir.schemas.dead_letters import Headers, to_headers
from weir.schemas.topics import DEAD_LETTERS

#: How long Kafka has for the acknowledgement, in seconds. What it did not acknowledge by then is not sent any more.
_PATIENCE = 4.0


class DeadLetterProducer:
    """Writes dead letters. Whoever has to try again sends them again: each arrives at least once."""

    def __init__(self, config: Config) -> None:
        self._config, self._topic = config, config.topic(DEAD_LETTERS.name)
        self._producer = kafka.producer(config, **{"message.timeout.ms": int(_PATIENCE * 1000)})
        self._errors: list[KafkaError] = []

    def send(self, refused: Sequence[RefusedRow]) -> None:
        """Returns once Kafka has acknowledged them all. Blocks; raises KafkaUnavailableError where it does not."""
        self._errors.clear()
        for raw, key, origin in refused:
            while not self._queued(raw, key, to_headers(origin)):
                self._producer.poll(0.1)
        left = self._producer.flush(2 * _PATIENCE)
        if self._errors:
            raise kafka.translate(self._errors[0], self._config, self._topic)
        if left:
            raise KafkaUnavailableError(f"Kafka does not acknowledge {left} dead letters")

    def _queued(self, raw: bytes, key: bytes | None, headers: Headers) -> bool:
        try:
            partition = kafka.partition_for(key)
            self._producer.produce(self._topic, raw, key, partition, headers=dict(headers), on_delivery=self._delivered)
        except BufferError:
            return False
        return True

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._errors.append(error)
