"""Runs all of weir on one machine: embedded servers, then topics and tables, then the services that need them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import closing

from weir.infra import log
from weir.infra.config import Config
from weir.infra.errors import NoKafkaError, NoPostgresError, PostgresRefusesError, RetryableError, StartError
from weir.infra.kafka import topic_settings
from weir.infra.kafka.client import ensure_topics
from weir.infra.ports import check_all_free
from weir.infra.postgres import migrate
from weir.infra.runtime.patience import until_answered
from weir.infra.runtime.threads import in_daemon
from weir.infra.servers.kafka import KafkaServer
from weir.infra.servers.postgres import PostgresServer
from weir.infra.supervisor.child import Child
from weir.infra.supervisor.home import own_home
from weir.infra.supervisor.logs import LogPump
from weir.infra.supervisor.service import ServiceProcess
from weir.infra.supervisor.supervisor import Supervisor
from weir.schemas.topics import TOPICS
from weir.services.registry import EMBEDDED, services, wanted

_log = log.get_logger(__name__)


@contextlib.asynccontextmanager
async def up(
    config: Config, only: str | None = None, onward: Callable[[bytes], object] | None = None
) -> AsyncIterator[list[str]]:
    """Runs everything that `weir up [--only a,b]` runs while the block runs; yields the names of servers and services.

    What a service prints goes to WEIR_HOME/logs/NAME.log, and whole lines of it to `onward` where that is given.
    Services inherit this process's environment, which must be the one that `config` was read from. Runs in the main
    thread (`Supervisor`). What passes by itself is waited for, however long, and told.

    Raises ConfigError and StartError: for settings and ports before anything is started, all ports that are taken at
    once; and where nobody takes a connection at the address of a server that exists elsewhere, or lets weir in.
    """
    names = wanted(config, only)
    chosen = [service for service in services() if service.name in names]
    with closing(LogPump(config.home / "logs", onward)) as logs:
        processes = [ServiceProcess(config, service, logs) for service in chosen]
        servers: list[Child] = []
        if "kafka" in names:
            servers.append(KafkaServer(config))
        if "postgres" in names:
            servers.append(PostgresServer(config))
        children = [*servers, *processes]
        for child in children:
            child.check()
        with own_home(config, EMBEDDED):
            check_all_free(port for child in children for port in child.ports)
            async with Supervisor(config) as supervisor:
                await supervisor.start_servers(servers)
                if processes or "kafka" in names:
                    await _patiently(lambda: ready_topics(config), "kafka" in names)
                if "postgres" in names or any(service.tables for service in chosen):
                    await _patiently(lambda: migrate(config), "postgres" in names)
                await supervisor.start_services(processes)
                yield names


def ready_topics(config: Config) -> None:
    """Makes the topics that are missing. weir's own Kafka has all others as they are declared from here on: what is
    declared changes with weir's version. Those of another Kafka are its operator's: one line says where they differ.
    """
    ensure_topics(config, timeout=10.0)
    if config.kafka.url is None:
        for was in topic_settings.update(config, TOPICS):
            _log.info("topic.configured", topic=was.topic, setting=was.setting, value=was.declared, was=was.broker)
    elif different := topic_settings.differing(config, TOPICS):
        _log.warning("topics.differ", topics=topic_settings.summary(different))


async def _patiently(ask: Callable[[], object], embedded: bool) -> None:
    """Asks until a server answers. One that `weir up` started itself comes back even where it died just now; of one
    elsewhere, where nobody takes a connection or nobody is let in, the address is wrong: that is told at once.
    """

    async def once() -> None:
        try:
            await in_daemon(ask)
        except (NoKafkaError, NoPostgresError, PostgresRefusesError) as e:
            if not embedded:
                raise StartError(str(e)) from e
            raise

    def told(error: RetryableError, _: int, retry_in_s: float) -> None:
        _log.warning("weir.waiting", error=str(error), retry_in_s=retry_in_s)

    await until_answered(once, told)
