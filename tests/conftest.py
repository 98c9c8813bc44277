"""Real servers for the tests: started once per run, ended with it; a topic prefix and a schema for each test.

With several processes (`pytest -n 2`) the first starts them, and the others are pointed at them.

`WEIR_KAFKA` and `WEIR_POSTGRES`, where set, point the tests at servers that run already. Where a server cannot be
had the test fails: nothing is skipped.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest
from hypothesis import settings
from psycopg import sql

from infra import config as configuration
from infra import kafka as clients
from infra.config import Config
from infra.ports import free_ports
from infra.servers.kafka import KafkaServer
from infra.servers.postgres import PostgresServer
from infra.servers.server import running

#: CI tries the same examples each time; elsewhere each run tries new ones.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


_SHARED = pytest.StashKey[ExitStack]()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    """Starts the servers that the processes of this run share."""
    stack = config.stash[_SHARED] = ExitStack()
    own = stack.enter_context(_own_servers())
    if "WEIR_KAFKA" not in os.environ:
        stack.enter_context(running(KafkaServer(own)))
        os.environ["WEIR_KAFKA"] = own.bootstrap
    if "WEIR_POSTGRES" not in os.environ:
        stack.enter_context(running(PostgresServer(own)))
        os.environ["WEIR_POSTGRES"] = own.dsn


def pytest_unconfigure(config: pytest.Config) -> None:
    """Ends them."""
    if _SHARED in config.stash:
        config.stash[_SHARED].close()


@contextmanager
def _own_servers() -> Iterator[Config]:
    """The configuration of the embedded servers of this run: a home and ports of their own."""
    home = Path(tempfile.mkdtemp(prefix="weir-test-"))
    kafka, controller, postgres = free_ports(3)
    try:
        yield configuration.load(
            {
                "WEIR_HOME": str(home),
                "WEIR_KAFKA_PORT": str(kafka),
                "WEIR_KAFKA_CONTROLLER_PORT": str(controller),
                "WEIR_POSTGRES_PORT": str(postgres),
            }
        )
    finally:
        shutil.rmtree(home)


@pytest.fixture(scope="session")
def servers() -> Iterator[Config]:
    """The configuration of the embedded servers, where this process starts them itself."""
    with _own_servers() as config:
        yield config


@pytest.fixture(scope="session")
def kafka(servers: Config) -> Iterator[str]:
    """host:port of a Kafka."""
    if given := os.environ.get("WEIR_KAFKA"):
        yield given
    else:
        with running(KafkaServer(servers)):
            yield servers.bootstrap


@pytest.fixture(scope="session")
def postgres(servers: Config) -> Iterator[str]:
    """postgresql:// address of a Postgres."""
    if given := os.environ.get("WEIR_POSTGRES"):
        yield given
    else:
        with running(PostgresServer(servers)):
            yield servers.dsn


@pytest.fixture
def schema(postgres: str) -> Iterator[str]:
    """A Postgres schema of the test's own, dropped after it."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
    yield name
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))


@pytest.fixture
def environ(kafka: str, postgres: str, schema: str, tmp_path: Path) -> dict[str, str]:
    """The environment for a `weir` process of the test's own: this one's, with all of weir's settings replaced."""
    api, feed, listener, broadcaster, broadcast, monitoring, metrics = free_ports(7)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WEIR_")}
    return inherited | {
        "WEIR_HOME": str(tmp_path / "home"),
        "WEIR_KAFKA": kafka,
        "WEIR_POSTGRES": f"{postgres}{'&' if '?' in postgres else '?'}options=-csearch_path%3D{schema}",
        "WEIR_TOPIC_PREFIX": f"t{uuid.uuid4().hex[:8]}-",
        "WEIR_API_PORT": str(api),
        "WEIR_FEED_PORT": str(feed),
        "WEIR_LISTENER_PORT": str(listener),
        "WEIR_BROADCASTER_PORT": str(broadcaster),
        "WEIR_BROADCAST_PORT": str(broadcast),
        "WEIR_MONITORING_PORT": str(monitoring),
        "WEIR_METRICS_PORT": str(metrics),
    }


@pytest.fixture
def config(environ: dict[str, str]) -> Iterator[Config]:
    """The configuration of one test: real servers, a topic prefix, a schema, ports and a home of its own."""
    config = configuration.load(environ)
    yield config
    client = clients.admin(config)
    made = [name for name in client.list_topics(timeout=10).topics if name.startswith(config.topic_prefix)]
    for future in (client.delete_topics(made) if made else {}).values():
        future.result()
