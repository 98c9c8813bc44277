"""Real servers for the tests: started once per run, ended with it; a topic prefix and a schema for each test.

With several processes (`pytest -n 2`) the first starts them, and the others are pointed at them.

`WEIR_KAFKA` and `WEIR_POSTGRES`, where set, point the tests at servers that run already. Where a server cannot be
had the test fails: nothing is skipped. The user of that Postgres must be a superuser, for the tests that make users.
"""

from __future__ import annotations

import os
import secrets
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

from weir.infra import config as configuration
from weir.infra.config import Config
from weir.infra.kafka import client as clients
from weir.infra.ports import free_ports
from weir.infra.servers.kafka import KafkaServer
from weir.infra.servers.postgres import PostgresServer
from weir.infra.servers.server import running

#: CI tries the same examples each time; elsewhere each run tries new ones. How long one takes is the machine's matter.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("local", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "local")


#: Names the address of a superuser of the tests' Postgres, for all processes of this run.
_ADMINISTRATOR = "TESTS_POSTGRES_ADMINISTRATOR"
_SHARED = pytest.StashKey[ExitStack]()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    """Starts the servers that the processes of this run share."""
    stack = config.stash[_SHARED] = ExitStack()
    own = stack.enter_context(_own_servers())
    if "WEIR_KAFKA" not in os.environ:
        stack.enter_context(running(KafkaServer(own)))
        os.environ["WEIR_KAFKA"] = own.kafka.bootstrap
    if "WEIR_POSTGRES" not in os.environ:
        stack.enter_context(_postgres(own))
        os.environ["WEIR_POSTGRES"] = own.dsn


def pytest_unconfigure(config: pytest.Config) -> None:
    """Ends them."""
    if _SHARED in config.stash:
        config.stash[_SHARED].close()


def _memory() -> Path | None:
    """A folder in memory with room for the servers; None where there is none. Thousands of topics and transactions are
    made in a run, each with files that are synced to the disk; no test takes the power away.
    """
    folder = Path("/dev/shm")
    return folder if folder.is_dir() and shutil.disk_usage(folder).free > 8 << 30 else None


@contextmanager
def _own_servers() -> Iterator[Config]:
    """The configuration of the embedded servers of this run: a home and ports of their own."""
    home = Path(tempfile.mkdtemp(prefix="weir-test-", dir=_memory()))
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


@contextmanager
def _postgres(config: Config) -> Iterator[None]:
    """The embedded Postgres of this run, with a superuser of the tests' own, as whom no process of weir's logs in."""
    server = PostgresServer(config)
    server.prepare()
    password = secrets.token_hex(16)
    server.administer(f"CREATE ROLE administrator LOGIN SUPERUSER PASSWORD '{password}'")
    os.environ[_ADMINISTRATOR] = f"postgresql://administrator:{password}@127.0.0.1:{config.postgres.port}/weir"
    with running(server):
        yield


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
            yield servers.kafka.bootstrap


@pytest.fixture(scope="session")
def postgres(servers: Config) -> Iterator[str]:
    """postgresql:// address of a Postgres."""
    if given := os.environ.get("WEIR_POSTGRES"):
        yield given
    else:
        with _postgres(servers):
            yield servers.dsn


@pytest.fixture(scope="session")
def administrator(postgres: str) -> str:
    """postgresql:// address of a superuser of that Postgres."""
    return os.environ.get(_ADMINISTRATOR, postgres)


@contextmanager
def schema_of_its_own(postgres: str, administrator: str) -> Iterator[str]:
    """A new Postgres schema, dropped after the block, whoever owns it then."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
    yield name
    with psycopg.connect(administrator, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))


def environment(kafka: str, postgres: str, schema: str, home: Path) -> dict[str, str]:
    """The environment for `weir` processes: this one's, with all of weir's settings replaced by ones of their own."""
    api, feed, listener, broadcaster, broadcast, monitoring, metrics = free_ports(7)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WEIR_")}
    return inherited | {
        "WEIR_HOME": str(home),
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


@contextmanager
def configuration_of(environ: dict[str, str]) -> Iterator[Config]:
    """The configuration in that environment; its topics are deleted after the block."""
    config = configuration.load(environ)
    yield config
    client = clients.admin(config)
    made = [name for name in client.list_topics(timeout=10).topics if name.startswith(config.kafka.topic_prefix)]
    for future in (client.delete_topics(made) if made else {}).values():
        future.result()


@pytest.fixture
def schema(postgres: str, administrator: str) -> Iterator[str]:
    """A Postgres schema of the test's own."""
    with schema_of_its_own(postgres, administrator) as name:
        yield name


@pytest.fixture
def environ(kafka: str, postgres: str, schema: str, tmp_path: Path) -> dict[str, str]:
    """The environment for `weir` processes of the test's own."""
    return environment(kafka, postgres, schema, tmp_path / "home")


@pytest.fixture
def config(environ: dict[str, str]) -> Iterator[Config]:
    """The configuration of one test: real servers, a topic prefix, a schema, ports and a home of its own."""
    with configuration_of(environ) as config:
        yield config


@pytest.fixture(scope="module")
def shared_environ(kafka: str, postgres: str, administrator: str) -> Iterator[dict[str, str]]:
    """The environment for `weir` processes that the tests of a file share."""
    with schema_of_its_own(postgres, administrator) as schema, tempfile.TemporaryDirectory() as folder:
        yield environment(kafka, postgres, schema, Path(folder, "home"))


@pytest.fixture(scope="module")
def shared_config(shared_environ: dict[str, str]) -> Iterator[Config]:
    """The configuration of the processes that the tests of a file share."""
    with configuration_of(shared_environ) as config:
        yield config
