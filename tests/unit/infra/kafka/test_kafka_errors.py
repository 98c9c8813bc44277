"""The driver's errors as weir's own: what passes is waited for, all else ends a service."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from confluent_kafka import OFFSET_INVALID, KafkaError, KafkaException

from weir.infra.config import load
from weir.infra.errors import KafkaUnavailableError, TopicMissingError, WeirError
from weir.infra.kafka.client import committed, translate, translated

CONFIG = load({"WEIR_KAFKA": "broker:9092"})


@pytest.mark.parametrize(
    "code",
    [
        KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._RESOLVE,
        KafkaError.LEADER_NOT_AVAILABLE, KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError._NOENT, KafkaError._DESTROY, KafkaError._DESTROY_BROKER, KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.UNKNOWN_TOPIC_ID, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION,
    ],
    ids=lambda code: str(code).lstrip("-"),
)  # fmt: skip
def test_what_passes_is_waited_for(code: int) -> None:
    error = KafkaError(code, "it is so")
    assert isinstance(translate(error, CONFIG), KafkaUnavailableError)
    with pytest.raises(KafkaUnavailableError, match="it is so"), translated(CONFIG):
        raise KafkaException(error)


@pytest.mark.parametrize("code", [KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError._INVALID_ARG], ids=["acl", "arg"])
def test_what_does_not_is_told(code: int) -> None:
    with pytest.raises(WeirError, match="Kafka: it is so") as caught, translated(CONFIG):
        raise KafkaException(KafkaError(code, "it is so"))
    assert not isinstance(caught.value, KafkaUnavailableError)


@pytest.mark.parametrize("code", [KafkaError._TRANSPORT, KafkaError._DESTROY_BROKER, KafkaError._ALL_BROKERS_DOWN])
def test_where_nobody_answers_the_address_is_said(code: int) -> None:
    assert str(translate(KafkaError(code, "it is so"), CONFIG)) == "Kafka does not answer at broker:9092: it is so"


def test_a_topic_that_is_missing_is_said_by_its_name_with_what_to_do() -> None:
    found = translate(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART, "it is so"), CONFIG, "relations")
    assert isinstance(found, TopicMissingError)
    assert str(found) == (
        "Kafka at broker:9092 does not have relations: it is so; `weir topics --create` makes weir's topics"
    )


class Answered(NamedTuple):
    """One partition of the driver's answer."""

    offset: int
    error: KafkaError | None = None


class Driver:
    """Answers as the driver's consumer does."""

    def __init__(self, *answers: Answered) -> None:
        self.answers = list(answers)

    def committed(self, places: list[Any], timeout: float) -> list[Answered]:
        return self.answers


def test_a_partition_of_which_the_broker_says_an_error_is_not_one_without_a_committed_offset() -> None:
    good: Any = Driver(Answered(7), Answered(OFFSET_INVALID))
    assert [place.offset for place in committed(good, [], 1.0)] == [7, OFFSET_INVALID]
    refused: Any = Driver(Answered(7), Answered(OFFSET_INVALID, KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)))
    with pytest.raises(KafkaException):
        committed(refused, [], 1.0)
