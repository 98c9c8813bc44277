"""Refused elements to the topic dead-letters, acknowledged before anybody goes on."""

from __future__ import annotations

from collections.abc import Sequence

from confluent_kafka import KafkaError, Message

from consumers.batch import Refused
from infra import kafka
from infra.config import Config
from infra.errors import KafkaUnavailableError
from schemas.dead_letters import Headers, to_headers
from schemas.topics import DEAD_LETTERS

#: How long Kafka has for the acknowledgement, in seconds. What it did not acknowledge by then is not sent any more.
_PATIENCE = 4.0


class Refusals:
    """Writes dead letters. Whoever has to try again sends them again: each arrives at least once."""

    def __init__(self, config: Config) -> None:
        self._topic = config.topic(DEAD_LETTERS.name)
        self._producer = kafka.producer(config, **{"message.timeout.ms": int(_PATIENCE * 1000)})
        self._errors: list[KafkaError] = []

    def send(self, refused: Sequence[Refused]) -> None:
        """Returns once Kafka has acknowledged them all. Blocks; raises KafkaUnavailableError where it does not."""
        self._errors.clear()
        for raw, key, origin in refused:
            while not self._queued(raw, key, to_headers(origin)):
                self._producer.poll(0.1)
        left = self._producer.flush(2 * _PATIENCE)
        if self._errors:
            raise kafka.translate(self._errors[0])
        if left:
            raise KafkaUnavailableError(f"Kafka does not acknowledge {left} dead letters")

    def _queued(self, raw: bytes, key: bytes | None, headers: Headers) -> bool:
        try:
            self._producer.produce(self._topic, raw, key, headers=dict(headers), on_delivery=self._delivered)
        except BufferError:
            return False
        return True

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._errors.append(error)
