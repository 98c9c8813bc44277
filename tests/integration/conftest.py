"""What several integration tests want of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from broadcast_subscribers import Sender
from infra import config as configuration
from infra import kafka as clients
from infra.config import Config
from infra.ports import free_ports
from infra.servers.kafka import KafkaServer
from monitoring_service import TOPICS
from own_servers import OwnServer, own
from schemas.topics import BROADCAST


@pytest.fixture
def kafka_of_its_own(environ: dict[str, str]) -> Iterator[tuple[Config, OwnServer]]:
    """A Kafka that the test may kill, and a configuration with it."""
    port, controller = free_ports(2)
    without = {name: value for name, value in environ.items() if name != "WEIR_KAFKA"}
    config = configuration.load(without | {"WEIR_KAFKA_PORT": str(port), "WEIR_KAFKA_CONTROLLER_PORT": str(controller)})
    with own(KafkaServer(config)) as server:
        yield config, server


@pytest.fixture
def sender(config: Config) -> Sender:
    """Writes broadcast messages as the listener does."""
    clients.ensure_topics(config, (BROADCAST,))
    return Sender(config)


@pytest.fixture
def monitored(config: Config) -> Config:
    """The configuration, with the topics that the view of clients is made of."""
    clients.ensure_topics(config, TOPICS)
    return config
