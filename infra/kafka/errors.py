"""Kafka's errors in weir's own words: no broker answers, a broker cannot do it now, a topic is missing, or it is final.

The first three pass by themselves, so whoever meets them waits: `weir.infra.errors.KafkaUnavailableError`. The codes
are librdkafka's `rd_kafka_resp_err_t` (negative: its own) and those of Kafka's protocol.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import KafkaError, KafkaException

from weir.infra.config import Config
from weir.infra.errors import KafkaUnavailableError, NoKafkaError, TopicMissingError, WeirError

#: How long one broker has to take a connection, in seconds.
_CONNECT_S = 1.0
#: No broker answers.
_AWAY = {
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TRANSPORT,
    KafkaError._FAIL,
    KafkaError._RESOLVE,
    KafkaError._TIMED_OUT,
    KafkaError._TIMED_OUT_QUEUE,
    KafkaError._MSG_TIMED_OUT,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.NETWORK_EXCEPTION,
    # A request was under way to a broker of which librdkafka has let go, since all of them went away (KIP-899).
    KafkaError._DESTROY,
    KafkaError._DESTROY_BROKER,
}
#: A broker answers, and another one is to be asked, or the same one later.
_MOVING = {
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.NOT_COORDINATOR,
    KafkaError._WAIT_COORD,
    KafkaError._WAIT_CACHE,
    KafkaError.BROKER_NOT_AVAILABLE,
    KafkaError.NOT_CONTROLLER,
    # A topic that was just made, or whose leader just moved.
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.REPLICA_NOT_AVAILABLE,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.NOT_ENOUGH_REPLICAS,
    KafkaError._NOENT,  # said by a question for offsets: "No leaders found"
}
#: A topic that is just being made or deleted, or that is not there.
_MISSING = {
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.UNKNOWN_TOPIC_ID,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
}


def translate(error: KafkaException | KafkaError, config: Config, topic: str | None = None) -> WeirError:
    """A driver's error as weir's own, with the address of the Kafka that `config` names.

    KafkaUnavailableError where waiting helps, TopicMissingError among them. `topic`: what was asked for, as the broker
    calls it, where the caller knows.
    """
    inner = error.args[0] if isinstance(error, KafkaException) else error
    if not isinstance(inner, KafkaError):
        return WeirError(f"Kafka: {inner}")
    if inner.code() in _MISSING:
        return missing(config, topic, inner.str())
    if inner.code() in _AWAY:
        return KafkaUnavailableError(f"Kafka does not answer at {config.kafka.bootstrap}: {inner.str()}")
    if inner.code() in _MOVING or inner.retriable():
        return KafkaUnavailableError(f"Kafka at {config.kafka.bootstrap} cannot do it now: {inner.str()}")
    return WeirError(f"Kafka: {inner.str()}")


def missing(config: Config, topic: str | None, why: str = "no such topic or partition") -> TopicMissingError:
    """Returns the error for a topic, or a partition of a topic, that Kafka does not have."""
    what = "a topic that is needed" if topic is None else topic
    return TopicMissingError(
        f"Kafka at {config.kafka.bootstrap} does not have {what}: {why}; `weir topics --create` makes weir's topics"
    )


def is_missing(error: KafkaError) -> bool:
    """Whether Kafka says that it does not have the topic, or the partition."""
    return error.code() in _MISSING


@contextmanager
def translated(config: Config) -> Iterator[None]:
    """Raises the driver's errors as weir's own, as `translate` has them."""
    try:
        yield
    except KafkaException as e:
        raise translate(e, config) from e


def no_answer(config: Config) -> str:
    """Returns the text that every command prints when no Kafka answers, with what to do."""
    hint = "" if config.kafka.url else " (is `weir up` running?)"
    return f"no Kafka answers at {config.kafka.bootstrap}{hint}"


def reach(config: Config) -> None:
    """Returns once one broker takes a connection, or might still. Blocks for about a second at most.

    Raises NoKafkaError where every broker refuses: the driver itself would try again until its time is over.
    A broker that neither takes nor refuses is left to the driver, which has more patience.
    """
    for broker in config.kafka.bootstrap.split(","):
        host, _, port = broker.strip().rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
        except TimeoutError:
            return
        except OSError:
            continue
        return
    raise NoKafkaError(no_answer(config))
