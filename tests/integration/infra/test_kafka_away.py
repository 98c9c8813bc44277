"""No Kafka answers: what is said depends on whose Kafka it is."""

from __future__ import annotations

import pytest

from weir.infra.config import load
from weir.infra.errors import KafkaUnavailableError
from weir.infra.kafka.client import ensure_topics
from weir.infra.ports import free_ports


def test_of_the_embedded_one_it_is_asked_whether_it_runs() -> None:
    [port] = free_ports(1)
    with pytest.raises(KafkaUnavailableError) as caught:
        ensure_topics(load({"WEIR_KAFKA_PORT": str(port)}), timeout=1)
    assert str(caught.value) == f"no Kafka answers at 127.0.0.1:{port} (is `weir up` running?)"


def test_one_that_is_elsewhere_is_not_started_by_weir_up() -> None:
    address = f"127.0.0.1:{free_ports(1)[0]}"
    with pytest.raises(KafkaUnavailableError) as caught:
        ensure_topics(load({"WEIR_KAFKA": address}), timeout=1)
    assert str(caught.value) == f"no Kafka answers at {address}"
