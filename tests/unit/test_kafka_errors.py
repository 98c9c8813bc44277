"""The driver's errors as weir's own: what passes is waited for, all else ends a service."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError, KafkaException

from infra.errors import KafkaUnavailableError, WeirError
from infra.kafka import translate, translated


@pytest.mark.parametrize(
    "code",
    [
        KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._RESOLVE,
        KafkaError.LEADER_NOT_AVAILABLE, KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError._NOENT,
    ],
    ids=lambda code: str(code).lstrip("-"),
)  # fmt: skip
def test_what_passes_is_waited_for(code: int) -> None:
    error = KafkaError(code, "it is so")
    assert isinstance(translate(error), KafkaUnavailableError)
    with pytest.raises(KafkaUnavailableError, match="it is so"), translated():
        raise KafkaException(error)


@pytest.mark.parametrize("code", [KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError._INVALID_ARG], ids=["acl", "arg"])
def test_what_does_not_is_told(code: int) -> None:
    with pytest.raises(WeirError, match="Kafka: it is so") as caught, translated():
        raise KafkaException(KafkaError(code, "it is so"))
    assert not isinstance(caught.value, KafkaUnavailableError)
