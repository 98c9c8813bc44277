"""`weir tail` and `weir produce` while the broker is away and comes back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.command import Running, started
from support.servers.own_servers import OwnServer, own
from weir.infra import config as configuration
from weir.infra.errors import KafkaUnavailableError
from weir.infra.kafka.client import ensure_topics
from weir.infra.kafka.lines import Outgoing
from weir.infra.kafka.writer import TopicWriter
from weir.infra.ports import free_ports
from weir.infra.servers.kafka import KafkaServer
from weir.schemas.topics import RELATIONS


@pytest.fixture
def alone(environ: dict[str, str]) -> dict[str, str]:
    """An environment with a Kafka of its own in it, which is not started."""
    port, controller = free_ports(2)
    others = {name: value for name, value in environ.items() if name != "WEIR_KAFKA"}
    return others | {"WEIR_KAFKA_PORT": str(port), "WEIR_KAFKA_CONTROLLER_PORT": str(controller)}


@pytest.fixture
def broker(alone: dict[str, str]) -> Iterator[OwnServer]:
    """A Kafka of the test's own, with a topic."""
    config = configuration.load(alone)
    with own(KafkaServer(config)) as server:
        ensure_topics(config, [RELATIONS])
        yield server


def send(produce: Running, child: bytes) -> None:
    """One line to a `weir produce` that runs."""
    assert produce.process.stdin is not None
    produce.process.stdin.write(b'{"parent":"p","child":"%s"}\n' % child)
    produce.process.stdin.flush()


@pytest.mark.long
def test_both_say_that_kafka_is_away_or_wait_and_go_on_when_it_is_back(
    alone: dict[str, str], broker: OwnServer
) -> None:
    with started(alone, "tail", "relations") as tail, started(alone, "produce", "relations") as produce:
        tail.wait_for_error_line(b"waiting for new records")
        send(produce, b"before")
        tail.wait_for(lambda: any(b"before" in line for line in tail.out))

        broker.kill()
        tail.wait_for_error_line(b"weir: Kafka does not answer")
        send(produce, b"meanwhile")

        broker.start()
        tail.wait_for(lambda: any(b"meanwhile" in line for line in tail.out))
        assert produce.process.stdin is not None
        produce.process.stdin.close()
        assert produce.end() == 0
    assert produce.out == [b"accepted 2, refused 0\n"]
    assert len(tail.out) == 2


def test_lines_that_kafka_never_answered_are_neither_accepted_nor_refused(
    alone: dict[str, str], broker: OwnServer
) -> None:
    refused: list[int] = []
    config = configuration.load(alone)
    writer = TopicWriter(config, RELATIONS, lambda number, error: refused.append(number), patience=2000)
    record = Outgoing(b'{"parent":"p","child":"c"}', b"c")
    writer.send(1, [record, record])
    writer.flush()
    assert (writer.accepted, writer.unanswered, refused) == (1, 0, [])

    broker.kill()
    writer.send(2, [record])
    with pytest.raises(KafkaUnavailableError):
        writer.flush()
    assert (writer.accepted, writer.unanswered, refused) == (1, 1, [])
