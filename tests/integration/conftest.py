"""Fixtures that several integration tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.broadcast.broadcast_subscribers import Sender
from support.monitoring.monitoring_service import TOPICS
from support.servers.own_servers import OwnServer
from weir.infra import config as configuration
from weir.infra.config import Config
from weir.infra.kafka import client as clients
from weir.infra.ports import free_ports
from weir.infra.servers.kafka import KafkaServer
from weir.schemas.topics import BROADCAST


@pytest.fixture(scope="session")
def killable_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, str], OwnServer]]:
    """The variables of a Kafka that tests kill, one after the other, and the server."""
    port, controller = free_ports(2)
    variables = {"WEIR_KAFKA_PORT": str(port), "WEIR_KAFKA_CONTROLLER_PORT": str(controller)}
    home = str(tmp_path_factory.mktemp("killable") / "home")
    server = OwnServer(KafkaServer(configuration.load(variables | {"WEIR_HOME": home})))
    yield variables, server
    server.stop()


@pytest.fixture
def kafka_of_its_own(
    environ: dict[str, str], killable_kafka: tuple[dict[str, str], OwnServer]
) -> tuple[Config, OwnServer]:
    """A Kafka that runs and that the test may kill, and a configuration with it."""
    variables, server = killable_kafka
    if server.ended:
        server.start()
    without = {name: value for name, value in environ.items() if name != "WEIR_KAFKA"}
    return configuration.load(without | variables), server


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
