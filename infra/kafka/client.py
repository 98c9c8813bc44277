"""Kafka clients as weir sets them up, and its errors in weir's own words. All sinks and sources make theirs here."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin import OffsetSpec as _OffsetSpec  # type: ignore[attr-defined]
from confluent_kafka.cimpl import NewTopic

from weir.infra.config import Config
from weir.infra.errors import KafkaUnavailableError
from weir.infra.kafka.errors import no_answer, reach, translate, translated
from weir.infra.runtime.patience import waiting_for
from weir.schemas.topic import MAX_DEAD_LETTER, Topic, declared
from weir.schemas.topics import TOPICS

__all__ = [
    "Described",
    "admin",
    "committed",
    "consumer",
    "describe",
    "ensure_topics",
    "producer",
    "reach",
    "topics_there",
    "translate",
    "translated",
]

#: librdkafka waits a second before it fetches again once its queue was full, which stalls a fast consumer.
_FETCH_BACKOFF = {"fetch.queue.backoff.ms": 2}
_LATEST = _OffsetSpec.latest()  # type: ignore[no-untyped-call]


def _common(config: Config) -> dict[str, Any]:
    # Connection losses are reported through errors and retried by librdkafka; its own log would repeat them for ever.
    return {"bootstrap.servers": config.kafka.bootstrap, "log_level": 2, "error_cb": _ignore, "client.id": "weir"}


def _ignore(error: KafkaError) -> None:
    """Connection errors come here as well as to whoever waits; the one who waits reports them."""


def producer(config: Config, **settings: Any) -> Producer:
    """An idempotent producer (KIP-98) with acks from all in-sync replicas."""
    return Producer(
        _common(config)
        | {
            "enable.idempotence": True,
            "linger.ms": 5,
            "compression.type": "lz4",
            "message.max.bytes": MAX_DEAD_LETTER,
            "partitioner": "consistent_random",
        }
        | settings
    )


def partition_for(key: bytes | None) -> int:
    """Returns the partition to pass to `Producer.produce` for a key: -1 (librdkafka chooses), and 0 for the empty key.

    librdkafka's `consistent_random` takes CRC-32 of a key modulo the number of partitions, and spreads records without
    one. It spreads the empty key as well, which is a key like any other: CRC-32 of no bytes is 0, as its partition is.

    >>> partition_for(b""), partition_for(b"a"), partition_for(None)
    (0, -1, -1)
    """
    return 0 if key == b"" else -1


def timestamp_for(epoch_ms: int | None) -> int:
    """Returns the timestamp to pass to `Producer.produce`: 0, librdkafka's value for now, if there is none.

    So librdkafka cannot write the epoch itself: 0 becomes the first millisecond after it.

    >>> timestamp_for(None), timestamp_for(0), timestamp_for(1_750_000_000_000)
    (0, 1, 1750000000000)
    """
    return 0 if epoch_ms is None else max(epoch_ms, 1)


def consumer(config: Config, group: str | None = None, **settings: Any) -> Consumer:
    """A consumer that sees committed transactions only, and never commits by itself.

    `group` None: one that assigns its own partitions and stores its offsets elsewhere.
    """
    return Consumer(
        _common(config)
        | _FETCH_BACKOFF
        | {
            "group.id": config.topic(group or "none"),
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
        }
        | settings
    )


def admin(config: Config) -> AdminClient:
    """An admin client."""
    return AdminClient(_common(config))


def topics_there(config: Config, timeout: float = 5.0) -> dict[str, Any]:
    """Every topic that Kafka has, by its name on the broker, as `TopicMetadata`. Blocks.

    Raises NoKafkaError at once where every broker refuses a connection, else KafkaUnavailableError where none answers
    within `timeout` seconds.
    """
    with _answering(config):
        return dict(admin(config).list_topics(timeout=timeout).topics)


@contextmanager
def _answering(config: Config) -> Iterator[None]:
    """Says what is waited for while the block asks Kafka; its errors are weir's own. Raises NoKafkaError at once where
    every broker refuses a connection.
    """
    reach(config)
    try:
        with waiting_for(f"Kafka at {config.kafka.bootstrap}"):
            yield
    except KafkaException as e:
        error = translate(e, config)
        raise (KafkaUnavailableError(no_answer(config)) if isinstance(error, KafkaUnavailableError) else error) from e


def committed(consumer: Consumer, places: Sequence[TopicPartition], timeout: float) -> list[TopicPartition]:
    """Returns the committed offsets of the consumer's group; `OFFSET_INVALID` for a partition without one. Blocks.

    Raises KafkaException, also where the broker does not say it of one partition alone: the driver's answer has the
    same offset there as where nothing is committed.
    """
    found = consumer.committed(list(places), timeout)
    for place in found:
        if place.error is not None:
            raise KafkaException(place.error)
    return found


class Described(NamedTuple):
    """A topic that the broker has. `id` is its topic id as Kafka prints it (KIP-516), None where the broker has none:
    one that is deleted and made anew has another.
    """

    id: str | None
    partitions: int


def describe(client: AdminClient, names: Iterable[str], timeout: float) -> dict[str, Described]:
    """Those of these topics that the broker has, by name, in one request. Raises KafkaException."""
    asked = client.describe_topics(TopicCollection(list(names)), request_timeout=timeout)
    found = {}
    for name, future in asked.items():
        try:
            topic = future.result()
        except KafkaException as e:
            if e.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise
            continue
        known = topic.topic_id.get_most_significant_bits() or topic.topic_id.get_least_significant_bits()
        found[name] = Described(str(topic.topic_id) if known else None, len(topic.partitions))
    return found


def ensure_topics(config: Config, topics: Iterable[Topic] = TOPICS, timeout: float = 30.0) -> list[str]:
    """Makes the topics that are missing; returns their names. An existing topic is left as it is.

    Returns once every partition answers: a topic that was just made, here or by another process, has no leader yet.

    Raises NoKafkaError at once where every broker refuses a connection, else KafkaUnavailableError where none answers
    within `timeout` seconds.
    """
    with _answering(config):
        return _ensured(admin(config), config, list(topics), timeout)


def _ensured(client: AdminClient, config: Config, topics: Sequence[Topic], timeout: float) -> list[str]:
    existing = client.list_topics(timeout=timeout).topics
    new = [
        NewTopic(
            config.topic(t.name),
            num_partitions=t.partitions or config.kafka.partitions,
            replication_factor=config.kafka.replication,
            config=declared(t),
        )
        for t in topics
        if config.topic(t.name) not in existing
    ]
    made = []
    for name, future in (client.create_topics(new, request_timeout=timeout) if new else {}).items():
        try:
            future.result()
            made.append(name)
        except KafkaException as e:
            if e.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
    _wait_for_leaders(client, config, {config.topic(t.name) for t in topics}, timeout)
    return made


def _wait_for_leaders(client: AdminClient, config: Config, names: set[str], timeout: float) -> None:
    """Returns once every partition gives its end offset. Raises KafkaUnavailableError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    without = names
    while True:
        try:
            topics = client.list_topics(timeout=timeout).topics
            without = names - topics.keys()
            if not without:
                ends: Any = {TopicPartition(n, p): _LATEST for n in names for p in topics[n].partitions}
                asked = client.list_offsets(ends, request_timeout=timeout)
                without = {place.topic for place, answer in asked.items() if not _has_answer(answer, config)}
                if not without:
                    return
        except KafkaException as e:
            if not isinstance(translate(e, config), KafkaUnavailableError):
                raise
        if time.monotonic() > deadline:
            raise KafkaUnavailableError(
                f"Kafka at {config.kafka.bootstrap} has no leader yet for {', '.join(sorted(without))} "
                f"after {timeout:.0f} s"
            )
        time.sleep(0.05)


def _has_answer(answer: Any, config: Config) -> bool:
    """Whether a question was answered; raises KafkaException where waiting does not help."""
    try:
        answer.result()
    except KafkaException as e:
        if not isinstance(translate(e, config), KafkaUnavailableError):
            raise
        return False
    return True
