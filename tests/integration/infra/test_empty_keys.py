"""Where records without a key, with an empty one and with any other go: every producer of weir's agrees."""

from __future__ import annotations

import asyncio
from binascii import crc32
from collections.abc import Callable, Sequence

import pytest
from confluent_kafka import TopicPartition

from weir.infra.config import Config
from weir.infra.kafka import client as kafka
from weir.infra.kafka.bounded_producer import BoundedProducer
from weir.infra.kafka.lines import Outgoing
from weir.infra.kafka.writer import TopicWriter
from weir.schemas.topics import MONITORING_SERIES
from weir.streams.engine.core.records import FlushBatch, Produce
from weir.streams.engine.dataplane.transactions import TaskProducer
from weir.streams.engine.progress.offsets import Group

TOPIC = MONITORING_SERIES
RECORDS = 40


def written(config: Config, keys: Sequence[bytes | None]) -> None:
    refused: list[object] = []
    writer = TopicWriter(config, TOPIC, lambda *why: refused.append(why))
    for number, key in enumerate(keys):
        writer.send(number, [Outgoing(b"{}", key, None)])
    writer.flush()
    assert refused == []


def bounded(config: Config, keys: Sequence[bytes | None]) -> None:
    async def send() -> None:
        producer = BoundedProducer(config)
        for key in keys:
            await producer.send(config.topic(TOPIC.name), b"{}", key)
        assert await producer.close(30) == 0

    asyncio.run(send())


def emitted(config: Config, keys: Sequence[bytes | None]) -> None:
    producer = TaskProducer(config, config.topic("test"))
    producer.open()
    batch = FlushBatch([Produce(TOPIC.name, b"{}", key) for key in keys], "[]")
    producer.write(batch, TOPIC.name, 0, 0, Group(config, "test").metadata())


@pytest.mark.parametrize("send", [written, bounded, emitted])
def test_an_empty_key_is_a_key(config: Config, send: Callable[[Config, Sequence[bytes | None]], None]) -> None:
    kafka.ensure_topics(config, [TOPIC])
    send(config, [*[b""] * RECORDS, *[b"k"] * RECORDS])
    consumer = kafka.consumer(config)
    places = [TopicPartition(config.topic(TOPIC.name), p, 0) for p in range(config.kafka.partitions)]
    consumer.assign(places)
    found = {(m.key() or b"", m.partition()) for m in consumer.consume(2 * RECORDS, 30)}
    consumer.close()
    assert found == {(key, crc32(key) % config.kafka.partitions) for key in (b"", b"k")}
