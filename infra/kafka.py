"""Kafka clients as weir sets them up, and its errors in weir's own words. All sinks and sources make theirs here."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin import OffsetSpec as _OffsetSpec  # type: ignore[attr-defined]
from confluent_kafka.cimpl import NewTopic

from infra.config import Config
from infra.errors import KafkaUnavailableError, WeirError
from schemas.topic import MAX_DEAD_LETTER, Topic
from schemas.topics import TOPICS

#: librdkafka waits a second before it fetches again once its queue was full, which stalls a fast consumer.
_FETCH_BACKOFF = {"fetch.queue.backoff.ms": 2}
_LATEST = _OffsetSpec.latest()  # type: ignore[no-untyped-call]
_UNAVAILABLE = {
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TRANSPORT,
    KafkaError._TIMED_OUT,
    KafkaError._MSG_TIMED_OUT,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.NETWORK_EXCEPTION,
    KafkaError._RESOLVE,
    KafkaError._DESTROY,  # said of a broker that went away
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    # A topic that was just made, or whose leader just moved.
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError._NOENT,  # said by a question for offsets: "No leaders found"
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
}


def _common(config: Config) -> dict[str, Any]:
    # Connection losses are reported through errors and retried by librdkafka; its own log would repeat them for ever.
    return {"bootstrap.servers": config.bootstrap, "log_level": 2, "error_cb": _ignore, "client.id": "weir"}


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


def translate(error: KafkaException | KafkaError) -> WeirError:
    """A driver's error as weir's own: retryable where waiting helps."""
    inner = error.args[0] if isinstance(error, KafkaException) else error
    if isinstance(inner, KafkaError) and (inner.code() in _UNAVAILABLE or inner.retriable()):
        return KafkaUnavailableError(f"Kafka does not answer: {inner.str()}")
    return WeirError(f"Kafka: {inner.str() if isinstance(inner, KafkaError) else inner}")


@contextmanager
def translated() -> Iterator[None]:
    """Raises the driver's errors as weir's own."""
    try:
        yield
    except KafkaException as e:
        raise translate(e) from e


def ensure_topics(config: Config, topics: Iterable[Topic] = TOPICS, timeout: float = 30.0) -> list[str]:
    """Makes the topics that are missing; returns their names. An existing topic is left as it is.

    Returns once every partition answers: a topic that was just made, here or by another process, has no leader yet.

    Raises KafkaUnavailableError where no broker answers within `timeout` seconds.
    """
    client = admin(config)
    try:
        existing = client.list_topics(timeout=timeout).topics
        missing = [t for t in topics if config.topic(t.name) not in existing]
        futures = client.create_topics(
            [
                NewTopic(
                    config.topic(t.name),
                    num_partitions=t.partitions or config.partitions,
                    replication_factor=config.replication,
                    config=dict(t.config),
                )
                for t in missing
            ],
            request_timeout=timeout,
        ) if missing else {}  # fmt: skip
        made = []
        for name, future in futures.items():
            try:
                future.result()
                made.append(name)
            except KafkaException as e:
                if e.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise
        _wait_for_leaders(client, {config.topic(t.name) for t in topics}, timeout)
        return made
    except KafkaException as e:
        error = translate(e)
        if isinstance(error, KafkaUnavailableError):
            hint = "" if config.kafka else " (is `weir up` running?)"
            raise KafkaUnavailableError(f"no Kafka answers at {config.bootstrap}{hint}") from e
        raise error from e


def _wait_for_leaders(client: AdminClient, names: set[str], timeout: float) -> None:
    """Returns once every partition gives its end offset. Raises KafkaUnavailableError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            topics = client.list_topics(timeout=timeout).topics
            if names <= topics.keys():
                ends: Any = {TopicPartition(n, p): _LATEST for n in names for p in topics[n].partitions}
                for answer in client.list_offsets(ends, request_timeout=timeout).values():
                    answer.result()
                return
        except KafkaException as e:
            if not isinstance(translate(e), KafkaUnavailableError):
                raise
        if time.monotonic() > deadline:
            raise KafkaUnavailableError(f"topics have no leader after {timeout:.0f} s")
        time.sleep(0.05)
