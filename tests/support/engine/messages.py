"""Records as Kafka's client gives them, made without Kafka."""

from __future__ import annotations

from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_NOT_AVAILABLE, Message


def message(
    topic: str, partition: int, offset: int, value: bytes | None, key: bytes | None = None, timestamp: int | None = None
) -> Message:
    """A record; `timestamp` in epoch milliseconds, None where it has none."""
    kind = TIMESTAMP_NOT_AVAILABLE if timestamp is None else TIMESTAMP_CREATE_TIME
    return Message(
        topic=topic, value=value, key=key, partition=partition, offset=offset, timestamp=(kind, timestamp or 0)
    )
