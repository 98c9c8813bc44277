"""A view is being read while its broker is killed: whoever waits for the view hears that Kafka is away."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from support.servers.own_servers import OwnServer
from weir.infra.config import Config
from weir.infra.errors import KafkaUnavailableError
from weir.infra.kafka.client import ensure_topics, producer
from weir.schemas.topics import RELATIONS
from weir.streams.engine.core.records import Record
from weir.streams.engine.dataplane.view_reader import ViewReader
from weir.streams.engine.progress.offsets import Group
from weir.streams.engine.progress.waits import Waits

#: More than a consumer fetches ahead.
RECORDS = 400_000


class Killer:
    """A view that kills the broker with the first records."""

    topic = RELATIONS

    def __init__(self, broker: OwnServer) -> None:
        self._broker = broker
        self.records = 0

    def apply(self, records: Sequence[Record]) -> None:
        self.records += len(records)
        if not self._broker.ended:
            self._broker.kill()


@pytest.mark.long
@pytest.mark.timeout(200)  # a start of a broker
def test_a_view_that_cannot_be_read_on_says_so(kafka_of_its_own: tuple[Config, OwnServer]) -> None:
    config, broker = kafka_of_its_own
    ensure_topics(config, [RELATIONS])
    writer = producer(config, **{"queue.buffering.max.messages": RECORDS})
    for _ in range(RECORDS):
        writer.produce(config.topic("relations"), b"x" * 200)
        writer.poll(0)
    assert writer.flush(60) == 0
    view = Killer(broker)
    reader = ViewReader(config, Group(config, "test"), view, Waits())
    with pytest.raises(KafkaUnavailableError):
        reader.catch_up()
    assert 0 < view.records < RECORDS
