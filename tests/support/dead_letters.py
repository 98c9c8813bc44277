"""Dead letters as they lie on their topic."""

from __future__ import annotations

from confluent_kafka import Message, TopicPartition

from support.wait import PATIENCE_S
from weir.infra.config import Config
from weir.infra.kafka import client as kafka
from weir.schemas.topics import DEAD_LETTERS


def dead_letters(config: Config) -> list[Message]:
    """Returns every dead letter that a sink has written: sinks write them without transactions."""
    consumer = kafka.consumer(config)
    try:
        place = TopicPartition(config.topic(DEAD_LETTERS.name), 0)
        first, end = consumer.get_watermark_offsets(place, timeout=PATIENCE_S)
        consumer.assign([TopicPartition(place.topic, 0, first)])
        return consumer.consume(end - first, timeout=PATIENCE_S) if end > first else []
    finally:
        consumer.close()
